from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rompy_hydra.errors import RecordError, SiteError
from rompy_hydra.record import store
from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.record.store import (
    MARKER_NAME,
    RECORD_NAME,
    RESERVE_NAME,
    claim_record,
    dump_record,
    load_record,
    mark_lost,
    marker,
    observe,
    read_record,
    reserve_space,
    utc,
    write_record,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dead() -> dict[str, Any]:
    """The identity of a process that is gone."""
    child = subprocess.Popen(["true"])
    who = ProcessIdentity.of(child.pid)
    child.wait()
    return who.to_dict()


@pytest.fixture
def alive() -> dict[str, Any]:
    return ProcessIdentity.of().to_dict()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# ---- writing and reading


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_record(tmp_path, {"run_id": "r", "state": "queued"})
    assert read_record(tmp_path) == {
        "schema": "rompy-hydra/run",
        "schema_version": 1,
        "run_id": "r",
        "state": "queued",
    }
    assert names(tmp_path) == [RECORD_NAME]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), json_values, max_size=6))
def test_every_record_is_json(data: dict[str, Any]) -> None:
    assert json.loads(dump_record(data)) == data


def test_a_record_is_pleasant_to_read() -> None:
    text = dump_record({"state": "failed", "outputs": [{"path": "ä.nc"}, {"path": "b.nc"}], "one": [{"a": 1}]}).decode()
    assert text == (
        '{\n  "state": "failed",\n  "outputs": [\n    {"path": "ä.nc"},\n    {"path": "b.nc"}\n  ],\n'
        '  "one": [{"a": 1}]\n}\n'
    )


def test_a_failed_write_keeps_the_old_record_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(tmp_path, {"state": "queued"})

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SiteError, match=r"run\.json cannot be written: No space left on device") as caught:
        write_record(tmp_path, {"state": "running"})
    assert isinstance(caught.value.__cause__, OSError)
    assert read_record(tmp_path)["state"] == "queued"
    assert names(tmp_path) == [RECORD_NAME]


def test_a_directory_that_is_gone_is_the_sites_fault(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="No such file or directory"):
        write_record(tmp_path / "none", {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no record"),
        ("", "torn"),
        ('{"schema": "rompy-hydra/run", "schema_ver', "torn"),
        ("[1, 2]", "torn"),
        ('{"state": "failed"}', "not a record of ours"),
        ('{"schema": "rompy-hydra/run", "schema_version": 2}', "newer rompy-hydra"),
    ],
)
def test_a_record_that_cannot_be_read_says_why(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / RECORD_NAME).write_text(text)
    for read in (read_record, observe):
        with pytest.raises(RecordError, match=words) as caught:
            read(tmp_path)
        assert str(tmp_path / RECORD_NAME) in str(caught.value)


def test_a_reserve_is_used_up_by_the_last_write(tmp_path: Path) -> None:
    reserve_space(str(tmp_path))
    assert (tmp_path / RESERVE_NAME).stat().st_blocks * 512 >= store.RESERVE_BYTES
    store.replace_record(tmp_path, {"state": "succeeded"}, aside=RESERVE_NAME)
    assert read_record(tmp_path)["state"] == "succeeded"
    assert names(tmp_path) == [RECORD_NAME]


def test_times_are_utc_with_z(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Australia/Perth")
    time.tzset()
    try:
        assert utc(0.0015) == "1970-01-01T00:00:00.001Z"
        assert utc(1_795_000_000.999) == "2026-11-18T11:06:40.999Z"
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert utc() > "2026"


# ---- observing


@pytest.mark.parametrize(
    ("state", "role", "words"),
    [("queued", "driver", "it had not been started"), ("running", "keeper", "no exit status is known")],
)
def test_a_dead_watcher_makes_a_run_lost(
    tmp_path: Path, dead: dict[str, Any], state: str, role: str, words: str
) -> None:
    write_record(tmp_path, {"run_id": "r", "state": state, "watcher": {"role": role, **dead}})
    seen = observe(tmp_path)
    assert seen["state"] == "lost"
    assert f"its {role} (process {dead['pid']} on " in seen["reason"]
    assert words in seen["reason"]
    assert read_record(tmp_path) == seen
    assert observe(tmp_path) == seen
    assert names(tmp_path) == [RECORD_NAME]


def test_an_exit_code_that_is_known_is_told(tmp_path: Path, dead: dict[str, Any]) -> None:
    write_record(tmp_path, {"state": "running", "exit_code": 0, "watcher": {"role": "keeper", **dead}})
    assert "ended with exit code 0, but the result was not checked" in observe(tmp_path)["reason"]


def test_a_restart_of_the_machine_is_told(tmp_path: Path, alive: dict[str, Any]) -> None:
    write_record(tmp_path, {"state": "running", "watcher": {"role": "keeper", **alive, "boot_id": "earlier"}})
    assert "a restart of the machine" in observe(tmp_path)["reason"]


def test_a_living_watcher_is_believed(tmp_path: Path, alive: dict[str, Any]) -> None:
    write_record(tmp_path, {"state": "running", "watcher": {"role": "keeper", **alive}})
    assert observe(tmp_path) == read_record(tmp_path)
    assert observe(tmp_path)["state"] == "running"


@pytest.mark.parametrize("state", ["succeeded", "failed", "waiting", "lost"])
def test_other_states_are_left_alone(tmp_path: Path, dead: dict[str, Any], state: str) -> None:
    write_record(tmp_path, {"state": state, "watcher": {"role": "keeper", **dead}})
    assert observe(tmp_path)["state"] == state


@pytest.mark.parametrize("watcher", [{"host": "elsewhere"}, {"pid": "x"}, None])
def test_a_watcher_that_cannot_be_looked_up_is_said_to_be_unverified(
    tmp_path: Path, dead: dict[str, Any], watcher: dict[str, Any] | None
) -> None:
    record = {"state": "running", "watcher": {"role": "keeper", **dead, **watcher} if watcher else None}
    write_record(tmp_path, record)
    before = (tmp_path / RECORD_NAME).read_bytes()
    seen = observe(tmp_path)
    assert (seen["state"], seen["unverified"]) == ("running", True)
    assert (tmp_path / RECORD_NAME).read_bytes() == before


def test_a_process_that_lives_on_without_its_keeper_is_not_lost(
    tmp_path: Path, dead: dict[str, Any], alive: dict[str, Any]
) -> None:
    write_record(tmp_path, {"state": "running", "watcher": {"role": "keeper", **dead}, "process": alive})
    seen = observe(tmp_path)
    assert (seen["state"], seen["unwatched"]) == ("running", True)
    assert read_record(tmp_path)["state"] == "running"


OBSERVER = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
from rompy_hydra.record import store
writes = []
replace = store.replace_record
def counted(*args, **kwargs):
    writes.append(1)
    return replace(*args, **kwargs)
store.replace_record = counted
sys.stdin.readline()
for run_dir in sys.argv[2:]:
    seen = store.observe(run_dir)
    print(json.dumps([len(writes), seen["state"], seen["observed_at"]]), flush=True)
    writes.clear()
"""


def test_several_observers_at_once_make_one_transition(tmp_path: Path, dead: dict[str, Any]) -> None:
    run_dirs = [tmp_path / str(n) for n in range(40)]
    for run_dir in run_dirs:
        run_dir.mkdir()
        write_record(run_dir, {"state": "running", "watcher": {"role": "keeper", **dead}})
    (run_dirs[7] / MARKER_NAME).symlink_to(json.dumps(dead))  # one was killed in the middle, long ago
    observers = [
        subprocess.Popen(
            [sys.executable, "-c", OBSERVER, str(ROOT), *map(str, run_dirs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for observer in observers:
        assert observer.stdin is not None
        observer.stdin.write(b"go\n")
        observer.stdin.flush()
    told = [[json.loads(line) for line in observer.communicate()[0].splitlines()] for observer in observers]
    for n, run_dir in enumerate(run_dirs):
        assert sum(lines[n][0] for lines in told) == 1
        assert {(lines[n][1], lines[n][2]) for lines in told} == {("lost", read_record(run_dir)["observed_at"])}
        assert names(run_dir) == [RECORD_NAME]


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_reader_without_permission_gets_the_view_and_writes_nothing(tmp_path: Path, dead: dict[str, Any]) -> None:
    run_dir = Path(subprocess.check_output(["mktemp", "-d", "/tmp/rompy-hydra-reader.XXXXXX"], text=True).strip())
    try:
        run_dir.chmod(0o755)
        write_record(run_dir, {"state": "running", "watcher": {"role": "keeper", **dead}})
        before = (run_dir / RECORD_NAME).read_bytes()
        code = """
import os, sys
sys.path.insert(0, sys.argv[1])
from rompy_hydra.record import store
import rompy_hydra.errors
os.setgid(65534), os.setuid(65534)
print(store.observe(sys.argv[2])["state"])
"""
        seen = subprocess.check_output([sys.executable, "-c", code, ROOT, run_dir], text=True)
        assert seen == "lost\n"
        assert (run_dir / RECORD_NAME).read_bytes() == before
        assert names(run_dir) == [RECORD_NAME]
    finally:
        for path in run_dir.iterdir():
            path.unlink()
        run_dir.rmdir()


def test_what_was_written_before_the_watcher_died_is_not_overwritten(
    tmp_path: Path, dead: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper writes its last word and dies between our reading of the record and our look at the keeper."""
    write_record(tmp_path, {"state": "running", "watcher": {"role": "keeper", **dead}})
    look = ProcessIdentity.is_alive

    def dies_after_its_last_word(self: ProcessIdentity) -> bool | None:
        if self.pid == dead["pid"]:
            write_record(tmp_path, {"state": "succeeded", "exit_code": 0, "watcher": {"role": "keeper", **dead}})
        return look(self)

    monkeypatch.setattr(ProcessIdentity, "is_alive", dies_after_its_last_word)
    assert observe(tmp_path)["state"] == "succeeded"
    assert read_record(tmp_path)["state"] == "succeeded"


# ---- claiming and losing


def test_a_keeper_claims_only_a_queued_record_of_its_own(tmp_path: Path) -> None:
    run_dir = str(tmp_path)
    write_record(run_dir, {"state": "queued", "job_token": "mine"})
    assert "another start" in (claim_record(run_dir, {"state": "running", "job_token": "other"}) or "")
    assert claim_record(run_dir, {"state": "running", "job_token": "mine"}) is None
    assert read_record(run_dir)["state"] == "running"
    assert "already says running" in (claim_record(run_dir, {"state": "running", "job_token": "mine"}) or "")
    assert names(tmp_path) == [RESERVE_NAME, RECORD_NAME]


def test_a_lost_record_cannot_be_claimed_any_more(tmp_path: Path, dead: dict[str, Any]) -> None:
    write_record(tmp_path, {"state": "queued", "job_token": "mine", "watcher": {"role": "driver", **dead}})
    observe(tmp_path)
    refused = claim_record(str(tmp_path), {"state": "running", "job_token": "mine"})
    assert refused is not None
    assert "already says lost: its driver" in refused
    assert read_record(tmp_path)["state"] == "lost"


def test_mark_lost_leaves_another_start_and_an_end_alone(tmp_path: Path) -> None:
    seen = {"state": "running", "job_token": "mine"}
    for now in ({"state": "running", "job_token": "other"}, {"state": "succeeded", "job_token": "mine"}):
        write_record(tmp_path, now)
        assert mark_lost(tmp_path, seen, "gone")["state"] == now["state"]
        assert read_record(tmp_path)["state"] == now["state"]
    write_record(tmp_path, seen)
    assert mark_lost(tmp_path, seen, "gone")["reason"] == "gone"
    assert load_record(tmp_path)["state"] == "lost"


def test_mark_lost_writes_the_record_of_a_run_that_had_none_yet(tmp_path: Path) -> None:
    mark_lost(tmp_path, {"run_id": "r", "state": "queued", "job_token": "mine"}, "gone")
    assert read_record(tmp_path)["run_id"] == "r"
    assert read_record(tmp_path)["state"] == "lost"


# ---- the marker


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    with marker(tmp_path):
        assert json.loads((tmp_path / MARKER_NAME).readlink().as_posix())["pid"] == os.getpid()
        with pytest.raises(FileExistsError), marker(tmp_path, patience_s=0.02):
            pass
    with marker(tmp_path):
        pass
    assert names(tmp_path) == []


def test_a_dead_holders_marker_is_broken(tmp_path: Path, dead: dict[str, Any]) -> None:
    (tmp_path / MARKER_NAME).symlink_to(json.dumps(dead))
    (tmp_path / f"{MARKER_NAME}.break").symlink_to(json.dumps(dead))
    with marker(tmp_path):
        pass
    assert names(tmp_path) == []


def test_a_marker_of_another_host_is_respected(tmp_path: Path, dead: dict[str, Any]) -> None:
    (tmp_path / MARKER_NAME).symlink_to(json.dumps({**dead, "host": "elsewhere"}))
    with pytest.raises(FileExistsError), marker(tmp_path, patience_s=0.02):
        pass


def test_a_disk_without_links_has_a_marker_too(
    tmp_path: Path, dead: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(target: str, path: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    (tmp_path / MARKER_NAME).write_text(json.dumps(dead))
    with marker(tmp_path), pytest.raises(FileExistsError), marker(tmp_path, patience_s=0.02):
        pass
    assert names(tmp_path) == []
