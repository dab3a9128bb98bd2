"""A sweep → its page: all points, what ran when, how it scales, what it cost, which resources to take."""

from __future__ import annotations

import re
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rompy_hydra.record.states import RunState
from rompy_hydra.redaction import redact_override, redact_text
from rompy_hydra.report.advice import Advice, Circumstances, advise, memory_advice, no_study
from rompy_hydra.report.columns import clean, column, numbers, script_json
from rompy_hydra.report.facts import PointFacts, SweepFacts, metric_names, swept_keys
from rompy_hydra.report.page import LIBRARIES, embedded, render
from rompy_hydra.report.scaling import Study, studies_of, study_key
from rompy_hydra.report.timeline import cpus_in_use, most_at_a_time, slots_of
from rompy_hydra.report.words import REFRESH_S, core_text, core_time, link, moment, moment_of, seconds, words_of
from rompy_hydra.sweep.progress import FAILURES
from rompy_hydra.sweep.settings import SweepSettings
from rompy_hydra.sweep.state import INVALID
from rompy_hydra.sweep.table import cell, swept_text

MOST_STUDIES = 100
_LOG_LINES = 6
_MOST_SLOTS = 4096


@dataclass(frozen=True, slots=True)
class Advised:
    """A study and what follows from it."""

    study: Study
    advice: Advice


def sweep_page(facts: SweepFacts, target: Path, *, refresh: bool = False) -> bytes:
    """The page; `target` is where it will lie (links are relative to it), `refresh` has it reload itself."""
    advised = advised_studies(facts)
    scripts = [*(embedded(name) for name in LIBRARIES), embedded("sweep.js")]
    return render(
        "sweep.html", {**_context(facts, target, advised), "refresh_s": REFRESH_S if refresh else 0}, scripts=scripts
    )


def advised_studies(facts: SweepFacts) -> list[Advised]:
    """What to take for each simulation that ran on several numbers of CPUs."""
    groups: dict[Any, list[Circumstances]] = {}
    for point, how in zip(facts.points, facts.circumstances(), strict=True):
        groups.setdefault(study_key(point.swept), []).append(how)
    studies = studies_of(facts.samples())
    return [Advised(s, advise(s, groups[study_key(s.swept)], timing=facts.timing)) for s in studies]


def overview(advised: Sequence[Advised]) -> list[str]:
    """What several simulations say together: which settings are recommended, and what speaks against the rest."""
    if len(advised) < 2:
        return []
    chosen = Counter(one.advice.setting.title for one in advised if one.advice.setting is not None)
    told = [f"{title} for {count:,} of {len(advised):,} simulations." for title, count in chosen.most_common(4)]
    without = len(advised) - sum(chosen.values())
    if without:
        why = Counter(_without_figures(one.advice.reasons[0]) for one in advised if one.advice.setting is None)
        reason, count = why.most_common(1)[0]
        told.append(f"No evidence for {without:,} of {len(advised):,} simulations; most often ({count:,}): {reason}.")
    return told


def _without_figures(reason: str) -> str:
    """What makes two reasons the same."""
    return re.sub(
        r"^\d+ of its \d+ points", "some of its points", re.sub(r"of \d.*?, so", "of some settings, so", reason)
    )


def _context(facts: SweepFacts, target: Path, advised: Sequence[Advised]) -> dict[str, Any]:
    description = facts.view.description
    return {
        "title": facts.layout.sweep_dir.name,
        "vendor_style": _vendor_style(),
        "directory": str(facts.layout.sweep_dir),
        "description": description,
        "command": redact_text(shlex.join(redact_override(word) for word in description.get("command", []))),
        "driver": facts.view.driver,
        "is_running": facts.is_running,
        "made": moment(time.time()),
        "created": moment_of(description.get("created_at")),
        "settings": _settings(description.get("settings") or {}),
        "states": _states(facts),
        "tiles": _tiles(facts),
        "advice": no_study(facts.circumstances()) if not advised else None,
        "overview": overview(advised),
        "advised": advised[:MOST_STUDIES],
        "more_studies": max(0, len(advised) - MOST_STUDIES),
        "scaling_rows": [_scaling_rows(one.study) for one in advised[:MOST_STUDIES]],
        "fits": [_fit_sentences(one.study) for one in advised[:MOST_STUDIES]],
        "memory": _memory(facts),
        "timeline": _timeline_sentence(facts),
        "cost": _cost_rows(facts),
        "failures": _failures(facts, target),
        "reasons": _reasons(facts),
        "has_lanes": bool(facts.spans),
        "data": script_json(_data(facts, target, advised)),
    }


def _vendor_style() -> Any:
    from markupsafe import Markup

    return Markup(embedded("tabulator.min.css"))  # noqa: S704  # our own file


# ---- words


def _settings(told: dict[str, Any]) -> dict[str, Any]:
    """How it was driven, as far as somebody said so."""
    usual = SweepSettings().to_dict()
    return {key.removesuffix("_s"): value for key, value in told.items() if value != usual.get(key)}


def _states(facts: SweepFacts) -> list[dict[str, Any]]:
    total = max(1, facts.view.state.total)
    return [
        {"name": name, "words": words_of(name), "count": count, "part": 100 * count / total, "why": _why(name)}
        for name, count in facts.view.state.counts().items()
    ]


def _why(state: str) -> str:
    return RunState(state).sentence if state in set(RunState) else "Left out because it cannot run."


def _tiles(facts: SweepFacts) -> list[tuple[str, str, str]]:
    """(figure, what it is, a word more)."""
    counts = facts.view.state.counts()
    done = counts.get("succeeded", 0)
    failed = sum(counts.get(name, 0) for name in FAILURES)
    open_ = sum(counts.get(name, 0) for name in ("queued", "waiting", "running"))
    tiles = [
        (f"{facts.view.state.total:,}", "points", f"{done:,} succeeded"),
        (f"{failed:,}", "did not succeed", f"{open_:,} not ended" if open_ else "all have ended"),
    ]
    if facts.spans:
        began, ended = min(s.start_s for s in facts.spans), max(s.end_s for s in facts.spans)
        tiles.append((seconds(max(0.0, ended - began)), "from first start to last end", moment(began)["local"]))
    walls = sorted(p.wall_s for p in facts.points if p.wall_s is not None and p.state == "succeeded")
    if walls:
        middle = walls[len(walls) // 2]
        tiles.append((seconds(middle), "median time of a run", f"{seconds(walls[0])} to {seconds(walls[-1])}"))
    if facts.cost.attempts:
        used = facts.cost.used_core_seconds / facts.cost.held_core_seconds if facts.cost.held_core_seconds else None
        more = "" if used is None else f"{used:.0%} of it used"
        figure, unit = core_time(facts.cost.held_core_seconds)
        tiles.append((figure, f"{unit} held", more))
    return tiles


def _cost_rows(facts: SweepFacts) -> list[tuple[str, str, str]]:
    cost = facts.cost
    if not cost.attempts:
        return []
    asked = "no bound" if cost.asked_core_seconds is None else core_text(cost.asked_core_seconds)
    rows = [
        ("asked for", asked, "CPUs × time limit of each attempt"),
        ("held", core_text(cost.held_core_seconds), "CPUs × time: what nobody else could use"),
        ("used", core_text(cost.used_core_seconds), "CPU time of the processes"),
    ]
    if cost.failed_core_seconds:
        rows.append(("in failed attempts", core_text(cost.failed_core_seconds), "part of what was held"))
    if cost.queue_seconds:
        rows.append(("in the queue", seconds(cost.queue_seconds), "from submission to start, added up"))
    if cost.charge is not None:
        rows.append(("charged", f"{cost.charge:.6g}", f"{cost.rate:g} a core-hour, in the site's units"))
    return rows


def _timeline_sentence(facts: SweepFacts) -> str:
    if not facts.spans:
        return "Nothing has run yet."
    _, levels = cpus_in_use(facts.spans)
    attempts, together = len(facts.spans), most_at_a_time(facts.spans)
    hosts = {span.host for span in facts.spans if span.host}
    where = f" on {len(hosts)} hosts" if len(hosts) > 1 else ""
    return (
        f"{attempts:,} attempt{'s' if attempts != 1 else ''}, at most {together:,} at a time, "
        f"on at most {max(levels, default=0):.0f} CPUs{where}."
    )


def _memory(facts: SweepFacts) -> dict[str, Any]:
    good = [p for p in facts.points if p.state == "succeeded" and p.peak_bytes]
    out = sum(p.state == "out_of_memory" for p in facts.points)
    limits = [p.memory_bytes for p in good]
    measured = [p for p in good if p.is_measured]
    told = measured or good
    sentence = memory_advice(
        [p.peak_bytes for p in told if p.peak_bytes],
        [p.memory_bytes for p in told],
        out_of_memory=out,
        is_measured=bool(measured),
    )
    return {"sentence": sentence, "has_chart": bool(good), "has_limits": any(limits)}


def _fit_sentences(study: Study) -> list[str]:
    found = []
    for line in study.lines:
        fit = line.fit
        where = f"Over {line.title}: "
        if fit is None:
            few = len({s.cpus for s in line.settings}) < 3
            why = "fewer than three numbers of CPUs" if few else "more CPUs take longer"
            found.append(f"{where}no fit of Amdahl's law ({why}).")
            continue
        margin = (fit.high - fit.low) / 2
        told = f"{where}a serial part of {fit.serial:.1%} ± {margin:.1%} (Amdahl's law, 95 % interval)"
        if fit.high < 0:
            found.append(f"{told}: it scales better than the law allows, as caches make possible.")
        elif fit.low <= 0:
            found.append(f"{told}: no serial part can be told from none.")
        else:
            found.append(f"{told}, so at most {1 / fit.serial:.3g} times faster than one CPU on any number of them.")
    return found


def _scaling_rows(study: Study) -> list[dict[str, str]]:
    rows = []
    for s in study.settings:
        low, high = study.speedup_spread(s)
        rows.append(
            {
                "setting": s.title,
                "repeats": str(len(s.walls_s)),
                "time": seconds(s.wall_s),
                "spread": f"{seconds(min(s.walls_s))} to {seconds(max(s.walls_s))}",
                "speedup": f"{study.speedup(s):.3g}",
                "speedup_spread": f"{low:.3g} to {high:.3g}",
                "efficiency": f"{study.efficiency(s):.0%}",
                "cost": core_text(s.cpus * s.wall_s),
            }
        )
    return rows


def _failures(facts: SweepFacts, target: Path) -> list[dict[str, Any]]:
    found = []
    for seen in facts.view.failures():
        log = seen.log()
        found.append(
            {
                "name": seen.name,
                "state": seen.state,
                "words": words_of(seen.state),
                "swept": redact_text(swept_text(seen.swept)),
                "reason": redact_text(seen.reason),
                "log": "" if seen.is_packed else link(log, target),
                "lines": [redact_text(line) for line in seen.last_lines(_LOG_LINES)],
            }
        )
    return found


def _reasons(facts: SweepFacts) -> list[tuple[str, str, int]]:
    """(state, reason, how many points) of the most frequent failures, where there are too many to read each."""
    bad = [(p.state, redact_text(p.reason)) for p in facts.points if p.state in FAILURES]
    if len(bad) <= 5:
        return []
    return [(state, reason, count) for (state, reason), count in Counter(bad).most_common(8)]


# ---- data


def _data(facts: SweepFacts, target: Path, advised: Sequence[Advised]) -> dict[str, Any]:
    return {
        "id": str(facts.view.description.get("sweep_id", "")),
        "count": len(facts.points),
        "columns": _columns(facts, target),
        "timeline": _timeline(facts),
        "studies": [_study(one) for one in advised[:MOST_STUDIES]],
        "worth": 0.7,
    }


def _columns(facts: SweepFacts, target: Path) -> list[dict[str, Any]]:
    points = facts.points
    swept = list(swept_keys(points))
    lasts = [key.rpartition(".")[2] for key in swept]
    titles = lasts if len(set(lasts)) == len(lasts) else swept

    def of(key: str, title: str, group: str, kind: str, values: list[Any]) -> dict[str, Any] | None:
        known = any(value not in (None, "") for value in values)
        return column(key, title, group, kind, values) if known or key in ("name", "state") else None

    found = [
        of("name", "point", "point", "text", [p.name for p in points]),
        of("state", "state", "point", "state", [p.state for p in points]),
        *(
            of(f"swept:{key}", title, "swept", "number", [_plain(p.swept.get(key)) for p in points])
            for key, title in zip(swept, titles, strict=True)
        ),
        of("repeat", "repeat", "point", "number", [p.repeat for p in points])
        if any(p.repeat for p in points)
        else None,
        of("cpus", "CPUs", "resources", "number", [None if p.state == INVALID else p.cpus for p in points]),
        of("wall", "time", "result", "seconds", [p.wall_s for p in points]),
        of("cpu", "CPU time", "result", "seconds", [p.cpu_s for p in points]),
        of("cpu_use", "CPU use", "result", "ratio", [p.cpu_use for p in points]),
        of("peak", "peak memory", "result", "bytes", [p.peak_bytes for p in points]),
        of("memory", "memory asked", "resources", "bytes", [p.memory_bytes for p in points]),
        of("memory_use", "memory use", "result", "ratio", [_memory_use(p) for p in points]),
        of("held", "core-hours held", "result", "number", [_hours(p.cost.held_core_seconds) for p in points]),
        of("wait", "waited", "result", "seconds", [p.cost.queue_seconds or None for p in points]),
        of("attempts", "attempts", "result", "number", [p.attempts for p in points])
        if any(p.attempts > 1 for p in points)
        else None,
        *(
            of(f"metric:{name}", name, "metric", "number", [p.metrics.get(name) for p in points])
            for name in metric_names(points)
        ),
        of("started", "started", "result", "time", [_rounded(p.started_s) for p in points]),
        of("host", "host", "resources", "text", [p.host for p in points]),
        of("reason", "reason", "point", "text", [redact_text(p.reason) for p in points]),
        of("href", "", "hidden", "text", [_address(p, target) for p in points]),
    ]
    return [one for one in found if one is not None]


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str) else cell(value)


def _memory_use(point: PointFacts) -> float | None:
    return point.peak_bytes / point.memory_bytes if point.peak_bytes and point.memory_bytes else None


def _hours(core_seconds: float) -> float | None:
    return core_seconds / 3600 if core_seconds else None


def _rounded(when_s: float | None) -> float | None:
    return None if when_s is None else int(when_s)


def _address(point: PointFacts, target: Path) -> str:
    if point.state in ("queued", "invalid"):
        return ""
    report = point.run_dir / "report.html"
    if report.exists():
        return link(report, target)
    return f"{link(point.run_dir, target)}/" if point.run_dir.is_dir() else ""  # it may be packed, or archived


def _timeline(facts: SweepFacts) -> dict[str, Any]:
    spans = facts.spans
    if not spans:
        return {"count": 0}
    begin = min(span.start_s for span in spans)
    row_of = {point.number: row for row, point in enumerate(facts.points)}
    slots = slots_of(spans)
    times, levels = cpus_in_use(spans)
    states = list(dict.fromkeys(span.state for span in spans))
    too_many = max(slots) >= _MOST_SLOTS
    return {
        "count": len(spans),
        "begin": int(begin),
        "row": [row_of[span.number] for span in spans],
        "start": numbers([round(span.start_s - begin, 3) for span in spans], 9),
        "length": numbers([round(span.end_s - span.start_s, 3) for span in spans], 9),
        "slot": [] if too_many else slots,
        "cpus": [span.cpus for span in spans],
        "states": states,
        "state": [states.index(span.state) for span in spans],
        "use_time": numbers([round(when - begin, 3) for when in times], 9),
        "use_cpus": numbers(levels, 4),
    }


def _study(one: Advised) -> dict[str, Any]:
    study = one.study
    chosen = one.advice.setting
    return {
        "title": clean(study.title),
        "base": {"cpus": study.base.cpus, "wall": study.base.wall_s, "title": study.base.title},
        "lines": [
            {
                "title": line.title,
                "settings": [
                    {
                        "title": s.title,
                        "cpus": s.cpus,
                        "walls": numbers(s.walls_s),
                        "wall": numbers([s.wall_s])[0],
                        "speedup": numbers([study.speedup(s)])[0],
                        "efficiency": numbers([study.efficiency(s)])[0],
                        "chosen": s == chosen,
                    }
                    for s in line.settings
                ],
                "fit": None if line.fit is None else {"one": line.fit.one_cpu_s, "serial": line.fit.serial},
            }
            for line in study.lines
        ],
    }
