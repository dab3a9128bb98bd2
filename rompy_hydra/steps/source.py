"""What a run is composed from, kept beside it: `run --from` needs no repository, and no later edit changes it.

    <run>/.source/snapshot.tar.gz      0/conf/…  0/templates/NAME/…  1/conf/…    a repository each, the packaged last
    <run>/.source/0.diff               what a dirty work tree differed by from its commit
    <run>/.source/not_kept.txt         what was left out, and why

Values that look like credentials are taken out of the options; a run is never refused because of its snapshot.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from rompy_hydra.errors import RecordError, RompyHydraError
from rompy_hydra.record.credentials import redact_yaml
from rompy_hydra.record.dirty import dirty_diff
from rompy_hydra.record.provenance import git_state, git_toplevel
from rompy_hydra.workspace.inputs import members_of
from rompy_hydra.workspace.layout import RunLayout
from rompy_hydra.workspace.template import Template, load_template

if TYPE_CHECKING:
    from rompy_hydra.steps.prepare import Prepared

SNAPSHOT = "snapshot.tar.gz"
NOT_KEPT = "not_kept.txt"
_OPTIONS = (".yaml", ".yml")
_MOST_ENTRIES = 5000
_LARGEST_OPTION_BYTES = 1 << 20
_LARGEST_TEMPLATE_BYTES = 32 << 20
_LARGEST_UNPACKED_BYTES = 256 << 20
_MTIME = "ROMPY.mtime_ns"  # a tar keeps seconds; an input of a template is known by its nanoseconds


def keep_source(layout: RunLayout, prepared: Prepared) -> None:
    """Write `.source/` of a single run (a sweep has its own snapshot)."""
    plan = prepared.plan
    before = plan.reproduced
    confs = before.confs if before is not None else plan.repositories
    layout.source.mkdir(exist_ok=True)
    packer = _Packer(layout.source / SNAPSHOT)
    packer.pack(confs, plan.template_directory, prepared)
    if before is None:
        diffs = write_diffs(layout.source, plan.repositories[:-1])  # the last one is the packaged one
        packer.left_out += [f"{directory}: {why}" for directory, why in diffs]
    else:
        for diff in before.diffs:
            shutil.copyfile(diff, layout.source / diff.name)
    if packer.left_out:
        text = "".join(f"{line}\n" for line in packer.left_out)
        (layout.source / NOT_KEPT).write_text(text, encoding="utf-8", errors="surrogateescape")


def write_diffs(directory: Path, confs: Sequence[Path]) -> list[tuple[Path, str]]:
    """What dirty work trees differ by, `0.diff` and so on; those of which nothing can be said, and why."""
    failed: list[tuple[Path, str]] = []
    seen: set[Path] = set()
    for number, conf in enumerate(confs):
        top = git_toplevel(conf)
        if top is None or top in seen or not git_state(conf)["dirty"]:
            continue
        seen.add(top)
        if text := dirty_diff(conf, conf.parent / "templates"):
            (directory / f"{number}.diff").write_text(text, encoding="utf-8", errors="replace")
        else:
            failed.append((conf, "the work tree is dirty, and git shows no diff that may be kept"))
    return failed


class _Packer:
    """Writes one snapshot."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self.left_out: list[str] = []

    def pack(self, confs: Sequence[Path], template: Path | None, prepared: Prepared) -> None:
        aside = self._target.with_name(f".{self._target.name}.{os.getpid()}")
        try:
            with tarfile.open(aside, "w:gz", compresslevel=4, format=tarfile.PAX_FORMAT) as archive:
                for number, conf in enumerate(confs):
                    self._pack_options(archive, conf, f"{number}/conf")
                if template is not None:
                    roots = [conf.parent / "templates" for conf in confs]
                    number = roots.index(template.parent) if template.parent in roots else 0
                    self._pack_template(archive, template, f"{number}/templates/{template.name}", prepared)
            aside.replace(self._target)
        finally:
            aside.unlink(missing_ok=True)

    def _pack_options(self, archive: tarfile.TarFile, conf: Path, place: str) -> None:
        for path in self._option_files(conf):
            try:
                if path.stat().st_size > _LARGEST_OPTION_BYTES:
                    self.left_out.append(f"{path}: is larger than {_LARGEST_OPTION_BYTES} bytes")
                    continue
                text = path.read_bytes().decode()
            except (OSError, ValueError) as error:
                self.left_out.append(f"{path}: {error}")
                continue
            if (shown := redact_yaml(text)) is None:
                self.left_out.append(f"{path}: what looks like a credential cannot be taken out of it")
                continue
            _add(archive, f"{place}/{path.relative_to(conf).as_posix()}", shown.encode())

    def _option_files(self, conf: Path) -> Iterator[Path]:
        """The options of a repository, until it turns out to be a directory that holds everything else too."""
        seen = 0
        for folder, subfolders, names in os.walk(conf, followlinks=True):
            seen += len(names) + len(subfolders)
            if seen > _MOST_ENTRIES:
                self.left_out.append(f"{conf}: holds more than {_MOST_ENTRIES} files; not all of its options are kept")
                return
            subfolders[:] = sorted(name for name in subfolders if not _is_foreign(Path(folder, name)))
            yield from (Path(folder, name) for name in sorted(names) if name.endswith(_OPTIONS))

    def _pack_template(self, archive: tarfile.TarFile, directory: Path, place: str, prepared: Prepared) -> None:
        try:
            template = load_template(directory)
            files = _template_files(template)
            size = sum(path.stat().st_size for path in files)
        except (RompyHydraError, OSError) as error:
            self.left_out.append(f"{directory}: {error}")
            return
        if size > _LARGEST_TEMPLATE_BYTES:
            self.left_out.append(f"{directory}: is larger than {_LARGEST_TEMPLATE_BYTES} bytes")
            return
        for path in files:
            name = f"{place}/{path.relative_to(directory).as_posix()}"
            content = path.read_bytes()
            if path == template.declaration:
                content = (redact_yaml(content.decode()) or "").encode()
            _add(archive, name, content, is_executable=bool(path.stat().st_mode & 0o100))
        for path in _inputs_within(directory, prepared):
            size += path.stat().st_size
            if size > _LARGEST_TEMPLATE_BYTES:
                self.left_out.append(f"{path}: with it the template is larger than {_LARGEST_TEMPLATE_BYTES} bytes")
                continue
            name = f"{place}/{path.relative_to(directory.resolve()).as_posix()}"
            _add(archive, name, path.read_bytes(), mtime_ns=path.stat().st_mtime_ns)


def _is_foreign(folder: Path) -> bool:
    """Whether a folder below a repository is none of its groups: hidden, or a run's."""
    return folder.name.startswith((".", "__")) or any((folder / name).exists() for name in ("run.json", "sweep.json"))


def _template_files(template: Template) -> list[Path]:
    files = [template.declaration, *(template.workspace / name for name in template.files)]
    if template.include.is_dir():
        files += sorted(path for path in template.include.rglob("*") if path.is_file())
    return files


def _inputs_within(directory: Path, prepared: Prepared) -> Iterator[Path]:
    """The files of the template that the run has as inputs."""
    real = directory.resolve()
    for file in prepared.inputs:
        if file.path.is_relative_to(real):
            names = members_of(file.path)[0] if file.is_directory else ["."]
            yield from (file.path / name for name in names)


def _add(
    archive: tarfile.TarFile, name: str, content: bytes, *, is_executable: bool = False, mtime_ns: int | None = None
) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o755 if is_executable else 0o644
    if mtime_ns is not None:
        entry.mtime = mtime_ns // 10**9
        entry.pax_headers = {_MTIME: str(mtime_ns)}
    archive.addfile(entry, io.BytesIO(content))


# -- reading -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def unpacked(snapshot: Path) -> Iterator[Path]:
    """The snapshot as a directory, for as long as it is needed."""
    directory = Path(tempfile.mkdtemp(prefix="rompy-hydra-source-"))
    try:
        unpack(snapshot, directory)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def unpack(snapshot: Path, directory: Path) -> None:
    """Plain files only, below `directory`, and no more than a snapshot can hold.  Raises `RecordError`."""
    left = _LARGEST_UNPACKED_BYTES
    try:
        with tarfile.open(snapshot, "r:gz") as archive:
            for entry in archive:
                path = PurePosixPath(entry.name)
                left -= entry.size
                if not entry.isreg() or path.is_absolute() or ".." in path.parts or left < 0:
                    raise RecordError(f"{snapshot} is no snapshot of ours: it holds {entry.name!r}")
                content = archive.extractfile(entry)
                assert content is not None
                target = directory / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file)
                target.chmod(0o755 if entry.mode & 0o100 else 0o644)
                if (moment := entry.pax_headers.get(_MTIME)) is not None and moment.isdigit():
                    os.utime(target, ns=(int(moment), int(moment)))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise RecordError(f"the snapshot {snapshot} cannot be read: {error}") from error
