"""`archive`: a run's directory in one compressed file with a manifest, verified before anything is removed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rompy_hydra.errors import SiteError
from rompy_hydra.postprocess import RunLike
from rompy_hydra.postprocess.archive_files import Choice, walk
from rompy_hydra.postprocess.archive_writing import (
    ArchiveError,
    Making,
    Removed,
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
from rompy_hydra.postprocess.frames import zstandard
from rompy_hydra.postprocess.manifest import FORMATS, Manifest, manifest_path
from rompy_hydra.record.store import RECORD_NAME, dump_record, load_record
from rompy_hydra.units.sizes import format_memory

# What `status`, `logs` and `report` read of a run: it is archived too, and never removed.
_STAYS = re.compile(
    rf"({re.escape(RECORD_NAME)}|metrics\.json|(stdout|stderr|check)(\.\d+)?\.log)\Z|(logs|\.hydra|\.source)(/|\Z)"
)
_WRITTEN_AFTER_THE_RUN = ("postprocess", "processed")
_MOST_NAMES = 20


class ArchivePostprocessor:
    """Writes `RUN_ID.tar.gz` (or `.tar.zst`, `.zip`) and its manifest, into the run's directory or elsewhere."""

    options_class = "ArchivePostprocessorConfig"

    def process(self, model_run: RunLike, **options: Any) -> dict[str, Any]:
        """`{"success": True, "archive": …, "files": …, "bytes": …, "sha256": …}`, or `success: False` and why.

        The options are the fields of `ArchivePostprocessorConfig`.  Nothing is removed unless `remove_originals` says
        so, and then only what was read back from the archive, byte for byte.
        """
        settings = ArchivePostprocessorConfig(**options)
        directory = Path(model_run.output_dir) / str(model_run.run_id)
        if not directory.is_dir():
            return _failure(f"there is nothing to archive: {directory} is no directory")
        try:
            return _archive(directory, settings)
        except SiteError as error:
            return _failure(str(error))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return _failure(f"{where}{error.strerror or error}; nothing was archived, and nothing removed")

    @staticmethod
    def check_tools(options: Mapping[str, Any]) -> None:
        """`MissingToolError` before anything runs, where a form needs a package that is not there."""
        if options.get("format") == "tar.zst":
            zstandard()

    @staticmethod
    def is_still_done(answer: Mapping[str, Any]) -> bool:
        """Whether what an earlier call made is still there."""
        archive = answer.get("archive")
        return isinstance(archive, str) and Path(archive).is_file()


def _failure(error: str) -> dict[str, Any]:
    return {"success": False, "error": error, "message": error}


def _archive(directory: Path, settings: ArchivePostprocessorConfig) -> dict[str, Any]:
    directory = directory.resolve()
    record = _record(directory)
    folder = settings.destination.absolute() if settings.destination else directory
    stem = _stem(directory, record) if settings.destination else directory.name
    target = folder / f"{stem}.{settings.format}"
    with sole_archivist(folder, stem):
        ours = {*own_names(directory.name), *_below(directory, folder, own_names(stem))}
        choice = Choice(
            settings.include, settings.exclude, always=frozenset({RECORD_NAME}), never=lambda path: path in ours
        )
        making = Making(
            top=directory,
            target=target,
            form=settings.format,
            choice=choice,
            about=_about(record, directory, settings),
            replaced=_replaced(record, settings),
            level=settings.level,
            reproducible=settings.reproducible,
        )
        manifest = _archived_before(making, stem, overwrite=settings.overwrite)
        if manifest is None:
            if next(_chosen(making), None) is None:
                return _failure(f"nothing in {directory} fits {_asked(settings)}")
            manifest = write_archive(making)
        removed = None
        if settings.remove_originals:
            removed = remove_originals(manifest, directory, lambda path: _STAYS.match(path) is not None)
        return _answer(manifest, removed, choice.left_out)


def _chosen(making: Making) -> Iterator[str]:
    """The files that are in because somebody wants them."""
    choice = replace(making.choice, left_out=[])
    for item in walk(str(making.top), choice):
        if not item.is_folder and item.path not in choice.always:
            yield item.path


def _asked(settings: ArchivePostprocessorConfig) -> str:
    told = {"include": settings.include, "exclude": settings.exclude}
    return " and ".join(f"{name}={', '.join(given)}" for name, given in told.items() if given) or "the record alone"


def _below(directory: Path, folder: Path, names: frozenset[str]) -> Iterator[str]:
    """Names in a folder as paths below a directory; nothing where it lies elsewhere."""
    if folder.resolve().is_relative_to(directory):
        inside = folder.resolve().relative_to(directory)
        yield from ((inside / name).as_posix() for name in names)


def _record(directory: Path) -> dict[str, Any]:
    try:
        return load_record(directory)
    except (OSError, ValueError):
        return {}  # a directory without a record is archived all the same


def _stem(directory: Path, record: Mapping[str, Any]) -> str:
    """The name in a place that many share: points of different sweeps have the same names."""
    sweep = record.get("sweep") or {}
    above = Path(str(sweep.get("directory") or "")).name
    return f"{above}-{directory.name}" if above else directory.name


def _about(record: Mapping[str, Any], directory: Path, settings: ArchivePostprocessorConfig) -> dict[str, Any]:
    told = {key: record[key] for key in ("run_id", "science_id", "job_token") if key in record}
    chosen = {"include": settings.include, "exclude": settings.exclude}
    return {"kind": "run", **({"run_id": directory.name} | told), **{k: v for k, v in chosen.items() if v}}


def _replaced(record: Mapping[str, Any], settings: ArchivePostprocessorConfig) -> dict[str, bytes]:
    """With `reproducible` the record without what postprocessors said: else the second archive differs by the first."""
    if not settings.reproducible or not record:
        return {}
    data = {key: value for key, value in record.items() if key not in _WRITTEN_AFTER_THE_RUN}
    return {RECORD_NAME: dump_record(data)}


def _archived_before(making: Making, stem: str, *, overwrite: bool) -> Manifest | None:
    """An earlier archive that holds more than the disk does, and so must neither be written over nor forgotten.

    If all that is left on the disk is in it, as it is, it is the archive that was asked for (a call was ended while it
    removed the originals); `ArchiveError` in any other case.
    """
    for form in FORMATS:
        archive = making.target.with_name(f"{stem}.{form}")
        if not archive.is_file():
            continue
        with opened_manifest(archive) as manifest:
            if not _is_of_this_run(manifest, making):
                if archive == making.target and not overwrite:
                    raise ArchiveError(
                        f"{archive} is the archive of another run of this name; move it away, or add overwrite=true"
                    )
                continue
            missing = missing_on_disk(manifest, making.top)
            if not missing:
                continue
            changed = [path for path in changed_on_disk(manifest, making) if path != RECORD_NAME]
            is_it = archive == making.target and not changed and manifest.path == manifest_path(archive)
            if not is_it:
                news = f", where {changed[0]!r} is new or has changed" if changed else ""
                raise ArchiveError(
                    f"{archive} holds {len(missing)} files that are no longer in {making.top}{news};"
                    f" bring them back first: rompy-hydra postprocess {making.top} --restore"
                )
            verify(archive, manifest)
            return manifest
    return None


def _is_of_this_run(manifest: Manifest, making: Making) -> bool:
    key = "job_token" if "job_token" in making.about else "run_id"
    return manifest.header.get("kind") == "run" and manifest.header.get(key) == making.about.get(key)


def _answer(manifest: Manifest, removed: Removed | None, left_out: list[str]) -> dict[str, Any]:
    archive = manifest.archive
    files, size = manifest.end["files"], archive.stat().st_size
    message = f"{files} files in {archive} ({format_memory(size)})"
    answer: dict[str, Any] = {
        "success": True,
        "archive": str(archive),
        "manifest": str(manifest.path),
        "files": files,
        "bytes": size,
        "original_bytes": manifest.end["bytes"],
        "sha256": sha256_of(archive),
    }
    if removed is not None:
        answer["removed"] = {"files": removed.files, "bytes": removed.bytes}
        message += f"; {removed.files} originals removed ({format_memory(removed.bytes)})"
        if removed.kept:
            answer["kept"] = removed.kept[:_MOST_NAMES]
            message += f"; {len(removed.kept)} were kept, they changed meanwhile"
    if left_out:
        answer["left_out"] = left_out[:_MOST_NAMES]
        message += f"; {len(left_out)} pipes, sockets or devices were left out"
    return {**answer, "message": message}
