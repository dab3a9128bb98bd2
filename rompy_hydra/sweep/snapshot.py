"""What a sweep was submitted with: a copy of its configs and templates, so that later edits change none of its points.

    snapshot/0/conf/…  snapshot/0/templates/…     the first repository
    snapshot/1/…                                  the next one; the packaged one is last

A file above 64 MiB is not copied but linked, and watched: a sweep whose linked file has changed is not resumed.
Values that look like credentials are taken out: they are composed with before, and no file of ours keeps any.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rompy_hydra.errors import ConfigError, Finding, SiteError
from rompy_hydra.record.credentials import redact_yaml

LARGEST_COPY_BYTES = 64 * 1024 * 1024
MOST_ENTRIES = 100_000
_LEFT_OUT = frozenset({"__pycache__", "node_modules", "site-packages"})
_OPTIONS = (".yaml", ".yml")
_OUTPUTS = frozenset({"run.json", "sweep.json"})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where each repository lies in the snapshot, in their order; `linked`: file → (bytes, mtime in ns)."""

    confs: tuple[Path, ...]
    linked: Mapping[str, tuple[int, int]]


def take_snapshot(directory: Path, repositories: Sequence[tuple[Path, Path]]) -> Snapshot:
    """Copy the options (YAML files) and the templates of every repository, given as (conf, templates).

    Somebody may call a directory their configuration that holds everything else too: of that nothing is copied, and
    neither are the directories of runs.  Raises `SiteError` where something cannot be read or written, `ConfigError`
    for a directory that is too big to be looked through.
    """
    taker = _Taker(directory)
    confs: list[Path] = []
    try:
        for number, (conf, templates) in enumerate(repositories):
            place = directory / str(number)
            taker.copy(conf, place / "conf", lambda name: name.endswith(_OPTIONS))
            if templates.is_dir():
                taker.copy(templates, place / "templates", lambda _: True)
            confs.append(place / "conf")
    except OSError as error:
        raise SiteError(f"the snapshot {directory} cannot be made: {error.filename}: {error.strerror}") from error
    return Snapshot(tuple(confs), taker.linked)


def check_links(linked: Mapping[str, Sequence[int]]) -> None:
    """Raise `ConfigError` with every linked file that is not what it was."""
    findings = []
    for name, before in linked.items():
        try:
            status = Path(name).stat()
            now: Any = [status.st_size, status.st_mtime_ns]
        except OSError as error:
            now = error.strerror
        if now != list(before):
            rule = "has changed since the sweep was submitted" if isinstance(now, list) else f"cannot be read: {now}"
            findings.append(
                Finding(key="", value=name, rule=rule, mend="put it back, or start a new sweep (or resume --update)")
            )
    if findings:
        raise ConfigError("a large file of a template, which the snapshot only links to, is another one now", findings)


class _Taker:
    """Copies trees into a snapshot that may itself lie in one of them."""

    def __init__(self, snapshot: Path) -> None:
        self.linked: dict[str, tuple[int, int]] = {}
        self._own = snapshot.parent.resolve()

    def copy(self, source: Path, target: Path, wants: Callable[[str], bool]) -> None:
        seen = 0
        target.mkdir(parents=True)
        for folder, subfolders, names in os.walk(source, followlinks=True):
            seen += len(names) + len(subfolders)
            if seen > MOST_ENTRIES:
                raise _too_big(source)
            subfolders[:] = [name for name in subfolders if self._enters(Path(folder, name))]
            place = target / Path(folder).relative_to(source)
            for name in names:
                if wants(name):
                    place.mkdir(parents=True, exist_ok=True)
                    _copy_file(Path(folder, name), place / name, self.linked)
                    if name.endswith(_OPTIONS) and (source.name != "templates" or name == "template.yaml"):
                        _take_credentials_out(place / name)

    def _enters(self, folder: Path) -> bool:
        if folder.name in _LEFT_OUT or folder.name.startswith(".") or folder.resolve() == self._own:
            return False
        return not any((folder / name).exists() for name in _OUTPUTS)


def _too_big(source: Path) -> ConfigError:
    rule = f"holds more than {MOST_ENTRIES} files, and a sweep keeps a copy of its configuration"
    mend = "name the directory that holds the config groups and nothing else"
    return ConfigError("the configuration cannot be copied", [Finding("--config-dir", rule, str(source), mend=mend)])


def _take_credentials_out(copy: Path) -> None:
    """Of an option; one of which they cannot be taken out is not kept at all."""
    if copy.is_symlink() or not copy.is_file():
        return
    text = copy.read_bytes().decode("utf-8", "surrogateescape")
    shown = redact_yaml(text)
    if shown is None:
        copy.unlink()
    elif shown != text:
        status = copy.stat()
        copy.write_bytes(shown.encode("utf-8", "surrogateescape"))
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_file(source: Path, target: Path, linked: dict[str, tuple[int, int]]) -> None:
    if not source.is_file():
        if source.is_symlink():
            target.symlink_to(source.readlink())  # a broken link stays one, and is found where it is looked at
        return
    status = source.stat()
    if status.st_size > LARGEST_COPY_BYTES:
        real = source.resolve()
        target.symlink_to(real)
        linked[str(real)] = (status.st_size, status.st_mtime_ns)
    else:
        shutil.copy2(source, target)
