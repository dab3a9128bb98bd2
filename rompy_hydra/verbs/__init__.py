"""The verbs of the command line, a room each: they read the words, ask the rooms below, print, return the exit code.

Every verb is a function of its own name: `verb(words, parser_of) -> exit code`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

Parser = Callable[[str, str], "argparse.ArgumentParser"]
"""Makes the argument parser of a verb, of its name and its usage; what is wrong with the words is a `UsageError`."""
