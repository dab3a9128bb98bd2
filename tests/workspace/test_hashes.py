"""Hashes of inputs: read once in a process and once in the life of a file, whatever happens to the cache."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rompy_hydra.errors import SiteError
from rompy_hydra.workspace.hashes import CACHE_NAME, FileHashes, cache_directory


@pytest.fixture
def file(tmp_path):
    """A file that has not changed for a while."""
    path = tmp_path / "wind.nc"
    path.write_bytes(b"x" * 1000)
    os.utime(path, (1e9, 1e9))
    return path


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / CACHE_NAME


def read_for(cache: Path | None, file: Path) -> int:
    """How many bytes a new process reads to know a hash."""
    hashes = FileHashes(cache, environ={})
    hashes.sha256(file)
    return hashes.read_bytes


def test_file_is_read_once_in_a_process(file):
    hashes = FileHashes(environ={})
    assert {hashes.sha256(file) for _ in range(50)} == {hashes.sha256(file)}
    assert hashes.read_bytes == 1000


def test_file_is_read_once_by_many_threads(file):
    hashes = FileHashes(environ={})
    threads = [threading.Thread(target=hashes.sha256, args=(file,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hashes.read_bytes == 1000


def test_next_process_reads_nothing(file, cache):
    assert [read_for(cache, file) for _ in range(3)] == [1000, 0, 0]


def test_file_of_another_size_time_or_inode_is_read_again(file, cache):
    read_for(cache, file)
    os.utime(file, (1e9, 1e9 + 1))
    assert read_for(cache, file) == 1000
    twin = file.with_name("twin")
    twin.write_bytes(b"y" * 1000)
    os.utime(twin, (1e9, 1e9 + 1))
    twin.replace(file)
    assert read_for(cache, file) == 1000


def test_file_that_has_just_changed_is_not_remembered(tmp_path, cache):
    """Its next change could leave its size and time as they are."""
    file = tmp_path / "young"
    file.write_bytes(b"x")
    FileHashes(cache, environ={}, now=lambda: file.stat().st_mtime_ns + 1_000_000).sha256(file)
    assert not cache.exists()


def test_cache_follows_the_xdg_variable_and_else_the_home():
    assert cache_directory({"XDG_CACHE_HOME": "/x", "HOME": "/h"}) == Path("/x/rompy-hydra")
    assert cache_directory({"XDG_CACHE_HOME": "relative", "HOME": "/h"}) == Path("/h/.cache/rompy-hydra")
    assert cache_directory({"HOME": "/h"}) == Path("/h/.cache/rompy-hydra")
    assert cache_directory({}) is None


def test_cache_lies_where_the_environment_says(file, tmp_path):
    FileHashes(environ={"XDG_CACHE_HOME": str(tmp_path / "xdg")}).sha256(file)
    assert (tmp_path / "xdg/rompy-hydra" / CACHE_NAME).is_file()


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe garbage\n", b"torn", b"00000000 []\n", b"\n\n\n"])
def test_damaged_lines_are_passed_over_and_the_others_serve(file, cache, damage):
    read_for(cache, file)
    cache.write_bytes(damage + b"\n" + cache.read_bytes() + damage)
    assert read_for(cache, file) == 0


@settings(max_examples=50)
@given(st.binary(max_size=300))
def test_no_bytes_in_the_cache_do_harm(tmp_path_factory, junk):
    directory = tmp_path_factory.mktemp("junk")
    file = directory / "file"
    file.write_bytes(b"abc")
    os.utime(file, (1e9, 1e9))
    cache = directory / "cache"
    cache.write_bytes(junk)
    known = FileHashes(cache, environ={}).sha256(file)
    assert known == FileHashes(environ={}).sha256(file)


def test_line_that_was_altered_is_not_believed(file, cache):
    true = FileHashes(cache, environ={}).sha256(file)
    cache.write_bytes(cache.read_bytes().replace(true[-8:].encode(), b"00000000"))
    assert FileHashes(cache, environ={}).sha256(file) == true


@pytest.mark.parametrize("kind", ["directory", "below a file", "device", "pipe"])
def test_cache_that_cannot_be_used_is_done_without(file, tmp_path, kind):
    cache = {
        "directory": tmp_path,
        "below a file": file / "cache",
        "device": Path("/dev/full"),
        "pipe": tmp_path / "pipe",
    }[kind]
    os.mkfifo(tmp_path / "pipe")
    assert read_for(cache, file) == 1000


def test_no_home_means_no_cache(file):
    assert [read_for(None, file) for _ in range(2)] == [1000, 1000]


def test_large_cache_is_halved(file, cache, monkeypatch):
    monkeypatch.setattr("rompy_hydra.workspace.hashes._LARGEST_CACHE", 100)
    others = [file.with_name(f"other{n}") for n in range(10)]
    for other in others:
        other.write_bytes(b"1")
        os.utime(other, (1e9, 1e9))
        FileHashes(cache, environ={}).sha256(other)
    assert len(cache.read_bytes().splitlines()) < 8
    assert read_for(cache, others[-1]) == 0


def _append(cache: Path, directory: Path, worker: int) -> None:
    for number in range(50):
        path = directory / f"{worker}-{number}"
        path.write_bytes(b"%d" % number)
        os.utime(path, (1e9, 1e9))
        FileHashes(cache, environ={}).sha256(path)


def test_many_processes_write_one_cache(tmp_path, cache):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append, args=(cache, tmp_path, worker)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    hashes = FileHashes(cache, environ={})
    for path in tmp_path.glob("?-*"):
        hashes.sha256(path)
    assert hashes.read_bytes == 0


def test_file_that_keeps_changing_is_an_error(file):
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            with file.open("ab") as out:
                out.write(b"x" * 4096)

    file.write_bytes(b"x" * 20_000_000)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        time.sleep(0.01)
        with pytest.raises(SiteError, match="keeps changing"):
            FileHashes(environ={}).sha256(file)
    finally:
        stop.set()
        thread.join()
