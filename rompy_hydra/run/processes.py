"""A tree of processes on Linux: who belongs to it, what it uses, and how it is ended to the last one.  Stdlib only.

The keeper is a *child subreaper* (prctl(2)): a descendant whose parent ends becomes the keeper's own child, also after
setsid or a double fork.  So "everything below the keeper" is the tree, and waitpid's ECHILD proves that it is empty.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from rompy_hydra.record.liveness import ProcessIdentity, read_proc, read_stat

JOB_VARIABLE = "ROMPY_HYDRA_JOB"

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_KILL_PATIENCE_S = 10.0
_STOP_ROUNDS = 50


# Looked up once and called with plain numbers: the child does so between fork and exec, where every object that it
# touches is a page to copy (0.2 ms a job).
_prctl: Any = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)  # None: not Linux, `check_startable` says so
_SIGKILL = int(signal.SIGKILL)


def become_subreaper(name: str) -> None:
    """Adopt orphaned descendants of this process from now on; `name` is what `ps` shows."""
    if _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER): orphaned processes could not be followed")
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies; it outlives exec, except of a setuid program."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """The pids below `root`, parents first; zombies are among them."""
    if not _HAS_CHILDREN_FILE:
        return _descendants_by_parent(root)
    found: list[int] = []
    seen = {root}
    queue = [root]
    while queue:
        for pid in _children(queue.pop(0)):
            if pid not in seen:  # a process that is adopted while we look can be met twice
                seen.add(pid)
                found.append(pid)
                queue.append(pid)
    return found


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    if len(threads) == 1:
        return [int(word) for word in read_proc(f"/proc/{pid}/task/{threads[0]}/children").split()]
    return [int(word) for tid in threads for word in read_proc(f"/proc/{pid}/task/{tid}/children").split()]


def _descendants_by_parent(root: int) -> list[int]:
    """The same where the kernel has no `children` files: one look at every process."""
    children: dict[int, list[int]] = {}
    for pid in all_pids():
        stat = read_stat(pid)
        if stat is not None:
            children.setdefault(stat.ppid, []).append(pid)
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.pop(queue.pop(0), [])
        found += below
        queue += below
    return found


_HAS_CHILDREN_FILE = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def all_pids() -> list[int]:
    """Every process that this one can see."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def marked_with(token: str) -> list[int]:
    """Living processes of this user that carry the job's token in their environment.

    The last resort to find a tree whose keeper is gone.
    """
    word = f"{JOB_VARIABLE}={token}".encode()
    found = []
    for pid in all_pids():
        if word in read_proc(f"/proc/{pid}/environ").split(b"\0"):
            stat = read_stat(pid)
            if stat is not None and not stat.is_dead:
                found.append(pid)
    return found


def end_marked(token: str, main: ProcessIdentity | None, *, patience_s: float = 5.0) -> list[int]:
    """Kill what a dead keeper left; returns those that are still there after `patience_s`.

    That is: processes that carry the token, those of the main process's session, and what is below them.
    """
    deadline = time.monotonic() + patience_s
    while True:
        left = set(marked_with(token))
        if main is not None:
            left |= _session_of(main)
        for pid in list(left):
            left |= set(descendants(pid))
        left -= {os.getpid()}
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: none may fork while we go round
            for pid in left:
                send(pid, number)
        if not left or time.monotonic() > deadline:
            return sorted(left)
        time.sleep(0.005)


def _session_of(main: ProcessIdentity) -> set[int]:
    """Living members of the session that `main` leads; its number is not given to others while one of them lives."""
    leader = read_stat(main.pid)
    if leader is not None and leader.start_time != main.start_time:
        return set()
    stats = (read_stat(pid) for pid in all_pids())
    return {stat.pid for stat in stats if stat is not None and stat.session == main.pid and not stat.is_dead}


def send(pid: int, number: int) -> None:
    """A signal to a process that may be gone or somebody else's."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # gone: that is what was wanted; not ours (setuid): `Tree.end` reports who is left


class Tree:
    """Every process below this one: reaped, counted and ended here."""

    def __init__(self, main: int) -> None:
        self.main = main
        self.main_status: int | None = None
        self.ended_clock: float | None = None
        self.ended_at: float | None = None
        self.cpu_seconds = 0.0
        self.max_rss_bytes = 0
        self.is_empty = False

    def reap(self) -> None:
        """Take the exit status of everything that has ended; `is_empty` then says whether anything is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self.is_empty = True
                return
            if pid == 0:
                return
            # The usage of a reaped process holds that of the children it waited for: nothing is counted twice.
            self.cpu_seconds += usage.ru_utime + usage.ru_stime
            self.max_rss_bytes = max(self.max_rss_bytes, usage.ru_maxrss * 1024)
            if pid == self.main:
                self.main_status = status
                self.ended_clock = time.monotonic()
                self.ended_at = time.time()

    def end(self, *, grace_s: float, turn: Callable[[float], bool]) -> Ending:
        """End every process of the tree: TERM, grace, KILL until none is left.

        `turn(seconds)` waits for news (a child's end, a message) and returns True when the grace is to be cut short.
        """
        asked: set[int] = set()
        deadline = time.monotonic() + grace_s
        while not self.is_empty:
            for pid in self._living():
                if pid not in asked:
                    send(pid, signal.SIGTERM)
                    send(pid, signal.SIGCONT)  # a stopped process would see the TERM only when it is continued
                    asked.add(pid)
            left_s = deadline - time.monotonic()
            if left_s <= 0 or turn(min(left_s, 0.05)):
                break
            self.reap()
        return self._kill(len(asked), turn)

    def _kill(self, asked: int, turn: Callable[[float], bool]) -> Ending:
        killed: set[int] = set()
        deadline = time.monotonic() + _KILL_PATIENCE_S
        pause_s = 0.001
        while True:
            self.reap()
            living = self._freeze() if not self.is_empty else []
            if self.is_empty or time.monotonic() > deadline:
                return Ending(asked, len(killed), living)
            for pid in living:
                send(pid, signal.SIGKILL)
            killed.update(living)
            turn(pause_s)
            pause_s = min(pause_s * 2, 0.1)

    def _freeze(self) -> list[int]:
        """Stop everything first, so that a process that forks faster than we look cannot run away."""
        stopped: set[int] = set()
        living: list[int] = []
        for _ in range(_STOP_ROUNDS):
            living = self._living()
            new = [pid for pid in living if pid not in stopped]
            if not new:
                break
            for pid in new:
                send(pid, signal.SIGSTOP)
            stopped.update(new)
        return living

    def _living(self) -> list[int]:
        return [pid for pid in descendants(os.getpid()) if (stat := read_stat(pid)) is not None and not stat.is_dead]


class Ending:
    """What it took to end a tree: how many got TERM, how many needed KILL, who could not be ended."""

    __slots__ = ("asked", "killed", "left")

    def __init__(self, asked: int, killed: int, left: list[int]) -> None:
        self.asked = asked
        self.killed = killed
        self.left = left


class MemoryWatch:
    """The memory of the tree below this process, sampled for next to nothing.

    The sum of resident sizes counts shared pages once per process, so with several processes the proportional set
    size (PSS) is asked for; it costs more and is never above the resident sum, so it is only asked when that sum is
    above the peak so far.  Samples come quickly at first and then as seldom as keeps them under one percent of a
    processor.  `shares_pages`: the main process was forked without an exec and shares its pages with our driver.
    """

    def __init__(self, limit_bytes: int | None, *, shares_pages: bool = False) -> None:
        self.peak_bytes = 0
        self.method = ""
        self.due = time.monotonic() + 0.002
        self._limit = limit_bytes
        self._fewest_to_weigh = 1 if shares_pages else 2
        self._interval_s = 0.004
        self._longest_s = 0.05 if limit_bytes is not None else 0.5
        self._pss_due = 0.0

    def sample(self) -> int:
        """The bytes in use now."""
        cpu = time.process_time()  # what it costs; the clock would also count how long a busy machine kept us waiting
        stats = [stat for pid in descendants(os.getpid()) if (stat := read_stat(pid)) is not None]
        used = sum(stat.rss_bytes for stat in stats)
        method = "resident size, sampled"
        if len(stats) >= self._fewest_to_weigh and used > self.peak_bytes:
            over = self._limit is not None and used > self._limit
            now = time.monotonic()
            if now < self._pss_due and not over:
                self._schedule(cpu)
                return min(used, self.peak_bytes)
            used, method = _proportional_bytes([stat.pid for stat in stats], used)
            self._pss_due = now + (10 if over else 100) * (time.process_time() - cpu)
        if used > self.peak_bytes:
            self.peak_bytes = used
            self.method = method
        self._schedule(cpu)
        return used

    def _schedule(self, cpu_before: float) -> None:
        self._interval_s = min(self._interval_s * 1.5, self._longest_s)
        self.due = time.monotonic() + max(self._interval_s, 100 * (time.process_time() - cpu_before))


def _proportional_bytes(pids: list[int], resident: int) -> tuple[int, str]:
    total = 0
    for pid in pids:
        raw = read_proc(f"/proc/{pid}/smaps_rollup")
        at = raw.find(b"\nPss:")
        if at < 0:
            if read_stat(pid) is None:
                continue  # it has just ended
            return resident, "sum of resident sizes, sampled"
        total += int(raw[at + 5 :].split(None, 1)[0]) * 1024
    return total, "proportional set size (PSS) of the tree, sampled"


def out_of_memory_kills() -> tuple[int, bool]:
    """How often the kernel's out-of-memory killer struck.

    The second value tells whether that was in our own control group (else: anywhere on the machine).
    """
    for path, key in _oom_counters():
        raw = read_proc(path)
        for line in raw.splitlines():
            words = line.split()
            if len(words) == 2 and words[0] == key:
                return int(words[1]), not path.startswith("/proc/")
    return 0, False


@lru_cache(maxsize=1)
def _oom_counters() -> list[tuple[str, bytes]]:
    found = []
    for line in read_proc("/proc/self/cgroup").decode(errors="replace").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":  # version 2; in a container the group may be called `/`, and only there has that one the file
            found.append((f"/sys/fs/cgroup{path.rstrip('/')}/memory.events", b"oom_kill"))
        elif "memory" in controllers.split(",") and path != "/":
            found.append((f"/sys/fs/cgroup/memory{path}/memory.oom_control", b"oom_kill"))
    return [(path, key) for path, key in found if key in read_proc(path)] + [("/proc/vmstat", b"oom_kill")]


def human_bytes(count: float) -> str:
    """`1.5 GiB`, for a sentence."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
