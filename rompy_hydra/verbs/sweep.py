"""The street door for sweeps: `run -m` and `resume`; prints, as `cli` does."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rompy_hydra.errors import (
    EXIT_OK,
    EXIT_REQUEST,
    EXIT_RUN_FAILED,
    ConfigError,
    Finding,
    SiteError,
)
from rompy_hydra.verbs.old_names import tell_old_names

if TYPE_CHECKING:
    import argparse

    from rompy_hydra.compose.sources import Sources
    from rompy_hydra.compose.sweep_plans import Sweep, SweepPlanner
    from rompy_hydra.plan.point import InvalidPoint, Point
    from rompy_hydra.sweep.layout import SweepLayout
    from rompy_hydra.sweep.lease import Lease
    from rompy_hydra.sweep.progress import Progress
    from rompy_hydra.sweep.scheduler import Scheduler, Task
    from rompy_hydra.sweep.settings import SweepSettings
    from rompy_hydra.sweep.snapshot import Snapshot
    from rompy_hydra.sweep.state import SweepState
    from rompy_hydra.sweeping.driving import Drive
    from rompy_hydra.sweeping.lanes import Lanes
    from rompy_hydra.sweeping.planning import Written
    from rompy_hydra.verbs import Parser

Points = Callable[[], "Iterator[Point | InvalidPoint]"]


def run_sweep(args: argparse.Namespace, sources: Sources) -> int:
    """`run -m`: plan, check, and drive a new sweep."""
    import gc

    from rompy_hydra.compose.invocation import command_request
    from rompy_hydra.compose.sweep_plans import open_sweep

    cwd = Path.cwd()
    sweep = open_sweep(command_request(args.overrides, sources, args.config_name), cwd=cwd)
    gc.freeze()
    gc.enable()
    drive, points = plan_sweep(sweep, _sweep_directory(sweep, cwd), cwd)
    _tell_what_was_noticed(sweep)
    if args.emit_script:
        drive.lease.release()
        return _emit_script(drive.layout, args)
    return _drive(drive, lambda watcher: drive.start(points, watcher), detach=args.detach)


def dry_run(args: argparse.Namespace, sources: Sources) -> int:
    """`run [-m] --dry-run`: what would be, and everything that is wrong with it; nothing is written."""
    from rompy_hydra.compose.invocation import command_request, compose_command
    from rompy_hydra.plan.point import Point
    from rompy_hydra.steps.lookups import Lookups
    from rompy_hydra.steps.preview import script_of
    from rompy_hydra.sweep.settings import SweepSettings
    from rompy_hydra.sweeping.forecast import Forecast, point_lines
    from rompy_hydra.sweeping.planning import check

    cwd = Path.cwd()
    if args.multirun:
        from rompy_hydra.compose.sweep_plans import open_sweep

        sweep = open_sweep(command_request(args.overrides, sources, args.config_name), cwd=cwd)
        settings = SweepSettings.of(sweep.spec)
        points = sweep.points()
        budget = settings.budget()
        where = _sweep_directory(sweep, cwd)
    else:
        from rompy_hydra.compose.bridge import to_plan

        composition = compose_command(args.overrides, sources, args.config_name)
        tell_old_names(composition.renamed)
        plan = to_plan(composition, cwd=cwd)
        settings, budget = SweepSettings(), None
        points = iter([Point(number=0, name=plan.run_id, overrides=plan.overrides, plan=plan)])
        where = plan.output_dir / plan.run_id
    forecast = Forecast(is_sweep=args.multirun, settings=settings)
    lookups = Lookups(is_shared=args.multirun and not settings.timing)
    for point in check(points, lookups, budget, make=False):
        forecast.add(point)
        print("\n".join(point_lines(point)))
    if args.multirun:
        _tell_what_was_noticed(sweep)
    elif not forecast.invalid and (script := script_of(plan, lookups)) is not None:
        print(f"\n{script}")
    print(f"\nnothing was written or started; it would be in {where}")
    print("\n".join(forecast.lines()))
    if forecast.invalid and not settings.skip_invalid:
        error = forecast.invalid.error(forecast.points)
        error.exit_code = EXIT_REQUEST
        raise error
    if (finding := forecast.bound.why_too_much(settings.max_core_hours)) is not None:
        raise ConfigError("the sweep may cost more than it is allowed to", [finding])
    return EXIT_OK


def _sweep_directory(sweep: Sweep, cwd: Path) -> Path:
    """`hydra.sweep.dir` where somebody set it, else a new one in `output_dir`."""
    composition = sweep.composition
    if composition.sets("hydra.sweep.dir"):
        return cwd / Path(str(composition.hydra.sweep.dir)).expanduser()
    output_dir = Path(str(composition.config.get("output_dir", "runs"))).expanduser()
    return cwd / output_dir / f"sweep-{composition.request.invocation}"


def plan_sweep(sweep: Sweep, directory: Path, cwd: Path) -> tuple[Drive, Points]:
    """Take the snapshot, check every point, write down what the sweep is; its directory appears when that is done."""
    from rompy_hydra.steps.lookups import Lookups
    from rompy_hydra.steps.source import write_diffs
    from rompy_hydra.sweep.description import write_description
    from rompy_hydra.sweep.layout import check_free, draft_directory, publish
    from rompy_hydra.sweep.lease import Lease, remove_abandoned_drafts
    from rompy_hydra.sweep.settings import SweepSettings
    from rompy_hydra.sweep.snapshot import take_snapshot
    from rompy_hydra.sweeping.driving import Drive
    from rompy_hydra.sweeping.planning import check, write_plan
    from rompy_hydra.workspace.layout import remove_empty

    check_free(directory)
    draft = draft_directory(directory)
    try:
        with _Leaving() as leaving:
            remove_abandoned_drafts(directory.parent)
            lease = Lease.acquire(draft)
            repositories = sweep.planner.request.sources.repositories
            snapshot = take_snapshot(draft.snapshot, [(r.conf, r.templates) for r in repositories])
            write_diffs(draft.snapshot, [r.conf for r in sweep.planner.request.sources.users])
            settings = SweepSettings.of(sweep.spec)
            lookups = Lookups(repositories=[r.conf for r in repositories], is_shared=not settings.timing)
            written = write_plan(
                draft,
                check(sweep.points(), lookups, settings.budget()),
                skip_invalid=settings.skip_invalid,
                max_core_hours=settings.max_core_hours,
                tick=_planning(sweep.design.count(), leaving),
            )
            _write_hydra_files(draft, sweep)
            description = _description(sweep, draft, cwd, snapshot, settings, written)
            write_description(draft, description)
            layout = publish(draft, directory)
            lease.move(layout)
    except BaseException:
        shutil.rmtree(draft.sweep_dir, ignore_errors=True)  # ours alone, and nothing of it was started
        remove_empty(directory.parent)
        raise
    drive = Drive(
        layout=layout,
        lease=lease,
        settings=settings,
        lookups=lookups,
        sweep_id=description["sweep_id"],
        fan_out=description["fan_out"],
        total=written.total,
        backends=written.backends,
        needs_driver=written.needs_driver,
    )
    moved = {
        repository.templates: (layout.sweep_dir / entry["snapshot"]).with_name("templates")
        for repository, entry in zip(repositories, description["repositories"], strict=True)
    }
    return drive, lambda: _with_templates_of(moved, sweep.points())


def _description(
    sweep: Sweep, draft: SweepLayout, cwd: Path, snapshot: Snapshot, settings: SweepSettings, written: Written
) -> dict[str, Any]:
    """`sweep.json`: all that `resume` needs to go on without this command."""
    from rompy_hydra.compose.resolvers import ENV_VARIABLE
    from rompy_hydra.record import provenance, store
    from rompy_hydra.redaction import redact_override
    from rompy_hydra.sweep.layout import FAN_OUT_ABOVE

    request = sweep.planner.request
    return {
        "sweep_id": request.invocation,
        "created_at": store.utc(),
        "command": provenance.redact_argv(sys.argv),
        "base": str(cwd),
        "config_name": request.config_name,
        "env": request.environ.get(ENV_VARIABLE),
        "overrides": [redact_override(o) for o in request.overrides],
        "repositories": [
            {"conf": str(r.conf), "origin": r.origin, "snapshot": str(conf.relative_to(draft.sweep_dir))}
            for r, conf in zip(request.sources.repositories, snapshot.confs, strict=True)
        ],
        "linked": {name: list(seen) for name, seen in snapshot.linked.items()},
        "settings": settings.to_dict(),
        "site": {} if written.site is None else written.site.model_dump(mode="json"),
        "charge_rate": getattr(written.site, "charge_rate", None),
        "points": written.total,
        "backends": dict(written.backends),
        "needs_driver": written.needs_driver,
        "fan_out": written.total > FAN_OUT_ABOVE,
    }


class _Leaving:
    """Ctrl-C and SIGTERM while there is nothing to be ended but this command.

    What a handler raises is lost if it comes up in a destructor or a callback of a library: `check` raises it again.
    """

    def __init__(self) -> None:
        self._interrupt: KeyboardInterrupt | None = None

    def __enter__(self) -> Self:
        self._before = {n: signal.signal(n, self._leave) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _leave(self, number: int, _frame: object) -> None:
        self._interrupt = KeyboardInterrupt(signal.Signals(number).name)
        self._interrupt.exit_code = 128 + number  # type: ignore[attr-defined]  # what the street door ends with
        raise self._interrupt

    def check(self) -> None:
        """Leave, if somebody asked for it."""
        if self._interrupt is not None:
            raise self._interrupt


def _with_templates_of(
    moved: Mapping[Path, Path], points: Iterator[Point | InvalidPoint]
) -> Iterator[Point | InvalidPoint]:
    """The points with their templates in the snapshot: what somebody edits now changes none of them."""
    from rompy_hydra.plan.point import InvalidPoint

    for point in points:
        directory = None if isinstance(point, InvalidPoint) else point.plan.template_directory
        if isinstance(point, InvalidPoint) or directory is None:
            yield point
        else:
            there = moved[directory.parent] / directory.name
            yield replace(point, plan=point.plan.model_copy(update={"template_directory": there}))


def _write_hydra_files(layout: SweepLayout, sweep: Sweep) -> None:
    """`.hydra/` as Hydra users expect it, once: with what the points have in common."""
    from rompy_hydra.compose.bridge import hydra_files

    layout.hydra.mkdir()
    for name, text in hydra_files(sweep.composition).items():
        (layout.hydra / name).write_text(text, encoding="utf-8")


def _planning(total: int, leaving: _Leaving) -> Callable[[int], None]:
    """Says how far planning is, where it takes long enough to wonder."""
    width = _terminal_width()
    due = time.monotonic() + 1.0

    def tick(done: int) -> None:
        nonlocal due
        leaving.check()
        if width is not None and time.monotonic() >= due:
            due = time.monotonic() + 0.2
            _write_error(f"\r\x1b[K{done} of {total} points checked" if done < total else "\r\x1b[K")

    return tick


def _tell_what_was_noticed(sweep: Sweep) -> None:
    tell_old_names(sweep.composition.renamed)
    counts = sweep.planner.counts
    if counts.fallbacks:
        why = "; ".join(f"{n}: {reason}" for reason, n in counts.aside.most_common(3))
        _write_error(f"{counts.fallbacks} compositions took Hydra's own, slow way ({why})\n")


Start = Callable[[Callable[["SweepState"], "Progress"]], "tuple[Scheduler, Lanes]"]


def _drive(drive: Drive, start: Start, *, detach: bool = False) -> int:
    """Drive a sweep to its end, with all that belongs to it: signals, progress, the final table.

    Detached, a sweep that needs this machine goes on in a child from the start; one that is all in a queue is submitted
    here, so that what the scheduler refuses is seen, and needs a child only for what comes later.
    """
    if detach and not drive.is_remote and _goes_on_in_a_child(drive):
        print(f"{drive.total} points in {drive.layout.sweep_dir}")
        print(f"see them: rompy-hydra status {drive.layout.sweep_dir}")
        return EXIT_OK
    from rompy_hydra.sweep.progress import Progress
    from rompy_hydra.sweep.table import final_table, summary

    made: list[Progress] = []

    def watcher(state: SweepState) -> Progress:
        made.append(
            Progress(
                state,
                drive.layout,
                _write_error,
                terminal_width=_terminal_width(),
                about=_about,
            )
        )
        return made[0]

    question = _Question()
    drive = replace(drive, ask=question.ask)
    is_parent = False
    try:
        scheduler, lanes = start(watcher)
        question.scheduler = scheduler
        progress, state = made[0], scheduler.state
        progress.said(f"{drive.total} points in {drive.layout.sweep_dir}")
        try:
            with _Signals(scheduler, progress, drive.layout):
                if detach and drive.is_remote:
                    scheduler.run(until=lambda: scheduler.is_all_submitted or scheduler.is_held)
                    if not scheduler.is_over:
                        progress.close()
                        if not _needs_a_driver(drive, scheduler):
                            return _left_in_the_queue(drive, scheduler, lanes)
                        if is_parent := _goes_on_in_a_child(drive):
                            return _left_in_the_queue(drive, scheduler, lanes, is_driven=True)
                        progress.detach(_write_error)
                        scheduler.moved()
                scheduler.run()
        finally:
            progress.close()
            if not is_parent:
                lanes.close()
    finally:
        if not is_parent:
            drive.lease.release()
    if table := final_table(drive.layout, state):
        print(table)
    print(f"{summary(state)}  ({drive.layout.sweep_dir})")
    if scheduler.is_left:
        print(_later(drive.layout))
    return scheduler.exit_code


def _needs_a_driver(drive: Drive, scheduler: Scheduler) -> bool:
    """Whether more has to be done than to wait: points without room in the queue, retries that get more, outputs."""
    return scheduler.is_held or drive.needs_driver


def _left_in_the_queue(drive: Drive, scheduler: Scheduler, lanes: Lanes, *, is_driven: bool = False) -> int:
    """The last words of a command that leaves a sweep to the queue."""
    jobs = ", ".join(map(str, lanes.job_ids[:8])) + (", …" if len(lanes.job_ids) > 8 else "")
    print(f"{scheduler.remote} of {drive.total} points are in the queue: job {jobs}")
    if is_driven:
        waiting = f"{lanes.held} points wait for room there; " if lanes.held else ""
        print(f"{waiting}a process goes on here to see to the rest (its log: {drive.layout.driver_log});")
        print(f"if it is ended, go on with: rompy-hydra resume {drive.layout.sweep_dir}")
    print(_later(drive.layout))
    return EXIT_OK


def _later(layout: SweepLayout) -> str:
    return (
        f"see them: rompy-hydra status {layout.sweep_dir}\n"
        f"wait for them, and record their ends: rompy-hydra resume {layout.sweep_dir}\n"
        f"end them: rompy-hydra cancel {layout.sweep_dir}"
    )


class _Question:
    """Ctrl-C while points are in a queue: are they left there, or ended?  Asked on a terminal only."""

    scheduler: Scheduler | None = None

    def ask(self, remote: int) -> bool:
        """Put the question; False where nobody can answer."""
        if self.scheduler is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        _write_error(
            f"{remote} points are in the queue: leave them there (l, Enter), or cancel them (c)? "
            "Ctrl-C again cancels them\n"
        )
        with contextlib.suppress(OSError, ValueError):  # asked before: it is listened to already
            self.scheduler.listen(sys.stdin.fileno(), self._hear)
        return True

    def _hear(self) -> None:
        assert self.scheduler is not None
        answer = os.read(sys.stdin.fileno(), 512).decode("utf-8", "replace").strip().lower()
        if answer in ("", "l", "leave"):
            self.scheduler.leave("interrupted from the keyboard")
        elif answer in ("c", "cancel"):
            self.scheduler.end_remote("interrupted from the keyboard")
            _write_error("they are being cancelled; waiting for their end\n")
        else:
            _write_error("l: leave them in the queue; c: cancel them\n")


def _goes_on_in_a_child(drive: Drive) -> bool:
    """Split in two: the child, without a terminal, drives on and gets False; the parent may leave and gets True."""
    said_r, said_w = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork() > 0:
        os.close(said_w)
        with os.fdopen(said_r, "rb") as said:
            if said.read(1):
                return True
        raise SiteError(f"the driver could not be detached; see {drive.layout.driver_log}")
    os.close(said_r)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    _to_driver_log(drive.layout)
    drive.lease.hand_over()  # before the parent leaves: somebody who lives must hold it
    os.write(said_w, b"\n")
    os.close(said_w)
    return False


def _about(task: Task) -> tuple[str, Path | None]:
    """What varies at a point that failed, and the log to look into."""
    from rompy_hydra.redaction import redact
    from rompy_hydra.sweep.table import swept_text
    from rompy_hydra.sweep.view import Seen

    ready = task.content
    if ready is None:
        return "", None
    seen = Seen(task.number, task.name, "", "", {}, ready.layout.run_dir, task.attempt)
    return swept_text(redact(dict(ready.point.swept))), seen.log()


def _write_error(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it any more: the sweep goes on all the same
        sys.stderr.write(text)
        sys.stderr.flush()


def _terminal_width() -> Callable[[], int] | None:
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return None
    return lambda: shutil.get_terminal_size().columns


class _Signals:
    """Ctrl-C once and twice, SIGTERM, SIGHUP, while a scheduler runs: handlers count, the loop heeds."""

    def __init__(self, scheduler: Scheduler, progress: Progress, layout: SweepLayout) -> None:
        self._scheduler = scheduler
        self._progress = progress
        self._layout = layout
        self._hung_up = False

    def __enter__(self) -> None:
        self._wake_r, self._wake_w = os.pipe()
        for fd in (self._wake_r, self._wake_w):
            os.set_blocking(fd, False)
        self._wakeup_before = signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        self._scheduler.listen(self._wake_r, self._drain)
        self._before = {
            signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: self._scheduler.interrupt()),
            signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: self._scheduler.terminate("SIGTERM")),
            signal.SIGHUP: signal.signal(signal.SIGHUP, lambda *_: self._hang_up()),
        }

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._wake_r)
        os.close(self._wake_w)

    def _hang_up(self) -> None:
        self._hung_up = True

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_r, 512):
                pass
        if self._hung_up:
            self._hung_up = False
            _to_driver_log(self._layout)
            self._progress.detach(_write_error)
            self._progress.said("the terminal is gone; the sweep goes on without it")


def _to_driver_log(layout: SweepLayout) -> None:
    """From now on we print into the sweep's own log."""
    try:
        fd = os.open(layout.driver_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError:
        fd = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    for number in (1, 2):
        os.dup2(fd, number)
    os.close(fd)


# -- resume --------------------------------------------------------------------------------------------------------


def resume(words: list[str], parser_of: Parser) -> int:
    """`resume SWEEP`: go on with a sweep whose driver has ended, from its snapshot."""
    from rompy_hydra.record.states import RunState
    from rompy_hydra.sweep.description import read_description
    from rompy_hydra.sweep.layout import SweepLayout
    from rompy_hydra.sweep.lease import Lease
    from rompy_hydra.sweep.packed import refuse_packed
    from rompy_hydra.sweep.state import read_state

    parser = parser_of("resume", "SWEEP [--update] [--retry-failed] [--take-over] [--detach | --emit-script KIND]")
    parser.description = "Go on with a sweep: what has ended stays, what still runs is waited for, the rest is run."
    parser.add_argument("sweep", metavar="SWEEP", help="the directory of the sweep")
    parser.add_argument("--detach", action="store_true", help="start it and return; it goes on by itself")
    parser.add_argument(
        "--update",
        action="store_true",
        help="compose it anew from its repositories, tell what differs, and run what is another simulation now",
    )
    parser.add_argument("--retry-failed", action="store_true", help="run points that failed once more")
    parser.add_argument(
        "--take-over", action="store_true", help="the driver was on another machine, and nothing of it lives any more"
    )
    parser.add_argument(
        "--submit",
        action="store_true",
        help="inside a job: the rest goes into the queue all the same, not onto its nodes",
    )
    from rompy_hydra.verbs.job_flags import add_job_flags

    add_job_flags(parser)
    args = parser.parse_intermixed_args(words)
    layout = SweepLayout(Path(args.sweep).absolute())
    description = read_description(layout)
    refuse_packed(layout, "resumed")
    if args.emit_script:
        return _emit_script(layout, args)
    lease = Lease.acquire(layout, take_over=args.take_over)
    try:
        if args.update:
            _update(layout, description, lease)
            description = read_description(layout)
        drive, planner = _from_description(layout, description, lease)
        if not args.submit:
            drive = _in_allocation(drive, description)
        state = read_state(layout, drive.total)
    except BaseException:
        lease.release()
        raise
    again = [RunState.LOST, RunState.CANCELLED]
    if args.retry_failed:
        again += [RunState.FAILED, RunState.TIMED_OUT, RunState.OUT_OF_MEMORY]
    left = sum(1 for _ in state.numbers("queued", "waiting", "running", *again))
    if not left and not state.unposted:
        lease.release()
        from rompy_hydra.sweep.table import summary

        print(f"nothing is left to do: {summary(state)}  ({layout.sweep_dir})")
        return EXIT_OK if state.is_good else EXIT_RUN_FAILED
    _write_error(f"{drive.total - left} points have ended, {left} are left\n")

    def start(watcher: Callable[[SweepState], Progress]) -> tuple[Scheduler, Lanes]:
        return drive.resume(state, lambda lines: _points_of_lines(planner, lines), watcher, again=again)

    return _drive(drive, start, detach=args.detach)


def _emit_script(layout: SweepLayout, args: argparse.Namespace) -> int:
    """Print the script of a job that goes on with a sweep on its own nodes."""
    from rompy_hydra.sweep.description import read_description
    from rompy_hydra.sweep.job_script import Request as ScriptRequest
    from rompy_hydra.sweep.job_script import estimated_time_s, script
    from rompy_hydra.sweep.state import read_state
    from rompy_hydra.sweep.table import plan_lines

    description = read_description(layout)
    site = description.get("site") or {}
    state = read_state(layout, description["points"])
    left = set(state.numbers("queued", "waiting", "lost", "cancelled")) - state.started.keys()
    widest, largest, longest, core_seconds = 1, 0, 0.0, 0.0
    unlimited = 0
    for line in plan_lines(layout, left):
        widest, largest = max(widest, line.get("cpus", 1)), max(largest, line.get("memory") or 0)
        longest = max(longest, line.get("limit") or 0.0)
        core_seconds += line.get("cpus", 1) * (line.get("limit") or 0.0)
        unlimited += line.get("limit") is None
    partition = (site.get("partitions") or {}).get(site.get("partition")) or {}
    cpus = args.cpus_per_node or partition.get("cpus") or widest
    time_s = estimated_time_s(None if unlimited else core_seconds, cpus * args.nodes, longest)
    request = ScriptRequest(
        name=layout.sweep_dir.name,
        nodes=args.nodes,
        cpus_per_node=cpus,
        memory_bytes_per_node=largest * max(1, cpus // widest) or None,
        time_s=time_s,
        directory=description["base"],
        log=str(layout.driver_log),
        command=[sys.executable, "-m", "rompy_hydra", "resume", str(layout.sweep_dir)],
        queue=site.get("partition"),
        account=site.get("account"),
        setup=_setup_lines(site),
    )
    print(script(args.emit_script, request), end="")
    _write_error(f"{len(left)} points of {layout.sweep_dir} are left for this job\n")
    if unlimited:
        _write_error(f"{unlimited} points have no time limit: add one to the script, or set resources.time_limit\n")
    return EXIT_OK


def _setup_lines(site: Mapping[str, Any]) -> list[str]:
    """What makes a node ready, as the site says."""
    import shlex

    modules = list(site.get("modules") or ())
    lines = ["module purge"] if modules and site.get("purge", True) else []
    lines += [f"module load {shlex.quote(name)}" for name in modules]
    return [*lines, *(site.get("setup") or ())]


def _in_allocation(drive: Drive, description: Mapping[str, Any]) -> Drive:
    """Inside a job of Slurm, PBS or LSF what is left is run on its nodes."""
    from rompy_hydra.sweep.allocation import find_allocation, here

    allocation = find_allocation(os.environ)
    if allocation is None:
        return drive
    _write_error(f"inside {allocation}: what is left runs here (--submit: it goes into the queue)\n")
    settings = drive.settings
    mine = next((node for node in allocation.nodes if node.name.partition(".")[0] == here()), allocation.nodes[0])
    if settings.cpus is None:
        settings = replace(settings, cpus=mine.cpus)
    if not drive.backends.keys() & {"slurm"}:
        return replace(drive, settings=settings)
    from rompy_hydra.run.slurm_commands import Slurm, is_installed
    from rompy_hydra.sweeping.own_queue import OwnQueue

    launcher = allocation.launcher((description.get("site") or {}).get("node_launcher"))
    site = Slurm(patience_s=5.0) if is_installed() else None
    return replace(drive, settings=settings, queue=OwnQueue(allocation, launcher, site))


def _update(layout: SweepLayout, description: dict[str, Any], lease: Lease) -> None:
    """Bring a sweep up to date with its repositories."""
    from rompy_hydra.compose.sources import Repository
    from rompy_hydra.compose.sweep_plans import open_sweep
    from rompy_hydra.redaction import REDACTED
    from rompy_hydra.steps.lookups import Lookups
    from rompy_hydra.sweep.description import write_description
    from rompy_hydra.sweep.journal import Journal
    from rompy_hydra.sweep.settings import SweepSettings
    from rompy_hydra.sweep.snapshot import take_snapshot
    from rompy_hydra.sweep.state import read_state
    from rompy_hydra.sweep.table import plan_lines
    from rompy_hydra.sweeping.planning import check
    from rompy_hydra.sweeping.updating import compare, differences, next_snapshot, write_update

    state = read_state(layout, description["points"])
    if state.started:
        raise ConfigError(
            f"{len(state.started)} points of the sweep {layout.sweep_dir} may still run",
            [
                Finding(
                    key="--update", rule="is for a sweep of which nothing runs", mend="first resume it without --update"
                )
            ],
        )
    if any(REDACTED in line for line in description["overrides"]):
        raise ConfigError("the sweep cannot be composed again: a credential was given on its command line")
    planner = _from_description(layout, {**description, "linked": {}}, lease)[1]
    originals = tuple(Repository(Path(r["conf"]), r["origin"]) for r in description["repositories"])
    request = replace(
        planner.request,
        overrides=tuple(description["overrides"]),
        sources=replace(planner.request.sources, repositories=originals),
    )
    sweep = open_sweep(request, cwd=planner.cwd)
    settings = SweepSettings.of(sweep.spec)
    lookups = Lookups(repositories=[r.conf for r in originals], is_shared=not settings.timing)
    # Composed from a snapshot, as all that runs: else `template:` inputs would seem to have moved.
    snapshot = take_snapshot(next_snapshot(layout), [(r.conf, r.templates) for r in originals])
    moved = {r.templates: conf.parent / "templates" for r, conf in zip(originals, snapshot.confs, strict=True)}
    try:
        points = check(_with_templates_of(moved, sweep.points()), lookups, settings.budget())
        update, overrides = compare(layout, points)
    except BaseException:
        shutil.rmtree(snapshot.confs[0].parents[1], ignore_errors=True)
        raise
    tell_old_names(sweep.composition.renamed)
    _write_error(f"{update.text()}\n")
    before = {line["n"]: line["overrides"] for line in plan_lines(layout, set(overrides))}
    for line in differences(
        sorted(overrides),
        lambda n: planner.plan(planner.composed(before[n], n), before[n]).config,
        lambda n: sweep.planner.plan(sweep.planner.composed(overrides[n], n), overrides[n]).config,
    ):
        _write_error(f"  {line}\n")
    journal = Journal(layout, state)
    write_update(layout, update, journal)
    journal.close()
    write_description(
        layout,
        {
            **description,
            "repositories": [
                {"conf": str(r.conf), "origin": r.origin, "snapshot": str(conf.relative_to(layout.sweep_dir))}
                for r, conf in zip(originals, snapshot.confs, strict=True)
            ],
            "linked": {name: list(seen) for name, seen in snapshot.linked.items()},
            "settings": settings.to_dict(),
            "points": state.total,
        },
    )


def _from_description(layout: SweepLayout, description: Mapping[str, Any], lease: Any) -> tuple[Drive, SweepPlanner]:
    """What `run -m` had in hands, from what it wrote down."""
    from rompy_hydra.compose.composer import Request
    from rompy_hydra.compose.resolvers import ENV_VARIABLE
    from rompy_hydra.compose.sources import Repository, Sources
    from rompy_hydra.compose.sweep_plans import SweepPlanner
    from rompy_hydra.steps.lookups import Lookups
    from rompy_hydra.sweep.settings import SweepSettings
    from rompy_hydra.sweep.snapshot import check_links
    from rompy_hydra.sweeping.driving import Drive

    check_links(description.get("linked", {}))
    repositories = description["repositories"]
    environ = {name: value for name, value in os.environ.items() if name != ENV_VARIABLE}
    if description.get("env") is not None:
        environ[ENV_VARIABLE] = description["env"]
    request = Request(
        overrides=(),
        sources=Sources(tuple(Repository(layout.sweep_dir / r["snapshot"], r["origin"]) for r in repositories)),
        invocation=description["sweep_id"],
        environ=environ,
        config_name=description["config_name"],
    )
    settings = SweepSettings.from_dict(description["settings"])
    drive = Drive(
        layout=layout,
        lease=lease,
        settings=settings,
        lookups=Lookups(repositories=[Path(r["conf"]) for r in repositories], is_shared=not settings.timing),
        sweep_id=description["sweep_id"],
        fan_out=description["fan_out"],
        total=description["points"],
        backends=description.get("backends", {}),
        needs_driver=description.get("needs_driver", False),
    )
    return drive, SweepPlanner(request, cwd=Path(description["base"]))


def _points_of_lines(planner: SweepPlanner, lines: Iterable[Mapping[str, Any]]) -> Iterator[Point]:
    """The points that lines of `plan.jsonl` describe, composed again from the snapshot."""
    from rompy_hydra.plan.point import Point
    from rompy_hydra.redaction import REDACTED
    from rompy_hydra.steps.reproduce import lost_credentials

    options = [path for r in planner.request.sources.repositories for path in r.conf.rglob("*.y*ml") if path.is_file()]
    has_lost = any(REDACTED.encode() in path.read_bytes() for path in options)

    for line in lines:
        if line.get("redacted"):
            raise ConfigError(
                f"point {line['name']} cannot be composed again",
                [
                    Finding(
                        key="overrides",
                        rule="a credential was given on the command line, and we do not keep any",
                        mend="start a new sweep that names it as ${secret:NAME}",
                    )
                ],
            )
        overrides = tuple(line["overrides"])
        plan = planner.plan(planner.composed(overrides, line["n"]), overrides)
        if has_lost and (lost := list(lost_credentials(plan.spec.model_dump(mode="json")))):
            raise ConfigError(f"point {line['name']} cannot be composed again: its snapshot keeps no credential", lost)
        yield Point(
            number=line["n"],
            name=line["name"],
            overrides=overrides,
            plan=plan,
            swept=line.get("swept", {}),
            repeat=line.get("repeat", 0),
            subdir=line.get("dir"),
        )
