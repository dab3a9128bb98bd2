"""`status`: what became of a run, of a sweep, or of all below a directory, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from rompy_hydra.verbs import Parser
    from rompy_hydra.workspace.run_record import RunRecord


def status(words: list[str], parser_of: Parser) -> int:
    """`status [DIR]`: a run, a sweep, or every run and sweep below a directory; `--where`, `--verify`."""
    args = _parser(parser_of).parse_intermixed_args(words)
    from rompy_hydra.verbs import collection

    if args.verify:
        from rompy_hydra.verbs.verify import status_of_files

        return status_of_files(args, is_collection=collection.is_asked_for(args))
    for flag, value in (("--against", args.against), ("--tolerance", args.tolerance)):
        if value is not None:
            raise UsageError(f"{flag} says how to verify; add --verify")
    if collection.is_asked_for(args):
        return collection.status_of_collection(args)
    if args.descending:
        raise UsageError("--descending says how to sort; add --sort KEY")
    return _status_of_directory(args)


def _status_of_directory(args: argparse.Namespace) -> int:
    """A run, a sweep, or what lies directly in a directory."""
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


def _parser(parser_of: Parser) -> argparse.ArgumentParser:
    parser = parser_of("status", "[DIR] [--json] [--watch] [--where CONDITION ...] [--verify ...]")
    parser.description = "The state of a run, of a sweep, or of every run and sweep below a directory."
    add = parser.add_argument
    add("directory", nargs="?", default="runs", metavar="DIR", help="a run, a sweep, or a directory that holds some")
    add("--json", action="store_true", help="the records as JSON")
    add("--watch", action="store_true", help="of a sweep: again and again, until its driver has ended")
    rows = parser.add_argument_group("runs as a collection (every run and point in DIR, however deep)")
    add = rows.add_argument
    add("--where", metavar="CONDITION", help="only these, as \"resources.cpus >= 4 and state == 'failed'\"")
    add("--sort", action="append", default=[], metavar="KEY", help="by this key; several: by the first one first")
    add("--descending", action="store_true", help="with --sort: the largest first")
    add("--columns", metavar="KEY,KEY", help="what to show, as run_id,state,metrics.rmse")
    add("--csv", action="store_true", help="as CSV")
    files = parser.add_argument_group("files")
    add = files.add_argument
    add("--verify", action="store_true", help="compare inputs and outputs with the record; exit code 1 if any differs")
    add("--against", metavar="OTHER", help="with --verify: compare with another run (or sweep) instead")
    add("--tolerance", type=_tolerance, metavar="T", help="NetCDF fields may differ by T of their size (0: by nothing)")
    return parser


def _tolerance(text: str) -> float:
    import math

    number = float(text)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError
    return number


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
        ("job", _job(data)),
        ("time", _times(data)),
        ("memory", _memory(data)),
        ("where", str(record.run_dir)),
        ("logs", ", ".join(map(str, record.logs)) or None),
        ("outputs", _outputs(data)),
        ("notes", "; ".join([*(data.get("resources") or {}).get("notes", []), *(data.get("notes") or [])])),
        ("after", _after(data)),
    ]
    return "\n".join(f"{name:<8} {value}" for name, value in rows if value)


def _job(data: dict[str, Any]) -> str | None:
    """Of a batch job: its number, where it is, how long it has waited in the queue."""
    from rompy_hydra.units.durations import format_duration

    job = data.get("slurm")
    if not isinstance(job, dict):
        return None
    parts = [f"Slurm job {job.get('job_id') or '(not in the queue yet)'}"]
    if job.get("host"):
        parts.append(f"on {job['host']}")
    if data.get("queue_seconds") is not None:
        parts.append(f"waited {format_duration(data['queue_seconds'])}")
    if job.get("restarts"):
        parts.append(f"started again {job['restarts']} times by Slurm")
    return ", ".join(parts)


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
