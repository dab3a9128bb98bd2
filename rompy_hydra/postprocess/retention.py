"""What is kept of old runs, and what goes: rules on state and age; `sweeping.retaining` carries them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from rompy_hydra.backends.config import HouseModel
from rompy_hydra.record.states import RunState

_BAD = frozenset({RunState.FAILED, RunState.TIMED_OUT, RunState.OUT_OF_MEMORY, RunState.LOST, RunState.CANCELLED})
_DAY_S = 86400.0

States = Literal["succeeded", "failed", "timed_out", "cancelled", "out_of_memory", "lost"]


def _states(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


class RetentionRules(HouseModel):
    """A run is kept if any of the rules keeps it; there must be one."""

    keep: Annotated[list[States], BeforeValidator(_states)] = Field(
        default_factory=list, description="Runs in these states; failed: all that ended badly, however."
    )
    keep_last: int | None = Field(None, ge=0, description="The newest ones, so many of each directory that was named.")
    keep_days: float | None = Field(None, ge=0, description="Those that ended in the last days.")
    remove: Literal["outputs", "runs"] = Field(
        "outputs", description="What goes of the others: what the run made (record and logs stay), or all of it."
    )

    @model_validator(mode="after")
    def _check_any(self) -> Self:
        if not self.keep and self.keep_last is None and self.keep_days is None:
            raise PydanticCustomError(
                "retention", "say what is kept: keep=failed, keep_last=5, keep_days=30 (one of them, or more)"
            )
        return self


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run or a sweep; `untouchable` says why nobody may remove anything of it, however old it is."""

    path: Path
    kind: Literal["run", "sweep"]
    states: frozenset[RunState]
    ended: float | None
    untouchable: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a candidate: kept for a reason, or not."""

    candidate: Candidate
    kept_because: str

    @property
    def goes(self) -> bool:
        """Whether it is to be removed."""
        return not self.kept_because


def decide(candidates: Sequence[Candidate], rules: RetentionRules, now: float) -> list[Decision]:
    """What becomes of each, the newest first.  `now` and `ended` are seconds since 1970."""
    by_age = sorted(candidates, key=lambda c: c.ended or 0.0, reverse=True)
    over = [c for c in by_age if not c.untouchable]
    last = {c.path for c in over[: rules.keep_last or 0]}
    return [Decision(c, _why_kept(c, rules, now, is_last=c.path in last)) for c in by_age]


def _why_kept(candidate: Candidate, rules: RetentionRules, now: float, *, is_last: bool) -> str:
    if candidate.untouchable:
        return candidate.untouchable
    kept = {RunState(state) for state in rules.keep}
    if RunState.FAILED in kept:
        kept |= _BAD
    if found := kept & candidate.states:
        return ", ".join(sorted(found))
    if is_last:
        return f"one of the last {rules.keep_last}"
    if rules.keep_days is not None:
        if candidate.ended is None:
            return "nobody knows when it ended"
        if now - candidate.ended < rules.keep_days * _DAY_S:
            return f"ended in the last {rules.keep_days:g} days"
    return ""
