"""Runs as a collection: every run and every point below a directory as a flat row; filtered, sorted, as a data frame.

    directory  →  _runs_below  →  _Run  →  where, sort, columns  →  Runs

Records are read one after the other and let go again; only the rows that are asked for stay.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import ConfigError, Finding, MissingToolError, RecordError, RompyHydraError, did_you_mean
from rompy_hydra.plan.conditions import Condition, ConditionError
from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import RECORD_NAME, SCHEMA
from rompy_hydra.run.observe import observe
from rompy_hydra.sweep.layout import SWEEP_NAME, SweepLayout
from rompy_hydra.sweep.packed import find_pack
from rompy_hydra.sweep.table import directory_of, plan_lines
from rompy_hydra.sweep.view import SweepView, look_at

if TYPE_CHECKING:
    import pandas as pd

METRICS_NAME = "metrics.json"
_FINAL = frozenset(state.value for state in RunState if state.is_final)
_FIRST_COLUMNS = ("run", "run_id", "state", "reason", "model", "backend")
_NOT_IN_ROWS = frozenset(
    {
        *("schema", "schema_version", "config", "outputs", "outputs_note", "attempts", "inputs", "workspace"),
        *(
            "watcher",
            "process",
            "logs",
            "job_token",
            "source",
            "sweep",
            "resources",
            "postprocess",
            "container",
            "unverified",
        ),
    }
)
_TIMES = ("created_at", "started_at", "ended_at", "observed_at")
_ABSENT = object()
_LOOKED_AT_FOR_NAMES = 200


class Runs(list[dict[str, Any]]):
    """Rows, one for each run: dotted key → plain value.  `notes` says what could not be read or compared."""

    def __init__(self, rows: Iterable[dict[str, Any]] = (), *, total: int = 0, notes: Sequence[str] = ()) -> None:
        super().__init__(rows)
        self.total = total
        self.notes = list(notes)

    @property
    def columns(self) -> list[str]:
        """The keys that any row has, in their order."""
        return list(dict.fromkeys(key for row in self for key in row))

    def to_dataframe(self) -> pd.DataFrame:
        """The rows as a pandas data frame; times are times.  Raises `MissingToolError` without pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingToolError("a data frame needs pandas: pip install 'rompy-hydra[frames]'") from error
        frame = pd.DataFrame(list(self), columns=self.columns)
        for name in _TIMES:
            if name in frame:
                frame[name] = pd.to_datetime(frame[name], utc=True, errors="coerce")
        return frame


def collect(
    directory: str | Path,
    *,
    where: str | None = None,
    sort: Sequence[str] | str = (),
    descending: bool = False,
    columns: Sequence[str] | None = None,
    strict: bool = True,
) -> Runs:
    """Every run and every point of a sweep in `directory`, however deep, as rows.

    A row has the record's keys (`state`, `wall_seconds`), the resolved configuration (`model.parameters.depth`), the
    settled resources (`resources.cpus`), what the postprocessor measured (`metrics.NAME`), the origin
    (`provenance.machine.host`), and `run`, its directory below `directory`.  `where` is a condition
    (`"resources.cpus >= 4 and state == 'failed'"`), `sort` keys (rows without a value come last), `columns` the keys
    that are wanted; `strict`: one that no run has is an error.

    Raises `ConfigError` for a condition that cannot be read and for keys that no run has, `RecordError` for what is no
    directory.
    """
    top = Path(directory).absolute()
    if not top.is_dir():
        raise RecordError(f"{directory} is no directory, so it holds no runs")
    condition = _condition(where)
    keys = [sort] if isinstance(sort, str) else list(sort)
    asked = dict.fromkeys([*(condition.keys if condition else ()), *keys, *(columns or ())])
    asked_for = {
        "--where": condition.keys if condition else (),
        "--sort": keys,
        "--columns": (columns or ()) if strict else (),
    }
    found: list[tuple[list[Any], dict[str, Any]]] = []
    seen: set[str] = set()
    notes: list[str] = []
    odd: list[str] = []
    total = 0
    for run in _runs_below(top, notes):
        total += 1
        values = {key: run.get(key) for key in asked}
        seen.update(key for key, value in values.items() if value is not _ABSENT)
        if condition is not None:
            try:
                if not condition.holds(lambda key, values=values: _value(values[key])):  # type: ignore[misc]
                    continue
            except ConditionError as error:
                odd.append(f"{run.name}: {error}")
                continue
        row = {key: _value(values[key]) for key in columns} if columns is not None else run.row()
        found.append(([_value(values[key]) for key in keys], row))
    must = dict.fromkeys(key for keys_of in asked_for.values() for key in keys_of)
    if total and (unknown := [key for key in must if key not in seen]):
        raise _unknown(unknown, asked_for, _names(top))
    if odd:
        notes.append(f"{len(odd)} runs are left out, the condition says nothing of them; the first: {odd[0]}")
    rows = [row for _, row in _sorted(found, descending=descending)] if keys else [row for _, row in found]
    return Runs(rows, total=total, notes=notes)


def _condition(where: str | None) -> Condition | None:
    if where is None:
        return None
    try:
        return Condition(where)
    except ConditionError as error:
        mend = "write it as \"resources.cpus >= 4 and state == 'failed'\""
        raise ConfigError("the condition cannot be read", [Finding("--where", str(error), where, mend=mend)]) from None


def _value(value: Any) -> Any:
    return None if value is _ABSENT else value


def _unknown(unknown: Sequence[str], asked_for: Mapping[str, Sequence[str]], names: Sequence[str]) -> ConfigError:
    findings = [
        Finding(
            option,
            f"no run has the key '{key}'",
            mend=did_you_mean(key, [name for name in names if "." in name or "." not in key]),
        )
        for option, keys in asked_for.items()
        for key in keys
        if key in unknown
    ]
    return ConfigError("the runs have no such key", findings)


def _names(top: Path) -> list[str]:
    names: dict[str, None] = {}
    for number, run in enumerate(_runs_below(top, [])):
        if number == _LOOKED_AT_FOR_NAMES:
            break
        names |= dict.fromkeys(run.row())
    return list(names)


def _sorted(
    found: list[tuple[list[Any], dict[str, Any]]], *, descending: bool
) -> list[tuple[list[Any], dict[str, Any]]]:
    """By the values, of whatever kinds they are; those without one come last, either way round."""
    if not found:
        return found
    for place in reversed(range(len(found[0][0]))):
        with_value = [item for item in found if item[0][place] is not None]
        without = [item for item in found if item[0][place] is None]
        with_value.sort(key=lambda item, place=place: _rank(item[0][place]), reverse=descending)  # type: ignore[misc]
        found = with_value + without
    return found


def _rank(value: Any) -> tuple[int, Any]:
    if isinstance(value, (bool, int, float)):
        return (0, value)
    return (1, value) if isinstance(value, str) else (2, json.dumps(value, sort_keys=True, default=str))


# -- one run -------------------------------------------------------------------------------------------------------


class _Run:
    """One record; `name` is its directory below the one that was asked for."""

    __slots__ = ("_data", "_directory", "_metrics", "name")

    def __init__(self, name: str, directory: str, data: dict[str, Any]) -> None:
        self.name = name
        self._directory = directory
        self._data = data
        self._metrics: dict[str, Any] | None = None

    def get(self, key: str) -> Any:
        """The value of a dotted key; `_ABSENT` where there is none."""
        first, _, rest = key.partition(".")
        data = self._data
        if not rest:
            if key == "run":
                return self.name
            if (value := self._number(key)) is not _ABSENT:
                return value
            value = data.get(key, _ABSENT)
            return value if value is not _ABSENT and key not in _NOT_IN_ROWS else _below(data.get("config"), key)
        if first == "metrics":
            return self.metrics.get(rest, _ABSENT)
        for tree in (data, data.get("config")):
            if (value := _below(tree, key)) is not _ABSENT and not isinstance(value, dict):
                return value
        return _ABSENT

    def _number(self, key: str) -> Any:
        data = self._data
        if key == "attempts":
            return len(data.get("attempts") or ())
        if key == "output_files":
            return len(data.get("outputs") or ())
        if key == "output_bytes":
            return sum(entry.get("bytes", 0) for entry in data.get("outputs") or ())
        return _ABSENT

    @property
    def metrics(self) -> dict[str, Any]:
        """What its postprocessor measured."""
        if self._metrics is None:
            found = [answer["metrics"] for answer in _answers(self._data) if isinstance(answer.get("metrics"), dict)]
            found.append(_read_metrics(self._directory))  # the newest there is
            self._metrics = {key: value for metrics in found for key, value in _flat(metrics, "")}
        return self._metrics

    def row(self) -> dict[str, Any]:
        """All of it, flat."""
        data = self._data
        row: dict[str, Any] = {key: self.get(key) for key in _FIRST_COLUMNS}
        row |= {key: value for key, value in data.items() if key not in _NOT_IN_ROWS and not isinstance(value, dict)}
        row |= {key: self._number(key) for key in ("attempts", "output_files", "output_bytes")}
        config = data.get("config")
        for key, value in _flat(config, "") if isinstance(config, dict) else ():
            if not key.startswith("sweep."):  # how a sweep was planned says nothing of one of its runs
                row.setdefault(key, value)
        for part in ("resources", "postprocess", "sweep", "reproduces", "choices", "provenance"):
            told = data.get(part)
            for key, value in _flat(told, f"{part}.") if isinstance(told, dict) else ():
                if not key.startswith(("sweep.swept.", "postprocess.metrics.")) and key != "provenance.argv":
                    row[key] = value
        row |= {f"metrics.{key}": value for key, value in self.metrics.items()}
        return {key: _value(value) for key, value in row.items()}


def _answers(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What the postprocessors said, the last one last."""
    processed = data.get("processed")
    for done in processed.values() if isinstance(processed, dict) else ():
        if isinstance(done, dict) and isinstance(done.get("answer"), dict):
            yield done["answer"]
    if isinstance(data.get("postprocess"), dict):
        yield data["postprocess"]


def _below(tree: Any, key: str) -> Any:
    """The value of a dotted key; a part of a map's own key may hold dots (`metrics.NAME`)."""
    if not isinstance(tree, dict):
        return _ABSENT
    if key in tree:
        return tree[key]
    first, _, rest = key.partition(".")
    return _below(tree.get(first), rest) if rest else _ABSENT


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            if value:
                yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read_metrics(directory: str) -> dict[str, Any]:
    try:
        with open(f"{directory}/{METRICS_NAME}", "rb") as file:  # noqa: PTH123  # thousands of times
            found = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# -- finding them --------------------------------------------------------------------------------------------------


def _runs_below(top: Path, notes: list[str]) -> Iterator[_Run]:
    """Every run: one directory that is a run, the points of a sweep, or whatever lies below."""
    folders = [(str(top), "")]
    while folders:
        directory, name = folders.pop()
        if (run := _run_in(directory, name or top.name, notes)) is not None:
            if run is not _ABSENT:
                yield run
        elif os.path.exists(f"{directory}/{SWEEP_NAME}"):  # noqa: PTH110  # thousands of times
            yield from _points_of(directory, name, notes)
        else:
            folders += _subfolders(directory, name, notes)


def _subfolders(directory: str, name: str, notes: list[str]) -> list[tuple[str, str]]:
    """What to look into, in reverse; links would show a run twice, hidden ones are never runs."""
    try:
        with os.scandir(directory) as entries:
            names = [e.name for e in entries if e.name[0] != "." and e.is_dir(follow_symlinks=False)]
    except OSError as error:
        notes.append(f"{directory} cannot be looked into: {error.strerror}")
        return []
    names.sort(reverse=True)
    return [(f"{directory}/{inner}", f"{name}/{inner}" if name else inner) for inner in names]


def _run_in(directory: str, name: str, notes: list[str]) -> Any:
    """The run; None where there is no record, `_ABSENT` where there is one that cannot be read."""
    data = _load(directory, notes)
    if data is None or data is _ABSENT:
        return data
    if data.get("state") not in _FINAL:
        try:
            data = observe(directory)
        except RompyHydraError as error:
            notes.append(str(error))
    return _Run(name, directory, data)


def _load(directory: str, notes: list[str]) -> Any:
    path = f"{directory}/{RECORD_NAME}"
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # thousands of times
            data = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError) and not os.access(directory, os.X_OK, effective_ids=True):
            notes.append(f"{directory} cannot be looked into: {error.strerror}")
            return _ABSENT
        notes.append(f"the record {path} cannot be read: {getattr(error, 'strerror', None) or error}")
        return _ABSENT
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        notes.append(f"{path} is no record of ours")
        return _ABSENT
    return data


def _points_of(directory: str, name: str, notes: list[str]) -> Iterator[_Run]:
    layout = SweepLayout(Path(directory))
    try:
        view = look_at(layout)
        lines = {
            str(directory_of(layout, line, fan_out=view.fan_out)): line
            for line in plan_lines(layout)
            if not line.get("gone")
        }
        for place, data in _with_records(layout, lines, notes):
            line = lines[place]
            state = view.state.state_of(line["n"])
            below = place.removeprefix(f"{directory}/")
            told = {**(data or _planned(line, view)), "state": state}
            yield _Run(f"{name}/{below}" if name else below, place, told)
    except (RompyHydraError, OSError, KeyError) as error:
        notes.append(f"the sweep {directory} cannot be read: {error}")


def _with_records(
    layout: SweepLayout, places: Iterable[str], notes: list[str]
) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Each point's directory and its record; None for one that has none (yet).  Packed ones are read in one pass."""
    left = dict.fromkeys(places)
    pack = find_pack(layout)
    for run_dir, data in pack.records() if pack is not None else ():
        if (place := str(run_dir)) in left and not run_dir.is_dir():  # a directory that is there (again) wins
            del left[place]
            yield place, data
    for place in left:
        data = _load(place, notes)
        yield place, None if data is _ABSENT else data


def _planned(line: Mapping[str, Any], view: SweepView) -> dict[str, Any]:
    """What the plan says of a point without a record."""
    return {
        "run_id": line["name"],
        "reason": line.get("invalid", ""),
        "science_id": line.get("science"),
        "point_id": line.get("point"),
        "backend": line.get("backend", "local"),
        "overrides": line.get("overrides", []),
        "config": dict(line.get("swept", {})),
        "resources": {"cpus": line.get("cpus"), "memory": line.get("memory")},
        "sweep": {
            "id": view.description["sweep_id"],
            "directory": str(view.layout.sweep_dir),
            "number": line["n"],
            "name": line["name"],
            "repeat": line.get("repeat", 0),
        },
    }
