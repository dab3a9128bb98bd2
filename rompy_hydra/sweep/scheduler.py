"""The scheduler: starts the points of a sweep as there is room, waits, journals, until all have ended or one stops it.

    tasks (a lazy stream)  →  waiting  →  packed  →  handed over  →  ended
                                             └ journal: `start` before, `end` after

**Exactly once.**  A point is handed over only after its `start` line, with the token of the attempt and the identity of
who will watch it, is written whole.  So when the driver is killed, wherever that happens:

- before the line is whole: nothing knows the attempt, nothing was handed over: the point still waits;
- after the line, before the hand-over, or in the middle of it: the keeper got nothing or half a message and leaves; no
  record, no log: `resume` sees that it never began and starts it again;
- after the hand-over: the keeper has it and will write `run.json` with this token: `resume` waits for it;
- after the end, before the `end` line: the record with this token is there: `resume` takes the end from it;
- after the `end` line: there is nothing left to do.

A `start` line is the only one that may be true without anything having happened, and every later line may be missing
without anything being lost.  Who decides in all cases is the record and the keeper's own life (`resume.py`).

Points that run elsewhere (`is_packed=False`: jobs of a cluster) take no part of this machine.  They are handed over as
they come, a lane gathers them, and they are announced and submitted together when nothing more can be handed over at
the moment (`Gathering.pause`).  They need no driver: it may leave them (`leave`, `run(until=…)`), and `resume` finds
them again.

Nothing raises in here for a signal: handlers count (`interrupt`), and the loop looks.
"""

from __future__ import annotations

import heapq
import select
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from rompy_hydra.errors import (
    EXIT_OK,
    EXIT_RUN_FAILED,
    EXIT_SITE,
    ConfigError,
    ExecutionError,
    RompyHydraError,
    SiteError,
)
from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.record.outcome import Outcome
from rompy_hydra.record.states import RunState
from rompy_hydra.sweep.journal import Journal
from rompy_hydra.sweep.lease import Lease, LeaseLostError
from rompy_hydra.sweep.lines import is_disk_full, short
from rompy_hydra.sweep.packing import Budget, Need, Packer
from rompy_hydra.sweep.resume import NEVER_BEGAN
from rompy_hydra.sweep.state import SweepState

_TICK_S = 0.1
_SYNC_S = 1.0
_CANCEL_CHECK_S = 0.5
_DIGEST_S = 5.0
_SITE_FAILURES_IN_A_ROW = 5
_SITE_PAUSE_S = 0.1
_LOOK_SHARE = 20
"""Looking at handles that cannot be polled takes at most one part in so many of our time, if there are more than a few:
there may be ten thousand."""
_FEW = 64

EXIT_INTERRUPTED = 130
_INTERRUPTED = "interrupted from the keyboard"

NOT_COUNTED = -1
"""The number of a task that is no point of the sweep: a warm-up."""


@dataclass(slots=True, kw_only=True)
class Task:
    """A point that is to be started; `content` is whatever its starter needs and the scheduler does not look at.

    `is_packed`: it runs on this machine and takes its part of the budget; else it runs elsewhere and outlives us.
    `is_adopted`: an earlier driver started it.  `cost` is what the end of an attempt tells of it: the `cores` that it
    holds, the core-seconds that were `asked` for.
    """

    number: int
    name: str
    need: Need = field(default_factory=Need)
    attempt: int = 1
    is_packed: bool = True
    is_adopted: bool = False
    is_ready: bool = False
    cost: Mapping[str, float] = field(default_factory=dict)
    content: Any = None


class Handle(Protocol):
    """A point in somebody's hands; `run.keeping.KeptRun` is one."""

    @property
    def is_over(self) -> bool:
        """Whether `wait` would answer at once."""
        ...

    def fileno(self) -> int:
        """Something that is readable when there is news; -1: ask from time to time."""
        ...

    def take_news(self, timeout_s: float | None = 0) -> None:
        """Take in what there is."""
        ...

    def wait(self, timeout_s: float | None = None) -> Outcome | None:
        """The outcome; raises what kept it from starting."""
        ...

    def cancel(self, reason: str) -> None:
        """Ask for its end; a second time: at once."""
        ...


class Gathering(Protocol):
    """Whoever gathers points that run elsewhere before they are submitted together."""

    def pause(self) -> None:
        """Nothing more is handed over at this moment: what was gathered may go."""
        ...

    def look(self) -> bool:
        """Find out what has become of what went, for a moment; whether there is more to look at now."""
        ...

    def withdraw(self) -> set[int]:
        """What has not been announced will not go; these points."""
        ...

    @property
    def held(self) -> int:
        """How many points wait for room in a queue."""
        ...


class _NothingGathered:
    held = 0

    def pause(self) -> None:
        """There is nothing."""

    def look(self) -> bool:
        """There is nothing."""
        return False

    def withdraw(self) -> set[int]:
        """There is nothing."""
        return set()


class After(Protocol):
    """The postprocessing of one point, beside the runs."""

    def poll(self) -> bool | None:
        """Whether it succeeded; None while it goes on (or waits for its turn)."""
        ...

    def cancel(self) -> None:
        """End it."""
        ...


Announce = Callable[..., None]
"""Journals the start of a task: `announce(token=…, by=…)`; called by the starter right before the hand-over."""


class Starter(Protocol):
    """Turns tasks into running points; one for all backends of a sweep."""

    def make_ready(self, task: Task) -> None:
        """Everything that can be done before there is room for it: directory, workspace.  May raise."""
        ...

    def hand_over(self, task: Task, cpus: tuple[int, ...] | None, announce: Announce) -> Handle:
        """Call `announce`, then start it.  May raise; then nothing runs."""
        ...

    def saw_end(self, outcome: Outcome) -> None:
        """An attempt has ended like this."""
        ...

    def pause_before_retry(self, task: Task, outcome: Outcome) -> float | None:
        """Seconds until it is tried again; None: it is not."""
        ...

    def after(self, task: Task) -> After | None:
        """What has to be done with the outputs of a point that succeeded; None: nothing."""
        ...


class Watcher(Protocol):
    """Told what happens, to show it."""

    def started(self, task: Task) -> None:
        """A point was handed over."""
        ...

    def ended(self, task: Task, outcome: Outcome, *, again_in_s: float | None) -> None:
        """An attempt has ended."""
        ...

    def said(self, text: str) -> None:
        """Something that a person should know."""
        ...

    def tick(self) -> None:
        """Some time has passed."""
        ...


@dataclass(frozen=True, slots=True)
class Stop:
    """Why no further point is started, and what that means for the exit code."""

    why: str
    exit_code: int


@dataclass(slots=True)
class _Running:
    task: Task
    handle: Handle
    cpus: tuple[int, ...] | None
    fd: int


class Scheduler:
    """One sweep in the hands of this process."""

    def __init__(
        self,
        tasks: Iterator[Task],
        starter: Starter,
        journal: Journal,
        *,
        budget: Budget,
        watcher: Watcher,
        lease: Lease | None = None,
        max_failures: int | None = None,
        cancel_requests: Callable[[], set[int] | None] = set,
        digest: Callable[[], None] = lambda: None,
        gathering: Gathering | None = None,
        ask: Callable[[int], bool] = lambda _: False,
    ) -> None:
        """`max_failures`: after that many failed points nothing more is started (1: fail fast).

        `ask` is told, when somebody interrupts us, how many points run elsewhere: whether somebody will answer whether
        to leave them there (`leave`) or to end them (`end_remote`); if not they are left.
        """
        self._tasks = tasks
        self._starter = starter
        self._journal = journal
        self._packer = Packer(budget)
        self._watcher = watcher
        self._lease = lease
        self._max_failures = max_failures
        self._cancel_requests = cancel_requests
        self._digest = digest
        self._gathering: Gathering = gathering or _NothingGathered()
        self._ask = ask
        self._look_due = 0.0
        self._is_left = False
        self._is_drained = False
        self._waiting: deque[Task] = deque()
        self._retries: list[tuple[float, int, Task]] = []
        self._running: dict[int, _Running] = {}
        self._after: dict[int, After] = {}
        self._by_fd: dict[int, int] = {}
        self._readers: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()
        self._window = max(16, 2 * budget.at_once)
        self._asked = 0
        self._heeded = 0
        self._terminated = ""
        self._failures = 0
        self._site_failures = 0
        self._due = dict.fromkeys(("tick", "sync", "cancel", "digest"), 0.0)
        self._is_dispossessed = False
        self.stop: Stop | None = None

    # ---- from outside

    def interrupt(self) -> None:
        """Ctrl-C: once, start nothing more; twice, end what runs; again, without grace.  For a signal handler."""
        self._asked += 1

    def terminate(self, signal_name: str) -> None:
        """End everything now.  For a signal handler."""
        self._terminated = signal_name
        self._asked = max(self._asked + 1, 2)

    def listen(self, fd: int, read: Callable[[], None]) -> None:
        """Wake up and call `read` when `fd` is readable: the wake-up pipe of signals."""
        self._poll.register(fd, select.POLLIN)
        self._readers[fd] = read

    @property
    def state(self) -> SweepState:
        """Where all points stand."""
        return self._journal.state

    @property
    def running(self) -> int:
        """How many points run now."""
        return len(self._running)

    @property
    def remote(self) -> int:
        """How many points are with somebody elsewhere who does not need us."""
        return sum(not running.task.is_packed for running in self._running.values())

    @property
    def is_all_submitted(self) -> bool:
        """Whether all that is left is in somebody's hands who does not need us."""
        busy = self._waiting or self._retries or self._after or self._gathering.held
        if not self._is_drained or busy:
            return False
        return all(not r.task.is_packed and not r.handle.is_over for r in self._running.values())

    @property
    def is_held(self) -> bool:
        """Whether what is left waits for room in a queue."""
        return bool(self._gathering.held) and self._is_drained and not self._waiting

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        if self.stop is not None and (self.stop.exit_code != EXIT_OK or self._is_left):
            return self.stop.exit_code
        return EXIT_OK if self.state.is_good else EXIT_RUN_FAILED

    # ---- the loop

    def adopt(self, task: Task, handle: Handle) -> None:
        """Take in a point that an earlier driver started and that still runs."""
        task.is_adopted = True
        if task.is_packed:
            self._packer.take(Need(task.need.cpus, task.need.memory_bytes))
        self._watch(_Running(task, handle, None, handle.fileno()))

    def postprocess(self, task: Task) -> None:
        """Do what is left to do for a point that had succeeded before."""
        if (after := self._starter.after(task)) is not None:
            self._after[task.number] = after

    def leave(self, why: str, exit_code: int = EXIT_INTERRUPTED) -> None:
        """Let go of what runs elsewhere, and wait for the rest only."""
        self.stop = Stop(why, exit_code)
        self._withdraw()
        for running in [r for r in self._running.values() if not r.task.is_packed]:
            self._ignore(running)
            del self._running[running.task.number]
            self._is_left = True

    def end_remote(self, reason: str) -> None:
        """End what runs elsewhere, and wait for its end."""
        for running in self._running.values():
            if not running.task.is_packed:
                running.handle.cancel(reason)

    @property
    def is_left(self) -> bool:
        """Whether something goes on elsewhere without us."""
        return self._is_left

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to do or to wait for."""
        return self._is_over()

    def moved(self) -> None:
        """This is another process now than the one that began: the journal names it."""
        self._journal.write("driver", **ProcessIdentity.of().to_dict())

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Until all have ended, or nothing may be started any more and what ran has ended.

        When `until` says so, and nothing runs on this machine, what runs elsewhere is left; `run` may be called again.
        """
        try:
            while self._still_ours():
                self._heed()
                started = self._start_what_fits()
                if not started and self.stop is None:
                    self._gathering.pause()
                is_busy = self._gathering.look()
                self._housekeeping()
                if self._is_over():
                    break
                if not started and self.stop is None and until():
                    return
                self._take_news(0 if started or is_busy or self._prepare_some() else _TICK_S)
        finally:
            if not self._is_dispossessed:
                self._leave(self.stop.why if self.stop is not None else "done" if self._is_over() else "left")

    def _still_ours(self) -> bool:
        """Before anything is written: somebody may have taken the sweep over while this machine slept."""
        if self._lease is None:
            return True
        try:
            self._lease.beat()
        except LeaseLostError as error:
            self._is_dispossessed = True  # what runs is in its keepers' hands, and the other driver's to journal
            self.stop = Stop(str(error), EXIT_SITE)
            self._watcher.said(str(error))
        return not self._is_dispossessed

    def _is_over(self) -> bool:
        if self._running or self._after:
            return False
        if self.stop is not None:
            return True
        return self._is_drained and not self._waiting and not self._retries

    def _leave(self, why: str) -> None:
        try:
            self._journal.write("stop", why=short(why))
            self._journal.sync()
        except SiteError:
            return  # what the journal cannot take any more is in the records; the stop itself says why
        self._digest()

    # ---- starting

    def _start_what_fits(self) -> bool:
        """Start one point, if there is room; True when there may be room for more."""
        if self.stop is not None:
            return False
        if self._retries and self._retries[0][0] <= time.monotonic():
            self._waiting.appendleft(heapq.heappop(self._retries)[2])
        if not self._waiting and not self._fetch():
            return False
        place = self._choose()
        if place is None:
            if not self._running and not self._after:
                self._give_up(self._waiting.popleft())
            return False
        task = self._waiting[place]
        del self._waiting[place]
        self._start(task)
        return True

    def _choose(self) -> int | None:
        """The place in the queue of what starts next: what runs elsewhere always fits."""
        for place, task in enumerate(self._waiting):
            if not task.is_packed:
                return place
        return self._packer.choose([task.need for task in self._waiting])

    def _give_up(self, task: Task) -> None:
        """It does not even fit alone, which planning should have found: told, instead of waiting for ever."""
        finding = self._packer.budget.why_never(task.need)
        self._could_not_start(
            task, ConfigError("there is never room for it", [finding] if finding else []), was_announced=False
        )

    def _fetch(self) -> bool:
        """Have one more task wait; False when there is none."""
        if self._is_drained:
            return False
        try:
            task = next(self._tasks, None)
        except RompyHydraError as error:  # a point that was valid a moment ago: its input is gone, the disk is full
            self._is_drained = True
            self._stop(f"the next point cannot be prepared: {error}", error.exit_code)
            return False
        if task is None:
            self._is_drained = True
            return False
        self._waiting.append(task)
        return True

    def _prepare_some(self) -> bool:
        """While nothing ends: make the next points ready, fetch further ones; True when something was done."""
        if self.stop is not None:
            return False
        for number, task in enumerate(self._waiting):
            if number > self._packer.budget.at_once:
                break
            if not task.is_ready:
                self._make_ready(task)
                return True
        return len(self._waiting) < self._window and self._fetch()

    def _make_ready(self, task: Task) -> bool:
        try:
            self._starter.make_ready(task)
        except RompyHydraError as error:
            if task in self._waiting:
                self._waiting.remove(task)
            self._could_not_start(task, error, was_announced=False)
            return False
        task.is_ready = True
        return True

    def _start(self, task: Task) -> None:
        if not task.is_ready and not self._make_ready(task):
            return
        announced = False

        def announce(**by: Any) -> None:
            nonlocal announced
            self._journal.write("start", n=task.number, a=task.attempt, **by)
            announced = True

        cpus = self._packer.take(task.need) if task.is_packed else None
        try:
            handle = self._starter.hand_over(task, cpus, announce)
        except RompyHydraError as error:
            if task.is_packed:
                self._packer.give_back(task.need, cpus)
            self._could_not_start(task, error, was_announced=announced)
            return
        self._watch(_Running(task, handle, cpus, handle.fileno()))
        self._watcher.started(task)

    def _watch(self, running: _Running) -> None:
        self._running[running.task.number] = running
        if running.fd >= 0:
            self._by_fd[running.fd] = running.task.number
            self._poll.register(running.fd, select.POLLIN)

    def _could_not_start(self, task: Task, error: RompyHydraError, *, was_announced: bool) -> None:
        """It never began.

        A site that refuses (a full disk, no process to be had) is not the point's fault: it is tried again, or left to
        `resume` when that goes on.  Anything else is the point's end.
        """
        full = is_disk_full(error)
        self._site_failures += isinstance(error, SiteError)
        if full or self._site_failures >= _SITE_FAILURES_IN_A_ROW or isinstance(error, ExecutionError):
            if was_announced:
                self._tell_back(task, str(error))
            if full or self._site_failures >= _SITE_FAILURES_IN_A_ROW:
                self._stop(f"point {task.name} could not be started: {error}", EXIT_SITE)
            else:
                pause_s = _SITE_PAUSE_S * 2**self._site_failures
                heapq.heappush(self._retries, (time.monotonic() + pause_s, task.number, task))
            return
        outcome = Outcome(state=RunState.FAILED, reason=str(error))
        self._journal_end(task, outcome, again_in_s=None)
        self._watcher.ended(task, outcome, again_in_s=None)
        self._count_failure(task)

    def _tell_back(self, task: Task, why: str) -> None:
        try:
            self._journal.write("back", n=task.number, a=task.attempt, why=short(why))
        except SiteError:
            return  # `resume` finds out that it never began

    # ---- ending

    def _take_news(self, timeout_s: float) -> None:
        events = self._poll.poll(max(0, int(timeout_s * 1000)))
        for fd, _ in events:
            if fd in self._by_fd:
                self._look_at(self._running[self._by_fd[fd]])
            elif fd in self._readers:
                self._readers[fd]()
        if (began := time.monotonic()) >= self._look_due:
            silent = [r for r in self._running.values() if r.fd < 0]
            for running in silent:
                self._look_at(running)
            if len(silent) > _FEW:
                now = time.monotonic()
                self._look_due = now + _LOOK_SHARE * (now - began)

    def _look_at(self, running: _Running) -> None:
        running.handle.take_news(0)
        if not running.handle.is_over:
            if running.fd != (fd := running.handle.fileno()):
                self._ignore(running)
                running.fd = fd
                self._watch(running)
            return
        task = running.task
        self._ignore(running)
        del self._running[task.number]
        if task.is_packed:
            self._packer.give_back(task.need, running.cpus)
        try:
            outcome = running.handle.wait(0)
        except RompyHydraError as error:
            self._could_not_start(task, error, was_announced=True)
            return
        assert outcome is not None
        self._site_failures = 0
        task.attempt = max(task.attempt, getattr(running.handle, "last_attempt", 0))  # some try again by themselves
        if why := getattr(running.handle, "record_error", None):
            self._watcher.said(f"point {task.name} has ended, but its record could not be written: {why}")
        if task.is_adopted and outcome.state is RunState.LOST:
            self._start_again(task, outcome)
        else:
            self._end(task, outcome, getattr(running.handle, "held", MappingProxyType({})))

    def _ignore(self, running: _Running) -> None:
        if running.fd >= 0:
            self._poll.unregister(running.fd)
            del self._by_fd[running.fd]

    def _start_again(self, task: Task, outcome: Outcome) -> None:
        """An adopted point that never began, or was lost: it is started as any other that `resume` found so."""
        if outcome.reason == NEVER_BEGAN:
            self._tell_back(task, outcome.reason)
        else:
            self._journal_end(task, outcome, again_in_s=0)
            task.attempt += 1
        task.is_adopted = task.is_ready = False
        self._waiting.append(task)

    def _end(self, task: Task, outcome: Outcome, held: Mapping[str, float] = MappingProxyType({})) -> None:
        self._starter.saw_end(outcome)
        pause_s = None
        if not outcome.succeeded and outcome.state is not RunState.CANCELLED and self.stop is None:
            pause_s = self._starter.pause_before_retry(task, outcome)
        after = self._starter.after(task) if outcome.succeeded else None
        self._journal_end(task, outcome, again_in_s=pause_s, has_after=after is not None, held=held)
        if after is not None:
            self._after[task.number] = after
        self._watcher.ended(task, outcome, again_in_s=pause_s)
        if pause_s is not None:
            task.attempt += 1
            heapq.heappush(self._retries, (time.monotonic() + pause_s, task.number, task))
        elif not outcome.succeeded and outcome.state is not RunState.CANCELLED:
            self._count_failure(task)
        if pause_s is None:
            task.content = None

    def _journal_end(
        self,
        task: Task,
        outcome: Outcome,
        *,
        again_in_s: float | None,
        has_after: bool = False,
        held: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        fields = {**end_fields(task.number, task.attempt, outcome), **task.cost, **held}
        if again_in_s is not None:
            fields["again"] = True
        if has_after:
            fields["post"] = True
        try:
            self._journal.write_end(**fields)
        except SiteError as error:
            self._stop(f"{error}; the end of point {task.name} is in its record", EXIT_SITE)

    def _count_failure(self, task: Task) -> None:
        self._failures += task.number != NOT_COUNTED
        if self._max_failures is not None and self._failures >= self._max_failures:
            many = "a point has failed" if self._failures == 1 else f"{self._failures} points have failed"
            self._stop(f"{many}: nothing more is started (sweep.on_failure)", EXIT_RUN_FAILED)

    def _withdraw(self) -> None:
        """What was gathered and not submitted waits for `resume`."""
        for number in self._gathering.withdraw():
            if (running := self._running.pop(number, None)) is not None:
                self._ignore(running)

    def _stop(self, why: str, exit_code: int) -> None:
        if self.stop is None:
            self.stop = Stop(why, exit_code)
            self._withdraw()
            still = f"; {self.running} still running, waiting for them" if self._running else ""
            self._watcher.said(f"{why}{still}")

    # ---- what comes from outside

    def _heed(self) -> None:
        """Look whether somebody has asked for the end."""
        if self._asked == self._heeded:
            return
        asked, self._heeded = self._asked, self._asked
        if self._terminated:
            self.stop = self.stop or Stop(f"ended by {self._terminated}", 143)
            if self.remote or self._gathering.held:  # a log-in node that restarts is no reason to lose the queue
                self.leave(f"ended by {self._terminated}", 143)
            self._cancel_running(f"the sweep was ended by {self._terminated}")
        elif asked == 1:
            self._interrupted_once()
        else:
            self.stop = self.stop or Stop(_INTERRUPTED, EXIT_INTERRUPTED)
            self._withdraw()
            how = "ending" if asked == 2 else "killing"
            self._watcher.said(f"interrupted again: {how} {self.running} running")
            self._cancel_running(_INTERRUPTED)

    def _interrupted_once(self) -> None:
        if self.stop is None:
            self.stop = Stop(_INTERRUPTED, EXIT_INTERRUPTED)
            self._withdraw()
        remote = self.remote
        if here := self.running - remote:
            self._watcher.said(
                f"interrupted: nothing more is started; waiting for {here} running; Ctrl-C again ends them"
            )
        if remote and not self._ask(remote):
            self.leave(_INTERRUPTED)
            self._watcher.said(f"interrupted: {remote} points stay in the queue and go on without this command")

    def _cancel_running(self, reason: str) -> None:
        for running in self._running.values():
            running.handle.cancel(reason)
        for after in self._after.values():
            after.cancel()
        self._after.clear()  # `resume` does it again

    def _cancel_some(self) -> None:
        wanted = self._cancel_requests()
        if wanted is None:
            if self.stop is None:
                self._stop("cancelled by `rompy-hydra cancel`", EXIT_RUN_FAILED)
            wanted = set(self._running)
        for number in wanted & self._running.keys():
            self._running[number].handle.cancel("cancelled by `rompy-hydra cancel`")
        for task in [t for t in self._waiting if t.number in wanted]:
            self._waiting.remove(task)
            outcome = Outcome(state=RunState.CANCELLED, reason="cancelled before it was started")
            self._journal_end(task, outcome, again_in_s=None)
            self._watcher.ended(task, outcome, again_in_s=None)

    def _housekeeping(self) -> None:
        now = time.monotonic()
        if now < self._due["tick"]:
            return
        self._due["tick"] = now + _TICK_S
        self._watcher.tick()
        for number, after in list(self._after.items()):
            if (good := after.poll()) is not None:
                del self._after[number]
                self._journal.write("post", n=number, ok=good)
        if now >= self._due["cancel"]:
            self._due["cancel"] = now + _CANCEL_CHECK_S
            self._cancel_some()
        if now >= self._due["sync"]:
            self._due["sync"] = now + _SYNC_S
            self._journal.sync()
        if now >= self._due["digest"]:
            self._digest()
            took = time.monotonic() - now
            self._due["digest"] = now + max(_DIGEST_S, 100 * took)


def end_fields(number: int, attempt: int, outcome: Outcome) -> dict[str, Any]:
    """What an `end` event tells of an outcome; the rest is in the record."""
    fields: dict[str, Any] = {"n": number, "a": attempt, "state": outcome.state.value}
    if outcome.exit_code is not None:
        fields["code"] = outcome.exit_code
    if outcome.signal is not None:
        fields["signal"] = outcome.signal
    if outcome.wall_seconds is not None:
        fields["wall"] = round(outcome.wall_seconds, 3)
    if outcome.cpu_seconds is not None:
        fields["cpu"] = round(outcome.cpu_seconds, 3)
    if outcome.peak_memory_bytes is not None:
        fields["mem"] = outcome.peak_memory_bytes
    if not outcome.succeeded:
        fields["reason"] = short(outcome.reason)
    return fields
