"""The street door for sweeps: `run -m` and `resume`; prints, as `cli` does."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import (
    EXIT_OK,
    EXIT_RUN_FAILED,
    ConfigError,
    Finding,
)

if TYPE_CHECKING:
    import argparse

    from rompy_hydra.compose.composer import Request
    from rompy_hydra.compose.sources import Sources
    from rompy_hydra.plan.point import InvalidPoint, Point
    from rompy_hydra.sweep.layout import SweepLayout
    from rompy_hydra.sweep.progress import Progress
    from rompy_hydra.sweep.scheduler import Scheduler, Task
    from rompy_hydra.sweep.state import SweepState
    from rompy_hydra.sweeping import Drive, Lanes

Parser = Callable[[str, str], "argparse.ArgumentParser"]
Points = Callable[[], "Iterator[Point | InvalidPoint]"]


def run_sweep(args: argparse.Namespace, sources: Sources) -> int:
    """`run -m`: plan, check, and drive a new sweep."""
    import gc

    from rompy_hydra.compose.invocation import command_request
    from rompy_hydra.sweep.layout import make_sweep_directory

    request = command_request(args.overrides, sources, args.config_name)
    cwd = Path.cwd()
    directory = _sweep_directory(request, cwd)
    layout = make_sweep_directory(directory)
    gc.freeze()
    gc.enable()
    try:
        drive, points = _plan(request, layout, cwd)
    except BaseException:
        shutil.rmtree(layout.sweep_dir, ignore_errors=True)  # it was ours alone, and nothing of it was started
        raise
    return _drive(drive, lambda watcher: drive.start(points(), watcher))


def _plan(
    request: Request, layout: SweepLayout, cwd: Path
) -> tuple[Drive, Callable[[], Iterator[Point | InvalidPoint]]]:
    """Take the snapshot, check every point, write down what the sweep is."""
    from rompy_hydra.compose.resolvers import ENV_VARIABLE
    from rompy_hydra.record import provenance, store
    from rompy_hydra.redaction import redact_override
    from rompy_hydra.sweep.description import write_description
    from rompy_hydra.sweep.layout import FAN_OUT_ABOVE
    from rompy_hydra.sweep.lease import Lease
    from rompy_hydra.sweep.settings import SweepSettings
    from rompy_hydra.sweep.snapshot import take_snapshot
    from rompy_hydra.sweeping import Drive, check, write_plan
    from rompy_hydra.workflow import Lookups

    lease = Lease.acquire(layout)
    repositories = request.sources.repositories
    snapshot = take_snapshot(layout.snapshot, [(r.conf, r.templates) for r in repositories])
    copied = tuple(replace(r, conf=conf) for r, conf in zip(repositories, snapshot.confs, strict=True))
    taken = replace(request, sources=replace(request.sources, repositories=copied))
    settings = SweepSettings()
    lookups = Lookups(repositories=[r.conf for r in repositories], is_shared=True)

    def points() -> Iterator[Point | InvalidPoint]:
        return _points(taken, cwd)

    submitted, _ = write_plan(
        layout,
        check(points(), lookups, settings.budget()),
        skip_invalid=settings.skip_invalid,
        tick=lambda _: None,
    )
    fan_out = submitted.total > FAN_OUT_ABOVE
    write_description(
        layout,
        {
            "sweep_id": request.invocation,
            "created_at": store.utc(),
            "command": provenance.redact_argv(sys.argv),
            "base": str(cwd),
            "config_name": request.config_name,
            "env": request.environ.get(ENV_VARIABLE),
            "overrides": [redact_override(o) for o in request.overrides],
            "repositories": [
                {"conf": str(r.conf), "origin": r.origin, "snapshot": str(c.conf.relative_to(layout.sweep_dir))}
                for r, c in zip(repositories, copied, strict=True)
            ],
            "linked": {name: list(seen) for name, seen in snapshot.linked.items()},
            "points": submitted.total,
            "fan_out": fan_out,
        },
    )
    drive = Drive(
        layout=layout,
        lease=lease,
        settings=settings,
        lookups=lookups,
        sweep_id=request.invocation,
        fan_out=fan_out,
        total=submitted.total,
    )
    return drive, points


def _sweep_directory(request: Request, cwd: Path) -> Path:
    from rompy_hydra.compose.composer import compose
    from rompy_hydra.compose.points import expand

    points = expand(request)
    if points.findings:
        raise ConfigError("the sweep's values are wrong", points.findings)
    first = compose(replace(request, overrides=next(iter(points)), point=0))
    if first.sets("hydra.sweep.dir"):
        return cwd / Path(str(first.hydra.sweep.dir)).expanduser()
    return cwd / Path(str(first.config.get("output_dir", "runs"))).expanduser() / f"sweep-{request.invocation}"


def _points(request: Request, cwd: Path) -> Iterator[Point | InvalidPoint]:
    from rompy_hydra.compose.bridge import to_plan
    from rompy_hydra.compose.composer import compose
    from rompy_hydra.compose.points import expand
    from rompy_hydra.plan.point import InvalidPoint, Point

    for number, overrides in enumerate(expand(request)):
        try:
            composition = compose(replace(request, overrides=overrides, point=number))
            plan = to_plan(composition, cwd=cwd)
        except ConfigError as error:
            yield InvalidPoint(number=number, name=str(number), overrides=overrides, error=error)
            continue
        yield Point(number=number, name=str(number), overrides=overrides, plan=plan)


def _drive(drive: Drive, start: Callable[[Callable[[SweepState], Progress]], tuple[Scheduler, Lanes]]) -> int:
    """Drive a sweep to its end, with all that belongs to it: signals, progress, the final table."""
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
                log_of=_log_of,
            )
        )
        return made[0]

    try:
        scheduler, lanes = start(watcher)
        progress, state = made[0], scheduler.state
        progress.said(f"{drive.total} points in {drive.layout.sweep_dir}")
        try:
            with _Signals(scheduler, progress, drive.layout):
                scheduler.run()
        finally:
            progress.close()
            lanes.close()
    finally:
        drive.lease.release()
    if table := final_table(drive.layout, state):
        print(table)
    print(f"{summary(state)}  ({drive.layout.sweep_dir})")
    return scheduler.exit_code


def _log_of(task: Task) -> Path | None:
    from rompy_hydra.sweep.view import Seen

    ready = task.content
    if ready is None:
        return None
    return Seen(task.number, task.name, "", "", {}, ready.layout.run_dir, task.attempt).log()


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
    from rompy_hydra.sweep.state import read_state

    parser = parser_of("resume", "SWEEP [--retry-failed] [--take-over]")
    parser.description = "Go on with a sweep: what has ended stays, what still runs is waited for, the rest is run."
    parser.add_argument("sweep", metavar="SWEEP", help="the directory of the sweep")
    parser.add_argument("--retry-failed", action="store_true", help="run points that failed once more")
    parser.add_argument(
        "--take-over", action="store_true", help="the driver was on another machine, and nothing of it lives any more"
    )
    args = parser.parse_intermixed_args(words)
    layout = SweepLayout(Path(args.sweep).absolute())
    description = read_description(layout)
    lease = Lease.acquire(layout, take_over=args.take_over)
    try:
        drive, request, cwd = _from_description(layout, description, lease)
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
        return _exit_code_of(state)
    _write_error(f"{drive.total - left} points have ended, {left} are left\n")

    def start(watcher: Callable[[SweepState], Progress]) -> tuple[Scheduler, Lanes]:
        return drive.resume(state, lambda lines: _points_of_lines(request, lines, cwd), watcher, again=again)

    return _drive(drive, start)


def _exit_code_of(state: SweepState) -> int:
    return EXIT_OK if state.counts().get("succeeded", 0) == state.total else EXIT_RUN_FAILED


def _from_description(layout: SweepLayout, description: Mapping[str, Any], lease: Any) -> tuple[Drive, Request, Path]:
    """What `run -m` had in hands, from what it wrote down."""
    from rompy_hydra.compose.composer import Request
    from rompy_hydra.compose.resolvers import ENV_VARIABLE
    from rompy_hydra.compose.sources import Repository, Sources
    from rompy_hydra.sweep.settings import SweepSettings
    from rompy_hydra.sweep.snapshot import check_links
    from rompy_hydra.sweeping import Drive
    from rompy_hydra.workflow import Lookups

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
    drive = Drive(
        layout=layout,
        lease=lease,
        settings=SweepSettings(),
        lookups=Lookups(repositories=[Path(r["conf"]) for r in repositories], is_shared=True),
        sweep_id=description["sweep_id"],
        fan_out=description["fan_out"],
        total=description["points"],
    )
    return drive, request, Path(description["base"])


def _points_of_lines(request: Request, lines: Iterable[Mapping[str, Any]], cwd: Path) -> Iterator[Point]:
    """The points that lines of `plan.jsonl` describe, composed again from the snapshot."""
    from rompy_hydra.compose.bridge import to_plan
    from rompy_hydra.compose.composer import compose
    from rompy_hydra.plan.point import Point

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
        plan = to_plan(compose(replace(request, overrides=overrides, point=line["n"])), cwd=cwd)
        yield Point(
            number=line["n"],
            name=line["name"],
            overrides=overrides,
            plan=plan,
            swept=line.get("swept", {}),
            repeat=line.get("repeat", 0),
            subdir=line.get("dir"),
        )
