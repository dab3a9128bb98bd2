"""`run`: one simulation, or with -m a sweep; `--cfg`, `--info` and `--dry-run` show and run nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from rompy_hydra import __version__
from rompy_hydra.errors import EXIT_OK, EXIT_RUN_FAILED, ConfigError, UsageError
from rompy_hydra.verbs.old_names import tell_old_names

if TYPE_CHECKING:
    import argparse

    from rompy_hydra.compose.composer import Composition
    from rompy_hydra.compose.hooks import Hooks
    from rompy_hydra.compose.sources import Sources
    from rompy_hydra.plan.run_plan import RunPlan
    from rompy_hydra.verbs import Parser
    from rompy_hydra.workflow import Watch
    from rompy_hydra.workspace.layout import RunLayout

_WITH_MULTIRUN = (["--cfg"], ["--dry-run"], ["--detach"], ["--emit-script"])
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def run(words: list[str], parser_of: Parser) -> int:
    """`run [options] [KEY=VALUE ...]`: see `rompy-hydra run --help`."""
    import gc

    gc.disable()  # a tenth of the way to the run is spent looking for garbage among modules that stay
    args = _arguments(words, parser_of)
    if args.shell_completion:
        from rompy_hydra.cli import complete

        return complete(args.overrides)
    from pathlib import Path

    from rompy_hydra.record import provenance
    from rompy_hydra.verbs.composing import sources_of

    sources = sources_of(args)
    if args.from_run is not None:
        from rompy_hydra.verbs.reproduce import run_again

        return run_again(args, sources, lambda plan: _drive(plan, None, lambda error: error, detach=args.detach))
    if args.cfg or args.info:
        return _show(args, sources)
    provenance.prefetch(r.conf for r in sources.repositories)  # git answers while Hydra is imported
    if args.multirun or args.dry_run:
        from rompy_hydra.verbs.sweep import dry_run, run_sweep

        return dry_run(args, sources) if args.dry_run else run_sweep(args, sources)
    from rompy_hydra.compose.cache import plan_of_command

    # The same command again is recalled and need not import Hydra; there is no composition then (and no callbacks).
    plan, composition = plan_of_command(args.overrides, sources, args.config_name, cwd=Path.cwd())
    hooks = None
    if composition is not None:
        tell_old_names(composition.renamed)
        hooks = _hooks(composition)

    def with_places(error: ConfigError) -> ConfigError:
        from rompy_hydra.compose.bridge import located
        from rompy_hydra.compose.invocation import compose_command

        return located(error, composition or compose_command(args.overrides, sources, args.config_name))

    return _drive(plan, hooks, with_places, detach=args.detach)


def _drive(
    plan: RunPlan, hooks: Hooks | None, with_places: Callable[[ConfigError], ConfigError], *, detach: bool = False
) -> int:
    """Run a plan to its end and tell what became of it; `with_places` adds to an error who set what.

    With `detach` it is over when the job is in the queue.
    """
    import gc
    from functools import partial

    from rompy_hydra.run.planner import open_executor
    from rompy_hydra.run.plugin import executor_of

    kind = executor_of(plan.spec.backend)
    if detach and kind != "slurm":
        raise UsageError("--detach is for sweeps (add -m), and for batch jobs (add backend=slurm)")
    stream = getattr(plan.spec.backend, "stream_output", False)
    with _signals(), open_executor(kind, stream_output=stream, tell=_tell) as executor:
        executor.warm()  # its keeper starts while we prepare
        from rompy_hydra import workflow

        gc.freeze()
        gc.enable()
        start = partial(workflow.run, plan, executor, tell=_tell, detach=detach, leave=_may_leave)
        announce = _announce_job if kind == "slurm" else _announce
        try:
            if hooks is None:
                record = start(watch=announce)
            else:
                hooks.run_starts()
                record = start(watch=_both(announce, hooks.watch))
                hooks.run_ended(record.data)
        except ConfigError as error:
            raise with_places(error) from error
    from rompy_hydra.verbs.status import summary

    print(summary(record))
    if detach:
        return EXIT_OK
    return EXIT_OK if record.succeeded and not record.postprocess_failed else EXIT_RUN_FAILED


def _run_parser(parser_of: Parser) -> argparse.ArgumentParser:
    import argparse

    from rompy_hydra.compose import hydra_keys
    from rompy_hydra.verbs.composing import add_source_flags
    from rompy_hydra.verbs.job_flags import add_job_flags

    class Refuse(argparse.Action):
        """A flag of Hydra's that we do not honour ends with a sentence."""

        def __call__(self, *_: object) -> NoReturn:
            word = hydra_keys.flag(self.option_strings[0])
            raise UsageError(f"{self.option_strings[0]} is refused: {word.why}; {word.mend}")

    parser = parser_of("run", "[options] [KEY=VALUE ...]")
    parser.description = "Compose, validate and run one simulation. KEY=VALUE are Hydra overrides (docs/hydra.md)."
    add = parser.add_argument
    add("overrides", nargs="*", metavar="KEY=VALUE", help="group choices and values (Hydra's grammar)")
    add("--cfg", "-c", choices=("job", "hydra", "all"), help="print the composed configuration, run nothing")
    add("--resolve", action="store_true", help="with --cfg: interpolations resolved")
    add("--package", "-p", metavar="KEY", help="with --cfg: only this part")
    add("--run", "-r", action="store_true", help="one run (the default)")
    add("--multirun", "-m", action="store_true", help="a sweep; with --cfg: show its points, run nothing")
    add("--dry-run", action="store_true", help="tell what would be run and made, and all that is wrong; write nothing")
    add("--from", dest="from_run", metavar="RUN", help="an earlier run once more, from its record; KEY=VALUE on top")
    add_job_flags(parser)
    add("--detach", action="store_true", help="of a sweep or a batch job: check it, start it, and return; it goes on")
    add(
        "--info",
        "-i",
        nargs="?",
        const="all",
        choices=_INFO,
        metavar="WHAT",
        help=f"how the configuration comes about: {', '.join(_INFO)}",
    )
    add_source_flags(parser)
    add("--shell-completion", "-sc", action="store_true", help="install=bash (zsh, fish), uninstall=, query=")
    add("--version", action="version", version=f"rompy-hydra {__version__}", help="the version")
    for word in hydra_keys.FLAGS:
        if not word.honoured:
            add(*word.name.split(", "), action=Refuse, nargs="?", help=argparse.SUPPRESS)
    return parser


def _arguments(words: list[str], parser_of: Parser) -> argparse.Namespace:
    """The arguments, after a look at what goes together; `--info KEY=VALUE` is `--info all KEY=VALUE`."""
    for number, word in enumerate(words[:-1]):
        if word in ("--info", "-i") and "=" in words[number + 1]:
            words = [*words[:number], "--info=all", *words[number + 1 :]]
    args = _run_parser(parser_of).parse_intermixed_args(words)
    exclusive = ("run", "cfg", "info", "shell_completion", "dry_run", "detach", "emit_script")
    asked = [f"--{name.replace('_', '-')}" for name in exclusive if getattr(args, name)]
    if len(asked) > 1 or (args.multirun and asked not in ([], *_WITH_MULTIRUN)):
        more = ["--multirun"] if args.multirun else []
        raise UsageError(f"{' and '.join([*asked, *more])} do not go together; give one of them")
    if args.emit_script and not args.multirun:
        raise UsageError("--emit-script is for sweeps; add -m")
    if (args.resolve or args.package is not None) and not args.cfg:
        raise UsageError("--resolve and --package say what --cfg prints; add --cfg job (or hydra, all)")
    return args


def _show(args: argparse.Namespace, sources: Sources) -> int:
    """`--cfg` and `--info`: print, and run nothing."""
    from pathlib import Path

    from rompy_hydra.compose.composer import compose
    from rompy_hydra.compose.invocation import command_request

    request = command_request(args.overrides, sources, args.config_name)
    if args.info:
        from rompy_hydra.compose.info import information

        print(information(args.info, request), end="")
    elif args.multirun:
        from rompy_hydra.compose.points import preview

        for text in preview(request, args.cfg, package=args.package, resolve=args.resolve, cwd=Path.cwd()):
            print(text, end="")
    else:
        from rompy_hydra.compose.show import shown_config

        composition, cwd = compose(request), Path.cwd()
        tell_old_names(composition.renamed)
        print(shown_config(composition, args.cfg, package=args.package, resolve=args.resolve, cwd=cwd), end="")
    return EXIT_OK


def _hooks(composition: Composition) -> Hooks | None:
    """Callbacks and logging, for a configuration that asks for them."""
    from rompy_hydra.compose.hydra_keys import HOOKS

    if not any(map(composition.sets, HOOKS)):
        return None
    from rompy_hydra.compose.hooks import Hooks

    return Hooks(composition, lambda sentence: print(f"rompy-hydra: {sentence}", file=sys.stderr))


def _both(*watches: Watch) -> Watch:
    def watch(event: str, layout: RunLayout) -> None:
        for one in watches:
            one(event, layout)

    return watch


class _Interrupted(KeyboardInterrupt):
    """A signal that asks for the end; knows the exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _signals:  # noqa: N801  # reads as `with _signals():`
    """SIGTERM ends the run as Ctrl-C does; SIGHUP (a lost terminal) lets it go on without us."""

    def __enter__(self) -> None:
        import signal

        def terminate(*_: object) -> None:
            raise _Interrupted("SIGTERM", 143)

        def detach(*_: object) -> None:
            os._exit(129)  # the keeper owns the run and its record; nothing of ours is left to do

        self._before = {signal.SIGTERM: signal.signal(signal.SIGTERM, terminate)}
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup: the driver itself is meant to stay
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, detach)

    def __exit__(self, *exc: object) -> None:
        import signal

        for number, handler in self._before.items():
            signal.signal(number, handler)


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _announce(event: str, layout: RunLayout) -> None:
    if event == "started":
        print(f"running in {layout.run_dir} (logs: {layout.logs})", file=sys.stderr, flush=True)


def _announce_job(event: str, layout: RunLayout) -> None:
    if event == "started":
        print(f"in the queue; it runs in {layout.run_dir} (logs: {layout.logs})", file=sys.stderr, flush=True)


def _may_leave() -> bool:
    """Whether a job may go on when we are interrupted: asked on a terminal; elsewhere it may, which is told."""
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        _tell("interrupted; the job goes on (rompy-hydra status, logs and cancel know it)")
        return True
    try:
        print("\ninterrupted: leave the job in the queue, or cancel it? [L/c] ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline().strip().lower()
    except KeyboardInterrupt:
        answer = ""
    if answer.startswith("c"):
        _tell("cancelling the job")
        return False
    _tell("the job goes on (rompy-hydra status, logs and cancel know it)")
    return True
