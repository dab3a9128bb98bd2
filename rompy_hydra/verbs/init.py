"""`init`: a new config repository that works at once; nothing that is there already is changed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rompy_hydra.errors import EXIT_OK, SiteError

if TYPE_CHECKING:
    from rompy_hydra.repository.files import Written
    from rompy_hydra.verbs import Parser


def init(words: list[str], parser_of: Parser) -> int:
    """`init [DIR]`."""
    parser = parser_of("init", "[DIR]")
    parser.description = (
        "Make a config repository: options that extend the packaged ones, a model with its template, an experiment, a "
        "sweep, a CI file that runs 'check', schemas for editors. A file that is there already stays as it is."
    )
    parser.add_argument("directory", nargs="?", default=".", metavar="DIR", help="where (default: here)")
    root = Path(parser.parse_args(words).directory).absolute()
    from rompy_hydra.compose.editor_schema import editor_files
    from rompy_hydra.compose.sources import find_sources
    from rompy_hydra.repository.files import Written, skeleton, write_new

    if root.exists() and not root.is_dir():
        raise SiteError(f"{root} is a file, and not a directory")
    written = write_new(root, skeleton())
    sources = find_sources([str(root)], environ={}, cwd=Path("/nonexistent"))
    settings = write_new(root, {name: text.encode() for name, text in editor_files(root, sources).items()})
    _tell(root, Written(written.made + settings.made, written.same + settings.same, written.kept + settings.kept))
    return EXIT_OK


def _tell(root: Path, written: Written) -> None:
    made, kept = written.made, written.kept
    for name in made:
        print(f"made  {name}")
    for name in kept:
        print(f"kept  {name}  (it was there, and is another)")
    if any(name.startswith((".schemas/", ".vscode/")) for name in kept):
        print(
            "      'rompy-hydra schema --write' brings the schemas up to date, and adds them to the editor's settings"
        )
    if not made and not kept:
        print(f"{root} has all of it already; nothing was changed")
    elif made:
        shown = root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else root
        there = "" if str(shown) == "." else f"cd {shlex.quote(str(shown))}; "
        print(f"\ntry it: {there}rompy-hydra run   (README.md has more)")
