"""`postprocess`: the outputs of runs that have ended, again or otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import EXIT_OK, EXIT_RUN_FAILED, UsageError

if TYPE_CHECKING:
    from rompy_hydra.verbs import Parser


def postprocess(words: list[str], parser_of: Parser) -> int:
    """`postprocess DIR … [processor=NAME] [OPTION=VALUE …]`: again, or otherwise; the run itself stays as it is."""
    parser = parser_of("postprocess", "DIR ... [processor=NAME] [OPTION=VALUE ...] [--json]")
    parser.description = (
        "Process the outputs of runs that have ended: of a run's directory, or of every run below a directory."
        " Without processor= what the run's own configuration says is done again."
    )
    parser.add_argument("words", nargs="+", metavar="DIR|KEY=VALUE", help="directories; processor=NAME; its options")
    parser.add_argument("--json", action="store_true", help="the answers as JSON")
    args = parser.parse_intermixed_args(words)
    from rompy_hydra.steps.processing import process_run

    directories = [Path(word) for word in args.words if "=" not in word or Path(word).is_dir()]
    options = _options(word for word in args.words if Path(word) not in directories)
    processor = options.pop("processor", None)
    if not directories:
        raise UsageError("no run was named: rompy-hydra postprocess runs/NAME processor=archive")
    if options and processor is None:
        raise UsageError(f"options ({', '.join(options)}) need a processor: add processor=NAME")
    answers: dict[str, Any] = {}
    for run_dir in _runs(directories):
        record = process_run(run_dir, processor, options)
        answers[str(run_dir)] = answer = record.data["postprocess"]
        if not args.json:
            told = answer.get("message") or "done" if answer["success"] else f"failed: {answer.get('error')}"
            print(f"{run_dir}: {answer['processor']}: {told}")
    if args.json:
        print(json.dumps(answers, indent=2))
    return EXIT_OK if all(answer["success"] for answer in answers.values()) else EXIT_RUN_FAILED


def _options(words: Iterable[str]) -> dict[str, Any]:
    """`KEY=VALUE`, the value as a YAML file would have it."""
    from rompy_hydra.backends.loading import parse_documents

    options: dict[str, Any] = {}
    for word in words:
        key, _, text = word.partition("=")
        values = parse_documents(text, f"the option '{key}'")
        options[key] = values[0] if values else None
    return options


def _runs(directories: Iterable[Path]) -> list[Path]:
    from rompy_hydra.record.store import RECORD_NAME

    found: list[Path] = []
    for directory in directories:
        if (directory / RECORD_NAME).is_file() or not directory.is_dir():
            found.append(directory)
            continue
        below = sorted(path.parent for path in directory.rglob(RECORD_NAME))
        found += below or [directory]  # a directory without any run: reading it says so
    return found
