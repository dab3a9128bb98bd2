"""record → postprocess: the outputs of a run that has ended, as its configuration says or otherwise."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rompy_hydra.errors import RecordError, RompyHydraError
from rompy_hydra.postprocess import check_options, name_of, process
from rompy_hydra.record import store
from rompy_hydra.redaction import redact
from rompy_hydra.run.observe import observe
from rompy_hydra.workspace.run_record import RunRecord


@dataclass(frozen=True, slots=True)
class _Finished:
    """What a postprocessor sees of a run."""

    run_id: str
    output_dir: Path
    record: dict[str, Any]


def postprocess(record: RunRecord, processor: Any, options: Mapping[str, Any]) -> RunRecord:
    """Process the outputs of a run that succeeded; what comes of it stands in the record, beside the state."""
    return _process(record, processor, options) if record.succeeded else record


def postprocess_again(run_dir: str) -> int:
    """What a process of its own does for a run that has ended: its postprocessor; the answer is the exit code."""
    return int(process_run(Path(run_dir)).postprocess_failed)


def process_run(run_dir: Path, processor: str | None = None, options: Mapping[str, Any] | None = None) -> RunRecord:
    """Process the outputs of a run that has ended, well or not: as its own configuration says, or by another processor.

    Raises `RecordError` for a run that has not ended, `ConfigError` for an unknown processor or option.
    """
    record = RunRecord(run_dir.absolute(), observe(run_dir))
    if not record.state.is_final:
        raise RecordError(f"the run {run_dir} is {record.state.value}; it is processed when it has ended")
    if processor is None:
        told = (record.data.get("config") or {}).get("postprocess") or {}
        processor, options = told.get("processor", "noop"), told.get("options", {})
    check_options(processor, options or {})
    return _process(record, processor, options or {})


def _process(record: RunRecord, processor: Any, options: Mapping[str, Any]) -> RunRecord:
    finished = _Finished(record.run_dir.name, record.run_dir.parent, record.data)
    started = time.monotonic()
    try:
        answer = json.loads(json.dumps(process(processor, finished, options), default=str, skipkeys=True))
    except (RompyHydraError, ValueError, RecursionError) as error:  # what is wrong now was right before the run
        answer = {"success": False, "error": f"{type(error).__name__}: {error}"}
    answer = {"processor": name_of(processor), **answer, "seconds": round(time.monotonic() - started, 3)}
    data = {**record.data, "postprocess": redact(answer)}
    store.write_record(record.run_dir, data)
    return RunRecord(record.run_dir, data)
