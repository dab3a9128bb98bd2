"""Who drives a sweep: one at a time, by a file that exists only while somebody holds it.

No `flock`: it means different things on different shared disks.  The lease is made in one exclusive step and names its
holder (host, boot, pid, start time); the holder's heartbeat is the file's time of change, which the file server sets,
so that clocks need not agree.  A dead holder of this machine is found out and replaced; whether one of another machine
is dead cannot be known from here, so somebody must say so (`--take-over`), and not while its heart still beats.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from rompy_hydra.errors import ConfigError, SiteError
from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.record.store import marker, utc
from rompy_hydra.sweep.layout import DRAFT_MARK, SweepLayout
from rompy_hydra.units.durations import format_duration

BEAT_S = 5.0
SILENT_S = 60.0
"""How long a holder of another machine must have been silent before it can be replaced."""


class LeaseHeldError(ConfigError):
    """Somebody else drives this sweep."""


class LeaseLostError(SiteError):
    """Somebody else has taken the sweep over; nothing more may be started by us."""


class Lease:
    """The right to write into a sweep's journal and to start its points."""

    def __init__(self, layout: SweepLayout, token: str) -> None:
        self._path = layout.lease
        self._token = token
        self._due = _clock() + BEAT_S

    @classmethod
    def acquire(cls, layout: SweepLayout, *, take_over: bool = False) -> Self:
        """Take the lease, from a dead holder too.

        Raises `LeaseHeldError` that names a living holder and what to do, `SiteError` where nothing can be written.
        """
        try:
            # Whoever takes it looks first, so looking and taking must be one step among those who take.
            with marker(layout.sweep_dir, patience_s=10.0):
                held = read_holder(layout)
                if held is not None:
                    _check_replaceable(layout, held, take_over=take_over)
                    layout.lease.unlink(missing_ok=True)
                token = secrets.token_hex(8)
                _create(layout.lease, _content(token))
        except FileExistsError as error:
            raise LeaseHeldError(f"another process is taking over {layout.sweep_dir} at this moment") from error
        except OSError as error:
            raise SiteError(
                f"{layout.lease} cannot be written: {error.strerror}; to drive a sweep takes permission to write"
            ) from error
        return cls(layout, token)

    def beat(self, *, now: bool = False) -> None:
        """Say that we are alive, as often as is needed.  Raises `LeaseLostError` where the lease is ours no more."""
        if not now and _clock() < self._due:
            return
        self._due = _clock() + BEAT_S
        try:
            held = json.loads(self._path.read_bytes())
            if held.get("token") == self._token:
                os.utime(self._path)
                return
        except FileNotFoundError:
            held = {}
        except (OSError, ValueError):
            return  # a shared disk that does not answer for a moment; the next beat tells
        by = f"{held['pid']} on {held['host']}" if "pid" in held else "somebody who removed it"
        raise LeaseLostError(f"the lease {self._path} was taken over by process {by}: this driver starts nothing more")

    def move(self, layout: SweepLayout) -> None:
        """The sweep's directory has another name now."""
        self._path = layout.lease

    def hand_over(self) -> None:
        """After a fork: the lease is this process's now."""
        aside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        aside.write_bytes(_content(self._token))
        aside.replace(self._path)

    def release(self) -> None:
        """Give it back, if it is still ours."""
        try:
            if json.loads(self._path.read_bytes()).get("token") == self._token:
                self._path.unlink()
        except (OSError, ValueError):
            return  # gone, or not ours


def _clock() -> float:
    """Seconds that also pass while the machine sleeps: whoever wakes up may have lost the lease meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_holder(layout: SweepLayout) -> dict[str, Any] | None:
    """What the lease says of its holder; None without one, empty where it cannot be read."""
    try:
        held = json.loads(layout.lease.read_bytes())
        return held if isinstance(held, dict) else {}
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}


def holder_lives(held: dict[str, Any] | None) -> bool | None:
    """Whether the holder is alive; None where it cannot be told from here (another machine)."""
    if not held:
        return False
    try:
        return ProcessIdentity.from_dict(held).is_alive()
    except (KeyError, ValueError):
        return False


def silent_s(layout: SweepLayout, clock: Callable[[], float] = time.time) -> float | None:
    """How long ago the heart beat last, by the clock of the disk if it can be asked; None without a lease."""
    try:
        beat = layout.lease.stat().st_mtime
    except OSError:
        return None
    probe = layout.lease.with_name(f"{layout.lease.name}.clock-{os.getpid()}")
    try:
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    except OSError:  # only readable: our own clock must do
        now = clock()
    return max(0.0, now - beat)


def _check_replaceable(layout: SweepLayout, held: dict[str, Any], *, take_over: bool) -> None:
    lives = holder_lives(held)
    if lives is False:
        return
    who = f"process {held['pid']} on {held['host']}"
    if lives:
        raise LeaseHeldError(
            f"the sweep {layout.sweep_dir} is being driven by {who} (since {held.get('since')}); "
            f"see it: rompy-hydra status {layout.sweep_dir}; end it: rompy-hydra cancel {layout.sweep_dir}"
        )
    silent = silent_s(layout) or 0.0
    heard = f"it was heard {format_duration(round(silent, 1))} ago"
    if not take_over:
        raise LeaseHeldError(
            f"the sweep {layout.sweep_dir} is held by {who}, which cannot be seen from here ({heard}); "
            "if neither it nor its runs are alive any more, add --take-over"
        )
    if silent < SILENT_S:
        raise LeaseHeldError(
            f"the sweep {layout.sweep_dir} is held by {who} and {heard}: it is alive; end it there, or wait until it "
            f"has been silent for {SILENT_S:g} s"
        )


def _content(token: str) -> bytes:
    return json.dumps({"token": token, "since": utc(), **ProcessIdentity.of().to_dict()}).encode() + b"\n"


def _create(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def remove_abandoned_drafts(parent: Path) -> None:
    """Sweeps in `parent` that were never planned to the end, because whoever did so was killed on this machine."""
    for draft in parent.glob(f".*{DRAFT_MARK}*"):
        if (held := read_holder(SweepLayout(draft))) and holder_lives(held) is False:
            shutil.rmtree(draft, ignore_errors=True)
