"""`archive`: a run's outputs, record and logs in one compressed file with a manifest; the originals stay."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

from rompy_hydra.postprocess import RunLike
from rompy_hydra.postprocess.config import ArchivePostprocessorConfig
from rompy_hydra.record.outputs import list_outputs
from rompy_hydra.record.store import RECORD_NAME, load_record

MANIFEST = "manifest.json"


class ArchivePostprocessor:
    """Writes `RUN_ID.tar.gz` aside and renames it when it is whole; a file that failed half-way is taken away."""

    options_class = "ArchivePostprocessorConfig"

    def process(self, model_run: RunLike, **options: Any) -> dict[str, Any]:
        """`{"success": True, "archive": …, "files": …, "bytes": …}`; `success: False` where there is no such run.

        The options are the fields of `ArchivePostprocessorConfig`.
        """
        settings = ArchivePostprocessorConfig(**options)
        directory = Path(model_run.output_dir) / str(model_run.run_id)
        if not directory.is_dir():
            return {"success": False, "error": f"there is nothing to archive: {directory} is no directory"}
        target = (settings.destination or directory) / f"{directory.name}.{settings.format}"
        aside = target.with_name(f".{target.name}.partial")
        names = [name for name in _names(directory) if directory / name not in (target, aside)]
        try:
            with aside.open("wb") as file:
                manifest = _write(file, directory, names)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise
        return {
            "success": True,
            "archive": str(target),
            "files": len(manifest),
            "bytes": target.stat().st_size,
            "message": f"{len(manifest)} files in {target}",
        }


def _names(directory: Path) -> list[str]:
    """The outputs that the record lists (all files, where there is no record), the record and the logs."""
    try:
        outputs = load_record(directory)["outputs"]
    except (OSError, ValueError, KeyError):
        outputs = list_outputs(str(directory)).entries
    listed = [str(entry["path"]) for entry in outputs]
    logs = sorted(path.relative_to(directory).as_posix() for path in directory.glob("logs/*") if path.is_file())
    ours = [RECORD_NAME] if (directory / RECORD_NAME).is_file() else []
    return list(dict.fromkeys(name for name in [*listed, *logs, *ours] if _is_plain(directory, name)))


def _is_plain(directory: Path, name: str) -> bool:
    path = directory / name
    return path.is_file() and not path.is_symlink()


def _write(file: BinaryIO, directory: Path, names: list[str]) -> list[dict[str, Any]]:
    """One pass over each file: into the archive and into its checksum."""
    manifest: list[dict[str, Any]] = []
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name in names:
            with (directory / name).open("rb") as source:
                info = archive.gettarinfo(arcname=f"{directory.name}/{name}", fileobj=source)
                reader = _Hashing(source)
                archive.addfile(info, reader)
            manifest.append({"path": name, "bytes": info.size, "sha256": reader.sha256.hexdigest()})
        text = json.dumps(manifest, indent=1).encode()
        info = tarfile.TarInfo(f"{directory.name}/{MANIFEST}")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    return manifest


class _Hashing:
    """A file that is hashed while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self.sha256.update(data)
        return data
