"""What is known of every point of a sweep: the plan, the journal and the records → `SweepFacts`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rompy_hydra.postprocess.products import METRICS_NAME
from rompy_hydra.record.store import load_record
from rompy_hydra.redaction import redact
from rompy_hydra.report.advice import Circumstances
from rompy_hydra.report.metrics import metrics_in, metrics_of
from rompy_hydra.report.scaling import Sample
from rompy_hydra.report.timeline import Span, had_company
from rompy_hydra.report.words import seconds_of
from rompy_hydra.sweep.cost import Cost, cost_of_event
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.lines import read_events
from rompy_hydra.sweep.packed import Pack, find_pack
from rompy_hydra.sweep.table import directory_of, plan_lines
from rompy_hydra.sweep.view import SweepView, look_at

_MEASURED = ("wall_seconds", "cpu_seconds", "peak_memory_bytes")


@dataclass(slots=True)
class PointFacts:
    """One point; None is not known."""

    number: int
    name: str
    state: str
    swept: Mapping[str, Any]
    repeat: int
    run_dir: Path
    cpus: int
    memory_bytes: int | None
    time_limit_s: float | None
    ranks: int | None = None
    threads: int | None = None
    attempts: int = 0
    started_s: float | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_bytes: int | None = None
    is_measured: bool = False
    reason: str = ""
    host: str = ""
    cpu_model: str | None = None
    machine_cpus: int | None = None
    exclusive: bool | None = None
    backend: str = ""
    cost: Cost = field(default_factory=Cost)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def cpu_use(self) -> float | None:
        """The CPU time as a part of what it had: CPUs × time."""
        return self.cpu_s / (self.wall_s * self.cpus) if self.cpu_s is not None and self.wall_s else None


@dataclass(slots=True)
class SweepFacts:
    """A sweep and its points."""

    view: SweepView
    points: list[PointFacts]
    spans: list[Span]
    cost: Cost
    timing: bool

    @property
    def layout(self) -> SweepLayout:
        """Its paths."""
        return self.view.layout

    @property
    def is_running(self) -> bool:
        """Whether something goes on: a point runs or is in a queue, or somebody drives what is left to do."""
        counts = self.view.state.counts()
        is_left = any(counts.get(name) for name in ("queued", "waiting", "running"))
        return bool(self.view.state.started) or (self.view.is_driven and is_left)

    def samples(self) -> list[Sample]:
        """What was measured, for the scaling."""
        return [
            Sample(p.number, p.swept, p.cpus, p.ranks, p.threads, p.wall_s)
            for p in self.points
            if p.state == "succeeded" and p.wall_s
        ]

    def circumstances(self) -> list[Circumstances]:
        """How each point was measured."""
        company = had_company(self.spans)
        return [
            Circumstances(
                number=p.number,
                state=p.state,
                cpus=p.cpus,
                ranks=p.ranks,
                threads=p.threads,
                cpu_model=p.cpu_model,
                machine_cpus=p.machine_cpus,
                exclusive=p.exclusive,
                had_company=p.number in company,
                is_slurm=p.backend == "slurm",
                peak_bytes=p.peak_bytes if p.is_measured else None,
            )
            for p in self.points
        ]


class Reader:
    """Reads a sweep, again and again while it runs: the records of points that have ended are read once."""

    def __init__(self, layout: SweepLayout) -> None:
        self._layout = layout
        self._known: dict[tuple[int, int], _Known] = {}
        self._packed: dict[Path, _Known] | None = None

    def read(self) -> SweepFacts:
        """The sweep as it stands."""
        view = look_at(self._layout)
        history = _History.of(view)
        points = [self._point(view, history, line) for line in plan_lines(self._layout) if self._is_planned(view, line)]
        total = Cost(rate=view.description.get("charge_rate"))
        for point in points:
            total += point.cost
        settings = view.description.get("settings") or {}
        return SweepFacts(view, points, history.spans(points), total, bool(settings.get("timing")))

    @staticmethod
    def _is_planned(view: SweepView, line: Mapping[str, Any]) -> bool:
        return 0 <= int(line["n"]) < view.state.total

    def _point(self, view: SweepView, history: _History, line: Mapping[str, Any]) -> PointFacts:
        number = line["n"]
        end = history.ends.get(number, {})
        point = PointFacts(
            number=number,
            name=str(line["name"]),
            state=view.state.state_of(number),
            swept=redact(line.get("swept", {})),
            repeat=line.get("repeat", 0),
            run_dir=directory_of(self._layout, line, fan_out=view.fan_out),
            cpus=line.get("cpus", 1),
            memory_bytes=line.get("memory"),
            time_limit_s=line.get("limit"),
            attempts=view.state.attempts_of(number),
            wall_s=end.get("wall"),
            cpu_s=end.get("cpu"),
            peak_bytes=end.get("mem"),
            reason=str(history.reasons.get(number, "")),
            cost=history.cost(number, line),
        )
        if point.state not in ("queued", "waiting", "invalid"):
            is_final = number in history.ends and number not in view.untold
            record, point.metrics = self._record(point, is_final=is_final)
            _add_record(point, record)
        return point

    def _record(self, point: PointFacts, *, is_final: bool) -> _Known:
        key = (point.number, point.attempts)
        if key not in self._known:
            try:
                record: dict[str, Any] = load_record(point.run_dir)
            except (OSError, ValueError):  # none yet, gone, or packed
                return self._from_pack(point.run_dir)
            if not is_final:
                return _digest(record), {}
            self._known[key] = (_digest(record), metrics_of(point.run_dir, record))
        return self._known[key]

    def _from_pack(self, run_dir: Path) -> _Known:
        """The same of a point that lies in the archive of its sweep; all records are read in one pass."""
        if self._packed is None:
            pack = find_pack(self._layout)
            self._packed = {} if pack is None else {path: _packed(pack, path, one) for path, one in pack.records()}
        return self._packed.get(run_dir, ({}, {}))


_Known = tuple[Mapping[str, Any], Mapping[str, float]]


def _packed(pack: Pack, run_dir: Path, record: Mapping[str, Any]) -> _Known:
    text = b""
    if METRICS_NAME in pack.files(run_dir):
        with pack.open_file(run_dir, METRICS_NAME) as file:
            text = file.read()
    return _digest(record), metrics_in(text, record)


def _digest(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a report needs of a record; ten thousand whole ones would fill the memory."""
    machine = (record.get("provenance") or {}).get("machine") or {}
    slurm = record.get("slurm") or {}
    backend = str(record.get("backend") or "")
    hosts = slurm.get("hosts") or slurm.get("host") or (machine.get("host") if backend != "slurm" else "")
    resources = dict(record.get("resources") or {})
    resources |= {name: grown(record, name, resources.get(name)) for name in ("memory", "time_limit")}
    return {
        "resources": resources,
        "backend": backend,
        "host": ", ".join(map(str, hosts)) if isinstance(hosts, list) else str(hosts or ""),
        # with Slurm the machine of the record is that of the submission
        "cpu_model": slurm.get("cpu_model") if backend == "slurm" else machine.get("cpu_model"),
        "machine_cpus": None if backend == "slurm" else machine.get("cpus"),
        "exclusive": slurm.get("exclusive"),
        "is_measured": not str(record.get("memory_measured_by") or "at most").startswith("at most"),
        "started_at": record.get("started_at"),
        "reason": record.get("reason") or "",
        **{name: record.get(name) for name in _MEASURED},
    }


def grown(record: Mapping[str, Any], what: str, limit: float | None) -> float | None:
    """A limit as the last attempt had it: `retry.scale` makes it grow with each."""
    scale = ((record.get("config") or {}).get("retry") or {}).get("scale") or {}
    further = max(0, len(record.get("attempts") or ()) - 1)
    return None if limit is None else limit * float(scale.get(what, 1)) ** further


def _add_record(point: PointFacts, known: Mapping[str, Any]) -> None:
    if not known:
        return
    resources = known["resources"]
    point.ranks, point.threads = resources.get("ranks"), resources.get("threads")
    point.cpus = resources.get("cpus") or point.cpus
    point.memory_bytes = int(resources["memory"] or 0) or point.memory_bytes
    point.time_limit_s = resources["time_limit"] or point.time_limit_s
    for name in ("host", "cpu_model", "machine_cpus", "exclusive", "backend", "is_measured"):
        setattr(point, name, known[name])
    point.started_s = seconds_of(known["started_at"])
    if point.state == "running":
        return
    wall, cpu, peak = (known[name] for name in _MEASURED)
    point.wall_s = wall if wall is not None else point.wall_s  # the record has more digits than the journal
    point.cpu_s = cpu if cpu is not None else point.cpu_s
    point.peak_bytes = peak or point.peak_bytes
    point.reason = point.reason or ("" if point.state == "succeeded" else str(known["reason"]))


@dataclass(slots=True)
class _History:
    """The journal, by points: their last ends, all of their attempts."""

    ends: dict[int, dict[str, Any]] = field(default_factory=dict)
    all_ends: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    pieces: list[tuple[int, float, float, str]] = field(default_factory=list)
    begun: dict[int, float] = field(default_factory=dict)
    last_s: float = 0.0

    @classmethod
    def of(cls, view: SweepView) -> _History:
        history = cls()
        for _, _, event in read_events(view.layout.events, view.layout.reserve):
            history._add(event)
        for event in view.untold.values():
            history._add(event)
        now = time.time()
        for number in view.state.started:
            if number in history.begun and view.state.state_of(number) == "running":
                history.pieces.append((number, history.begun.pop(number), now, "running"))
        return history

    def _add(self, event: dict[str, Any]) -> None:
        kind, number, when = event.get("e"), event.get("n", -1), seconds_of(event.get("t"))
        if when is None:
            return
        self.last_s = max(self.last_s, when)
        if kind == "start":
            self.begun[number] = when
        elif kind == "end":
            wall = event.get("wall")
            begun = self.begun.pop(number, None)
            start = when - wall if wall is not None and begun is None else begun
            if wall is not None and start is not None:
                start = max(start, when - wall)  # what was handed over long before it ran waited in a queue
            if start is not None:
                self.pieces.append((number, start, when, str(event.get("state"))))
            self.ends[number] = event
            self.all_ends.setdefault(number, []).append(event)
            self.reasons[number] = str(event.get("reason", ""))
        elif kind == "back":
            self.begun.pop(number, None)
        elif kind == "invalid":
            self.reasons[number] = str(event.get("why", ""))
        elif kind == "changed":
            for told in (self.ends, self.reasons):
                told.pop(number, None)

    def cost(self, number: int, line: Mapping[str, Any]) -> Cost:
        cpus, limit = line.get("cpus", 1), line.get("limit")
        planned = {"cores": cpus, "asked": None if limit is None else cpus * limit}  # journals did not always say it
        total = Cost()
        for event in self.all_ends.get(number, ()):
            total += cost_of_event({**planned, **event})
        return total

    def spans(self, points: list[PointFacts]) -> list[Span]:
        by_number = {point.number: point for point in points}
        last = {number: index for index, (number, *_) in enumerate(self.pieces)}
        found = []
        for index, (number, start, end, state) in enumerate(self.pieces):
            if (point := by_number.get(number)) is None:
                continue
            if index == last[number] and state != "running" and point.started_s and point.wall_s is not None:
                # The journal tells when an end was seen; of batch jobs that may be much later.
                start, end = point.started_s, point.started_s + point.wall_s  # noqa: PLW2901
            found.append(Span(number, start, end, point.cpus, state, point.host))
        return found


def metric_names(points: list[PointFacts]) -> list[str]:
    """The figures that any point has, in the order in which they are met."""
    return list(dict.fromkeys(name for point in points for name in point.metrics))


def swept_keys(points: list[PointFacts]) -> Iterator[str]:
    """The keys that vary, in their order."""
    yield from dict.fromkeys(key for point in points for key in point.swept)
