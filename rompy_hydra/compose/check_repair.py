"""A copy of the repositories without what cannot be read, so that all else in them can still be composed.

Every line stays where it was: what is taken out of a file leaves empty lines behind.  Copies lie in a temporary
directory; `Repaired.original` leads back.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rompy_hydra.compose.check_files import SourceFile, is_header
from rompy_hydra.compose.deprecation import FILE_NAME as RENAMED_KEYS
from rompy_hydra.compose.sources import Repository, Sources


@dataclass
class Repaired:
    """Repositories that can be composed, and where their files come from."""

    sources: Sources
    places: dict[str, str] = field(default_factory=dict)  # the copy of a directory → the directory

    def original(self, text: str) -> str:
        """A path, or a text with one, as the user knows it."""
        for copy, place in self.places.items():
            text = text.replace(copy, place)
        return text


def repair(
    sources: Sources,
    files: Mapping[Path, Sequence[SourceFile]],
    wrong_entries: Mapping[Path, set[int]],
    wrong_heads: Iterable[tuple[Path, int]],
    broken_tables: Iterable[Path],
    broken_templates: Iterable[str],
    directory: Path,
) -> Repaired:
    """Copy each repository in which something must be left out; `files` are those of each."""
    heads, tables, templates = set(wrong_heads), set(broken_tables), set(broken_templates)
    repaired = Repaired(sources)
    out = []
    for number, repository in enumerate(sources.repositories):
        own = files.get(repository.conf, ())
        malformed = {f.path for f in own if any(f.malformed())}
        wrong = {*wrong_entries, *malformed, *(path for path, _ in heads)}
        has_wrong = any(f.is_broken or f.path in wrong for f in own)
        is_wrong = has_wrong or any(t.parent == repository.conf for t in tables)
        lacks = {name for name in templates if (repository.templates / name).is_dir()}
        if repository.is_packaged or not (is_wrong or lacks):
            out.append(repository)
            continue
        place = directory / str(number)
        _copy_conf(repository.conf, place / "conf", own, wrong_entries, heads, tables)
        _link_templates(repository.templates, place / "templates", lacks)
        repaired.places[str(place / "conf")] = str(repository.conf)
        repaired.places[str(place / "templates")] = str(repository.templates)
        out.append(Repository(place / "conf", repository.origin))
    repaired.sources = replace(sources, repositories=tuple(out))
    return repaired


def _copy_conf(
    conf: Path,
    target: Path,
    files: Sequence[SourceFile],
    wrong_entries: Mapping[Path, set[int]],
    heads: set[tuple[Path, int]],
    tables: set[Path],
) -> None:
    target.mkdir(parents=True)
    for file in files:
        if file.is_broken and not file.group:
            continue  # the packaged root answers in its place
        copy = target / file.path.relative_to(conf)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(_repaired(file, wrong_entries.get(file.path, set()), heads), encoding="utf-8")
    table = conf / RENAMED_KEYS
    if table.is_file() and table not in tables:
        shutil.copyfile(table, target / RENAMED_KEYS)


def _repaired(file: SourceFile, wrong: set[int], heads: set[tuple[Path, int]]) -> str:
    if file.is_broken:
        return "".join(line for line in file.text.splitlines(keepends=True) if line.startswith("# @package"))[:200]
    text = file.text
    for node in reversed(list(file.malformed())):  # from the end, so that the marks stay right
        start, end = node.start_mark.index, node.end_mark.index
        text = f"{text[:start]}null{chr(10) * text[start:end].count(chr(10))}{text[end:]}"
    if wrong:
        key, value = file.defaults()
        assert key is not None
        assert value is not None
        start, end = key.end_mark.index, value.end_mark.index
        good = [] if -1 in wrong else [e.text for n, e in enumerate(file.entries()) if n not in wrong]
        items = ", ".join(item if item.startswith(("{", "'", '"')) else _flow(item) for item in good)
        text = f"{text[:start]}: [{items}]{chr(10) * text[start:end].count(chr(10))}{text[end:]}"
    lines = text.splitlines(keepends=True)
    for path, number in heads:
        if path == file.path and number <= len(lines):
            header, lines[number - 1] = lines[number - 1], "\n"
            if not lines[0].strip() or lines[0].startswith("#"):
                lines[0] = header if is_header(header) else lines[0]
    return "".join(lines)


def _flow(item: str) -> str:
    """An entry of a block list in a list in brackets."""
    return f"{{{item}}}" if ": " in item or item.endswith(":") else item


def _link_templates(templates: Path, target: Path, lacks: set[str]) -> None:
    if not templates.is_dir():
        return
    target.mkdir(parents=True)
    for path in templates.iterdir():
        if path.name in lacks:
            (target / path.name).mkdir()
            (target / path.name / "template.yaml").write_text("{}\n")
        else:
            (target / path.name).symlink_to(path)
