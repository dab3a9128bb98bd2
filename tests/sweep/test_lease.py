"""One driver at a time: the lease and what becomes of a dead holder's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.lease import Lease, LeaseHeldError, LeaseLostError, holder_lives, read_holder


@pytest.fixture
def layout(tmp_path: Path) -> SweepLayout:
    return SweepLayout(tmp_path)


def hold(layout: SweepLayout, **changes: object) -> None:
    who = {"token": "theirs", "since": "then", **ProcessIdentity.of().to_dict(), **changes}
    layout.lease.write_text(json.dumps(who))


def test_a_living_driver_keeps_others_out_and_is_named(layout: SweepLayout) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        hold(layout, **ProcessIdentity.of(other.pid).to_dict())
        with pytest.raises(LeaseHeldError, match=f"process {other.pid} on .*rompy-hydra cancel"):
            Lease.acquire(layout)
        with pytest.raises(LeaseHeldError):
            Lease.acquire(layout, take_over=True)
        other.kill()
    Lease.acquire(layout)
    held = read_holder(layout)
    assert held is not None
    assert held["pid"] == os.getpid()


def test_a_recycled_pid_or_another_boot_is_a_dead_driver(layout: SweepLayout) -> None:
    for changes in ({"start_time": 1}, {"boot_id": "another"}):
        hold(layout, **changes)
        assert holder_lives(read_holder(layout)) is False
        Lease.acquire(layout).release()


def test_a_torn_lease_holds_nobody_out(layout: SweepLayout) -> None:
    for text in ("", '{"tok', "[]"):
        layout.lease.write_text(text)
        Lease.acquire(layout).release()


def test_a_driver_of_another_machine_must_be_taken_over(layout: SweepLayout) -> None:
    hold(layout, host="elsewhere")
    with pytest.raises(LeaseHeldError, match=r"cannot be seen from here .*--take-over"):
        Lease.acquire(layout)
    with pytest.raises(LeaseHeldError, match="it is alive"):
        Lease.acquire(layout, take_over=True)  # its heart beat a moment ago
    long_ago = time.time() - 3600
    os.utime(layout.lease, (long_ago, long_ago))
    with pytest.raises(LeaseHeldError, match="1 h 00 min ago"):
        Lease.acquire(layout)
    Lease.acquire(layout, take_over=True)


def test_whoever_lost_the_lease_notices(layout: SweepLayout) -> None:
    lease = Lease.acquire(layout)
    lease.beat(now=True)
    hold(layout, host="elsewhere", pid=99)
    with pytest.raises(LeaseLostError, match="taken over by process 99 on elsewhere"):
        lease.beat(now=True)
    lease.release()
    assert layout.lease.exists()  # it was not ours any more
    layout.lease.unlink()
    with pytest.raises(LeaseLostError):
        lease.beat(now=True)


def test_the_heart_beats_only_as_often_as_it_must(layout: SweepLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease.acquire(layout)
    os.utime(layout.lease, (1, 1))
    lease.beat()
    assert layout.lease.stat().st_mtime == 1
    monkeypatch.setattr("rompy_hydra.sweep.lease._clock", lambda: 1e12)
    lease.beat()
    assert layout.lease.stat().st_mtime > 1


def test_of_many_that_find_a_dead_holder_one_gets_the_lease(layout: SweepLayout) -> None:
    hold(layout, start_time=1)
    got: list[Lease] = []
    refused: list[Exception] = []

    def attempt() -> None:
        try:
            got.append(Lease.acquire(layout))
        except LeaseHeldError as error:
            refused.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)


def test_of_two_processes_one_gets_the_lease(layout: SweepLayout) -> None:
    code = (
        "import sys, time; from pathlib import Path; from rompy_hydra.sweep.lease import Lease, LeaseHeldError; "
        "from rompy_hydra.sweep.layout import SweepLayout\n"
        "try: Lease.acquire(SweepLayout(Path(sys.argv[1]))); print('got', flush=True); sys.stdin.read()\n"
        "except LeaseHeldError: print('refused', flush=True)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(layout.sweep_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(3)
    ]
    answers = [process.stdout.readline().strip() for process in started if process.stdout]
    for process in started:
        process.communicate()
    assert sorted(answers) == ["got", "refused", "refused"]
