"""What somebody who only looks sees of a sweep: the journal, and the truth about who lives.  Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rompy_hydra.record.store import utc
from rompy_hydra.run.success import last_line
from rompy_hydra.sweep.cost import Cost, cost_of_state, planned_cost
from rompy_hydra.sweep.description import read_description
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.lease import holder_lives, read_holder, silent_s
from rompy_hydra.sweep.packed import Pack, find_pack
from rompy_hydra.sweep.resume import Fate, find_out
from rompy_hydra.sweep.scheduler import end_fields
from rompy_hydra.sweep.state import SweepState, read_state
from rompy_hydra.sweep.table import directory_of, failed_points, plan_lines
from rompy_hydra.units.durations import format_duration
from rompy_hydra.workspace.layout import RunLayout

_LOG_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Seen:
    """One point that is worth a line."""

    number: int
    name: str
    state: str
    reason: str
    swept: Mapping[str, Any]
    run_dir: Path
    attempt: int
    pack: Pack | None = None

    @property
    def is_packed(self) -> bool:
        """Whether it lies in the archive of its sweep, and not in a directory of its own."""
        return self.pack is not None and not self.run_dir.is_dir()

    def log(self) -> Path:
        """Where a person would look first: the errors if there are any, else the output."""
        layout = RunLayout(self.run_dir, flat=True)
        logs = [layout.log(stream, self.attempt) for stream in ("stderr", "stdout")]
        if self.is_packed:
            return next((log for log in logs if self._packed_lines(log, 1)), logs[1])
        return next((log for log in logs if last_line(str(log))), logs[1])

    def last_lines(self, count: int) -> list[str]:
        """The last lines of that log."""
        return self._packed_lines(self.log(), count) if self.is_packed else last_lines(self.log(), count)

    def _packed_lines(self, log: Path, count: int) -> list[str]:
        assert self.pack is not None
        return lines_of(self.pack.tail(self.run_dir, log.name, _LOG_BYTES), count)


@dataclass(slots=True)
class SweepView:
    """A sweep as it stands; `untold` are the ends that the journal does not tell yet, as it would."""

    layout: SweepLayout
    description: Mapping[str, Any]
    state: SweepState
    driver: str
    is_driven: bool
    untold: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def reasons(self) -> dict[int, str]:
        """Why those points ended as they did."""
        return {number: str(event.get("reason", "")) for number, event in self.untold.items()}

    @property
    def fan_out(self) -> bool:
        """Whether the points lie a thousand to a directory."""
        return bool(self.description.get("fan_out"))

    @property
    def cost(self) -> Cost:
        """What all attempts that have ended cost."""
        return cost_of_state(self.state, self.description.get("charge_rate"))

    def points(self, numbers: list[int], reasons: Mapping[int, str] | None = None) -> list[Seen]:
        """Some of the points."""
        pack = find_pack(self.layout)
        return [
            Seen(
                line["n"],
                line["name"],
                self.state.state_of(line["n"]),
                (reasons or {}).get(line["n"], ""),
                line.get("swept", {}),
                directory_of(self.layout, line, fan_out=self.fan_out),
                max(1, self.state.attempts_of(line["n"])),
                pack,
            )
            for line in plan_lines(self.layout, set(numbers))
        ]

    def failures(self) -> list[Seen]:
        """The first points that ended badly."""
        found = failed_points(self.layout, self.state)
        reasons = {number: reason for number, _, reason in found} | self.reasons
        return self.points([number for number, _, _ in found], reasons)

    def running(self) -> list[Seen]:
        """The points that run now, or wait in a queue."""
        return self.points(sorted(self.state.started))

    def find(self, name: str) -> Seen | None:
        """A point by its name or number."""
        for line in plan_lines(self.layout):
            if line["name"] == name or str(line["n"]) == name:
                return self.points([line["n"]])[0]
        return None


def look_at(layout: SweepLayout, *, ask_queue: bool = True) -> SweepView:
    """The sweep as the truth stands now; without `ask_queue` a scheduler is left in peace, the files tell."""
    description = read_description(layout)
    state = read_state(layout, description["points"])
    held = read_holder(layout)
    lives = holder_lives(held)
    is_driven = lives is True or (lives is None and (silent_s(layout) or 0) < 60)
    view = SweepView(layout, description, state, "", is_driven)
    remote = {number for number, started in state.started.items() if "batch" in started.watcher}
    here = state.started.keys() - remote
    if remote:
        _look_into_the_queue(view, remote, ask_queue=ask_queue and not is_driven)
    if not is_driven and here:
        _look_for_orphans(view, here)
    view.driver = _who(layout, held, state, lives)
    return view


def _look_into_the_queue(view: SweepView, numbers: set[int], *, ask_queue: bool) -> None:
    """What became of those that a scheduler has; while somebody drives the sweep, that one asks the queue."""
    from rompy_hydra.sweep.remote import look_at_batches

    lines = {line["n"]: line for line in plan_lines(view.layout, numbers)}
    run_dirs = {n: directory_of(view.layout, line, fan_out=view.fan_out) for n, line in lines.items()}
    state = view.state
    for number, look in look_at_batches(view.layout, state, run_dirs, ask_queue=ask_queue):
        if look.outcome is None:
            state.set_state(number, look.state.value)
            continue
        event = {"e": "end", **end_fields(number, state.started[number].attempt, look.outcome)}
        event |= planned_cost(lines[number])
        event |= {n: v for n, v in (("cores", look.cores), ("wait", look.queue_seconds)) if v is not None}
        before = state.offset
        state.apply(event, before, before)
        view.untold[number] = {**event, "t": look.outcome.ended_at or utc()}


def _look_for_orphans(view: SweepView, numbers: set[int]) -> None:
    """Without a driver: what became of those that it had started."""
    for line in plan_lines(view.layout, numbers):
        number = line["n"]
        layout = RunLayout(directory_of(view.layout, line, fan_out=view.fan_out), flat=True)
        verdict = find_out(layout, view.state.started[number], may_write=False)
        if verdict.fate is Fate.RUNNING:
            continue
        del view.state.started[number]
        if verdict.fate is Fate.NEVER_BEGAN:
            view.state.set_state(number, "queued")
        elif verdict.outcome is not None:
            view.state.set_state(number, verdict.outcome.state.value)


def _who(layout: SweepLayout, held: Mapping[str, Any] | None, state: SweepState, lives: bool | None) -> str:
    """A sentence about the driver."""
    again = f"; go on: rompy-hydra resume {layout.sweep_dir}"
    left = any(name in ("queued", "waiting", "running") for name in state.counts())
    if held:
        who = f"process {held.get('pid')} on {held.get('host')}"
        if lives:
            return f"driven by {who} since {held.get('since')}"
        if lives is None:
            heard = format_duration(round(silent_s(layout) or 0.0, 1))
            return f"driven by {who}, heard {heard} ago"
        return f"its driver ({who}) is gone{again if left else ''}"
    if state.stop == "left" and not held:
        how = "its jobs go on by themselves" if left else "its jobs have ended"
        return f"nobody drives it, {how}; record their ends: rompy-hydra resume {layout.sweep_dir}"
    if state.stop not in (None, "done"):
        return f"stopped: {state.stop}{again if left else ''}"
    return f"nobody drives it{again}" if left else "done"


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log, printable, from its last 8 KB."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _LOG_BYTES))
            data = file.read()
    except OSError:
        return []
    return lines_of(data, count)


def lines_of(data: bytes, count: int) -> list[str]:
    """The last lines of some bytes, printable."""
    text = data.decode("utf-8", "replace")
    lines = [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return ["".join(c if c.isprintable() else "·" for c in line)[:200] for line in lines[-count:]]
