"""The three forms of an archive, each written and read in one pass: `tar.gz`, `tar.zst` and `zip`.

A writer takes members in their order and answers where each lies; `read_members` hands them out again; `open_entry`
reads one alone, by its entry in the manifest.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from rompy_hydra.postprocess.frames import FrameReader, FrameWriter, Section, codec_of
from rompy_hydra.postprocess.manifest import DamagedArchiveError, Manifest

CHUNK = 1 << 20
_UTF8_FLAG = 0x800
_FIRST_DOS_TIME = (1980, 1, 1, 0, 0, 0)
_LAST_DOS_YEAR = 2107
_ZIP64_ABOVE = 2**31 - 1
_LOCAL_HEADER = 30


@dataclass(frozen=True, slots=True)
class Meta:
    """What an archive says of a member besides its name: the mode with its kind, whole seconds, the owner's numbers."""

    mode: int
    mtime: int = 0
    uid: int = 0
    gid: int = 0


class ArchiveWriter(Protocol):
    """Writes one archive; `name` is the whole path in it, without a slash at its end."""

    def add(self, name: str, meta: Meta, size: int, chunks: Iterable[bytes]) -> dict[str, int]:
        """Add a file, link (`chunks`: its target) or folder; where it lies."""
        ...

    def finish(self) -> dict[str, Any]:
        """Write the end; what is needed to read single members."""
        ...

    def close(self) -> None:
        """Let go, also after an error."""
        ...


def open_writer(form: str, file: BinaryIO, level: int | None = None) -> ArchiveWriter:
    """The writer of a form."""
    return ZipWriter(file, level) if form == "zip" else TarWriter(file, form, level)


class TarWriter:
    """A tar in frames.  GNU's form: any name of any length, any size; plain bytes, so no name needs an encoding."""

    def __init__(self, file: BinaryIO, form: str, level: int | None) -> None:
        self._frames = FrameWriter(file, codec_of(form, level))

    def add(self, name: str, meta: Meta, size: int, chunks: Iterable[bytes]) -> dict[str, int]:
        """Add a member; `at` is where its contents begin in the uncompressed stream."""
        info = tarfile.TarInfo(name)
        info.mode = stat.S_IMODE(meta.mode)
        info.mtime, info.uid, info.gid = meta.mtime, meta.uid, meta.gid
        if stat.S_ISDIR(meta.mode):
            info.type = tarfile.DIRTYPE
            chunks = ()
        elif stat.S_ISLNK(meta.mode):
            info.type = tarfile.SYMTYPE
            info.linkname = os.fsdecode(b"".join(chunks))
            chunks = ()
        else:
            info.size = size
        self._frames.write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        at = self._frames.tell()
        for chunk in chunks:
            self._frames.write(chunk)
        self._frames.write(bytes(-info.size % tarfile.BLOCKSIZE))
        return {"at": at}

    def finish(self) -> dict[str, Any]:
        """Two empty blocks, filled up to a record; and where the frames begin."""
        used = self._frames.tell() + 2 * tarfile.BLOCKSIZE
        self._frames.write(bytes(2 * tarfile.BLOCKSIZE + -used % tarfile.RECORDSIZE))
        self._frames.finish()
        return {"frames": self._frames.offsets}

    def close(self) -> None:
        """Let go."""
        self._frames.close()


class ZipWriter:
    """A zip whose names are plain bytes where they are no UTF-8, as Info-ZIP writes them on Unix."""

    def __init__(self, file: BinaryIO, level: int | None) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, allowZip64=True)
        self._level = level

    def add(self, name: str, meta: Meta, size: int, chunks: Iterable[bytes]) -> dict[str, int]:
        """Add a member; `at` is where its header begins, `packed` how long its compressed contents are."""
        is_folder = stat.S_ISDIR(meta.mode)
        info = _ZipInfo(f"{name}/" if is_folder else name, _dos_time(meta.mtime))
        info.create_system = 3  # Unix: the mode is in the upper half of the attributes
        info.external_attr = meta.mode << 16 | (0x10 if is_folder else 0)
        info.compress_type = zipfile.ZIP_STORED if is_folder else zipfile.ZIP_DEFLATED
        info._compresslevel = self._level  # type: ignore[attr-defined]  # noqa: SLF001  # as ZipFile.writestr sets it
        with self._zip.open(info, "w", force_zip64=size > _ZIP64_ABOVE) as member:
            for chunk in () if is_folder else chunks:
                member.write(chunk)
        return {"at": info.header_offset, "packed": info.compress_size}

    def finish(self) -> dict[str, Any]:
        """The directory at the end."""
        self._zip.close()
        return {}

    def close(self) -> None:
        """Let go: what is written after an error is thrown away."""
        self._zip.fp = None


class _ZipInfo(zipfile.ZipInfo):
    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802  # the standard library's hook
        raw = os.fsencode(self.filename)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw, self.flag_bits & ~_UTF8_FLAG
        return raw, self.flag_bits & ~_UTF8_FLAG if text.isascii() else self.flag_bits | _UTF8_FLAG


def _dos_time(mtime: int) -> tuple[int, int, int, int, int, int]:
    if mtime <= 0:
        return _FIRST_DOS_TIME
    found = time.localtime(mtime)
    if found.tm_year < 1980:
        return _FIRST_DOS_TIME
    return (min(found.tm_year, _LAST_DOS_YEAR), *found[1:6])


# ---- reading


@dataclass(frozen=True, slots=True)
class Member:
    """What an archive holds; `name` is the whole path in it, `at` where the manifest says that it lies.

    `chunks` must be read before the next member is asked for.
    """

    name: str
    mode: int
    at: int
    size: int
    link: str | None
    chunks: Iterator[bytes]

    @property
    def path(self) -> str:
        """The path below the archive's one folder."""
        return self.name.partition("/")[2]


def read_members(archive: Path, form: str, manifest: Manifest | None = None) -> Iterator[Member]:
    """All members in their order, in one pass and little memory.

    With the manifest, of which `frames` are the boundaries, every frame is checked to begin and end where it says.
    `DamagedArchiveError` names the archive.
    """
    with _named(archive):
        yield from _zip_members(archive) if form == "zip" else _tar_members(archive, form, manifest)


@contextmanager
def _named(archive: Path) -> Iterator[None]:
    """Whatever a library says of a damaged archive, with the archive's name."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, DamagedArchiveError, ValueError) as error:
        raise DamagedArchiveError(f"the archive {archive} is damaged: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DamagedArchiveError(f"the archive {archive} is damaged: {error}") from error  # gzip.BadGzipFile


def _tar_members(archive: Path, form: str, manifest: Manifest | None) -> Iterator[Member]:
    with archive.open("rb") as file:
        codec = codec_of(form)
        if manifest is not None:
            frames = FrameReader(file, codec, manifest.end["frames"], os.fstat(file.fileno()).st_size)
            stream = cast("BinaryIO", io.BufferedReader(frames, CHUNK))
        else:
            stream = codec.stream(file)
        with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep every one of them
                if info.isdir():
                    yield Member(info.name, stat.S_IFDIR | info.mode, info.offset_data, 0, None, iter(()))
                elif info.issym():
                    yield Member(info.name, stat.S_IFLNK | info.mode, info.offset_data, 0, info.linkname, iter(()))
                elif info.isreg():
                    source = tar.extractfile(info)
                    yield Member(
                        info.name, stat.S_IFREG | info.mode, info.offset_data, info.size, None, _chunks(source, archive)
                    )
                else:
                    raise DamagedArchiveError(f"it holds {info.name!r:.80}, which is no file, link or folder")


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as found:
        for info in found.infolist():
            name, mode = zip_name(info), info.external_attr >> 16
            if info.is_dir():
                yield Member(name.rstrip("/"), stat.S_IFDIR | stat.S_IMODE(mode), info.header_offset, 0, None, iter(()))
            elif stat.S_ISLNK(mode):
                yield Member(name, mode, info.header_offset, 0, os.fsdecode(found.read(info)), iter(()))
            else:
                with found.open(info) as member:
                    yield Member(name, mode, info.header_offset, info.file_size, None, _chunks(member, archive))


def zip_name(info: zipfile.ZipInfo) -> str:
    """The name as the file system has it: the bytes of one that is not marked as UTF-8 are what they are."""
    raw = info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8_FLAG else "cp437")
    return os.fsdecode(raw)


def _chunks(source: Any, archive: Path) -> Iterator[bytes]:
    while source is not None:
        with _named(archive):  # they are read where the members are used
            chunk = source.read(CHUNK)
        if not chunk:
            return
        yield chunk


@contextmanager
def open_entry(manifest: Manifest, entry: dict[str, Any]) -> Iterator[BinaryIO]:
    """The contents of one file of an archive, to read from anywhere, without unpacking the rest."""
    archive = manifest.archive
    with archive.open("rb") as file:
        try:
            if manifest.header["format"] == "zip":
                with _zip_entry(file, entry) as found:
                    yield found
                return
            end = manifest.end["archive_bytes"]
            frames = FrameReader(file, codec_of(manifest.header["format"]), manifest.end["frames"], end)
            yield cast("BinaryIO", io.BufferedReader(Section(cast("BinaryIO", frames), entry["at"], entry["bytes"])))
        except (DamagedArchiveError, zlib.error) as error:  # only these: others are those of whoever reads
            raise DamagedArchiveError(f"the archive {archive} is damaged: {error}") from error


def read_entries(manifest: Manifest, entries: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The whole contents of many small files, in the order of the archive: nothing is unpacked twice."""
    if manifest.header["format"] == "zip":
        for entry in entries:
            with open_entry(manifest, entry) as found:
                yield entry, found.read()
        return
    archive = manifest.archive
    with archive.open("rb") as file:
        codec = codec_of(manifest.header["format"])
        frames = FrameReader(file, codec, manifest.end["frames"], manifest.end["archive_bytes"])
        for entry in entries:
            with _named(archive):
                data = io.BufferedReader(Section(cast("BinaryIO", frames), entry["at"], entry["bytes"])).read()
            yield entry, data


@contextmanager
def _zip_entry(file: BinaryIO, entry: dict[str, Any]) -> Iterator[BinaryIO]:
    """A member of a zip can only be unpacked from its beginning: in memory, on the disk if it is big."""
    file.seek(entry["at"])
    header = file.read(_LOCAL_HEADER)
    if header[:4] != b"PK\x03\x04":
        raise DamagedArchiveError("there is no file where the manifest says")
    file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), io.SEEK_CUR)
    unpacker = zlib.decompressobj(-15)
    left = entry["packed"]
    with tempfile.SpooledTemporaryFile(max_size=16 * CHUNK) as found:
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            left -= len(chunk)
            while chunk:
                found.write(unpacker.decompress(chunk, CHUNK))
                chunk = unpacker.unconsumed_tail
        found.write(unpacker.flush())
        if found.tell() != entry["bytes"]:
            raise DamagedArchiveError("a file has another length than the manifest says")
        found.seek(0)
        yield cast("BinaryIO", found)
