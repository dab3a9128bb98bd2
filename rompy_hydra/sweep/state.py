"""Where every point of a sweep stands: the events, added up; and the digest, so that nobody adds up all of them twice.

    events.jsonl  →  SweepState  →  status, resume, progress

The digest is a cache that can be made again at any time: the state at some byte of `events.jsonl`, with a look at the
bytes before it, so that a digest of another journal is not believed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rompy_hydra.record.states import RunState
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.lines import Line, read_events

IDENTITY = ("host", "boot_id", "pid", "start_time", "pid_namespace")
"""What a `driver` event tells of its process; a `start` names only what differs for its watcher."""

INVALID = "invalid"
"""A point that was left out because it cannot run: no state of a run, for there is none."""

_NAMES = (*(state.value for state in RunState), INVALID)
_CODES = {name: number for number, name in enumerate(_NAMES)}
_QUEUED, _WAITING, _RUNNING = (_CODES[s] for s in (RunState.QUEUED, RunState.WAITING, RunState.RUNNING))
_OPEN = frozenset({_QUEUED, _WAITING, _RUNNING})
_TAIL = 64
_WORTH_A_DIGEST_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Started:
    """An attempt that was handed over and has not ended, as the `start` event tells.

    `watcher`: who has it in hands; `retry`: the rules of further attempts, if there may be any; `has_after`: its
    outputs are to be postprocessed.
    """

    attempt: int
    token: str
    since: str
    watcher: dict[str, Any]
    retry: dict[str, Any] | None = None
    has_after: bool = False


@dataclass(slots=True)
class SweepState:
    """The points' states as numbers, one byte each; what is rare stands in dictionaries.

    `jobs` are the batches that a scheduler has got, by the ids that it gave them; of the attempts that have ended,
    `unbounded` had no time limit.
    """

    total: int
    codes: bytearray = field(default_factory=bytearray)
    attempts: dict[int, int] = field(default_factory=dict)
    started: dict[int, Started] = field(default_factory=dict)
    bad: dict[int, int] = field(default_factory=dict)
    unposted: set[int] = field(default_factory=set)
    post_failed: set[int] = field(default_factory=set)
    offset: int = 0
    first_start: str | None = None
    last_event: str | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    asked_core_seconds: float = 0.0
    held_core_seconds: float = 0.0
    failed_core_seconds: float = 0.0
    queue_seconds: float = 0.0
    unbounded: int = 0
    ended: int = 0
    drivers: int = 0
    driver: dict[str, Any] = field(default_factory=dict)
    stop: str | None = None
    jobs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.codes) < self.total:
            self.codes.extend(bytes([_QUEUED]) * (self.total - len(self.codes)))

    def state_of(self, number: int) -> str:
        """The state's name of a point."""
        return _NAMES[self.codes[number]]

    def is_open(self, number: int) -> bool:
        """Whether a point has not ended."""
        return self.codes[number] in _OPEN

    def counts(self) -> dict[str, int]:
        """State → how many points, in the order of the states; without those that nobody is in."""
        return {name: n for code, name in enumerate(_NAMES) if (n := self.codes.count(code))}

    @property
    def is_good(self) -> bool:
        """Whether every point succeeded, but those that were left out on request, and nothing went wrong afterwards."""
        counts = self.counts()
        return counts.get(RunState.SUCCEEDED, 0) + counts.get(INVALID, 0) == self.total and not self.post_failed

    def numbers(self, *states: str) -> Iterator[int]:
        """The points that are in one of these states, in order."""
        wanted = bytes(_CODES[state] for state in states)
        for code in wanted if len(wanted) == 1 else ():
            at = self.codes.find(code)
            while at >= 0:
                yield at
                at = self.codes.find(code, at + 1)
        if len(wanted) > 1:
            yield from (n for n, code in enumerate(self.codes) if code in wanted)

    def attempts_of(self, number: int) -> int:
        """How many attempts a point has had."""
        if number in self.attempts:
            return self.attempts[number]
        return 0 if self.codes[number] in (_QUEUED, _CODES[INVALID]) else 1

    def grow(self, total: int) -> None:
        """There are more points now."""
        if total > self.total:
            self.codes.extend(bytes([_QUEUED]) * (total - self.total))
            self.total = total

    def set_state(self, number: int, state: str) -> None:
        """What an observer has found out by itself (a keeper that is gone, a record that is there)."""
        self.codes[number] = _CODES[state]

    def apply(self, event: dict[str, Any], start: int, end: int) -> None:
        """Add one event, which lies in the journal from `start` to `end`.  The same one twice changes nothing."""
        self.offset = end
        kind = event.get("e")
        number = event.get("n", -1)
        if type(number) is not int:
            return
        if kind == "start" and 0 <= number < self.total:
            self._start(number, event)
        elif kind == "end" and 0 <= number < self.total:
            self._end(number, event, start)
        elif kind == "driver":
            self.drivers += 1
            self.driver = {name: event.get(name) for name in IDENTITY}
            self.stop = None
        elif kind == "stop":
            self.stop = event.get("why")
        elif kind == "job":
            self.jobs[str(event.get("batch"))] = str(event.get("id"))
        elif not 0 <= number < self.total:
            return
        elif kind == "back":
            self._back(number, event)
        elif kind == "post":
            self.unposted.discard(number)
            (self.post_failed.discard if event.get("ok") else self.post_failed.add)(number)
        elif kind == "changed":
            self.codes[number] = _QUEUED
            self.attempts.pop(number, None)
            self.bad.pop(number, None)
            self.unposted.discard(number)
            self.post_failed.discard(number)
        elif kind == "invalid":
            self.codes[number] = _CODES[INVALID]
            self.bad[number] = start

    def _start(self, number: int, event: dict[str, Any]) -> None:
        # What a scheduler has got waits until it begins; whoever looks at its job finds out (`remote`).
        self.codes[number] = _WAITING if "batch" in (event.get("by") or {}) else _RUNNING
        attempt = event.get("a", 1)
        if attempt > 1:
            self.attempts[number] = attempt
        self.bad.pop(number, None)
        watcher = {**self.driver, **(event.get("by") or {})}
        self.started[number] = Started(
            attempt,
            event.get("token", ""),
            event.get("t", ""),
            watcher,
            event.get("retry"),
            bool(event.get("post")),
        )
        self.first_start = self.first_start or event.get("t")

    def _end(self, number: int, event: dict[str, Any], start: int) -> None:
        was_running = self.started.pop(number, None) is not None
        self.codes[number] = code = _WAITING if event.get("again") else _CODES.get(event.get("state", ""), _QUEUED)
        if code == _CODES[RunState.SUCCEEDED]:
            self.bad.pop(number, None)
            if event.get("post"):
                self.unposted.add(number)
        else:
            self.bad[number] = start
        self.last_event = event.get("t")
        if was_running:
            self.ended += 1
            self._add_cost(event)

    def _add_cost(self, event: dict[str, Any]) -> None:
        wall = event.get("wall") or 0.0
        self.wall_seconds += wall
        self.cpu_seconds += event.get("cpu") or 0.0
        self.queue_seconds += event.get("wait") or 0.0
        held = wall * event.get("cores", 1)
        self.held_core_seconds += held
        if event.get("state") != RunState.SUCCEEDED:
            self.failed_core_seconds += held
        if (asked := event.get("asked")) is None:
            self.unbounded += 1
        else:
            self.asked_core_seconds += asked

    def _back(self, number: int, event: dict[str, Any]) -> None:
        self.started.pop(number, None)
        attempt = event.get("a", 1) - 1
        self.codes[number] = _WAITING if attempt else _QUEUED
        if attempt > 1:
            self.attempts[number] = attempt
        else:
            self.attempts.pop(number, None)

    # ---- the digest

    def to_digest(self, events: Path) -> bytes:
        """The state as text, with the bytes of the journal before its offset."""
        data = {
            "total": self.total,
            "offset": self.offset,
            "tail": _tail(events, self.offset),
            "codes": self.codes.translate(_TO_LETTERS).decode("latin-1"),
            "attempts": self.attempts,
            "started": {
                n: [s.attempt, s.token, s.since, s.watcher, s.retry, s.has_after] for n, s in self.started.items()
            },
            "bad": [*self.bad, *self.bad.values()],
            "unposted": sorted(self.unposted),
            "post_failed": sorted(self.post_failed),
            "jobs": self.jobs,
            **{name: getattr(self, name) for name in _PLAIN},
        }
        return json.dumps(data, separators=(",", ":")).encode()

    @classmethod
    def from_digest(cls, text: bytes, total: int, events: Path) -> SweepState | None:
        """The reverse; None where the digest is none, or not of this journal."""
        try:
            data = json.loads(text)
            if data["total"] != total or data["tail"] != _tail(events, data["offset"]):
                return None
            bad = data["bad"]
            half = len(bad) // 2
            return cls(
                total=total,
                codes=bytearray(data["codes"].encode("latin-1").translate(_FROM_LETTERS)),
                attempts={int(n): a for n, a in data["attempts"].items()},
                started={int(n): Started(*fields) for n, fields in data["started"].items()},
                bad=dict(zip(bad[:half], bad[half:], strict=True)),
                unposted=set(data["unposted"]),
                post_failed=set(data["post_failed"]),
                jobs=data["jobs"],
                offset=data["offset"],
                **{name: data[name] for name in _PLAIN},
            )
        except (ValueError, KeyError, TypeError, OSError):
            return None


_PLAIN = (
    *("first_start", "last_event", "wall_seconds", "cpu_seconds", "asked_core_seconds", "held_core_seconds"),
    *("failed_core_seconds", "queue_seconds", "unbounded", "ended", "drivers", "driver", "stop"),
)
_TO_LETTERS = bytes((n + 97) % 256 for n in range(256))
_FROM_LETTERS = bytes((n - 97) % 256 for n in range(256))


def _tail(events: Path, offset: int) -> str:
    if offset == 0:
        return ""
    with events.open("rb") as file:
        file.seek(max(0, offset - _TAIL))
        return file.read(min(_TAIL, offset)).hex()


def read_state(layout: SweepLayout, total: int) -> SweepState:
    """The state as the journal tells it now; a digest shortens the way, and needs no permission to write."""
    state = None
    with contextlib.suppress(OSError):  # none yet: all of the journal is read
        state = SweepState.from_digest(layout.digest.read_bytes(), total, layout.events)
    state = state or SweepState(total)
    began = state.offset
    apply_all(state, read_events(layout.events, layout.reserve, state.offset))
    if state.offset - began > _WORTH_A_DIGEST_BYTES:
        write_digest(layout, state)  # where we may; the next reader starts from here
    return state


def apply_all(state: SweepState, events: Iterable[Line]) -> None:
    """Add every event."""
    for start, end, event in events:
        state.apply(event, start, end)


def write_digest(layout: SweepLayout, state: SweepState) -> None:
    """Keep the state for the next reader; whoever cannot write does without."""
    aside = layout.digest.with_name(f"{layout.digest.name}.{os.getpid()}")
    try:
        aside.write_bytes(state.to_digest(layout.events))
        aside.replace(layout.digest)
    except OSError:
        aside.unlink(missing_ok=True)


def event_at(layout: SweepLayout, offset: int) -> dict[str, Any]:
    """The event that lies at a byte of the journal; empty where it cannot be read (it was in the reserve)."""
    try:
        with layout.events.open("rb") as file:
            file.seek(offset)
            found = json.loads(file.readline())
            return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}
