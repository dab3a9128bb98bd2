"""The street door: verbs, output, exit codes.  The only room that prints, and the only broad `except`.

Exit codes: 0 all well · 1 a run failed (or its postprocess) · 2 the request is wrong · 3 a needed tool is missing ·
4 the site refused · 130/143 interrupted.  Heavy rooms are imported when a verb needs them, not before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from rompy_hydra import __version__
from rompy_hydra.errors import (
    EXIT_OK,
    EXIT_REQUEST,
    EXIT_RUN_FAILED,
    EXIT_SITE,
    ConfigError,
    RompyHydraError,
    UsageError,
    did_you_mean,
)

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from rompy_hydra.compose.composer import Composition
    from rompy_hydra.compose.hooks import Hooks
    from rompy_hydra.compose.sources import Sources
    from rompy_hydra.workflow import RunRecord, Watch
    from rompy_hydra.workspace.layout import RunLayout

DEBUG_VARIABLE = "ROMPY_HYDRA_DEBUG"
_VERBS = {
    "run": "compose, validate and run one simulation, or with -m a sweep of many",
    "resume": "go on with a sweep whose driver has ended",
    "status": "what became of a run or a sweep: states, reasons, logs, outputs",
    "logs": "what a run or a point of a sweep printed",
    "cancel": "end a run, a sweep, or points of it",
    "postprocess": "process the outputs of runs again, or otherwise",
    "backends": "list, validate, schema, create: backends and their configurations",
    "postprocessors": "list: what can be done with outputs",
}
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_HELP = """\
usage: rompy-hydra VERB [options] [KEY=VALUE ...]

Declarative configuration for simulation runs.

verbs:
{verbs}

options:
  -h, --help     this text; 'rompy-hydra VERB --help' for one verb
  --version      the version

examples:
  rompy-hydra run                                   the default: an idealised ocean, by Veros
  rompy-hydra run model.parameters.wind_stress=0.2  the same under stronger winds
  rompy-hydra run model=command backend.command='echo hello' output_dir=runs run_id=hello
  rompy-hydra status runs/hello
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code is returned, messages are printed, no traceback gets out."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except RompyHydraError as error:
        return _complain(str(error), error.exit_code, error)
    except KeyboardInterrupt as interrupt:
        return _complain("interrupted", getattr(interrupt, "exit_code", 130), interrupt)
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain about stdout when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", EXIT_SITE, error)
    except Exception as error:  # noqa: BLE001  # the one broad catch: a defect of ours must not bury the user in a traceback
        text = (
            f"internal error: {type(error).__name__}: {error}\nplease report it with the output of {DEBUG_VARIABLE}=1"
        )
        return _complain(text, EXIT_RUN_FAILED, error)


def _complain(message: str, code: int, error: BaseException) -> int:
    from rompy_hydra.redaction import redact_text

    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exception(error)
    print(f"rompy-hydra: {redact_text(message)}", file=sys.stderr)
    return code


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_HELP.format(verbs="\n".join(f"  {verb:<14} {what}" for verb, what in _VERBS.items())), end="")
        return EXIT_OK if words else EXIT_REQUEST
    if words[0] in ("-V", "--version"):
        print(f"rompy-hydra {__version__}")
        return EXIT_OK
    verb, *rest = words
    if verb in ("-sc", "--shell-completion"):  # as the shell's script asks
        return _complete(rest)
    handlers: dict[str, Callable[[list[str]], int]] = {
        "run": _run,
        "resume": _resume,
        "status": _status,
        "logs": _logs,
        "cancel": _cancel,
        "postprocess": _backend_verb("postprocess"),
        "backends": _backend_verb("backends"),
        "postprocessors": _backend_verb("postprocessors"),
    }
    if verb not in handlers:
        hint = "write 'rompy-hydra run ...'" if "=" in verb or verb.startswith("-") else did_you_mean(verb, handlers)
        raise UsageError(f"there is no verb '{verb}'; {hint}")
    return handlers[verb](rest)


def _backend_verb(name: str) -> Callable[[list[str]], int]:
    def handle(words: list[str]) -> int:
        from rompy_hydra import cli_backends

        code: int = getattr(cli_backends, name)(words, _parser)
        return code

    return handle


def _parser(verb: str, usage: str) -> argparse.ArgumentParser:
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise UsageError(f"{message}\n{self.format_usage().strip()}")

    return Parser(prog=f"rompy-hydra {verb}", usage=f"rompy-hydra {verb} {usage}", allow_abbrev=False)


# -- run ---------------------------------------------------------------------------------------------------------


def _run_parser() -> argparse.ArgumentParser:
    import argparse

    from rompy_hydra.compose import hydra_keys

    class Refuse(argparse.Action):
        """A flag of Hydra's that we do not honour ends with a sentence."""

        def __call__(self, *_: object) -> NoReturn:
            word = hydra_keys.flag(self.option_strings[0])
            raise UsageError(f"{self.option_strings[0]} is refused: {word.why}; {word.mend}")

    parser = _parser("run", "[options] [KEY=VALUE ...]")
    parser.description = "Compose, validate and run one simulation. KEY=VALUE are Hydra overrides (docs/hydra.md)."
    add = parser.add_argument
    add("overrides", nargs="*", metavar="KEY=VALUE", help="group choices and values (Hydra's grammar)")
    add("--cfg", "-c", choices=("job", "hydra", "all"), help="print the composed configuration, run nothing")
    add("--resolve", action="store_true", help="with --cfg: interpolations resolved")
    add("--package", "-p", metavar="KEY", help="with --cfg: only this part")
    add("--run", "-r", action="store_true", help="one run (the default)")
    add("--multirun", "-m", action="store_true", help="a sweep; with --cfg: show its points, run nothing")
    add("--dry-run", action="store_true", help="tell what would be run and made, and all that is wrong; write nothing")
    add("--detach", action="store_true", help="of a sweep: check it, start it, and return; it goes on by itself")
    add(
        "--info",
        "-i",
        nargs="?",
        const="all",
        choices=_INFO,
        metavar="WHAT",
        help=f"how the configuration comes about: {', '.join(_INFO)}",
    )
    add("--config-dir", "-cd", action="append", default=[], metavar="DIR", help="a config repository; may be repeated")
    add("--config-path", "-cp", metavar="DIR", help="a config repository that comes before those")
    add("--config-name", "-cn", default="config", metavar="NAME", help="the root configuration")
    add("--shell-completion", "-sc", action="store_true", help="install=bash (zsh, fish), uninstall=, query=")
    add("--version", action="version", version=f"rompy-hydra {__version__}", help="the version")
    for word in hydra_keys.FLAGS:
        if not word.honoured:
            add(*word.name.split(", "), action=Refuse, nargs="?", help=argparse.SUPPRESS)
    return parser


def _run_args(words: list[str]) -> argparse.Namespace:
    """The arguments, after a look at what goes together; `--info KEY=VALUE` is `--info all KEY=VALUE`."""
    for number, word in enumerate(words[:-1]):
        if word in ("--info", "-i") and "=" in words[number + 1]:
            words = [*words[:number], "--info=all", *words[number + 1 :]]
    args = _run_parser().parse_intermixed_args(words)
    exclusive = ("run", "cfg", "info", "shell_completion", "dry_run", "detach")
    asked = [f"--{name.replace('_', '-')}" for name in exclusive if getattr(args, name)]
    if len(asked) > 1 or (args.multirun and asked not in ([], ["--cfg"], ["--dry-run"], ["--detach"])):
        more = ["--multirun"] if args.multirun else []
        raise UsageError(f"{' and '.join([*asked, *more])} do not go together; give one of them")
    if args.detach and not args.multirun:
        raise UsageError("--detach is for sweeps; add -m")
    if (args.resolve or args.package is not None) and not args.cfg:
        raise UsageError("--resolve and --package say what --cfg prints; add --cfg job (or hydra, all)")
    return args


def _run(words: list[str]) -> int:
    import gc

    gc.disable()  # a tenth of the way to the run is spent looking for garbage among modules that stay
    args = _run_args(words)
    if args.shell_completion:
        return _complete(args.overrides)
    from pathlib import Path

    from rompy_hydra.compose.sources import find_sources
    from rompy_hydra.record import provenance

    sources = find_sources(args.config_dir, config_path=args.config_path)
    if args.cfg or args.info:
        return _show(args, sources)
    provenance.prefetch(r.conf for r in sources.repositories)  # git answers while Hydra is imported
    if args.multirun or args.dry_run:
        from rompy_hydra.cli_sweep import dry_run, run_sweep

        return dry_run(args, sources) if args.dry_run else run_sweep(args, sources)
    from rompy_hydra.compose.cache import plan_of_command
    from rompy_hydra.run.planner import open_executor
    from rompy_hydra.run.plugin import executor_of

    # The same command again is recalled and need not import Hydra; there is no composition then (and no callbacks).
    plan, composition = plan_of_command(args.overrides, sources, args.config_name, cwd=Path.cwd())
    hooks = _hooks(composition) if composition is not None else None
    stream = getattr(plan.spec.backend, "stream_output", False)
    with _signals(), open_executor(executor_of(plan.spec.backend), stream_output=stream) as executor:
        executor.warm()  # its keeper starts while we prepare
        from rompy_hydra import workflow

        gc.freeze()
        gc.enable()
        try:
            if hooks is None:
                record = workflow.run(plan, executor, watch=_announce, tell=_tell)
            else:
                hooks.run_starts()
                record = workflow.run(plan, executor, watch=_both(_announce, hooks.watch), tell=_tell)
                hooks.run_ended(record.data)
        except ConfigError as error:
            from rompy_hydra.compose.bridge import located
            from rompy_hydra.compose.invocation import compose_command

            composed = composition or compose_command(args.overrides, sources, args.config_name)
            raise located(error, composed) from error
    print(_summary(record))
    return EXIT_OK if record.succeeded and not record.postprocess_failed else EXIT_RUN_FAILED


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


def _complete(words: list[str]) -> int:
    from rompy_hydra.compose.completion import answer

    print(answer(words, verbs=list(_VERBS), environ=os.environ), end="")
    return EXIT_OK


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


# -- status ------------------------------------------------------------------------------------------------------


def _resume(words: list[str]) -> int:
    from rompy_hydra.cli_sweep import resume

    return resume(words, _parser)


def _logs(words: list[str]) -> int:
    from rompy_hydra.cli_watch import logs

    return logs(words, _parser)


def _cancel(words: list[str]) -> int:
    from rompy_hydra.cli_watch import cancel

    return cancel(words, _parser)


def _status(words: list[str]) -> int:
    parser = _parser("status", "[DIR] [--json] [--watch]")
    parser.description = "The state of a run, of a sweep, or of every run and sweep below a directory."
    parser.add_argument(
        "directory", nargs="?", default="runs", metavar="DIR", help="a run, a sweep, or a directory that holds some"
    )
    parser.add_argument("--json", action="store_true", help="the records as JSON")
    parser.add_argument("--watch", action="store_true", help="of a sweep: again and again, until its driver has ended")
    args = parser.parse_intermixed_args(words)
    import json
    from pathlib import Path

    from rompy_hydra.cli_watch import status_of_sweep

    if (shown := status_of_sweep(Path(args.directory), as_json=args.json, watch=args.watch)) is not None:
        return shown

    from rompy_hydra.record import store
    from rompy_hydra.run.observe import observe
    from rompy_hydra.workflow import RunRecord

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
        print(_summary(found[0]))
    else:
        print("\n".join(_line(record) for record in sorted(found, key=lambda r: (r.succeeded, r.data["run_id"]))))
    if not args.json:
        from rompy_hydra.cli_watch import lines_of_sweeps

        for line in lines_of_sweeps(directory):
            print(line)
    return EXIT_OK


def _run_directories(directory: Path) -> list[Path]:
    from rompy_hydra.record.store import RECORD_NAME

    if not directory.is_dir():
        return []
    return sorted(d for d in directory.iterdir() if (d / RECORD_NAME).is_file())


# -- what a person reads -----------------------------------------------------------------------------------------


def _line(record: RunRecord) -> str:
    reason = "" if record.succeeded else f"  {record.data.get('reason') or ''}"
    return f"{record.state.value:<13} {record.data['run_id']}{reason}"


def _summary(record: RunRecord) -> str:
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
