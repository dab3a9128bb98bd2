"""A compressed stream that can be read from anywhere: frames of 256 KiB, each compressed by itself.

    archive.tar.gz = gzip member, gzip member, …        archive.tar.zst = zstd frame, zstd frame, …

Both formats say that such a sequence is one file (RFC 1952, section 2.2; RFC 8878, section 3), so `tar`, `gzip` and
`zstd` read it as ever, while whoever knows where the frames begin needs to unpack no more than he wants to read.
"""

from __future__ import annotations

import io
import os
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, Protocol

from rompy_hydra.errors import MissingToolError
from rompy_hydra.postprocess.manifest import DamagedArchiveError

FRAME_BYTES = 256 * 1024
_GZIP = 31  # zlib's number for "with a gzip header and its checksum"
_MOST_THREADS = 4


class Codec(Protocol):
    """One way to compress a frame."""

    def compress(self, data: bytes) -> bytes:
        """A frame."""
        ...

    def decompress(self, frame: bytes) -> bytes:
        """What was in it; `DamagedArchiveError` where it is no whole frame."""
        ...

    def stream(self, file: BinaryIO) -> BinaryIO:
        """All frames one after the other, for whoever does not know where they begin."""
        ...


class GzipCodec:
    """Frames that are gzip members; without names and times, so that the same data makes the same bytes."""

    def __init__(self, level: int | None = None) -> None:
        self._level = 6 if level is None else level

    def compress(self, data: bytes) -> bytes:
        """A frame."""
        packer = zlib.compressobj(self._level, zlib.DEFLATED, _GZIP)
        return packer.compress(data) + packer.flush()

    def decompress(self, frame: bytes) -> bytes:
        """What was in it; its checksum is looked at."""
        unpacker = zlib.decompressobj(_GZIP)
        try:
            data = unpacker.decompress(frame)
        except zlib.error as error:
            raise DamagedArchiveError(f"a part of it is no gzip: {error}") from error
        if not unpacker.eof or unpacker.unused_data:
            raise DamagedArchiveError("a part of it is not whole")
        return data

    def stream(self, file: BinaryIO) -> BinaryIO:
        """All frames one after the other."""
        import gzip

        return gzip.GzipFile(fileobj=file, mode="rb")  # type: ignore[return-value]


class ZstdCodec:
    """Frames of zstd, each with its size and a checksum.  `MissingToolError` where `zstandard` is not installed."""

    def __init__(self, level: int | None = None) -> None:
        self._level = 3 if level is None else level
        self._zstd = zstandard()

    def compress(self, data: bytes) -> bytes:
        """A frame, by a compressor of its own: they may not be shared by threads."""
        frame: bytes = self._zstd.ZstdCompressor(level=self._level, write_checksum=True).compress(data)
        return frame

    def decompress(self, frame: bytes) -> bytes:
        """What was in it."""
        try:
            data: bytes = self._zstd.ZstdDecompressor().decompress(frame, max_output_size=FRAME_BYTES)
        except self._zstd.ZstdError as error:
            raise DamagedArchiveError(f"a part of it is no zstd: {error}") from error
        return data

    def stream(self, file: BinaryIO) -> BinaryIO:
        """All frames one after the other."""
        found: BinaryIO = self._zstd.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return found


def zstandard() -> Any:
    """The library behind `tar.zst`, an extra."""
    try:
        import zstandard as found
    except ImportError as error:
        raise MissingToolError("tar.zst needs the package zstandard: pip install 'rompy-hydra[archive]'") from error
    return found


def codec_of(form: str, level: int | None = None) -> Codec:
    """The codec of `tar.gz` or `tar.zst`."""
    return ZstdCodec(level) if form == "tar.zst" else GzipCodec(level)


class FrameWriter:
    """Takes bytes, compresses frames in a few threads, writes them in their order; `offsets` is where each begins.

    Memory stays bounded: never more than a few frames wait.
    """

    def __init__(self, file: BinaryIO, codec: Codec) -> None:
        self.offsets: list[int] = []
        self._file = file
        self._codec = codec
        self._buffer = bytearray()
        self._position = 0
        self._written = 0
        self._waiting: deque[Future[bytes]] = deque()
        self._threads = max(1, min(_MOST_THREADS, len(os.sched_getaffinity(0))))
        self._pool = ThreadPoolExecutor(self._threads)

    def write(self, data: bytes) -> int:
        """Add bytes."""
        self._buffer += data
        self._position += len(data)
        while len(self._buffer) >= FRAME_BYTES:
            self._hand_over(bytes(self._buffer[:FRAME_BYTES]))
            del self._buffer[:FRAME_BYTES]
        return len(data)

    def tell(self) -> int:
        """How many bytes were added."""
        return self._position

    def finish(self) -> None:
        """Write what is left."""
        if self._buffer:
            self._hand_over(bytes(self._buffer))
            self._buffer.clear()
        while self._waiting:
            self._write_one()

    def close(self) -> None:
        """End the threads, also after an error."""
        self._pool.shutdown(cancel_futures=True)

    def _hand_over(self, data: bytes) -> None:
        if len(self._waiting) >= 2 * self._threads:
            self._write_one()
        self._waiting.append(self._pool.submit(self._codec.compress, data))

    def _write_one(self) -> None:
        frame = self._waiting.popleft().result()
        self.offsets.append(self._written)
        self._file.write(frame)
        self._written += len(frame)


class FrameReader(io.RawIOBase):
    """The uncompressed stream, to read from anywhere; `offsets` as the writer had them, `end`: where the frames end."""

    def __init__(self, file: BinaryIO, codec: Codec, offsets: Sequence[int], end: int) -> None:
        self._file = file
        self._codec = codec
        self._ends = [*offsets[1:], end]
        self._offsets = offsets
        self._position = 0
        self._held: tuple[int, bytes] = (-1, b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """From the start and from where it is; nobody knows the end before he has been there."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere."""
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end is not known before it is reached")
        self._position = offset if whence == io.SEEK_SET else self._position + offset
        return self._position

    def tell(self) -> int:
        """Where it is."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """As many bytes as one frame has left."""
        number, inside = divmod(self._position, FRAME_BYTES)
        if number >= len(self._offsets):
            return 0
        data = self._frame(number)[inside : inside + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _frame(self, number: int) -> bytes:
        if self._held[0] != number:
            start, end = self._offsets[number], self._ends[number]
            self._file.seek(start)
            data = self._codec.decompress(self._file.read(end - start))
            is_last = number == len(self._offsets) - 1
            if len(data) > FRAME_BYTES or (len(data) < FRAME_BYTES and not is_last):
                raise DamagedArchiveError("a part of it has another length than it should")
            self._held = (number, data)
        return self._held[1]


class Section(io.RawIOBase):
    """A piece of a stream as a file of its own, to read from anywhere."""

    def __init__(self, stream: BinaryIO, start: int, size: int, on_close: Callable[[], None] = lambda: None) -> None:
        self.size = size
        self._stream = stream
        self._start = start
        self._position = 0
        self._on_close = on_close

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where it is."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Some bytes."""
        want = min(len(buffer), self.size - self._position)
        if want <= 0:
            return 0
        self._stream.seek(self._start + self._position)
        data = self._stream.read(want)
        if not data:
            raise DamagedArchiveError("it ends too early")
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Close what it is a piece of, if it was given for that."""
        if not self.closed:
            self._on_close()
        super().close()
