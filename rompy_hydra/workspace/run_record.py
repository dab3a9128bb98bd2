"""A run as it lies on disk: its record and the directory that holds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rompy_hydra.record.states import RunState
from rompy_hydra.workspace.layout import RunLayout


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A record and the directory it lies in."""

    run_dir: Path
    data: dict[str, Any]
    skipped: bool = False

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return RunState(self.data["state"])

    @property
    def succeeded(self) -> bool:
        """Whether the run succeeded."""
        return self.state is RunState.SUCCEEDED

    @property
    def logs(self) -> list[Path]:
        """The log files, where the record lies now (the record names them where they were written)."""
        return [self._log(path) for path in (self.data.get("logs") or {}).values()]

    def _log(self, written: str) -> Path:
        in_logs = Path(written).parent.name == "logs"  # else a point of a sweep, which has them beside its record
        return RunLayout(self.run_dir, flat=not in_logs).logs / Path(written).name

    @property
    def postprocess_failed(self) -> bool:
        """Whether a postprocessor ran and failed; the run's own state is untouched by it."""
        done = self.data.get("postprocess")
        return isinstance(done, dict) and done.get("success") is False
