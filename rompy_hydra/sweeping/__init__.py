"""The path of a sweep: points are planned, started as there is room, and recorded (sweep composer → this → sweep).

planning   every point is checked, and written into plan.jsonl, before the first starts
lanes      where the points of a backend go
starting   a point takes the way of a single run (`steps`), with what all points share looked up once
driving    the scheduler over all that, of a new sweep or of one whose driver died
forecast   what a sweep would be, without any of it
"""
