"""What an executor hands back when a run has ended: `Outcome`.  Stdlib only (the keeper writes it)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rompy_hydra.record.states import RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one run ended.

    Times are UTC, ISO 8601 with `Z`; `cpu_seconds` is user + system time of the whole process tree;
    `peak_memory_bytes` is that of the whole tree at one moment, and `memory_measured_by` says how it was measured.
    `exit_code` is None when a signal ended the run (`signal`: its name, `SIGKILL`) or when it never started.
    `notes` are further sentences that change nothing in the state: processes left behind and ended, say.
    """

    state: RunState
    exit_code: int | None = None
    signal: str | None = None
    reason: str = ""
    started_at: str | None = None
    ended_at: str | None = None
    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    memory_measured_by: str | None = None
    logs: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Whether the run ended and every success rule held."""
        return self.state is RunState.SUCCEEDED

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the record."""
        data = asdict(self)
        data["state"] = self.state.value
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Outcome:
        """The reverse of `to_dict`; keys of a record that are not an outcome's are passed over."""
        known = {name: data[name] for name in cls.__slots__ if name in data}
        known["state"] = RunState(known["state"])
        return cls(**known)
