"""`postprocess … --restore`: finds the archive that belongs to what was named, and where it is to be laid out."""

from __future__ import annotations

from pathlib import Path

from rompy_hydra.errors import RecordError
from rompy_hydra.postprocess.archive_writing import opened_manifest
from rompy_hydra.postprocess.manifest import FORMATS
from rompy_hydra.postprocess.restore import Restored, restore
from rompy_hydra.record.store import RECORD_NAME, load_record
from rompy_hydra.sweep.description import find_sweep
from rompy_hydra.sweep.packed import STEM
from rompy_hydra.sweeping.pack import is_of_the_sweep, unpack


def restore_anything(path: Path, into: Path | None) -> tuple[Restored, Path]:
    """Bring back what was archived: of a run or a sweep by its directory, or an archive, wherever it lies.

    An archive is laid out where it came from if it lies in there, else beside itself in a directory of its own name,
    or in `into`.  `RecordError` where there is no archive.
    """
    if path.is_file():
        return restore_archive(path, into)
    if into is None and (layout := find_sweep(path)) is not None:
        return unpack(layout), path
    archive = archive_of(path)
    return restore_archive(archive, into or path)


def archive_of(run_dir: Path) -> Path:
    """The archive of a run: in its directory, or where its record says."""
    directory = run_dir.absolute()
    stems = (directory.name, STEM)
    found = [directory / f"{stem}.{form}" for stem in stems for form in FORMATS]
    try:
        told = ((load_record(directory).get("processed") or {}).get("archive") or {}).get("answer") or {}
        found.append(Path(str(told.get("archive", ""))))
    except (OSError, ValueError):
        pass
    archives = [archive for archive in found if archive.is_file()]
    if not archives:
        raise RecordError(
            f"there is no archive of {run_dir}: neither {directory.name}.tar.gz, .tar.zst or .zip in it, nor one that"
            " its record knows; name the archive itself"
        )
    return max(archives, key=lambda archive: archive.stat().st_mtime)


def restore_archive(archive: Path, into: Path | None) -> tuple[Restored, Path]:
    """Lay out one archive."""
    with opened_manifest(archive) as manifest:
        name = str(manifest.header["name"])
        beside = archive.absolute().parent
        came_from = {f"{beside.name}.{form}" for form in FORMATS} | {f"{STEM}.{form}" for form in FORMATS}
        is_at_home = beside.name == name and archive.name in came_from
        target = into or (beside if is_at_home else beside / Path(name).name)
        if manifest.header.get("kind") == "sweep":
            return restore(manifest, target, keeps=is_of_the_sweep), target
        return restore(manifest, target, keeps=lambda path: path == RECORD_NAME), target
