from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rompy_hydra.record import liveness
from rompy_hydra.record.liveness import ProcessIdentity, read_stat


def test_we_are_alive() -> None:
    us = ProcessIdentity.of()
    assert us.pid == os.getpid()
    assert us.is_alive() is True
    assert us == ProcessIdentity.of(os.getpid())


def test_identity_survives_the_record() -> None:
    us = ProcessIdentity.of()
    assert ProcessIdentity.from_dict(us.to_dict()) == us
    assert ProcessIdentity.from_dict({**us.to_dict(), "role": "driver"}) == us
    with pytest.raises(KeyError):
        ProcessIdentity.from_dict({"pid": 1})


def test_another_start_time_is_somebody_else() -> None:
    us = ProcessIdentity.of().to_dict()
    assert ProcessIdentity.from_dict({**us, "start_time": us["start_time"] - 1}).is_alive() is False


def test_before_the_last_boot_nothing_lives() -> None:
    assert ProcessIdentity.from_dict({**ProcessIdentity.of().to_dict(), "boot_id": "earlier"}).is_alive() is False


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"pid_namespace": "pid:[1]"}])
def test_from_another_place_it_cannot_be_told(change: dict[str, str]) -> None:
    assert ProcessIdentity.from_dict({**ProcessIdentity.of().to_dict(), **change}).is_alive() is None


def test_a_zombie_is_dead_and_a_reaped_process_unknown() -> None:
    child = subprocess.Popen(["true"])
    who = ProcessIdentity.of(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert who.is_alive() is False
    child.wait()
    assert who.is_alive() is False
    with pytest.raises(ProcessLookupError, match=str(child.pid)):
        ProcessIdentity.of(child.pid)


@pytest.mark.parametrize("name", ["a) R 1 (b", "with space", ") ) )", "("])
def test_hostile_process_names_do_not_confuse(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    shutil.copy(shutil.which("sleep") or "", program)
    child = subprocess.Popen([program, "60"])
    try:
        stat = read_stat(child.pid)
        assert stat is not None
        assert stat.ppid == os.getpid()
        assert stat.start_time == ProcessIdentity.of(child.pid).start_time > 0
        assert stat.state in "RSD"
    finally:
        child.kill()
        child.wait()


def test_reading_a_process_that_is_gone_gives_nothing() -> None:
    assert liveness.read_proc("/proc/0/stat") == b""
    assert read_stat(2**22 + 5) is None
