"""The street door: verbs, output, exit codes.  The only room that prints, and the only broad `except`.

Exit codes: 0 all well · 1 a run failed (or its postprocess) · 2 the request is wrong · 3 a needed tool is missing ·
4 the site refused · 130/143 interrupted.  Heavy rooms are imported when a verb needs them, not before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from rompy_hydra import __version__
from rompy_hydra.errors import (
    EXIT_OK,
    EXIT_REQUEST,
    EXIT_RUN_FAILED,
    EXIT_SITE,
    RompyHydraError,
    UsageError,
    did_you_mean,
)

if TYPE_CHECKING:
    import argparse

DEBUG_VARIABLE = "ROMPY_HYDRA_DEBUG"
_VERBS = {  # verb → its room, what it does
    "run": ("run", "compose, validate and run one simulation, or with -m a sweep of many"),
    "resume": ("sweep", "go on with a sweep whose driver has ended"),
    "status": ("status", "what became of a run or a sweep: states, reasons, logs, outputs"),
    "logs": ("watch", "what a run or a point of a sweep printed"),
    "cancel": ("watch", "end a run, a sweep, or points of it"),
    "postprocess": ("postprocess", "process the outputs of runs again, or otherwise"),
    "report": ("report", "a run or a sweep as one HTML file to look at"),
    "explain": ("explain", "where a value comes from: all that set it, the winner last"),
    "sources": ("sources", "which file answers for an option, and what it hides"),
    "diff": ("diff", "what differs between revisions, runs, points of sweeps, or overrides"),
    "check": ("check", "all that is wrong in a config repository, with file and line"),
    "init": ("init", "a new config repository that works at once"),
    "schema": ("schema", "JSON Schemas of configurations, for editors"),
    "backends": ("backends", "list, validate, schema, create: backends and their configurations"),
    "postprocessors": ("backends", "list: what can be done with outputs"),
}

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
        print(_HELP.format(verbs="\n".join(f"  {verb:<14} {what}" for verb, (_, what) in _VERBS.items())), end="")
        return EXIT_OK if words else EXIT_REQUEST
    if words[0] in ("-V", "--version"):
        print(f"rompy-hydra {__version__}")
        return EXIT_OK
    verb, *rest = words
    if verb in ("-sc", "--shell-completion"):  # as the shell's script asks
        return complete(rest)
    if verb not in _VERBS:
        hint = "write 'rompy-hydra run ...'" if "=" in verb or verb.startswith("-") else did_you_mean(verb, _VERBS)
        raise UsageError(f"there is no verb '{verb}'; {hint}")
    room, _ = _VERBS[verb]
    code: int = getattr(import_module(f"rompy_hydra.verbs.{room}"), verb)(rest, _parser)
    return code


def _parser(verb: str, usage: str) -> argparse.ArgumentParser:
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise UsageError(f"{message}\n{self.format_usage().strip()}")

    return Parser(prog=f"rompy-hydra {verb}", usage=f"rompy-hydra {verb} {usage}", allow_abbrev=False)


def complete(words: list[str]) -> int:
    """Print what the shell asks to complete the words with."""
    from rompy_hydra.compose.completion import answer

    print(answer(words, verbs=_VERBS, environ=os.environ), end="")
    return EXIT_OK
