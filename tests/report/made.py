"""Sweeps as they lie on a disk, made without running anything, with figures of our choice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rompy_hydra.record.store import utc

BEGIN_S = 1_790_000_000.0
MACHINE = {"host": "node1", "system": "Linux", "cpu_model": "Example CPU 3 GHz", "cpus": 64}


@dataclass
class MadePoint:
    """One point; `after_s`: when it started, after the first."""

    swept: Mapping[str, Any]
    wall_s: float | None = 1.0
    state: str = "succeeded"
    cpus: int = 1
    ranks: int = 1
    threads: int = 1
    repeat: int = 0
    after_s: float | None = None
    cpu_s: float | None = None
    peak: int | None = None
    memory: int | None = None
    limit_s: float | None = 3600.0
    reason: str = ""
    name: str | None = None
    machine: Mapping[str, Any] = field(default_factory=lambda: MACHINE)
    backend: str = "local"
    slurm: Mapping[str, Any] | None = None
    log: bytes | None = None
    metrics: Mapping[str, Any] | None = None
    has_record: bool = True


def make_sweep(
    directory: Path,
    points: list[MadePoint],
    *,
    timing: bool = True,
    settings: Mapping[str, Any] | None = None,
    driver: Any = None,
) -> Path:
    """A sweep; points without `after_s` ran one after the other."""
    directory.mkdir(parents=True)
    fan_out = len(points) > 1000
    description = {
        "schema": "rompy-hydra/sweep",
        "schema_version": 1,
        "sweep_id": f"made {directory}",  # pages keep what was chosen under it
        "created_at": utc(BEGIN_S),
        "command": ["rompy-hydra", "run", "-m", "model=command"],
        "repositories": [{"conf": "/repository/conf", "origin": "packaged", "snapshot": "snapshot/0/conf"}],
        "settings": {"timing": timing, **(settings or {})},
        "points": len(points),
        "fan_out": fan_out,
    }
    (directory / "sweep.json").write_text(json.dumps(description))
    plan, events = (
        [],
        [_event(BEGIN_S, "driver", **(driver or {"host": "elsewhere", "boot_id": "x", "pid": 1, "start_time": 1}))],
    )
    clock = 0.0
    for number, point in enumerate(points):
        name = point.name or str(number)
        line = {"n": number, "name": name, "overrides": [], "swept": dict(point.swept), "cpus": point.cpus}
        line |= {"repeat": point.repeat} if point.repeat else {}
        line |= {"memory": point.memory} if point.memory else {}
        line |= {"limit": point.limit_s} if point.limit_s else {}
        plan.append(line)
        if point.state == "queued":
            continue
        start = point.after_s if point.after_s is not None else clock
        run_dir = directory / (f"{number // 1000:03d}/{name}" if fan_out else name)
        events.append(_event(BEGIN_S + start, "start", n=number, a=1, token=f"t{number}"))
        if point.state == "running":
            continue
        end = start + (point.wall_s or 0.0)
        clock = max(clock, end + 0.01)
        events.append(
            _event(
                BEGIN_S + end,
                "end",
                n=number,
                a=1,
                state=point.state,
                code=0,
                wall=point.wall_s,
                cpu=_cpu(point),
                mem=point.peak,
                cores=point.cpus,
                asked=point.cpus * point.limit_s if point.limit_s else None,
                reason=point.reason,
            )
        )
        if point.has_record:
            _write_record(run_dir, number, name, point, BEGIN_S + start, BEGIN_S + end)
    (directory / "plan.jsonl").write_text("".join(json.dumps(line) + "\n" for line in plan))
    events.sort(key=lambda event: event["t"])
    (directory / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return directory


def _event(when_s: float, kind: str, **fields: Any) -> dict[str, Any]:
    return {"t": utc(when_s), "e": kind, **fields}


def _cpu(point: MadePoint) -> float | None:
    if point.cpu_s is not None or point.wall_s is None:
        return point.cpu_s
    return 0.9 * point.wall_s * point.cpus


def _write_record(run_dir: Path, number: int, name: str, point: MadePoint, start_s: float, end_s: float) -> None:
    run_dir.mkdir(parents=True)
    record = {
        "schema": "rompy-hydra/run",
        "schema_version": 1,
        "run_id": name,
        "state": point.state,
        "reason": point.reason,
        "started_at": utc(start_s),
        "ended_at": utc(end_s),
        "wall_seconds": point.wall_s,
        "cpu_seconds": _cpu(point),
        "peak_memory_bytes": point.peak,
        "memory_measured_by": "proportional set size (PSS) of the tree, sampled",
        "model": "command",
        "backend": point.backend,
        "resources": {
            "ranks": point.ranks, "threads": point.threads, "cpus": point.cpus, "memory": point.memory,
            "time_limit": point.limit_s, "notes": [],
        },
        "provenance": {"machine": dict(point.machine)},
        "sweep": {"number": number, "name": name, "swept": dict(point.swept)},
    }  # fmt: skip
    if point.slurm is not None:
        record["slurm"] = dict(point.slurm)
    (run_dir / "run.json").write_text(json.dumps(record))
    if point.log is not None:
        (run_dir / "stderr.log").write_bytes(point.log)
    if point.metrics is not None:
        (run_dir / "metrics.json").write_text(json.dumps(point.metrics))


def amdahl_points(
    serial: float, one_cpu_s: float = 100.0, noise: tuple[float, ...] = (0.0, 0.01, -0.01)
) -> list[MadePoint]:
    """Repeats on 1 to 16 CPUs that follow Amdahl's law, but for the noise (parts of the time)."""
    points = []
    for repeat, off in enumerate(noise):
        for cpus in (1, 2, 4, 8, 16):
            wall = one_cpu_s * (serial + (1 - serial) / cpus) * (1 + off * (1 if cpus % 3 else -1))
            points.append(
                MadePoint(
                    {"resources.ranks": cpus},
                    wall,
                    cpus=cpus,
                    ranks=cpus,
                    repeat=repeat,
                    peak=(200 + 20 * cpus) * 2**20,
                )
            )
    return points
