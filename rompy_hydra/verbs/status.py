"""`status`: what became of a run, of a sweep, or of all below a directory, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import EXIT_OK

if TYPE_CHECKING:
    from pathlib import Path

    from rompy_hydra.verbs import Parser
    from rompy_hydra.workspace.run_record import RunRecord


def status(words: list[str], parser_of: Parser) -> int:
    """`status [DIR]`: a run, a sweep, or every run and sweep below a directory."""
    parser = parser_of("status", "[DIR] [--json] [--watch]")
    parser.description = "The state of a run, of a sweep, or of every run and sweep below a directory."
    parser.add_argument(
        "directory", nargs="?", default="runs", metavar="DIR", help="a run, a sweep, or a directory that holds some"
    )
    parser.add_argument("--json", action="store_true", help="the records as JSON")
    parser.add_argument("--watch", action="store_true", help="of a sweep: again and again, until its driver has ended")
    args = parser.parse_intermixed_args(words)
    import json
    from pathlib import Path

    from rompy_hydra.verbs.watch import status_of_sweep

    if (shown := status_of_sweep(Path(args.directory), as_json=args.json, watch=args.watch)) is not None:
        return shown

    from rompy_hydra.record import store
    from rompy_hydra.run.observe import observe
    from rompy_hydra.workspace.run_record import RunRecord

    directory = Path(args.directory)
    if (directory / store.RECORD_NAME).exists() or not _run_directories(directory):
        found = [RunRecord(directory.absolute(), observe(directory))]
        data: Any = found[0].data
    else:
        found = [RunRecord(d.absolute(), observe(d)) for d in _run_directories(directory)]
        data = [record.data for record in found]
    if args.json:
        print(json.dumps(data, indent=2))
    elif len(found) == 1:
        print(summary(found[0]))
    else:
        print("\n".join(_line(record) for record in sorted(found, key=lambda r: (r.succeeded, r.data["run_id"]))))
    if not args.json:
        from rompy_hydra.verbs.watch import lines_of_sweeps

        for line in lines_of_sweeps(directory):
            print(line)
    return EXIT_OK


def _run_directories(directory: Path) -> list[Path]:
    from rompy_hydra.record.store import RECORD_NAME

    if not directory.is_dir():
        return []
    return sorted(d for d in directory.iterdir() if (d / RECORD_NAME).is_file())


def _line(record: RunRecord) -> str:
    reason = "" if record.succeeded else f"  {record.data.get('reason') or ''}"
    return f"{record.state.value:<13} {record.data['run_id']}{reason}"


def summary(record: RunRecord) -> str:
    """A run on a screen: what became of it, its times, its memory, where its logs and outputs are."""
    data = record.data
    rows = [
        ("run", f"{data['run_id']}" + ("  (skipped: it succeeded before, nothing to do)" if record.skipped else "")),
        ("model", f"{data.get('model')}, backend {data.get('backend')}"),
        ("state", f"{record.state.value}: {data.get('reason') or record.state.sentence}"),
        ("time", _times(data)),
        ("memory", _memory(data)),
        ("where", str(record.run_dir)),
        ("logs", ", ".join(map(str, record.logs)) or None),
        ("outputs", _outputs(data)),
        ("notes", "; ".join([*(data.get("resources") or {}).get("notes", []), *(data.get("notes") or [])])),
        ("after", _after(data)),
    ]
    return "\n".join(f"{name:<8} {value}" for name, value in rows if value)


def _times(data: dict[str, Any]) -> str | None:
    from rompy_hydra.units.durations import format_duration

    if not data.get("started_at"):
        return None
    parts = [f"started {_local(data['started_at'])}"]
    if data.get("wall_seconds") is not None:
        parts.append(f"took {format_duration(data['wall_seconds'])}")
    if data.get("cpu_seconds") is not None:
        parts.append(f"cpu {format_duration(data['cpu_seconds'])}")
    return ", ".join(parts)


def _local(utc: str) -> str:
    from datetime import datetime

    return f"{datetime.fromisoformat(utc).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _memory(data: dict[str, Any]) -> str | None:
    from rompy_hydra.units.sizes import format_memory

    peak = data.get("peak_memory_bytes")
    if peak is None:
        return None
    how = data.get("memory_measured_by")
    return f"peak {format_memory(peak)}" + (f" ({how})" if how else "")


def _outputs(data: dict[str, Any]) -> str | None:
    from rompy_hydra.units.sizes import format_memory

    outputs = data.get("outputs") or []
    if not outputs:
        return None
    names = ", ".join(o["path"] for o in outputs[:4]) + (", …" if len(outputs) > 4 else "")
    total = format_memory(sum(o["bytes"] for o in outputs))
    return f"{len(outputs)} file{'s' if len(outputs) > 1 else ''}, {total}: {names}"


def _after(data: dict[str, Any]) -> str | None:
    done = data.get("postprocess")
    if not isinstance(done, dict) or done.get("processor") == "noop":
        return None
    return f"{done.get('processor')}: {'done' if done.get('success') else 'failed: ' + str(done.get('error'))}"
