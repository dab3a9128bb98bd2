"""Quantities as people write them: durations and sizes.  The lowest rung: pydantic and the standard library only."""
