"""The family tree of errors: one root, children by who can mend the matter.

A failed simulation is a result (`record.Outcome`), an impossible request is one of these.  Every error knows the exit
code of the command line; only the street door (`cli`) turns it into one.  Stdlib only: everybody may import this room.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EXIT_OK = 0
EXIT_RUN_FAILED = 1
EXIT_REQUEST = 2
EXIT_MISSING_TOOL = 3
EXIT_SITE = 4


class RompyHydraError(Exception):
    """The root: `exit_code` is what the command line ends with."""

    exit_code = EXIT_RUN_FAILED


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong in a request.

    `where` is `file:line`, the override as it was typed, or the caller's name; `mend` says what would be right.
    """

    key: str
    rule: str
    value: str | None = None
    where: str | None = None
    mend: str | None = None

    def __str__(self) -> str:
        head = self.key if self.value is None else f"{self.key} = {self.value}"
        lines = [f"{head}: {self.rule}" if head else self.rule]
        if self.where:
            lines.append(f"    set by {self.where}")
        if self.mend:
            lines.append(f"    {self.mend}")
        return "\n".join(lines)


class ConfigError(RompyHydraError, ValueError):
    """The request is wrong and its author can mend it: carries every finding of one command, not the first only."""

    exit_code = EXIT_REQUEST

    def __init__(self, message: str, findings: Sequence[Finding] = ()) -> None:
        self.findings = tuple(findings)
        self.headline = message
        super().__init__("\n".join([message, *(f"  {n}. {f}" for n, f in enumerate(self.findings, 1))]))


class UsageError(RompyHydraError):
    """The command line itself is wrong: an unknown verb or flag, a flag without its value."""

    exit_code = EXIT_REQUEST


class MissingToolError(RompyHydraError):
    """Something that must be installed first is missing; the message says what to install."""

    exit_code = EXIT_MISSING_TOOL


class SiteError(RompyHydraError):
    """The site refused: disk, permission, engine, scheduler."""

    exit_code = EXIT_SITE


class ExecutionError(SiteError):
    """The run could not be started or followed for a reason that is not the model's."""


class RecordError(RompyHydraError):
    """A record is missing, unreadable or written by a newer version."""

    exit_code = EXIT_REQUEST


def did_you_mean(
    word: str, known: Iterable[str], *, limit: int = 8, prefix: str = "", elsewhere: Sequence[str] = ()
) -> str:
    """A closing sentence that names the nearest known word, or lists the known ones.

    Each is shown after `prefix`, which does not count for how near they are; `elsewhere` are whole words that are
    meant if none is near.
    """
    names = sorted({str(name) for name in known})
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near or elsewhere:
        return f"did you mean '{prefix + near[0] if near else elsewhere[0]}'?"
    if not names:
        return ""
    shown = ", ".join(prefix + name for name in names[:limit])
    return f"known: {shown}" + (f", … ({len(names)} in all)" if len(names) > limit else "")
