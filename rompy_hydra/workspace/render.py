"""From a template and its values to the files of a workspace: all of them in memory first, then onto the disk.

    template.workspace/…  →  render_workspace  →  [RenderedFile]  →  write_workspace  →  run directory

`*.j2` files go through Jinja2 (`workspace.jinja`) and lose the suffix; every other file is copied byte for byte.  The
names of files and directories are templates too.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rompy_hydra.errors import ConfigError, Finding, SiteError
from rompy_hydra.workspace.disk import clashing, create_aside, make_directories, site_error, undo
from rompy_hydra.workspace.layout import RunLayout
from rompy_hydra.workspace.template import Template

SUFFIX = ".j2"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """One file of a workspace that is not written yet.

    `path` is relative to the run directory.  `content` holds the bytes, or is the template's file that is copied as it
    is when the workspace is written, whatever its size.
    """

    path: Path
    content: bytes | Path
    executable: bool = False

    @property
    def size(self) -> int:
        """How many bytes it will have."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def render_workspace(template: Template, context: Mapping[str, Any]) -> list[RenderedFile]:
    """Every file of a workspace, in the order of their names; nothing is written.

    Raises `ConfigError` with one finding for each file that cannot be rendered (an unknown name or attribute, a syntax
    error, whatever the template's own expressions raise) and for each name that leaves the run directory or meets
    another; `SiteError` for a template file that cannot be read.
    """
    files: list[RenderedFile] = []
    findings: list[Finding] = []
    for relative in template.files:
        try:
            files.append(_render_file(template, relative, context))
        except ConfigError as error:
            findings += error.findings
    findings += _clashes(files)
    if findings:
        raise ConfigError(f"the template '{template.name}' cannot be rendered", findings)
    return sorted(files, key=lambda file: file.path)


def write_workspace(layout: RunLayout, files: Sequence[RenderedFile]) -> dict[str, tuple[int, int]]:
    """Write a rendered workspace and say what is there now: path in the workspace → (bytes, mtime in ns).

    A file that already has its content stays untouched.  The others are all written aside before the first of them is
    renamed into place; where that fails, what this call made is removed, and nothing else.

    Raises `SiteError` that names the path where the disk refuses, or where a link or a directory is in the way.
    """
    targets = [(layout.file(str(file.path)), file) for file in files]
    with undo() as made:
        make_directories(layout.run_dir, made, layout.run_dir)
        written: list[tuple[Path, Path]] = []
        for target, file in targets:
            make_directories(target.parent, made, layout.run_dir)
            if not _stands(target, file):
                written.append((_write_aside(target, file, made), target))
        for aside, target in written:
            fresh = not target.exists()
            with site_error(target):
                aside.replace(target)
            if fresh:
                made.append(target)
        with site_error(layout.run_dir):
            status = {file.path.as_posix(): target.stat() for target, file in targets}
    return {name: (found.st_size, found.st_mtime_ns) for name, found in status.items()}


# ---- rendering -------------------------------------------------------------------------------------------------------


def _render_file(template: Template, relative: Path, context: Mapping[str, Any]) -> RenderedFile:
    source = template.workspace / relative
    name = relative.as_posix()
    rendered = name.endswith(SUFFIX)
    content: bytes | Path = source
    if rendered or "{{" in name or "{%" in name:
        from rompy_hydra.workspace.jinja import renderer_of

        renderer = renderer_of(template)
        name = renderer.render_name(relative, context)
        if rendered:
            content = renderer.render(relative, context)
    try:
        executable = bool(source.stat().st_mode & stat.S_IXUSR)
        if not rendered:
            source.open("rb").close()  # it must be readable now, not when half of the workspace is written
    except OSError as error:
        raise SiteError(f"cannot read the template file {source}: {error.strerror}") from error
    return RenderedFile(_checked(name.removesuffix(SUFFIX) if rendered else name, source), content, executable)


def _checked(name: str, source: Path) -> Path:
    """A name that can lie in a run directory, or the finding that says why not."""
    try:
        RunLayout(Path("/")).file(name)  # for its refusals only
    except ConfigError as error:
        raise ConfigError(error.headline, [replace(f, where=str(source)) for f in error.findings]) from None
    if "\0" in name or any(not part.strip() for part in name.split("/")):
        finding = Finding(key="model.template", value=repr(name), rule="is no name of a file", where=str(source))
        raise ConfigError("a file's name is wrong", [finding])
    return Path(name)


def _clashes(files: Sequence[RenderedFile]) -> Iterator[Finding]:
    """Files that would lie where another file lies, or where a directory must be."""
    for name in clashing(file.path for file in files):
        yield Finding(
            key="model.template",
            value=str(name),
            rule="is the name of two files, or of a file and a directory",
            mend="rename one of the template's files",
        )


# ---- writing ---------------------------------------------------------------------------------------------------------


def _stands(target: Path, file: RenderedFile) -> bool:
    """Whether the file is there already, with its content and its executable bit."""
    with site_error(target):
        try:
            found = target.lstat()
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(found.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no regular file"
            raise SiteError(f"cannot write {target}: there is something already that is {kind}")
        if found.st_size != file.size or bool(found.st_mode & stat.S_IXUSR) != file.executable:
            return False
        if isinstance(file.content, bytes):
            return target.read_bytes() == file.content
        with target.open("rb") as one, file.content.open("rb") as other:
            return all(block == other.read(_BLOCK) for block in iter(lambda: one.read(_BLOCK), b""))


def _write_aside(target: Path, file: RenderedFile, made: list[Path]) -> Path:
    """The content under another name in the target's directory, to be renamed."""
    with site_error(target, needs=len(file.content) if isinstance(file.content, bytes) else None):
        aside, descriptor = create_aside(target, made, executable=file.executable)
        with os.fdopen(descriptor, "wb") as out:
            if isinstance(file.content, bytes):
                out.write(file.content)
            else:
                with file.content.open("rb") as source:
                    shutil.copyfileobj(source, out, _BLOCK)
    return aside
