"""The steps of the path, one room each; `workflow` puts them in order for one run, `sweeping` for many.

prepare    plan → Prepared: everything that can be wrong, found before anything is written
claim      the run's directory, made by us alone, and its first record
jobs       the workspace filled; the plan in the terms of an operating system
processing the outputs of a run that has ended
"""
