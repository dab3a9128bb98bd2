"""The street door for whoever looks at runs and sweeps, or ends them: `status SWEEP`, `logs`, `cancel`; prints."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import EXIT_OK, RecordError, UsageError

if TYPE_CHECKING:
    from rompy_hydra.sweep.layout import SweepLayout
    from rompy_hydra.sweep.packed import Pack
    from rompy_hydra.sweep.view import Seen, SweepView
    from rompy_hydra.verbs import Parser

_LOG_LINES = 4


# -- status --------------------------------------------------------------------------------------------------------


def status_of_sweep(directory: Path, *, as_json: bool, watch: bool) -> int | None:
    """`status` of a directory that is a sweep, a point that has no record yet, or holds nothing but sweeps.

    None for anything else: single runs are told of by their records alone.
    """
    from rompy_hydra.record.store import RECORD_NAME
    from rompy_hydra.sweep.description import find_sweep

    if (layout := find_sweep(directory)) is not None:
        return _status(layout, as_json=as_json, watch=watch)
    if (directory / RECORD_NAME).exists():
        return None
    if (layout := _sweep_of(directory.absolute())) is not None:
        return _status_of_point(layout, directory.absolute(), as_json=as_json)
    if directory.is_dir() and not any((d / RECORD_NAME).is_file() for d in directory.iterdir()):
        lines = lines_of_sweeps(directory)
        if lines and not as_json:
            print("\n".join(lines))
            return EXIT_OK
    return None


def lines_of_sweeps(directory: Path) -> list[str]:
    """A line for each sweep in a directory."""
    from rompy_hydra.sweep.description import find_sweep
    from rompy_hydra.sweep.table import summary

    found = [layout for d in sorted(directory.iterdir()) if d.is_dir() and (layout := find_sweep(d)) is not None]
    return [f"sweep         {layout.sweep_dir.name}  {summary(_view(layout).state)}" for layout in found]


def _status_of_point(layout: SweepLayout, directory: Path, *, as_json: bool) -> int | None:
    """A point that is packed; or one whose record is written at its end only, as the journal tells."""
    if (pack := _pack_of(directory)) is not None:
        from rompy_hydra.verbs.status import summary
        from rompy_hydra.workspace.run_record import RunRecord

        record = RunRecord(directory, pack.read_record(directory))
        print(json.dumps(record.data, indent=2) if as_json else f"{summary(record)}\npacked   in {pack.archive}")
        return EXIT_OK
    view = _view(layout)
    for seen in view.running():
        if seen.run_dir == directory:
            print(f"run      {seen.name} (of the sweep {layout.sweep_dir})\nstate    running\nlogs     {seen.log()}")
            return EXIT_OK
    return None


def _status(layout: SweepLayout, *, as_json: bool, watch: bool) -> int:
    """What a glance should tell, failures first."""
    from rompy_hydra.sweep.view import look_at

    while True:
        view = look_at(layout)
        text = _json_of(view) if as_json else _text_of(view)
        if watch and sys.stdout.isatty():
            print("\x1b[H\x1b[J", end="")
        print(text, flush=True)
        if not watch or not (view.is_driven or view.state.started):
            return EXIT_OK
        time.sleep(2 if view.is_driven else 10)  # without a driver it is we who ask a scheduler


def _text_of(view: SweepView) -> str:
    from rompy_hydra.sweep.progress import progress_line
    from rompy_hydra.sweep.table import MOST_FAILURES, summary, swept_text
    from rompy_hydra.units.durations import format_duration

    lines: list[str] = []
    failures = view.failures()
    for seen in failures:
        lines.append(f"{seen.state:<13} point {seen.name}  {swept_text(seen.swept)}".rstrip())
        lines.append(f"    {seen.reason}")
        lines.append(f"    {seen.log()}:")
        lines += [f"      | {line}" for line in _tail(seen)]
    counts = view.state.counts()
    more = sum(1 for _ in view.state.bad) - len(failures)
    if len(failures) == MOST_FAILURES and more > 0:
        lines.append(f"… and {more} more; all of them: rompy-hydra status --json {view.layout.sweep_dir}")
    for seen in itertools.islice((s for s in view.running() if s.state == "running"), MOST_FAILURES):
        lines.append(f"{'running':<13} point {seen.name}  {swept_text(seen.swept)}  {seen.run_dir}")
    lines.append(f"sweep         {view.layout.sweep_dir}")
    lines.append(f"points        {summary(view.state)}")
    if (packed := _packed_line(view)) is not None:
        lines.append(packed)
    if any(counts.get(name) for name in ("queued", "waiting", "running")):
        lines.append(f"progress      {progress_line(view.state, None)}")
    if view.cost.attempts:
        unit = (view.description.get("site") or {}).get("charge_unit", "units")
        lines.append(f"cost          {view.cost.line(unit)}")
    if view.cost.queue_seconds:
        lines.append(f"in the queue  {format_duration(round(view.cost.queue_seconds))}, all points together")
    lines.append(f"driver        {view.driver}")
    return "\n".join(lines)


def _packed_line(view: SweepView) -> str | None:
    from rompy_hydra.sweep.packed import find_pack

    pack = find_pack(view.layout)
    if pack is None or view.layout.snapshot.is_dir():
        return None
    return f"packed        in {pack.archive}; bring back: rompy-hydra postprocess {view.layout.sweep_dir} --restore"


def _tail(seen: Seen) -> list[str]:
    return seen.last_lines(_LOG_LINES)


def _json_of(view: SweepView) -> str:
    def entry(seen: Seen) -> dict[str, Any]:
        return {
            "number": seen.number,
            "name": seen.name,
            "state": seen.state,
            "reason": seen.reason,
            "swept": dict(seen.swept),
            "directory": str(seen.run_dir),
            "log": str(seen.log()),
        }

    return json.dumps(
        {
            "sweep": str(view.layout.sweep_dir),
            "sweep_id": view.description["sweep_id"],
            "points": view.state.total,
            "states": view.state.counts(),
            "failures": [entry(seen) for seen in view.failures()],
            "running": [entry(seen) for seen in view.running()],
            "cost": view.cost.to_dict(),
            "is_driven": view.is_driven,
            "driver": view.driver,
        },
        indent=2,
    )


# -- logs ----------------------------------------------------------------------------------------------------------


def logs(words: list[str], parser_of: Parser) -> int:
    """`logs [-f] RUN`: what a run or a point printed."""
    parser = parser_of("logs", "[-f] RUN | logs [-f] SWEEP POINT")
    parser.description = "What a run, or a point of a sweep, printed; -f goes on as long as it runs."
    parser.add_argument("directory", metavar="RUN", help="the directory of a run, of a point, or of a sweep")
    parser.add_argument("point", nargs="?", metavar="POINT", help="the name of a point of a sweep")
    parser.add_argument("--follow", "-f", action="store_true", help="go on while it runs")
    args = parser.parse_intermixed_args(words)
    run_dir = _run_directory(Path(args.directory).absolute(), args.point)
    if (pack := _pack_of(run_dir)) is not None:
        return _print_packed_logs(pack, run_dir)
    return _print_logs(run_dir, follow=args.follow)


def _run_directory(directory: Path, point: str | None) -> Path:
    """The directory of the run that is meant."""
    from rompy_hydra.sweep.description import find_sweep
    from rompy_hydra.sweep.view import look_at

    sweep = find_sweep(directory)
    if sweep is None:
        if point is not None:
            raise UsageError(f"{directory} is no sweep, so it has no point '{point}'")
        return directory
    if point is None:
        raise UsageError(f"{directory} is a sweep: name a point, as 'rompy-hydra logs {directory} 0'")
    seen = look_at(sweep).find(point)
    if seen is None:
        raise UsageError(f"the sweep {directory} has no point '{point}'; its points are named in {sweep.plan}")
    return seen.run_dir


def _print_logs(run_dir: Path, *, follow: bool) -> int:
    from rompy_hydra.run.follow import LogTail

    paths = [p for name in ("stdout", "stderr") for p in _logs_of(run_dir, name)]
    if not paths and not follow:
        raise RecordError(f"{run_dir} has no logs: it was not started, or kept none (capture_output: false)")
    tails: dict[Path, LogTail] = {}
    turn = 0
    while True:
        # Asked before reading: what is printed last is then read for certain.
        is_over = _is_over(run_dir, ask_queue=turn % 50 == 0)
        turn += 1
        for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
            for path in _logs_of(run_dir, name):
                tail = tails.setdefault(path, LogTail(str(path)))
                while chunk := tail.read(1 << 20):
                    stream.buffer.write(chunk)
                stream.flush()
        if not follow or is_over:
            return EXIT_OK
        time.sleep(0.2)


def _pack_of(run_dir: Path) -> Pack | None:
    """The archive that holds a point; None where the point has a directory, or is in none."""
    if run_dir.is_dir() or (sweep := _sweep_of(run_dir)) is None:
        return None
    from rompy_hydra.sweep.packed import find_pack

    pack = find_pack(sweep)
    return pack if pack is not None and pack.files(run_dir) else None


def _print_packed_logs(pack: Pack, run_dir: Path) -> int:
    for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        for log in pack.logs(run_dir, name):
            with pack.open_file(run_dir, log) as file:
                while chunk := file.read(1 << 20):
                    stream.buffer.write(chunk)
            stream.flush()
    return EXIT_OK


def _logs_of(run_dir: Path, stream: str) -> list[Path]:
    """The logs of all attempts, the first one first."""
    folder = run_dir / "logs" if (run_dir / "logs").is_dir() else run_dir
    found = [p for p in folder.glob(f"{stream}*.log") if p.name == f"{stream}.log" or p.name.split(".")[1].isdigit()]
    return sorted(found, key=lambda p: 1 if p.name == f"{stream}.log" else int(p.name.split(".")[1]))


def _is_over(run_dir: Path, *, ask_queue: bool = True) -> bool:
    """Whether nothing more will be printed there; a scheduler is asked now and then only."""
    from rompy_hydra.record import store
    from rompy_hydra.record.states import RunState
    from rompy_hydra.run.observe import observe

    sweep = _sweep_of(run_dir)
    if sweep is not None:
        from rompy_hydra.sweep.view import look_at

        view = look_at(sweep, ask_queue=ask_queue)
        seen = next((s for s in view.running() if s.run_dir == run_dir), None)
        return seen is None and not (view.is_driven and not (run_dir / store.RECORD_NAME).exists())
    with contextlib.suppress(RecordError):
        return RunState(observe(run_dir)["state"]).is_final
    return False


def _sweep_of(run_dir: Path) -> SweepLayout | None:
    """The sweep that a point's directory lies in."""
    from rompy_hydra.sweep.description import find_sweep

    return next((found for parent in run_dir.parents if (found := find_sweep(parent)) is not None), None)


# -- cancel --------------------------------------------------------------------------------------------------------


def cancel(words: list[str], parser_of: Parser) -> int:
    """`cancel RUN | SWEEP [POINT …]`: end what runs."""
    parser = parser_of("cancel", "RUN | cancel SWEEP [POINT ...]")
    parser.description = "End a run, a whole sweep, or some points of it."
    parser.add_argument("directory", metavar="RUN", help="the directory of a run, of a point, or of a sweep")
    parser.add_argument("points", nargs="*", metavar="POINT", help="names of points of a sweep; none: all of it")
    args = parser.parse_intermixed_args(words)
    directory = Path(args.directory).absolute()
    from rompy_hydra.sweep.description import find_sweep

    sweep = find_sweep(directory)
    if sweep is not None:
        return _cancel_in_sweep(sweep, args.points)
    if args.points:
        raise UsageError(f"{directory} is no sweep, so it has no points")
    if (sweep := _sweep_of(directory)) is not None:
        names = [s.name for s in _view(sweep).running() if s.run_dir == directory]
        if not names:
            print(f"{directory} is not running")
            return EXIT_OK
        return _cancel_in_sweep(sweep, names)
    return _cancel_run(directory)


def _view(sweep: SweepLayout) -> SweepView:
    from rompy_hydra.sweep.view import look_at

    return look_at(sweep)


def _cancel_in_sweep(sweep: SweepLayout, names: list[str]) -> int:
    from rompy_hydra.record.liveness import ProcessIdentity
    from rompy_hydra.sweep.cancel import ask_to_cancel
    from rompy_hydra.sweep.resume import OrphanHandle
    from rompy_hydra.workspace.layout import RunLayout

    view = _view(sweep)
    numbers: list[int] | None = None
    if names:
        numbers = []
        for name in names:
            seen = view.find(name)
            if seen is None:
                raise UsageError(f"the sweep {sweep.sweep_dir} has no point '{name}'")
            numbers.append(seen.number)
    if view.is_driven:
        ask_to_cancel(sweep, numbers)
        print(f"asked: {view.driver}; see it: rompy-hydra status {sweep.sweep_dir}")
        return EXIT_OK
    ended = _cancel_in_queue(view, numbers)
    for seen in view.running():
        if (numbers is None or seen.number in numbers) and "batch" not in view.state.started[seen.number].watcher:
            started = view.state.started[seen.number]
            layout = RunLayout(seen.run_dir, flat=True)
            with contextlib.suppress(KeyError, TypeError, ValueError):
                OrphanHandle(layout, started, ProcessIdentity.from_dict(started.watcher)).cancel("cancelled")
                ended += 1
    print(f"nobody drives this sweep; {ended} of its points still ran and were told to end")
    return EXIT_OK


def _cancel_in_queue(view: SweepView, numbers: list[int] | None) -> int:
    """End points that a scheduler has, without anybody who drives the sweep; how many they were."""
    from rompy_hydra.sweep.remote import remote_points

    remote = remote_points(view.state)
    wanted = [number for number in remote if numbers is None or number in numbers]
    if not wanted:
        return 0
    from rompy_hydra.sweep.settings import SweepSettings
    from rompy_hydra.sweeping.slurm_lane import Diary, SlurmLane

    settings = SweepSettings.from_dict(view.description["settings"])
    lane = SlurmLane(view.layout, settings, Diary(said=lambda text: print(text, file=sys.stderr)))
    adopted = {}
    for seen in view.points(sorted(remote)):  # all of them: what is a whole job is ended as one
        started = remote[seen.number]
        job = view.state.jobs.get(str(started.watcher["batch"]))
        adopted[seen.number] = lane.adopt(seen.number, str(seen.run_dir), started, None if job is None else int(job))
    for number in wanted:
        adopted[number].cancel("cancelled by `rompy-hydra cancel`")
    lane.send_cancellations()
    return len(wanted)


def _cancel_run(directory: Path) -> int:
    from rompy_hydra.record.liveness import ProcessIdentity
    from rompy_hydra.record.states import RunState
    from rompy_hydra.run.observe import observe

    record = observe(directory)
    state = RunState(record["state"])
    if state.is_final:
        print(f"{directory} is not running: it is {state}")
        return EXIT_OK
    if record.get("slurm"):
        from rompy_hydra.run.slurm import cancel_run

        record = cancel_run(directory, record, "cancelled")
        print(f"{directory}: {record['state']}: {record.get('reason')}")
        return EXIT_OK
    try:
        who = ProcessIdentity.from_dict(record["watcher"])
    except (KeyError, TypeError, ValueError):
        raise RecordError(f"{directory}: its record does not say who watches it") from None
    if who.is_alive() is None:
        raise RecordError(f"{directory} is watched by {who}, which cannot be reached from here: cancel it there")
    os.kill(who.pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        record = observe(directory)
        if RunState(record["state"]).is_final:
            break
        time.sleep(0.05)
    print(f"{directory}: {record['state']}: {record.get('reason')}")
    return EXIT_OK
