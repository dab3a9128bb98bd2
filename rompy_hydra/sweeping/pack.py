"""All points of a sweep into one archive, and back: a few inodes instead of four for each point.

    sweep that nobody drives → points.tar.gz + its index, verified → the points' directories go

What stays: sweep.json, the plan, the journal, `.hydra/`, the report, and whatever is none of ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rompy_hydra.errors import ConfigError
from rompy_hydra.postprocess.archive_files import Choice
from rompy_hydra.postprocess.archive_writing import (
    ArchiveError,
    Making,
    changed_on_disk,
    missing_on_disk,
    opened_manifest,
    own_names,
    remove_originals,
    sha256_of,
    sole_archivist,
    verify,
    write_archive,
)
from rompy_hydra.postprocess.config import ArchivePostprocessorConfig
from rompy_hydra.postprocess.manifest import FORMATS, Manifest, dump, load_manifest, manifest_path, partial_path
from rompy_hydra.postprocess.restore import Restored, restore
from rompy_hydra.sweep.description import read_description
from rompy_hydra.sweep.layout import SWEEP_NAME, SweepLayout
from rompy_hydra.sweep.lease import Lease
from rompy_hydra.sweep.packed import STEM, find_pack
from rompy_hydra.sweep.resume import Fate, find_out
from rompy_hydra.sweep.state import read_state
from rompy_hydra.sweep.table import directory_of, plan_lines
from rompy_hydra.units.sizes import format_memory
from rompy_hydra.workspace.layout import RunLayout

_OWN_FILES = frozenset({SWEEP_NAME, "plan.jsonl", "events.jsonl", "events.reserve", "driver.log"})
_OF_THE_MOMENT = re.compile(r"\.(lease|cancel|digest\.json|sweep\.json|run\.json|restoring)(\.[^/]*)?(/|\Z)")
_BEFORE = re.compile(r"\.before-\d+\Z")


def pack(layout: SweepLayout, settings: ArchivePostprocessorConfig) -> dict[str, Any]:
    """Archive a sweep whole; the answer says what `archive` says of a run.

    Raises `ConfigError` while somebody drives it or one of its points runs; `ArchiveError`, `DamagedArchiveError` and
    OSError where it cannot be written: then everything is as it was.
    """
    description = read_description(layout)
    folder = settings.destination.absolute() if settings.destination else layout.sweep_dir
    stem = layout.sweep_dir.name if settings.destination else STEM
    with undriven(layout, description["points"], "packed"), sole_archivist(folder, stem):
        ours = own_names(STEM)
        making = Making(
            top=layout.sweep_dir,
            target=folder / f"{stem}.{settings.format}",
            form=settings.format,
            choice=Choice(
                settings.include,
                settings.exclude,
                always=_OWN_FILES,
                never=lambda path: path in ours or _OF_THE_MOMENT.match(path) is not None,
            ),
            about={"kind": "sweep", "sweep_id": description["sweep_id"], "points": description["points"]},
            level=settings.level,
            reproducible=settings.reproducible,
        )
        manifest = _packed_before(layout, making, overwrite=settings.overwrite)
        if manifest is None:
            manifest = write_archive(making)
        index = _index_here(layout, manifest, settings.format)
        answer = _answer(index)
        if settings.remove_originals:
            goes = _Points(layout, fan_out=bool(description.get("fan_out")))
            removed = remove_originals(index, layout.sweep_dir, lambda path: not goes.holds(path))
            answer["removed"] = {"files": removed.files, "bytes": removed.bytes}
            answer["message"] += f"; {removed.files} originals removed ({format_memory(removed.bytes)})"
            if removed.kept:
                answer["message"] += f"; {len(removed.kept)} were kept, they changed meanwhile"
        return answer


def unpack(layout: SweepLayout) -> Restored:
    """Lay the points out again; the journal and its like stay as they are now."""
    found = find_pack(layout)
    if found is None:
        raise ConfigError(f"{layout.sweep_dir} was not packed: there is no {STEM}.tar.gz, {STEM}.tar.zst or {STEM}.zip")
    description = read_description(layout)
    with undriven(layout, description["points"], "restored"):
        return restore(found.manifest, layout.sweep_dir, keeps=is_of_the_sweep)


def is_of_the_sweep(path: str) -> bool:
    """Whether a file belongs to the sweep and to none of its points: what is on the disk is newer than the archive."""
    return path in _OWN_FILES or path.partition("/")[0] in (".hydra", ".source", "report")


class _Points:
    """What may be removed: directories of points, of what they were before an update, the snapshot, and the like."""

    def __init__(self, layout: SweepLayout, *, fan_out: bool) -> None:
        self._points = {
            directory_of(layout, line, fan_out=fan_out).relative_to(layout.sweep_dir).as_posix()
            for line in plan_lines(layout)
        }
        self._above = {above for point in self._points for above in _above(point)}

    def holds(self, path: str) -> bool:
        """Whether a path lies in one of them, or is a folder that holds nothing but them."""
        first, _, rest = path.partition("/")
        if first == "snapshot":
            return rest.partition("/")[0] != "points"  # lines of the plan that were too long lie there
        if first in (".warm-up", "jobs") or path in self._above:
            return True
        return any(_BEFORE.sub("", part) in self._points for part in (path, *_above(path)))


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


@contextmanager
def undriven(layout: SweepLayout, points: int, what: str) -> Iterator[None]:
    """Nobody drives the sweep but us, and none of its points runs or waits in a queue."""
    lease = Lease.acquire(layout)
    try:
        state = read_state(layout, points)
        fan_out = bool(read_description(layout).get("fan_out"))
        for line in plan_lines(layout, set(state.started)):
            started = state.started[line["n"]]
            point = RunLayout(directory_of(layout, line, fan_out=fan_out), flat=True)
            if "batch" in started.watcher or find_out(point, started, may_write=False).fate is Fate.RUNNING:
                raise ConfigError(
                    f"point {line['name']} of the sweep {layout.sweep_dir} still runs or waits, so it cannot be {what};"
                    f" see rompy-hydra status {layout.sweep_dir}, or end it: rompy-hydra cancel {layout.sweep_dir}"
                )
        yield
    finally:
        lease.release()


def _packed_before(layout: SweepLayout, making: Making, *, overwrite: bool) -> Manifest | None:
    """An earlier pack that holds more than the disk does, as `archive` looks for one of a run."""
    for form in FORMATS:
        archive = making.target.with_name(f"{making.target.name.removesuffix(f'.{making.form}')}.{form}")
        if not archive.is_file():
            continue
        with opened_manifest(archive) as manifest:
            if manifest.header.get("sweep_id") != making.about["sweep_id"]:
                if archive == making.target and not overwrite:
                    raise ArchiveError(
                        f"{archive} is the archive of something else; move it away, or add overwrite=true"
                    )
                continue
            missing = missing_on_disk(manifest, making.top)
            if not missing:
                continue
            changed = [path for path in changed_on_disk(manifest, making) if not is_of_the_sweep(path)]
            if archive != making.target or changed or manifest.path != manifest_path(archive):
                raise ArchiveError(
                    f"{archive} holds {len(missing)} files that are no longer in {making.top};"
                    f" bring them back first: rompy-hydra postprocess {making.top} --restore"
                )
            verify(archive, manifest)
            return manifest
    found = find_pack(layout)
    if found is not None and missing_on_disk(found.manifest, making.top):
        raise ArchiveError(
            f"the points of {layout.sweep_dir} were packed into {found.archive};"
            f" bring them back first: rompy-hydra postprocess {layout.sweep_dir} --restore"
        )
    return None


def _index_here(layout: SweepLayout, manifest: Manifest, form: str) -> Manifest:
    """The index in the sweep's directory, also if the archive lies elsewhere; that of an earlier pack goes."""
    index = manifest_path(layout.sweep_dir / f"{STEM}.{form}")
    if manifest.path != index:
        aside = partial_path(index)
        end = {**manifest.end, "archive": str(manifest.archive.absolute())}
        with aside.open("wb") as file:
            file.write(dump(manifest.header))
            file.writelines(dump(entry) for entry in manifest.entries())
            file.write(dump(end))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(index)
        manifest = Manifest(index, manifest.header, end)
    for other in FORMATS:
        path = manifest_path(layout.sweep_dir / f"{STEM}.{other}")
        if other != form and load_manifest(path) is not None:
            path.unlink()
    return manifest


def _answer(manifest: Manifest) -> dict[str, Any]:
    archive = manifest.archive
    files, size = manifest.end["files"], archive.stat().st_size
    return {
        "success": True,
        "processor": "archive",
        "archive": str(archive),
        "manifest": str(manifest.path),
        "points": manifest.header["points"],
        "files": files,
        "bytes": size,
        "original_bytes": manifest.end["bytes"],
        "sha256": sha256_of(archive),
        "message": f"{manifest.header['points']} points, {files} files in {archive} ({format_memory(size)})",
    }
