"""record → postprocess: the outputs of a run that has ended, as its configuration says or otherwise."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rompy_hydra.errors import RecordError, RompyHydraError, SiteError
from rompy_hydra.postprocess import check_options, get_processor, name_of, process
from rompy_hydra.record import store
from rompy_hydra.redaction import redact
from rompy_hydra.run.observe import observe
from rompy_hydra.workspace.run_record import RunRecord

_MARKER = f".{store.RECORD_NAME}.post"


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


def process_run(
    run_dir: Path, processor: str | None = None, options: Mapping[str, Any] | None = None, *, again: bool = True
) -> RunRecord:
    """Process the outputs of a run that has ended, well or not: as its own configuration says, or by another processor.

    Without `again` nothing is done (`skipped`) where the same processor succeeded with the same options before, and
    what it made is still there.  Raises `RecordError` for a run that has not ended, or that somebody else processes;
    `ConfigError` for an unknown processor or option.
    """
    record = RunRecord(run_dir.absolute(), observe(run_dir))
    if not record.state.is_final:
        raise RecordError(f"the run {run_dir} is {record.state.value}; it is processed when it has ended")
    if processor is None:
        told = (record.data.get("config") or {}).get("postprocess") or {}
        processor, options = told.get("processor", "noop"), told.get("options", {})
    options = options or {}
    check_options(processor, options)
    if not again and (answer := _done_before(record, processor, options)) is not None:
        return RunRecord(record.run_dir, {**record.data, "postprocess": answer}, skipped=True)
    return _process(record, processor, options)


def note_failure(run_dir: Path, processor: str | None, error: str) -> None:
    """Write down that a postprocessor's process died, since it could not do so itself."""
    record = RunRecord(run_dir.absolute(), observe(run_dir))
    if processor is None:
        processor = ((record.data.get("config") or {}).get("postprocess") or {}).get("processor", "noop")
    with sole_writer(record):
        _write(record, {"processor": processor, "success": False, "error": error}, {})


def _done_before(record: RunRecord, processor: Any, options: Mapping[str, Any]) -> dict[str, Any] | None:
    before = (record.data.get("processed") or {}).get(name_of(processor))
    if not isinstance(before, dict) or before.get("options") != _plain(options):
        return None
    answer: dict[str, Any] = before.get("answer") or {}
    is_still_done = getattr(get_processor(processor), "is_still_done", lambda _: True)
    return answer if answer.get("success") is True and is_still_done(answer) else None


def _process(record: RunRecord, processor: Any, options: Mapping[str, Any]) -> RunRecord:
    with sole_writer(record):
        finished = _Finished(record.run_dir.name, record.run_dir.parent, record.data)
        started = time.monotonic()
        try:
            answer = json.loads(json.dumps(process(processor, finished, options), default=str, skipkeys=True))
        except (RompyHydraError, ValueError, RecursionError) as error:  # what is wrong now was right before the run
            answer = {"success": False, "error": f"{type(error).__name__}: {error}"}
        answer = {"processor": name_of(processor), **answer, "seconds": round(time.monotonic() - started, 3)}
        return _write(record, redact(answer), options)


@contextmanager
def sole_writer(record: RunRecord) -> Iterator[None]:
    """One process at a time processes a run and writes its record."""
    try:
        held = store.marker(record.run_dir, name=_MARKER)
        held.__enter__()
    except FileExistsError as error:
        raise RecordError(
            f"another process postprocesses {record.run_dir} at this moment; if you know that it is gone (it was on"
            f" another machine), remove {record.run_dir / _MARKER}"
        ) from error
    except OSError as error:
        raise SiteError(
            f"{record.run_dir} cannot be written: {error.strerror or error}; what a postprocessor says goes there"
        ) from error
    try:
        yield
    finally:
        with suppress(FileNotFoundError):  # a postprocessor may have moved the whole directory away
            held.__exit__(None, None, None)


def _write(record: RunRecord, answer: dict[str, Any], options: Mapping[str, Any]) -> RunRecord:
    """Put the answer into the record as it is by now: the last one, and the last one of each processor."""
    now = store.read_record(record.run_dir)
    if now.get("job_token") != record.data.get("job_token"):
        raise RecordError(f"the run {record.run_dir} was started anew while its outputs were processed")
    data = {**now, "postprocess": answer}
    name = str(answer["processor"])
    if name != "noop":
        at = {"at": store.utc(), "options": _plain(options), "answer": answer}
        data["processed"] = {**(now.get("processed") or {}), name: at}
    store.write_record(record.run_dir, data)
    return RunRecord(record.run_dir, data)


def _plain(options: Mapping[str, Any]) -> Any:
    """Options as they stand in a record."""
    return redact(json.loads(json.dumps(options, default=str, skipkeys=True)))
