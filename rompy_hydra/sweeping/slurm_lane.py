"""The lane of Slurm: points are gathered, submitted as few job arrays, and followed by one look at the queue for all.

    hand_over  →  gathered  →  arrays  →  journal: `start` of every point  →  sbatch  →  journal: `job`
                                                                                └ look: queue, status files  →  outcomes

**Exactly once**, whenever we are killed.  A batch (one job array) has a token that is the name of its directory, stands
in the `start` line of each of its points, and is the comment of its job:

- before all `start` lines are whole: those without one still wait; the others belong to a batch that nobody submitted;
- after that, before the `job` line: nobody knows whether sbatch got so far.  `adopt` asks the queue for the comment; a
  batch that is not there is *revoked*, task by task: we make the claim that a task makes before it runs anything.  One
  of the two gets it.  What we got never began and is submitted again; a task that was quicker is followed;
- after the `job` line: the job is looked for under its number, its status files tell the rest.

A controller that does not answer is no news: nothing is given up, nothing is sent twice.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import ConfigError, RompyHydraError, SiteError
from rompy_hydra.record import store
from rompy_hydra.record.outcome import Outcome
from rompy_hydra.record.states import RunState
from rompy_hydra.run import slurm_observe, slurm_script, slurm_status
from rompy_hydra.run.base import Job
from rompy_hydra.run.slurm_commands import COMMENT_PREFIX, ControllerError, QueueEntry, QueueFullError, Slurm
from rompy_hydra.run.slurm_points import PointLook, has_ended, is_live, job_facts, write_cancelled
from rompy_hydra.run.slurm_status import TaskStatus
from rompy_hydra.sweep.arrays import Array, Member, Packing, plan_arrays, task_ranges
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.remote import USUAL_ARRAY_SIZE, array_key, last_sign, packing_of
from rompy_hydra.sweep.resume import NEVER_BEGAN
from rompy_hydra.sweep.scheduler import Announce
from rompy_hydra.sweep.settings import SweepSettings
from rompy_hydra.sweep.state import Started
from rompy_hydra.sweeping.own_queue import OwnQueue

if TYPE_CHECKING:
    from rompy_hydra.plan.retry import RetrySpec
    from rompy_hydra.plan.spec import SiteSpec
    from rompy_hydra.steps.prepare import Prepared

_GATHER_S = 2.0
"""Retries come one by one: so long the first of them waits for others, once something is in the queue."""
_AGAIN_S = 30.0
"""After this long a queue that was full, or a controller that was silent, is tried again."""
_LOOK_S = (0.5, 30.0)
_AT_ONCE_S = 0.2
_LOOK_SHARE = 0.05
"""The queue is looked at about twenty times in the life of a batch, but not more often or seldom than that."""
_SILENT_S = 180.0
_SHARE_OF_JOBS = 0.9
"""Without `sweep.max_in_queue`, so much of what the controller holds for all users (`MaxJobCount`) is ours at most."""


class SlurmPoint:
    """One attempt of a point on its way through the queue: the scheduler's handle."""

    __slots__ = (
        *("number", "token", "run_dir", "first_attempt", "last_attempt", "outcome", "error", "held"),
        *("batch", "task", "has_begun", "_lane"),
    )

    def __init__(self, lane: SlurmLane, number: int, token: str, run_dir: str, attempt: int) -> None:
        self.number = number
        self.token = token
        self.run_dir = run_dir
        self.first_attempt = self.last_attempt = attempt
        self.outcome: Outcome | None = None
        self.error: RompyHydraError | None = None
        self.held: dict[str, float] = {}
        self.batch = ""
        self.task = -1
        self.has_begun = False
        self._lane = lane

    @property
    def is_over(self) -> bool:
        """Whether its end is known."""
        return self.outcome is not None or self.error is not None

    def fileno(self) -> int:
        """None: all points are looked at together."""
        return -1

    def take_news(self, timeout_s: float | None = 0) -> None:
        """Nothing: all points are looked at together (`SlurmLane.look`)."""

    def wait(self, timeout_s: float | None = None) -> Outcome | None:  # noqa: ARG002  # as above
        """The outcome; None while it waits or runs."""
        if self.error is not None:
            raise self.error
        return self.outcome

    def cancel(self, reason: str) -> None:
        """Take it out of the queue, or end it."""
        self._lane.cancel(self, reason)


@dataclass(slots=True)
class _Gathered:
    """A point that waits to be submitted."""

    point: SlurmPoint
    line: Any
    settings: Any
    key: Hashable
    limit_s: float | None
    announce: Announce
    since: float


@dataclass(slots=True)
class _Batch:
    """A job array of ours; `tasks` are its points that have not ended."""

    token: str
    directory: Path
    job_id: int | None
    since: float
    submitted_at: str = ""
    key: Hashable = None
    slots: int = 1
    is_adopted: bool = False
    is_recorded: bool = True
    tasks: dict[int, dict[int, SlurmPoint]] = field(default_factory=dict)
    seen: dict[int, tuple[int, int]] = field(default_factory=dict)
    gone: dict[int, float] = field(default_factory=dict)

    @property
    def comment(self) -> str:
        return f"{COMMENT_PREFIX}{self.token}"

    def points(self) -> list[SlurmPoint]:
        return [point for points in self.tasks.values() for point in points.values()]


@dataclass(frozen=True, slots=True)
class Diary:
    """What the lane tells the driver: lines of its journal, what is on the disk, sentences for a person."""

    job: Callable[[str, int], None] = lambda *_: None
    sync: Callable[[], None] = lambda: None
    began: Callable[[int], None] = lambda _: None
    told_back: Callable[[int, int, str], None] = lambda *_: None
    said: Callable[[str], None] = lambda _: None


class SlurmLane:
    """Where the points of a Slurm backend go; `Lane` and `sweep.scheduler.Gathering`."""

    is_packed = False

    def __init__(
        self,
        layout: SweepLayout,
        settings: SweepSettings,
        diary: Diary,
        *,
        name: str = "",
        slurm: Slurm | OwnQueue | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._layout = layout
        self._settings = settings
        self._diary = diary
        self._name = name or layout.sweep_dir.name
        # While we wait for it nobody heeds a Ctrl-C: it is asked again at the next look instead.
        self._slurm = slurm or Slurm(patience_s=5.0)
        self._clock = clock
        self._gathered: dict[int, _Gathered] = {}
        self._batches: dict[str, _Batch] = {}
        self._unwanted: dict[str, dict[int, str]] = {}
        self._walls: dict[Hashable, tuple[int, float]] = {}
        self._site: SiteSpec | None = None
        self._partition: str | None = None
        self._next_try = 0.0
        self._next_look = 0.0
        self._is_silent = False
        self._steps: Iterator[None] | None = None
        self.submitted: list[int] = []

    # ---- what the scheduler calls

    def hand_over(
        self, job: Job, record: dict[str, Any], announce: Announce, *, prepared: Prepared, attempt: int
    ) -> SlurmPoint:
        """Gather it; `announce` is called when it is submitted."""
        number = record["sweep"]["number"]
        point = SlurmPoint(self, number, secrets.token_hex(8), job.run_dir, attempt)
        settings = _grown(job, prepared, attempt)
        record = {**record, "job_token": point.token, "slurm": {"job": job_facts(job)}}
        store.write_record(job.run_dir, record, durable=False)
        self._site = prepared.spec.site
        self._partition = settings.partition
        self._gathered[number] = _Gathered(
            point=point,
            line=slurm_script.RunLine.of(job, number, _retry(prepared.spec.retry, attempt)),
            settings=settings,
            key=array_key(settings),
            limit_s=settings.time_limit_s,
            announce=announce,
            since=self._clock(),
        )
        return point

    def pause(self) -> None:
        """Submit what was gathered, as far as there is room for it."""
        if not self._gathered or (now := self._clock()) < self._next_try:
            return
        if self._batches and now - min(g.since for g in self._gathered.values()) < _GATHER_S:
            return
        room = self._room()
        if room is not None and room < min(len(self._gathered), max(1, self._most_in_queue() // 4)):
            return  # a few at a time would make many small arrays
        for array in self._arrays(room):
            if not self._submit(array):
                self._next_try = self._clock() + _AGAIN_S
                break

    @property
    def held(self) -> int:
        """How many points wait for room in the queue."""
        return len(self._gathered)

    def withdraw(self) -> set[int]:
        """What was not submitted will not be."""
        numbers = set(self._gathered)
        self._gathered.clear()
        return numbers

    def close(self) -> None:
        """Let go; the queue goes on."""

    # ---- submitting

    def _most_in_queue(self) -> int:
        return self._settings.max_in_queue or max(1, int(self._slurm.max_job_count * _SHARE_OF_JOBS))

    def _room(self) -> int | None:
        try:
            most = self._most_in_queue()
        except ControllerError:
            return None  # submitting will tell
        return max(0, most - sum(len(batch.tasks) for batch in self._batches.values()))

    def _arrays(self, room: int | None) -> list[Array]:
        members = [Member(n, g.key, g.limit_s, self._estimate(g.key)) for n, g in sorted(self._gathered.items())]
        return plan_arrays(members, self._packing(), room=room)[0]

    def _packing(self) -> Packing:
        largest = None if self._site is None else self._site.max_array_size
        if largest is None:
            try:
                largest = self._slurm.max_array_size
            except ControllerError:
                largest = USUAL_ARRAY_SIZE
        return packing_of(self._settings, self._site, self._partition, largest)

    def _estimate(self, key: Hashable) -> float | None:
        count, total_s = self._walls.get(key, (0, 0.0))
        return total_s / count if count else None

    def _submit(self, array: Array) -> bool:
        """Put one array into the queue; False when nothing more can go there now."""
        token = secrets.token_hex(8)
        gathered = [self._gathered.pop(number) for number in array.points]
        batch = _Batch(token, self._layout.batch(token), None, self._clock(), store.utc(), array.key)
        try:
            script = self._prepare(batch, array, {g.point.number: g for g in gathered})
            for one in gathered:
                one.announce(token=one.point.token, by={"batch": token, "task": one.point.task})
            self._diary.sync()
        except (OSError, SiteError) as error:
            why = SiteError(f"{batch.directory} cannot be written: {getattr(error, 'strerror', None) or error}")
            why.__cause__ = error.__cause__ if isinstance(error, SiteError) else error
            return self._refuse(batch, gathered, why)
        try:
            batch.job_id = self._put(batch, script, tasks=len(array.tasks), cpus=gathered[0].settings.cpus)
        except QueueFullError as error:
            return self._take_back(batch, gathered, str(error))
        except ControllerError as error:
            # It may be in the queue or come there yet: whatever we do not claim now is its own.
            revoked = {n for n in range(len(array.tasks)) if slurm_status.revoke(batch.directory, n, token)}
            started = [g for g in gathered if g.point.task not in revoked]
            if started:
                self._follow(batch, started)
            left = [g for g in gathered if g not in started]
            return self._take_back(batch, left, str(error), keep=bool(started) or batch.directory.exists())
        except SiteError as error:
            return self._refuse(batch, gathered, ConfigError(str(error)))
        self._diary.job(token, batch.job_id)
        self._follow(batch, gathered)
        self.submitted.append(batch.job_id)
        return True

    def _put(self, batch: _Batch, script: str, *, tasks: int, cpus: int) -> int:
        if isinstance(self._slurm, OwnQueue):
            cpus *= self._settings.runs_at_once
            return self._slurm.put(batch.directory / "job.sh", tasks=tasks, cpus=cpus, comment=batch.comment)
        return self._slurm.submit(script, comment=batch.comment)

    def _prepare(self, batch: _Batch, array: Array, gathered: Mapping[int, _Gathered]) -> str:
        """The batch on the disk, and what its points' records say of it; the script."""
        first = gathered[array.tasks[0][0]]
        lines = {number: one.line for number, one in gathered.items()}
        common = _common(line.environment for line in lines.values())
        slots = batch.slots = min(self._settings.runs_at_once, max(map(len, array.tasks)))
        settings = first.settings.replaced(copies=slots)
        batch.directory.mkdir(parents=True)
        text = "".join(
            f"{slurm_script.task_line([lines[number] for number in task], common)}\n" for task in array.tasks
        )
        (batch.directory / "points").write_text(text, encoding="utf-8", errors="surrogateescape")
        for number, task in enumerate(array.tasks):
            (batch.directory / f"task.{number}").touch()
            for member in task:
                point = gathered[member].point
                point.batch, point.task = batch.token, number
                _write_waiting(point, batch)
        script = slurm_script.job_script(
            settings,
            directory=str(batch.directory),
            token=batch.token,
            name=self._name,
            tasks=len(array.tasks),
            time_limit_s=array.limit_s,
            slots=slots,
            common=common,
        )
        (batch.directory / "job.sh").write_text(script, encoding="utf-8", errors="surrogateescape")
        return script

    def _follow(self, batch: _Batch, gathered: Iterable[_Gathered]) -> None:
        for one in gathered:
            batch.tasks.setdefault(one.point.task, {})[one.point.number] = one.point
        self._batches[batch.token] = batch
        self._next_look = min(self._next_look, self._clock() + _LOOK_S[0])

    def _refuse(self, batch: _Batch, gathered: Iterable[_Gathered], error: RompyHydraError) -> bool:
        """The scheduler hears of it at each of its points."""
        for one in gathered:
            one.point.error = error
        shutil.rmtree(batch.directory, ignore_errors=True)
        return True

    def _take_back(self, batch: _Batch, gathered: Iterable[_Gathered], why: str, *, keep: bool = False) -> bool:
        """It is not in the queue; its points wait for the next time."""
        for one in gathered:
            self._diary.told_back(one.point.number, one.point.first_attempt, why)
            one.point.batch, one.point.task = "", -1
            self._gathered[one.point.number] = one
        if not keep:  # else its claims keep a late job from running anything
            shutil.rmtree(batch.directory, ignore_errors=True)
        self._diary.said(f"{why}; {len(self._gathered)} points wait and are submitted later")
        return False

    # ---- taking over from an earlier driver

    def adopt(self, number: int, run_dir: str, started: Started, job_id: int | None) -> SlurmPoint:
        """Follow a point that an earlier driver announced; whether it was ever submitted is found out."""
        token, task = str(started.watcher["batch"]), int(started.watcher["task"])
        point = SlurmPoint(self, number, started.token, run_dir, started.attempt)
        point.batch, point.task = token, task
        batch = self._batches.setdefault(
            token, _Batch(token, self._layout.batch(token), job_id, self._clock(), started.since, is_adopted=True)
        )
        batch.tasks.setdefault(task, {})[number] = point
        self._next_look = 0.0
        return point

    def _find_job(self, batch: _Batch) -> None:
        """Its driver died around sbatch: look for the job, else see to it that it never runs."""
        entries = self._slurm.find(batch.comment)
        if entries:
            batch.job_id = entries[0].array_id
            self._diary.job(batch.token, batch.job_id)
            return
        for task, points in list(batch.tasks.items()):
            status = slurm_status.read_task(batch.directory / f"task.{task}", batch.token)
            if status.job_id is not None:  # it has been in the queue, and is forgotten
                batch.job_id = status.array_id
            elif not batch.directory.exists() or slurm_status.revoke(batch.directory, task, batch.token):
                for point in points.values():
                    point.outcome = Outcome(state=RunState.LOST, reason=NEVER_BEGAN)
                del batch.tasks[task]
        if not batch.tasks:
            del self._batches[batch.token]

    # ---- looking

    def look(self) -> bool:
        """Find out what has become of everything in the queue, if it is time; whether there is more to do at once.

        Thousands may have ended since the last look: it stops now and then, so that the driver heeds its signals and
        its lease.
        """
        if self._steps is None:
            if self._clock() < self._next_look or not self._batches:
                return False
            self._steps = self._look()
        deadline = self._clock() + _AT_ONCE_S
        for _ in self._steps:
            if self._clock() > deadline:
                return True
        self._steps = None
        # Somebody may have asked for an end while we looked.
        self._next_look = self._clock() + (0.0 if self._unwanted else self._interval())
        return False

    def _look(self) -> Iterator[None]:
        entries = self._queue()
        self._send_cancellations()
        for batch in list(self._batches.values()):
            yield from self._look_at(batch, entries)

    def _interval(self) -> float:
        if not self._batches:
            return 0.0
        if self._unwanted or any(batch.gone for batch in self._batches.values()):
            return _LOOK_S[0]  # something has just left the queue, and its last words are on their way
        age = self._clock() - max(batch.since for batch in self._batches.values())
        return min(_LOOK_S[1], max(_LOOK_S[0], _LOOK_SHARE * age))

    def _queue(self) -> dict[int, dict[int | None, QueueEntry]] | None:
        """The queue, by job and task; None where the controller does not answer now."""
        try:
            for batch in [b for b in self._batches.values() if b.job_id is None]:
                self._find_job(batch)
            numbers = [batch.job_id for batch in self._batches.values() if batch.job_id is not None]
            ids = [number for number in numbers if self._is_asked_for(number)]
            found: dict[int, dict[int | None, QueueEntry]] = {}
            for entry in self._slurm.queue(ids) if ids else ():
                found.setdefault(entry.array_id, {})[entry.task] = entry
        except SiteError as error:
            if not self._is_silent:
                self._diary.said(f"{error}; the jobs go on, and it is asked again")
            self._is_silent = True
            return None
        self._is_silent = False
        return found

    def _is_asked_for(self, job_id: int) -> bool:
        """Numbers below zero are those of an allocation: outside of it nobody knows them."""
        return job_id > 0 or isinstance(self._slurm, OwnQueue)

    def _look_at(self, batch: _Batch, entries: dict[int, dict[int | None, QueueEntry]] | None) -> Iterator[None]:
        known = None if entries is None else entries.get(batch.job_id or 0, {})
        for task, points in list(batch.tasks.items()):
            entry = None if known is None else known.get(task)
            if entry is not None and entry.state in slurm_observe.PENDING and task not in batch.seen:
                continue
            status = self._read(batch, task)
            if status is not None:
                yield from self._take(batch, points, status, entry)
            if points and known is not None and not is_live(entry):
                yield from self._judge(batch, task, points, entry)
            elif points:
                batch.gone.pop(task, None)
            if not points:
                del batch.tasks[task]
        if not batch.tasks:
            del self._batches[batch.token]
            if batch.is_recorded:
                _tidy(batch.directory)

    def _read(self, batch: _Batch, task: int) -> TaskStatus | None:
        """What a task says of itself; None when that is what it said before."""
        path = slurm_status.task_path(batch.directory, task)
        try:
            stat = path.stat()
        except OSError:
            return None
        if not stat.st_size or batch.seen.get(task) == (stat.st_mtime_ns, stat.st_size):
            return None
        batch.seen[task] = (stat.st_mtime_ns, stat.st_size)
        return slurm_status.read_task(path, batch.token)

    def _take(
        self, batch: _Batch, points: dict[int, SlurmPoint], status: TaskStatus, entry: QueueEntry | None
    ) -> Iterator[None]:
        """What the points of a task have told themselves."""
        is_alone = len(points) == 1
        for number, point in list(points.items()):
            last = status.last(number)
            if last is None:
                continue
            if not point.has_begun and last.began_at is not None:
                point.has_begun = True
                self._diary.began(number)
            if not has_ended(last):
                continue
            look = self._point(point)
            if look is not None and look.is_settled:
                self._end(batch, points, point, look, look.data)
                continue
            if look is None or (is_alone and is_live(entry) and look.waits_for_the_controller(status)):
                batch.seen.pop(point.task, None)  # why it was ended is known when its job has ended
                continue
            final = look.told(status, entry)
            if final is not None:
                self._end(batch, points, point, look, final)
            yield

    def _judge(
        self, batch: _Batch, task: int, points: dict[int, SlurmPoint], entry: QueueEntry | None
    ) -> Iterator[None]:
        """A task that is not in the queue any more has points without an end."""
        if batch.job_id is not None and batch.job_id < 0 and _was_heard(batch, task):
            return  # an earlier driver in this allocation started it, and it goes on
        now = self._clock()
        silent_s = now - batch.gone.setdefault(task, now)
        status = slurm_status.read_task(slurm_status.task_path(batch.directory, task), batch.token)
        yield from self._take(batch, points, status, entry)
        for point in list(points.values()):
            if (look := self._point(point)) is None:
                continue
            if look.is_settled:
                self._end(batch, points, point, look, look.data)
                continue
            if batch.is_adopted:
                silent_s = max(silent_s, time.time() - last_sign(look.data, status))
            final = look.untold(status, entry, silent_s)
            if final is not None:
                self._end(batch, points, point, look, final)
            yield

    def _point(self, point: SlurmPoint) -> PointLook | None:
        try:
            data = store.load_record(point.run_dir)
            return PointLook(point.run_dir, data)
        except (OSError, ValueError, KeyError) as error:
            outcome = Outcome(state=RunState.LOST, reason=f"its record cannot be read: {error}")
            point.outcome = outcome
            return None

    def _end(
        self, batch: _Batch, points: dict[int, SlurmPoint], point: SlurmPoint, look: PointLook, final: dict[str, Any]
    ) -> None:
        """The end of a point: its record first, so that whoever comes after us finds it there."""
        final, why = (final, None) if look.is_settled else slurm_observe.settle(look, final)
        if why is not None:
            batch.is_recorded = False  # a full disk: the status file tells it again
            self._diary.said(f"the end of a point could not be recorded: {why}")
        outcome = Outcome.from_dict(final)
        point.last_attempt = max(point.first_attempt, len(final.get("attempts") or ()))
        point.held = _held(final)
        if outcome.wall_seconds is not None and outcome.succeeded:
            count, total_s = self._walls.get(batch.key, (0, 0.0))
            self._walls[batch.key] = (count + 1, total_s + outcome.wall_seconds)
        point.outcome = outcome
        points.pop(point.number, None)

    # ---- ending

    def cancel(self, point: SlurmPoint, reason: str) -> None:
        """Take a point out of the queue, or end it; what is asked for together is sent together."""
        if self._gathered.pop(point.number, None) is not None:
            point.outcome = Outcome(state=RunState.CANCELLED, reason=f"{reason}, before it was submitted")
            return
        self._unwanted.setdefault(point.batch, {})[point.number] = reason
        self._next_look = 0.0

    def send_cancellations(self) -> None:
        """End what is not wanted any more, also in jobs whose number has to be found first."""
        self._queue()
        self._send_cancellations()

    def _send_cancellations(self) -> None:
        if not self._unwanted:
            return
        words: list[str] = []
        for token, reasons in self._unwanted.items():
            if (batch := self._batches.get(token)) is not None:
                words += _cancellations(batch, reasons)
        try:
            if words:
                self._slurm.cancel(words)
        except SiteError as error:
            self._diary.said(f"the jobs could not be cancelled yet: {error}")
            return
        self._unwanted.clear()


def _was_heard(batch: _Batch, task: int) -> bool:
    """Whether a task that nobody watches has given a sign of life lately; it gives one every minute."""
    try:
        status = (batch.directory / f"task.{task}").stat()
    except OSError:
        return False
    return status.st_size > 0 and time.time() - status.st_mtime < _SILENT_S


def _cancellations(batch: _Batch, reasons: Mapping[int, str]) -> list[str]:
    """Write down why, and say what `scancel` is to end: the whole job, or some of its tasks."""
    live = {point.number for point in batch.points()}
    if live <= reasons.keys():
        write_cancelled(batch.directory, None, next(iter(reasons.values())))
        return [] if batch.job_id is None else [str(batch.job_id)]
    whole = []
    for task, points in batch.tasks.items():
        unwanted = points.keys() & reasons.keys()
        for number in unwanted:
            write_cancelled(batch.directory, [number], reasons[number])
        if unwanted and len(unwanted) == len(points):
            whole.append(task)
            continue
        for number in unwanted:  # the others of its job go on; it is passed over, or ended by the job itself
            (batch.directory / f"skip.{number}").touch()
    if not whole or batch.job_id is None:
        return []
    return [f"{batch.job_id}_[{task_ranges(whole)}]"]


def _grown(job: Job, prepared: Prepared, attempt: int) -> Any:
    """What the job asks for, with what a further attempt gets more."""
    settings = job.settings
    if attempt == 1:
        return settings
    factor = prepared.spec.retry.factor("time_limit", attempt)
    limit_s = None if settings.time_limit_s is None else settings.time_limit_s * factor
    return settings.replaced(time_limit_s=limit_s, memory_bytes=job.memory_bytes)


def _retry(rules: RetrySpec, attempt: int) -> slurm_script.Retry | None:
    """What the job itself tries again; what gets more time or memory is submitted again instead."""
    states = tuple(state for state in rules.on_states if state in ("failed", "timed_out"))
    left = rules.attempts - (attempt - 1)
    if left <= 1 or rules.scale or not states:
        return None
    return slurm_script.Retry(
        attempts=left,
        states=states,
        exit_codes=tuple(rules.on_exit_codes),
        wait_s=rules.wait,
        max_wait_s=rules.max_wait,
    )


def _common(environments: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The variables that all of them have, with the same values."""
    common: dict[str, str] | None = None
    for environment in environments:
        if common is None:
            common = dict(environment)
        elif common != environment:
            common = {name: value for name, value in common.items() if environment.get(name) == value}
    return common or {}


def _write_waiting(point: SlurmPoint, batch: _Batch) -> None:
    """The record knows where its job tells of itself, so that anybody can find out what became of it."""
    record = store.load_record(point.run_dir)
    slurm = {
        **record.get("slurm", {}),
        "batch": str(batch.directory),
        "token": batch.token,
        "task": point.task,
        "number": point.number,
        "slots": batch.slots,
        "submitted_at": batch.submitted_at,
    }
    # Its life is not bound to ours: whoever looks asks its batch.
    waiting = {"state": RunState.WAITING.value, "reason": RunState.WAITING.sentence, "slurm": slurm}
    waiting["watcher"] = {"role": "slurm"}
    store.write_record(point.run_dir, {**record, **waiting}, durable=False)


def _held(final: Mapping[str, Any]) -> dict[str, float]:
    """What the journal keeps of an attempt's cost: what was given, and the time in the queue."""
    facts = final.get("slurm") or {}
    held: dict[str, float] = {}
    if facts.get("cpus"):
        held["cores"] = facts["cpus"] * (facts.get("nodes") or 1) / (facts.get("slots") or 1)
    if final.get("queue_seconds") is not None:
        held["wait"] = final["queue_seconds"]
    return held


def _tidy(directory: Path) -> None:
    """All of its points are recorded: what its tasks said becomes one file, beside the script."""
    with contextlib.suppress(OSError):
        tasks = sorted(directory.glob("task.*"), key=lambda path: int(path.suffix[1:]))
        with (directory / "status").open("ab") as whole:
            for path in tasks:
                whole.write(path.read_bytes())
        # From here on a task that the scheduler starts once more finds nothing to run.
        (directory / "points").unlink(missing_ok=True)
        for path in directory.iterdir():
            if path.name.startswith(("task.", "skip.")):
                path.unlink()
            elif path.name.startswith("claim."):
                shutil.rmtree(path, ignore_errors=True)
