"""The states of a run: an enum that knows which are final, and a sentence for each.  Stdlib only."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands; the value is what `run.json` holds."""

    QUEUED = "queued"
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    OUT_OF_MEMORY = "out_of_memory"
    LOST = "lost"

    @property
    def is_final(self) -> bool:
        """Whether nothing will change it any more."""
        return self not in _OPEN

    @property
    def sentence(self) -> str:
        """One sentence for a person."""
        return _SENTENCES[self]


_OPEN = frozenset({RunState.QUEUED, RunState.WAITING, RunState.RUNNING})
_SENTENCES = {
    RunState.QUEUED: "Planned and recorded, not started yet.",
    RunState.WAITING: "Handed to a scheduler that has not started it yet.",
    RunState.RUNNING: "Running now.",
    RunState.SUCCEEDED: "Ended, and every success rule of its model held.",
    RunState.FAILED: "Ended without success.",
    RunState.TIMED_OUT: "Ended by us because its time limit was reached.",
    RunState.CANCELLED: "Ended because somebody asked for it.",
    RunState.OUT_OF_MEMORY: "Ended because it used more memory than it was given.",
    RunState.LOST: "Whoever watched it is gone and it left no exit status.",
}
