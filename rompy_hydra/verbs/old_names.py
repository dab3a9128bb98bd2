"""Tells on stderr, in the name of any verb that composes, which keys are still called by a name they had before."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rompy_hydra.errors import Finding


def tell_old_names(findings: Iterable[Finding]) -> None:
    """A line for each: the old name, today's, and the file:line or override that says it."""
    for finding in findings:
        place = (finding.where or "").removeprefix("the ")
        print(f"rompy-hydra: warning: {finding.key} {finding.rule} ({place})", file=sys.stderr)
