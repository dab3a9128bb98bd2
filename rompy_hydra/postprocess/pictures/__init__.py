"""Pictures of a run's results: what is worth drawing, and how; `postprocess.visualize` is the door.

style       matplotlib without its global state: colours, sizes, units, saving the same bytes for the same data
choice      which variables, and in what order
maps, sections, lines, animation     one kind of picture each: fields → axes
gallery     the page that shows them
"""
