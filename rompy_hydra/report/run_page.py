"""A run → its page: what became of it, what it was asked to be and by whom, what it used, printed and drew."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rompy_hydra.record.store import RECORD_NAME
from rompy_hydra.redaction import redact, redact_override, redact_text
from rompy_hydra.report.facts import grown
from rompy_hydra.report.metrics import metrics_of
from rompy_hydra.report.page import render
from rompy_hydra.report.pictures import gallery_of, pictures_of
from rompy_hydra.report.words import REFRESH_S, core_time, link, moment, moment_of, seconds, words_of
from rompy_hydra.run.observe import observe
from rompy_hydra.sweep.cost import cost_of_record
from rompy_hydra.sweep.description import find_sweep
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.packed import Pack, find_pack
from rompy_hydra.units.sizes import format_memory
from rompy_hydra.workspace.run_record import RunRecord

LOG_LINES = 200
_LOG_BYTES = 64 * 1024
_MOST_FILES = 500
_MOST_CHARACTERS = 2000
_TOLD = "Every value and who set it."
_GUESSED = (
    "Every value and who set it: what was typed, or the chosen option of its group, over which others (an env, an "
    "experiment) may have set; nothing: the main file or a default."
)
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")


def read_run(directory: Path) -> RunRecord:
    """The run as the truth stands now, from its directory or the archive of its sweep.  `RecordError` for none."""
    if not (directory / RECORD_NAME).exists() and (pack := _pack_of(directory)) is not None:
        return RunRecord(directory, pack.read_record(directory))
    return RunRecord(directory, observe(directory))


def usual_place(directory: Path) -> Path:
    """Where the page of a run lies if nobody says: beside its record, that of a packed point beside its sweep's."""
    pack = None if directory.is_dir() else _pack_of(directory)
    return directory / "report.html" if pack is None else pack.layout.sweep_dir / "report" / f"{directory.name}.html"


def _pack_of(directory: Path) -> Pack | None:
    sweep_dir = next((parent for parent in directory.parents if find_sweep(parent) is not None), None)
    return find_pack(SweepLayout(sweep_dir)) if sweep_dir is not None else None


def run_page(
    record: RunRecord, target: Path, *, origins: Mapping[str, str] | None = None, refresh: bool = False
) -> bytes:
    """The page; `target` is where it will lie (links are relative to it), `origins` tells of keys who set them."""
    data = redact(record.data)
    config = list(_config(data, origins or {}))
    return render(
        "run.html",
        {
            "title": str(data.get("run_id") or record.run_dir.name),
            "record": data,
            "directory": str(record.run_dir),
            "state": record.state.value,
            "words": words_of(record.state.value),
            "reason": redact_text(str(data.get("reason") or record.state.sentence)),
            "made": moment(time.time()),
            "began": moment_of(data.get("started_at")),
            "ended": moment_of(data.get("ended_at")),
            "refresh_s": REFRESH_S if refresh else 0,
            "tiles": _tiles(record),
            "uses": _uses(data),
            "attempts": _attempts(data),
            "logs": [_log(path, record.run_dir, target) for path in record.logs],
            "pictures": [(p, link(p.path, target)) for p in pictures_of(record.run_dir, record.data)],
            "gallery": link(gallery, target) if (gallery := gallery_of(record.run_dir)) else "",
            "metrics": [(key, f"{value:.6g}") for key, value in metrics_of(record.run_dir, record.data).items()],
            "config": config,
            "set": [row for row in config if _is_set(row[2], is_known=bool(origins))],
            "legend": _TOLD if origins else _GUESSED,
            "files": _files(data, record.run_dir, target),
            "origins": list(_provenance(data)),
            "notes": [*((data.get("resources") or {}).get("notes") or []), *(data.get("notes") or [])],
            "postprocess": _postprocess(data),
            "sweep": _sweep(data, record.run_dir, target),
        },
    )


def _tiles(record: RunRecord) -> list[tuple[str, str, str]]:
    data = record.data
    tiles = []
    wall, cpu, peak = data.get("wall_seconds"), data.get("cpu_seconds"), data.get("peak_memory_bytes")
    cpus = (data.get("resources") or {}).get("cpus")
    if wall is not None:
        tiles.append((seconds(wall), "time", f"on {cpus} CPU{'s' if cpus != 1 else ''}" if cpus else ""))
    if cpu is not None:
        use = f"{cpu / (wall * cpus):.0%} of what it had" if wall and cpus else ""
        tiles.append((seconds(cpu), "CPU time", use))
    if peak:
        tiles.append((format_memory(peak), "peak memory", str(data.get("memory_measured_by") or "")))
    cost = cost_of_record(data)
    if cost.attempts:
        charge = f"charged {cost.charge:.6g}" if cost.charge is not None else ""
        figure, unit = core_time(cost.held_core_seconds)
        tiles.append((figure, f"{unit} held", charge))
    outputs = data.get("outputs") or []
    if outputs:
        size = format_memory(sum(entry.get("bytes", 0) for entry in outputs))
        tiles.append((f"{len(outputs):,}", "output files" if len(outputs) > 1 else "output file", size))
    return tiles


def _uses(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was used of what was asked for."""
    asked = data.get("resources") or {}
    wall, cpu, peak = data.get("wall_seconds"), data.get("cpu_seconds"), data.get("peak_memory_bytes")
    rows = []
    if asked.get("cpus"):
        mean = cpu / wall if wall and cpu is not None else None
        rows.append(
            _use("CPUs", f"{asked['cpus']}", mean, asked["cpus"], None if mean is None else f"{mean:.3g} on average")
        )
    limit = grown(data, "memory", asked.get("memory"))
    if limit or peak:
        rows.append(
            _use(
                "memory",
                format_memory(limit) if limit else "no limit",
                peak,
                limit,
                format_memory(peak) if peak else None,
            )
        )
    longest = grown(data, "time_limit", asked.get("time_limit"))
    if longest or wall is not None:
        rows.append(
            _use(
                "time",
                seconds(longest) if longest else "no limit",
                wall,
                longest,
                seconds(wall) if wall is not None else None,
            )
        )
    counts = [name for name in ("ranks", "threads", "nodes", "gpus") if asked.get(name) is not None]
    return rows + [_use(name, str(asked[name]), None, None, None) for name in counts]


def _use(what: str, asked: str, used: float | None, limit: float | None, text: str | None) -> dict[str, Any]:
    part = None if used is None or not limit else used / limit
    return {
        "what": what,
        "asked": asked,
        "used": text or "",
        "part": part,
        "percent": "" if part is None else f"{part:.0%}" if part >= 0.01 else f"{part:.1%}",
        "width": 0 if part is None else min(100.0, 100 * part),
    }


def _attempts(data: Mapping[str, Any]) -> list[dict[str, str]]:
    attempts = data.get("attempts") or []
    return (
        [
            {
                "number": str(number),
                "words": words_of(str(one.get("state", ""))),
                "state": str(one.get("state", "")),
                "time": seconds(one["wall_seconds"]) if one.get("wall_seconds") is not None else "",
                "memory": format_memory(one["peak_memory_bytes"]) if one.get("peak_memory_bytes") else "",
                "reason": redact_text(str(one.get("reason") or "")),
            }
            for number, one in enumerate(attempts, 1)
        ]
        if len(attempts) > 1
        else []
    )


# ---- logs


def _log(path: Path, run_dir: Path, target: Path) -> dict[str, Any]:
    told: dict[str, Any] = {"name": path.name, "link": "", "lines": [], "left_out": False}
    try:
        size, data = _tail_of(path, run_dir)
    except OSError as error:
        return {**told, "size": f"cannot be read: {error.strerror}"}
    lines = _ESCAPES.sub("", data.decode("utf-8", "replace").replace("\r\n", "\n")).split("\n")
    lines = [line.rpartition("\r")[2] for line in lines]  # what a progress bar wrote last
    if lines and not lines[-1]:
        lines.pop()
    return {
        **told,
        "link": link(path, target) if path.exists() else "",
        "lines": [redact_text(line[:_MOST_CHARACTERS]) for line in lines[-LOG_LINES:]],
        "left_out": size > _LOG_BYTES or len(lines) > LOG_LINES,
        "size": format_memory(size),
    }


def _tail_of(path: Path, run_dir: Path) -> tuple[int, bytes]:
    """The size of a log and its last bytes, from its file or the archive of its sweep."""
    if not path.exists() and (pack := _pack_of(run_dir)) is not None:
        size = pack.files(run_dir).get(path.name, {}).get("bytes", 0)
        return size, pack.tail(run_dir, path.name, _LOG_BYTES)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LOG_BYTES))
        return size, file.read()


# ---- configuration


def _config(data: Mapping[str, Any], origins: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(key, value, who set it) of every leaf."""
    overrides = _overrides(data.get("overrides") or [])
    choices = data.get("choices") or {}
    for key, value in _leaves(data.get("config") or {}, ""):
        yield key, _text(value), redact_text(origins.get(key) or _origin(key, overrides, choices))


def _is_set(where: str, *, is_known: bool) -> bool:
    """Whether somebody set the value, and it is no default of ours; without a snapshot only what was typed is known."""
    return not where.startswith("the default of ") if is_known else where.startswith("the override ")


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}… ({len(text):,} characters)"


def _overrides(words: list[str]) -> dict[str, str]:
    """Key → the override that names it, the last one of several."""
    return {word.lstrip("+~").partition("=")[0].partition("@")[0]: redact_override(word) for word in map(str, words)}


def _origin(key: str, overrides: Mapping[str, str], choices: Mapping[str, Any]) -> str:
    """Who set a key, as far as a record tells: an override, else the option of its group."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in overrides and name not in choices:
            return f"the override '{overrides[name]}'"
    group = parts[0]
    if choices.get(group):
        return f"the option {group}={choices[group]}"
    return ""


# ---- the rest


def _files(data: Mapping[str, Any], run_dir: Path, target: Path) -> dict[str, Any]:
    outputs = data.get("outputs") or []
    return {
        "outputs": [
            (
                str(entry.get("path")),
                format_memory(entry.get("bytes") or 0),
                link(run_dir / str(entry.get("path")), target),
            )
            for entry in outputs[:_MOST_FILES]
        ],
        "more": max(0, len(outputs) - _MOST_FILES),
        "note": data.get("outputs_note"),
        "inputs": [
            (str(entry.get("name", "")), str(entry.get("path", "")), format_memory(entry.get("bytes") or 0))
            for entry in (data.get("inputs") or [])[:_MOST_FILES]
            if isinstance(entry, Mapping)
        ],
    }


def _provenance(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    told = data.get("provenance") or {}
    yield "command", redact_text(shlex.join(redact_override(str(word)) for word in told.get("argv") or []))
    ran = data.get("command")
    if ran:
        yield "what ran", redact_text(shlex.join(map(str, ran)) if isinstance(ran, list) else str(ran))
    for repository in told.get("config_repositories") or []:
        yield "configuration", f"{repository.get('path')} ({_commit(repository)})"
    code = told.get("code") or {}
    if code:
        yield (
            "rompy-hydra",
            f"{(told.get('packages') or {}).get('rompy-hydra', '')} in {code.get('path')} ({_commit(code)})",
        )
    executable = told.get("executable") or {}
    if executable:
        yield "executable", f"{executable.get('path')} (sha256 {str(executable.get('sha256'))[:16]}…)"
    machine = told.get("machine") or {}
    if machine:
        yield (
            "machine",
            f"{machine.get('host')}: {machine.get('cpus')} CPUs, {machine.get('cpu_model')}, {machine.get('system')}",
        )
    packages = told.get("packages") or {}
    yield "versions", ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    container = data.get("container") or {}
    if container:
        yield "container", " ".join(str(container.get(key, "")) for key in ("name", "id", "image")).strip()
    slurm = data.get("slurm") or {}
    if slurm:
        yield "Slurm", ", ".join(f"{key} {value}" for key, value in slurm.items() if value not in (None, "", [], {}))
    for key in ("science_id", "point_id"):
        yield key.replace("_", " "), str(data.get(key) or "")


def _commit(state: Mapping[str, Any]) -> str:
    commit = state.get("commit")
    if not commit:
        return "not in git"
    return f"commit {str(commit)[:12]}{', with changes that are not committed' if state.get('dirty') else ''}"


def _postprocess(data: Mapping[str, Any]) -> str:
    done = data.get("postprocess")
    if not isinstance(done, Mapping) or done.get("processor") == "noop":
        return ""
    if done.get("success"):
        return f"{done.get('processor')}: done"
    return redact_text(
        f"{done.get('processor')}: failed: {done.get('error') or done.get('message') or 'no reason given'}"
    )


def _sweep(data: Mapping[str, Any], run_dir: Path, target: Path) -> dict[str, Any] | None:
    told = data.get("sweep")
    if not isinstance(told, Mapping):
        return None
    swept = ", ".join(f"{key}={_text(value)}" for key, value in (told.get("swept") or {}).items())
    sweep_dir = next((parent for parent in run_dir.parents if find_sweep(parent) is not None), None)
    page = sweep_dir / "report" / "index.html" if sweep_dir else None
    return {
        "name": str(told.get("name", "")),
        "swept": swept,
        "directory": str(sweep_dir or told.get("directory", "")),
        "link": link(page, target) if page is not None and page.exists() else "",
    }
