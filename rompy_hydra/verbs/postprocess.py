"""`postprocess`: the outputs of runs that have ended: again, otherwise, many at once; packed, restored, or pruned."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import EXIT_OK, EXIT_RUN_FAILED, ConfigError, Finding, RecordError, UsageError

if TYPE_CHECKING:
    import argparse

    from rompy_hydra.steps.processing_workers import Done, Workers
    from rompy_hydra.sweep.layout import SweepLayout
    from rompy_hydra.verbs import Parser

_MOST_LINES = 20
_CLEAR = "\r\x1b[K"
_DESCRIPTION = """\
Process the outputs of runs that have ended: of a run's directory, of a sweep's points, or of every run below a
directory.  Without processor= what the run's own configuration says is done.  What was done before, with the same
options, is not done again (--again does).

  rompy-hydra postprocess SWEEP processor=archive pack=true        all points in one archive; remove_originals=true
  rompy-hydra postprocess RUN|SWEEP|ARCHIVE --restore              bring back what was archived
  rompy-hydra postprocess DIR --prune keep=failed keep_last=5      what would go; --yes removes it
"""


def postprocess(words: list[str], parser_of: Parser) -> int:
    """`postprocess DIR … [processor=NAME] [OPTION=VALUE …]`: again, or otherwise; the run itself stays as it is."""
    args = _arguments(words, parser_of)
    paths = [Path(word) for word in args.words if "=" not in word or Path(word).exists()]
    options = _options(word for word in args.words if Path(word) not in paths)
    if not paths:
        raise UsageError("no run was named: rompy-hydra postprocess runs/NAME processor=archive")
    if args.prune:
        from rompy_hydra.verbs.retention import prune

        return prune(paths, options, really=args.yes, as_json=args.json)
    if args.restore:
        return _restore(paths, options, as_json=args.json)
    processor = options.pop("processor", None)
    if options and processor is None:
        raise UsageError(f"options ({', '.join(options)}) need a processor: add processor=NAME")
    if args.slurm:
        return _submit(paths, processor, options, args, parser_of)
    if processor == "archive" and options.get("pack") is not None and options.pop("pack") is not False:
        return _pack(paths, options, as_json=args.json)
    return _process(paths, processor, options, args)


def _arguments(words: list[str], parser_of: Parser) -> argparse.Namespace:
    import argparse

    parser = parser_of("postprocess", "DIR ... [processor=NAME] [OPTION=VALUE ...] [--jobs N] [--again] [--json]")
    parser.description = _DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("words", nargs="+", metavar="DIR|KEY=VALUE", help="directories; processor=NAME; its options")
    parser.add_argument("--jobs", "-j", type=int, default=1, metavar="N", help="so many runs at a time (default: 1)")
    parser.add_argument("--again", action="store_true", help="also what was done before")
    parser.add_argument("--only", metavar="STATE", help="of many runs only those in this state, as succeeded")
    parser.add_argument("--json", action="store_true", help="the answers as JSON")
    parser.add_argument("--restore", action="store_true", help="bring back what was archived; nothing is written over")
    parser.add_argument(
        "--prune", action="store_true", help="remove old outputs, or runs: keep=, keep_last=, keep_days="
    )
    parser.add_argument(
        "--slurm", action="store_true", help="as a batch job of its own, after the jobs of what is named"
    )
    parser.add_argument(
        "--with",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="of that job: backend.partition=",
    )
    parser.add_argument("--yes", action="store_true", help="with --prune: really; without, it only says what would go")
    args = parser.parse_intermixed_args(words)
    if args.jobs < 1:
        raise UsageError(f"--jobs {args.jobs}: at least one run is processed at a time")
    if args.yes and not args.prune:
        raise UsageError("--yes goes with --prune")
    if args.overrides and not args.slurm:
        raise UsageError("--with goes with --slurm: it sets keys of the batch job")
    if args.slurm and (args.prune or args.restore or args.json):
        raise UsageError("--slurm goes with processor=, and not with --prune, --restore or --json")
    return args


def _options(words: Iterable[str]) -> dict[str, Any]:
    """`KEY=VALUE`, the value as a YAML file would have it; what is no YAML (`*.nc`) is the text that was typed."""
    from rompy_hydra.backends.loading import parse_documents

    options: dict[str, Any] = {}
    for word in words:
        key, _, text = word.partition("=")
        try:
            values = parse_documents(text, f"the option '{key}'")
        except ConfigError:
            if not text.startswith(("*", "!")):
                raise
            values = [text]
        options[key] = values[0] if values else None
    return options


def _submit(
    paths: list[Path], processor: str | None, options: dict[str, Any], args: argparse.Namespace, parser_of: Parser
) -> int:
    from rompy_hydra.postprocess import check_options
    from rompy_hydra.verbs.postprocess_job import submit

    if processor is not None:
        check_options(processor, {key: value for key, value in options.items() if key != "pack"})
    words = [*args.words, "--jobs", str(args.jobs)]
    words += ["--again"] if args.again else []
    words += ["--only", args.only] if args.only else []
    return submit(paths, words, args.overrides, parser_of, jobs=args.jobs)


# -- many runs -------------------------------------------------------------------------------------------------------


def _process(paths: list[Path], processor: str | None, options: dict[str, Any], args: argparse.Namespace) -> int:
    from rompy_hydra.steps.processing_workers import Done, Wanted, Workers

    runs, open_runs = _runs(paths, args.only)
    if processor is not None:
        from rompy_hydra.postprocess import check_options

        check_options(processor, options)
    if len(runs) == 1 and not open_runs:
        from rompy_hydra.steps.processing import process_run

        record = process_run(runs[0], processor, options, again=args.again)
        done = [Done(runs[0], record.data["postprocess"], record.skipped)]
        interrupted = False
    else:
        workers = Workers(Wanted(processor, options, args.again), min(args.jobs, max(1, len(runs))))
        done, interrupted = _work(workers, runs)
    _settle(done)
    if args.json:
        print(json.dumps({str(one.run_dir): one.answer for one in done}, indent=2))
    else:
        _tell(done, open_runs, left=len(runs) - len(done))
    if interrupted:
        return 130
    return EXIT_OK if all(one.succeeded for one in done) else EXIT_RUN_FAILED


def _work(workers: Workers, runs: list[Path]) -> tuple[list[Done], bool]:
    """Have all of them processed.  Ctrl-C: what runs is finished; twice: it is ended."""
    import signal

    done: list[Done] = []
    progress = _Progress(workers, len(runs), done)
    presses: list[int] = []

    def pressed(*_: object) -> None:
        # No exception, which could come at any place: what was begun with a run is always brought to its end.
        presses.append(1)
        workers.stop() if len(presses) == 1 else workers.kill()

    before = signal.signal(signal.SIGINT, pressed)
    try:
        for one in workers.process(runs, lambda: progress.tick(is_interrupted=bool(presses))):
            done.append(one)
            progress.ended(one)
    finally:
        signal.signal(signal.SIGINT, before)
        workers.close()
        progress.close()
    return done, bool(presses)


class _Progress:
    """One line that changes on a terminal; lines from time to time elsewhere."""

    def __init__(self, workers: Workers, total: int, done: list[Done]) -> None:
        from rompy_hydra.sweep.progress import Rate

        self._workers, self._total, self._done = workers, total, done
        self._rate = Rate(time.monotonic)
        self._on_terminal = sys.stderr.isatty()
        self._due = time.monotonic() + (0 if self._on_terminal else 2)
        self._between_s = 2.0
        self._is_drawn = False
        self._told_interrupt = False

    def ended(self, one: Done) -> None:
        self._rate.count()
        if not one.succeeded:
            self.said(f"failed: {one.run_dir}: {one.answer.get('error')}")
        self.tick()

    def said(self, text: str) -> None:
        self._erase()
        print(text, file=sys.stderr, flush=True)

    def tick(self, *, is_interrupted: bool = False) -> None:
        if is_interrupted and not self._told_interrupt:
            self._told_interrupt = True
            self.said("interrupted: what runs is finished, nothing more is started (Ctrl-C again ends it)")
        now = time.monotonic()
        if now < self._due:
            return
        line = self._line()
        if self._on_terminal:
            self._due = now + 0.2
            print(f"{_CLEAR}{line[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)
            self._is_drawn = True
        else:
            print(line, file=sys.stderr, flush=True)
            self._between_s = min(2 * self._between_s, 60.0)
            self._due = now + self._between_s

    def close(self) -> None:
        self._erase()

    def _erase(self) -> None:
        if self._is_drawn:
            print(_CLEAR, end="", file=sys.stderr, flush=True)
            self._is_drawn = False

    def _line(self) -> str:
        from rompy_hydra.units.durations import format_duration

        failed = sum(not one.succeeded for one in self._done)
        parts = [f"{len(self._done)} of {self._total} done"]
        parts += [f"{failed} failed"] if failed else []
        parts += [f"{self._workers.running} running"] if self._workers.running else []
        left, rate = self._total - len(self._done), self._rate.per_second()
        if rate and left and not self._workers.is_stopping:
            parts.append(f"about {format_duration(float(round(left / rate)))} left")
        return ", ".join(parts)


def _tell(done: list[Done], open_runs: int, left: int) -> None:
    """Failures first, with their reasons; the others where there are few."""
    failed = sorted((one for one in done if not one.succeeded), key=lambda one: one.run_dir)
    good = [one for one in done if one.succeeded]
    for one in failed:
        print(f"{one.run_dir}: {one.answer['processor']}: failed: {one.answer.get('error')}")
    if len(good) <= _MOST_LINES:
        for one in sorted(good, key=lambda one: one.run_dir):
            told = "was done before (--again does it again)" if one.skipped else one.answer.get("message") or "done"
            print(f"{one.run_dir}: {one.answer['processor']}: {told}")
    before = sum(one.skipped for one in good)
    parts = [f"{len(failed)} failed"] if failed else []
    parts += [f"{len(good) - before} done"] if len(good) > before else []
    parts += [f"{before} done before"] if before else []
    parts += [f"{left} not started"] if left else []
    parts += [f"{open_runs} left out: they have not ended"] if open_runs else []
    if len(done) != 1 or left or open_runs:
        print(", ".join(parts) or "no run has ended there")


def _runs(paths: Iterable[Path], only: str | None) -> tuple[list[Path], int]:
    """The runs that are meant, each once, and how many of those found there have not ended."""
    from rompy_hydra.record.states import RunState

    if only is not None and only not in set(RunState):
        finding = Finding(key="--only", value=only, rule="is no state", mend=f"known: {', '.join(RunState)}")
        raise ConfigError("the state is not known", [finding])
    found: dict[Path, None] = {}
    left_out = 0
    for path in paths:
        below = list(_runs_below(path))
        if not below:
            found[path] = None  # a run that was named, or nothing of ours: reading it says so
        for run_dir, state in below:
            if state is not None and not RunState(state).is_final:
                left_out += 1
            elif only in (None, state):
                found[run_dir] = None
    if not found and not left_out and only is not None:
        raise RecordError(f"no run there is {only}")
    return list(found), left_out


def _runs_below(path: Path) -> Iterator[tuple[Path, str | None]]:
    """Every run below a directory and its state; a run or a sweep is looked into no further."""
    from rompy_hydra.record.store import RECORD_NAME
    from rompy_hydra.run.observe import observe
    from rompy_hydra.sweep.description import find_sweep

    if (path / RECORD_NAME).is_file() or not path.is_dir():
        return
    if (layout := find_sweep(path)) is not None:
        yield from _points(layout, path, is_named=True)
        return
    for folder, names, files in os.walk(path):
        here = Path(folder)
        if RECORD_NAME in files:
            yield here, str(observe(here)["state"])
            names.clear()
        elif here != path and (layout := find_sweep(here)) is not None:
            yield from _points(layout, here, is_named=False)
            names.clear()
        names[:] = sorted(name for name in names if not name.startswith("."))


def _points(layout: SweepLayout, directory: Path, *, is_named: bool) -> Iterator[tuple[Path, str]]:
    """The points of a sweep, as they were named: below the path that was typed."""
    from rompy_hydra.record.states import RunState
    from rompy_hydra.record.store import RECORD_NAME
    from rompy_hydra.sweep.packed import find_pack, refuse_packed
    from rompy_hydra.sweep.table import directory_of, plan_lines
    from rompy_hydra.sweep.view import look_at

    if not is_named and find_pack(layout) is not None and not layout.snapshot.is_dir():
        print(f"{directory}: left out, its points are packed", file=sys.stderr)
        return
    refuse_packed(layout, "postprocessed")
    view = look_at(layout)
    for line in plan_lines(layout):
        state = view.state.state_of(line["n"])
        run_dir = directory_of(layout, line, fan_out=view.fan_out)
        if state in set(RunState) and ((run_dir / RECORD_NAME).is_file() or not RunState(state).is_final):
            yield directory / run_dir.relative_to(layout.sweep_dir), state


def _settle(done: Iterable[Done]) -> None:
    """Tell the journal of a sweep whose own postprocessing failed, or was not done, that it is done now."""
    from rompy_hydra.errors import RompyHydraError
    from rompy_hydra.sweep.description import find_sweep, read_description
    from rompy_hydra.sweep.state import read_state

    by_sweep: dict[Path, list[Done]] = {}
    for one in done:
        where = one.run_dir.absolute()
        sweep = next((d for d in where.parents if find_sweep(d) is not None), None)
        if sweep is not None and one.succeeded:
            by_sweep.setdefault(sweep, []).append(one)
    for directory, settled in by_sweep.items():
        layout = find_sweep(directory)
        assert layout is not None
        try:
            state = read_state(layout, read_description(layout)["points"])
            if state.post_failed or state.unposted:
                _write_posts(layout, settled)
        except RompyHydraError as error:
            print(f"{directory}: the journal was not told: {error}", file=sys.stderr)


def _write_posts(layout: SweepLayout, settled: list[Done]) -> None:
    from rompy_hydra.record.store import load_record
    from rompy_hydra.sweep.description import read_description
    from rompy_hydra.sweep.journal import Journal
    from rompy_hydra.sweep.lease import Lease, LeaseHeldError
    from rompy_hydra.sweep.state import read_state

    try:
        lease = Lease.acquire(layout)
    except LeaseHeldError:
        return  # its driver goes on, and does its own postprocessing
    try:
        journal = Journal(layout, read_state(layout, read_description(layout)["points"]))
        for one in settled:
            record = load_record(one.run_dir)
            number = (record.get("sweep") or {}).get("number")
            asked = ((record.get("config") or {}).get("postprocess") or {}).get("processor")
            waiting = journal.state.post_failed | journal.state.unposted
            if number in waiting and asked == one.answer.get("processor"):
                journal.write("post", n=number, ok=True)
        journal.close()
    finally:
        lease.release()


# -- pack and restore ------------------------------------------------------------------------------------------------


def _pack(paths: list[Path], options: dict[str, Any], *, as_json: bool) -> int:
    from pydantic import ValidationError

    from rompy_hydra.postprocess import ArchivePostprocessorConfig, check_options
    from rompy_hydra.sweep.description import find_sweep
    from rompy_hydra.sweeping.pack import pack

    check_options("archive", options)
    try:
        settings = ArchivePostprocessorConfig(**options)
    except ValidationError as error:  # what `check_options` has let pass: there is no such thing
        raise UsageError(str(error)) from error
    answers: dict[str, Any] = {}
    for path in paths:
        layout = find_sweep(path)
        if layout is None:
            raise UsageError(f"{path} is no sweep: pack=true makes one archive of all points of a sweep")
        answers[str(path)] = answer = pack(layout, settings)
        if not as_json:
            print(f"{path}: {answer['message']}")
    if as_json:
        print(json.dumps(answers, indent=2))
    return EXIT_OK


def _restore(paths: list[Path], options: dict[str, Any], *, as_json: bool) -> int:
    from rompy_hydra.sweeping.unpack import restore_anything
    from rompy_hydra.units.sizes import format_memory

    into = options.pop("into", None)
    if options:
        raise UsageError(f"--restore takes into=DIR and nothing else, not {', '.join(options)}")
    if into is not None and len(paths) > 1:
        raise UsageError("into=DIR goes with one archive")
    answers: dict[str, Any] = {}
    for path in paths:
        done, directory = restore_anything(path, Path(str(into)) if into is not None else None)
        answers[str(path)] = {"directory": str(directory), "files": done.files, "bytes": done.bytes, "same": done.same}
        if not as_json:
            there = f"; {done.same} were there already" if done.same else ""
            print(f"{directory}: {done.files} files restored ({format_memory(done.bytes)}){there}")
    if as_json:
        print(json.dumps(answers, indent=2))
    return EXIT_OK
