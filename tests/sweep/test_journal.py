"""The journal: append-only, torn lines passed over, a full disk survived, and a digest that is never needed."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from rompy_hydra.errors import SiteError
from rompy_hydra.sweep.journal import Journal
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.lines import LINE_MAX, LineFile, dump_line, is_disk_full, read_lines, short
from rompy_hydra.sweep.state import SweepState, event_at, read_state, write_digest


@pytest.fixture
def layout(tmp_path: Path) -> SweepLayout:
    return SweepLayout(tmp_path)


def journal_of(layout: SweepLayout, total: int = 10) -> Journal:
    return Journal(layout, read_state(layout, total))


def test_what_was_written_is_read_again(layout: SweepLayout) -> None:
    journal = journal_of(layout)
    journal.write("driver", host="h", pid=1, boot_id="b", start_time=2, pid_namespace=None)
    journal.write("start", n=0, a=1, token="t0", by={"pid": 7, "start_time": 9})
    journal.write("start", n=1, a=1, token="t1")
    journal.write_end(n=0, a=1, state="succeeded", wall=1.5, cpu=0.5)
    journal.write_end(n=2, a=1, state="failed", reason="it broke")
    journal.close()
    state = read_state(layout, 10)
    assert state.counts() == {"queued": 7, "running": 1, "succeeded": 1, "failed": 1}
    assert state.started[1].token == "t1"
    assert state.started[1].watcher["pid"] == 1  # the driver's own, where no keeper is named
    assert event_at(layout, state.bad[2])["reason"] == "it broke"
    assert (state.wall_seconds, state.cpu_seconds) == (1.5, 0.5)


def test_a_keeper_is_known_by_the_host_and_boot_of_its_driver(layout: SweepLayout) -> None:
    journal = journal_of(layout)
    journal.write("driver", host="h", pid=1, boot_id="b", start_time=2, pid_namespace="ns")
    journal.write("start", n=3, a=1, token="t", by={"pid": 7, "start_time": 9})
    expected = {"host": "h", "boot_id": "b", "pid": 7, "start_time": 9, "pid_namespace": "ns"}
    assert read_state(layout, 10).started[3].watcher == expected


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_torn_last_line_is_passed_over_and_healed(layout: SweepLayout, cut: int) -> None:
    journal = journal_of(layout)
    journal.write("start", n=0, a=1, token="t0")
    journal.write("start", n=1, a=1, token="t1")
    journal.close()
    os.truncate(layout.events, layout.events.stat().st_size - cut)
    assert read_state(layout, 10).counts() == {"queued": 9, "running": 1}
    journal = journal_of(layout)
    journal.write_end(n=0, a=1, state="failed", reason="after the tear")
    journal.close()
    state = read_state(layout, 10)
    expected = {"queued": 8, "running": 1, "failed": 1} if cut == 1 else {"queued": 9, "failed": 1}
    assert state.counts() == expected
    assert event_at(layout, state.bad[0])["reason"] == "after the tear"


def test_lines_are_at_most_four_kilobytes(layout: SweepLayout) -> None:
    long = "é" * 5000
    assert len(dump_line({"reason": short(long)})) <= LINE_MAX
    with pytest.raises(ValueError, match="longer than 4096"):
        dump_line({"reason": long})


def test_foreign_lines_are_passed_over(layout: SweepLayout) -> None:
    layout.events.write_bytes(
        b'[1]\nnonsense\n\n{"e":"start","n":99,"a":1}\n{"e":"start","n":"1"}\n{"e":"end","n":1}\n'
    )
    assert read_state(layout, 3).counts() == {"queued": 3}


# ---- a full disk


class Full(LineFile):
    """A file on a disk that takes so many bytes and no more."""

    room = 1 << 30

    def append(self, line: bytes) -> int:
        if len(line) > Full.room:
            if Full.room:
                super().append(line[: Full.room])
                self._is_torn = True
                Full.room = 0
            raise SiteError("full") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        Full.room -= len(line)
        return super().append(line)


def test_a_full_disk_takes_the_ends_and_refuses_the_starts(
    layout: SweepLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rompy_hydra.sweep.journal.LineFile", Full)
    journal = journal_of(layout)
    monkeypatch.setattr(Full, "room", 200)
    journal.write("start", n=0, a=1, token="t")
    with pytest.raises(SiteError) as caught:
        journal.write("start", n=1, a=1, token="x" * 300)
    assert is_disk_full(caught.value)
    journal.write_end(n=0, a=1, state="succeeded", wall=2.0)
    assert journal.state.counts() == {"queued": 9, "succeeded": 1}
    assert read_state(layout, 10).counts() == {"queued": 9, "succeeded": 1}
    monkeypatch.undo()
    later = journal_of(layout)
    later.close()
    state = read_state(layout, 10)
    assert state.counts() == {"queued": 9, "succeeded": 1}
    assert state.wall_seconds == 2.0
    assert b'"succeeded"' in layout.events.read_bytes()


def test_the_reserve_holds_the_ends_of_two_hundred_points(layout: SweepLayout) -> None:
    journal = journal_of(layout)
    assert layout.reserve.stat().st_blocks * 512 >= 65536
    journal.close()


# ---- the digest


def test_a_digest_gives_what_the_whole_journal_gives(layout: SweepLayout) -> None:
    rnd = random.Random(1)
    journal = journal_of(layout, 50)
    for turn in range(400):
        n = rnd.randrange(50)
        if n in journal.state.started:
            state = rnd.choice(["succeeded", "failed", "lost", "cancelled"])
            more = rnd.choice([{}, {"again": True}, {"post": True}])
            journal.write_end(n=n, a=1, state=state, wall=rnd.random(), **more)
        else:
            journal.write("start", n=n, a=1 + turn // 100, token=str(turn))
        if turn % 97 == 0:
            write_digest(layout, journal.state)
    journal.close()
    with_digest = read_state(layout, 50)
    layout.digest.unlink()
    assert with_digest == read_state(layout, 50)


def test_a_digest_of_another_journal_is_not_believed(layout: SweepLayout) -> None:
    journal = journal_of(layout)
    for n in range(5):
        journal.write_end(n=n, a=1, state="succeeded")
    write_digest(layout, journal.state)
    journal.close()
    text = layout.events.read_bytes().replace(b"succeeded", b"timed_out")
    layout.events.write_bytes(text)
    assert read_state(layout, 10).counts() == {"queued": 5, "timed_out": 5}


def test_a_broken_digest_costs_time_only(layout: SweepLayout) -> None:
    journal = journal_of(layout)
    journal.write_end(n=1, a=1, state="succeeded")
    journal.close()
    layout.digest.write_text('{"total": 10, "off')
    assert read_state(layout, 10).counts() == {"queued": 9, "succeeded": 1}


def test_numbers_come_in_order() -> None:
    state = SweepState(6)
    for number, name in enumerate(["failed", "lost", "failed", "succeeded", "lost", "failed"]):
        state.set_state(number, name)
    assert list(state.numbers("failed")) == [0, 2, 5]
    assert list(state.numbers("lost", "failed")) == [0, 1, 2, 4, 5]


def test_reading_starts_where_it_is_told(layout: SweepLayout) -> None:
    journal = journal_of(layout)
    journal.write("start", n=0, a=1)
    first = layout.events.stat().st_size
    journal.write("start", n=1, a=1)
    journal.close()
    ((start, end, event),) = read_lines(layout.events, first)
    assert (start, end, event["n"]) == (first, layout.events.stat().st_size, 1)
