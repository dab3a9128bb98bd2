"""`schema`: JSON Schemas of configurations for editors, printed, written into a repository, or compared with it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rompy_hydra.errors import EXIT_OK, EXIT_RUN_FAILED, UsageError, did_you_mean

if TYPE_CHECKING:
    from rompy_hydra.compose.sources import Sources
    from rompy_hydra.verbs import Parser


def schema(words: list[str], parser_of: Parser) -> int:
    """`schema [GROUP]`, `schema --write [DIR]`, `schema --check [DIR]`."""
    parser = parser_of("schema", "[GROUP] | schema --write [DIR] | schema --check [DIR]")
    parser.description = (
        "Print the JSON Schema of a root configuration, of a group (model, backend, …), or of a template.yaml. "
        "--write puts all of them into a repository, wired for the YAML language server."
    )
    parser.add_argument("what", nargs="?", metavar="GROUP|DIR", help="a group; with --write or --check a repository")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--write", action="store_true", help="into .schemas/ and .vscode/settings.json of DIR (here)")
    how.add_argument("--check", action="store_true", help="exit with 1 if what is written there is another")
    args = parser.parse_args(words)
    if not (args.write or args.check):
        return _print(args.what or "root")
    from rompy_hydra.compose.editor_schema import editor_files
    from rompy_hydra.repository.files import differing, write_over

    root = Path(args.what or ".").absolute()
    files = {name: text.encode() for name, text in editor_files(root, _sources(root)).items()}
    if args.write:
        changed = write_over(root, files)
        print("\n".join(f"wrote {name}" for name in changed) or f"{root} has the schemas of this version already")
        return EXIT_OK
    old = list(differing(root, files))
    for name in old:
        state = "is not that of this version and these templates" if (root / name).exists() else "is not there"
        print(f"{name} {state}", file=sys.stderr)
    if old:
        print("write them: rompy-hydra schema --write", file=sys.stderr)
    return EXIT_RUN_FAILED if old else EXIT_OK


def _print(name: str) -> int:
    from rompy_hydra.compose.editor_schema import schemas
    from rompy_hydra.compose.sources import find_sources

    known = schemas(find_sources())
    if name not in known:
        raise UsageError(f"there is no schema of '{name}'; {did_you_mean(name, known)}")
    print(json.dumps(known[name], indent=2, ensure_ascii=False))
    return EXIT_OK


def _sources(root: Path) -> Sources:
    from rompy_hydra.compose.sources import find_sources

    if not (root / "conf").is_dir():
        raise UsageError(f"{root} is no config repository (it has no conf/); make one: rompy-hydra init")
    return find_sources([str(root)], environ={}, cwd=Path("/nonexistent"))
