"""What differs between two configurations, and who set it on each side (→ verbs/diff).

    words → Side (a run's record; or repositories, a revision of them, overrides) → State → Comparison

A value that is written alike on both sides and reads another that differs only *follows*.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rompy_hydra.compose.cache import mint
from rompy_hydra.compose.composer import Request, compose
from rompy_hydra.compose.explain import Explainer, Explanation, dotted, shown
from rompy_hydra.compose.from_record import request_of
from rompy_hydra.compose.invocation import command_request
from rompy_hydra.compose.layers import same
from rompy_hydra.compose.marks import mark_of
from rompy_hydra.compose.resolvers import ENV_VARIABLE
from rompy_hydra.compose.sources import Sources
from rompy_hydra.errors import ConfigError, RompyHydraError
from rompy_hydra.record.differences import Difference, differences, revision
from rompy_hydra.redaction import REDACTED, redact_override
from rompy_hydra.steps.reproduce import Recorded, open_recorded
from rompy_hydra.workspace.template import Template, find_templates, load_template

Key = tuple[str, ...]
SCIENCE, EXECUTION, NEITHER = "science", "execution", "none"
_ORDER = (SCIENCE, EXECUTION, NEITHER)
_NOTHING: tuple[Any, ...] = (None, [], {})
_OF_EVERY_RUN = {("run_id",), ("output_dir",)}
_LARGEST_SHOWN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side as it was asked for: the record of a run, or what is composed of `sources` with `overrides`."""

    text: str
    run: Path | None = None
    sources: Sources | None = None
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value, and who set it; `reads` are the keys that it takes it from."""

    value: Any
    written: Any
    by: str | None
    identity: str
    is_default: bool = False
    reads: tuple[str, ...] = ()
    is_secret: bool = False
    raw: Any = field(default=None, repr=False)  # to compare, never to show; None: not known


@dataclass(slots=True, kw_only=True)
class State:
    """One side, looked up: its values, its group choices, the files of its template."""

    title: str
    values: dict[Key, Setting]
    choices: Mapping[str, str | None]
    template: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    record: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A value that differs; None for a side that has no such key."""

    key: str
    a: Setting | None
    b: Setting | None
    identity: str
    follows: bool = False
    is_default: bool = False  # it is there on one side only, as a default of what that side chose, or empty

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        sides = {
            name: None if s is None else {"value": s.value, "written": s.written, "set_by": s.by}
            for name, s in (("a", self.a), ("b", self.b))
        }
        return {
            "key": self.key,
            "identity": self.identity,
            "follows": self.follows,
            "is_default": self.is_default,
            **sides,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """A file of the template that differs: how many lines came and went (None: it is no text), and the patch."""

    name: str
    what: str
    added: int | None
    removed: int | None
    patch: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"name": self.name, "what": self.what, "added": self.added, "removed": self.removed}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that differs."""

    a: State
    b: State
    changes: tuple[Change, ...]
    files: tuple[FileChange, ...]
    choices: tuple[tuple[str, str | None, str | None], ...]
    surroundings: tuple[Difference, ...]

    def of(self, identity: str) -> list[Change]:
        """The values of one part of the identity that differ, defaults of what only one side has left out."""
        return [c for c in self.changes if c.identity == identity and not c.is_default]

    @property
    def is_another_simulation(self) -> bool:
        """Whether the results may differ."""
        content = any(not f.name.endswith("/template.yaml") for f in self.files)
        return content or bool(self.of(SCIENCE))

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.changes or self.files or self.choices)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "a": self.a.title,
            "b": self.b.title,
            "is_another_simulation": self.is_another_simulation,
            "choices": [{"group": g, "a": a, "b": b} for g, a, b in self.choices],
            "values": [change.to_dict() for change in self.changes],
            "template_files": [change.to_dict() for change in self.files],
            "surroundings": [difference.to_dict() for difference in self.surroundings],
        }


def compare(a: Side, b: Side, *, environ: Mapping[str, str], cwd: Path, config_name: str) -> Comparison:
    """Compare two sides.

    A side that is composed beside a run takes the run's overrides and its environment: what that run would be now.
    Raises `ConfigError` with the findings of a side that cannot be composed, and the side's name.
    """
    with ExitStack() as stack:
        runs = {s: stack.enter_context(open_recorded(s.run)) for s in (a, b) if s.run is not None}
        invocation = mint()
        states = []
        for side, other in ((a, b), (b, a)):
            try:
                if side in runs:
                    states.append(_of_run(runs[side], environ, cwd))
                else:
                    request = _request(side, runs.get(other), environ, config_name)
                    states.append(_of_request(side, replace(request, invocation=invocation), runs.get(other), cwd))
            except ConfigError as error:
                raise ConfigError(f"of {redact_override(side.text)}: {error.headline}", error.findings) from error
        return _compared(states[0], states[1])


# -- one side ------------------------------------------------------------------------------------------------------


def _request(side: Side, run: Recorded | None, environ: Mapping[str, str], config_name: str) -> Request:
    assert side.sources is not None
    if run is None:
        return command_request(side.overrides, side.sources, config_name, environ=environ)
    variables = {**environ, ENV_VARIABLE: str((run.data.get("choices") or {}).get("env") or "")}
    lines = [*(run.data.get("overrides") or ()), *side.overrides]
    return command_request(lines, side.sources, run.config_name, environ=variables)


def _of_request(side: Side, request: Request, run: Recorded | None, cwd: Path) -> State:
    composition = compose(request)
    explainer = Explainer(composition, cwd=cwd)
    values = {e.path: _setting(e) for e in explainer.all()}
    values |= {e.path: _setting(e) for e in map(explainer.explain, explainer.paths(with_hydra=True)) if _is_of_hydra(e)}
    name = _text(values.get(("model", "template")))
    state = State(title=_title(side, run), values=values, choices=composition.choices, template=name)
    if name is not None and name in composition.templates:
        state.files = _files(composition.templates[name])
    return state


def _title(side: Side, run: Recorded | None) -> str:
    revisions = [r.revision.short for r in side.sources.users if r.revision is not None] if side.sources else []
    with_run = ["with the overrides of that run"] if run is not None else []
    given = map(redact_override, side.overrides)
    return ", ".join(dict.fromkeys([*(revisions or ["as it is now"]), *with_run, *given]))


def _is_of_hydra(explanation: Explanation) -> bool:
    winner = explanation.winner
    return explanation.path[0] == "hydra" and winner is not None and winner.kind in ("file", "override", "node")


def _setting(explanation: Explanation) -> Setting:
    problem = explanation.problem
    winner = explanation.winner
    reads = tuple(r.explanation.key for r in explanation.reads if r.explanation is not None)
    return Setting(
        value=_plain(explanation.written if problem else explanation.value),
        written=_plain(explanation.written),
        by=winner.where if winner is not None else None,
        identity=explanation.identity,
        is_default=explanation.is_default,
        reads=reads,
        is_secret=explanation.is_secret,
        raw=None if problem else _plain(explanation.raw),
    )


def _of_run(recorded: Recorded, environ: Mapping[str, str], cwd: Path) -> State:
    """What the record says; who set it is known where its snapshot still composes to the same."""
    known = _explained(recorded, environ, cwd)
    backend = _text_of(recorded.config.get("backend", {}).get("type"))
    values: dict[Key, Setting] = {}
    for path, value in _ends(recorded.config):
        found = known.get(path)
        by = _as_recorded(found.by, recorded) if found is not None and found.by is not None else None
        clean = _plain(shown(path, value))
        if found is not None and (found.value == clean or found.is_secret):
            values[path] = replace(found, by=by, raw=_unless_redacted(_plain(value)))
        else:
            setting = Setting(value=clean, written=clean, by="the record", identity=mark_of(path, backend))
            values[path] = replace(setting, raw=_unless_redacted(_plain(value)))
    name = recorded.config["model"].get("template")
    state = State(
        title=_title_of_run(recorded),
        values=values,
        choices=recorded.data.get("choices") or {},
        template=name,
        record=recorded.data,
    )
    directory = find_templates(recorded.template_roots).get(name) if name is not None else None
    if directory is not None:
        state.files = _files(load_template(directory))
    return state


def _unless_redacted(value: Any) -> Any:
    return None if REDACTED in json.dumps(value) else value


def _as_recorded(text: str, recorded: Recorded) -> str:
    """A place in the snapshot as a place in the repository that it is a copy of, at its commit."""
    known = recorded.provenance.get("config_repositories") or []
    for conf, entry in zip(recorded.confs, known, strict=False):
        commit = str(entry.get("commit") or "")[:12]
        name = f"{commit}{'+' if entry.get('dirty') else ''}:" if commit else f"{Path(str(entry.get('path'))).parent}/"
        text = text.replace(f"{conf.parent}/", name)
    return text


def _title_of_run(recorded: Recorded) -> str:
    entries = [e for e in recorded.provenance.get("config_repositories") or [] if isinstance(e, dict)]
    revisions = [text for entry in entries[:-1] if (text := revision(entry))]
    about = [f"science_id {recorded.data['science_id']}"] if recorded.data.get("science_id") else []
    return f"the run {recorded.run_dir} ({', '.join([*about, *revisions])})"


def _explained(recorded: Recorded, environ: Mapping[str, str], cwd: Path) -> dict[Key, Setting]:
    if not recorded.confs:
        return {}
    try:
        explainer = Explainer(compose(request_of(recorded, environ)), cwd=cwd)
        return {e.path: _setting(e) for e in explainer.all()}
    except RompyHydraError:  # the values are known all the same, only nobody can say who set them
        return {}


def _ends(value: Any, path: Key = ()) -> Iterator[tuple[Key, Any]]:
    if isinstance(value, Mapping) and (value or not path):
        for key, inner in value.items():
            yield from _ends(inner, (*path, str(key)))
    else:
        yield path, value


def _plain(value: Any) -> Any:
    """As the record would hold it."""
    return json.loads(json.dumps(value, default=str))


def _text(setting: Setting | None) -> str | None:
    return _text_of(setting.value) if setting is not None else None


def _text_of(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _files(template: Template) -> dict[str, bytes]:
    names = [template.declaration, *(template.workspace / name for name in template.files)]
    if template.include.is_dir():
        names += sorted(path for path in template.include.rglob("*") if path.is_file())
    return {f"{template.name}/{p.relative_to(template.directory).as_posix()}": p.read_bytes() for p in names}


# -- both ----------------------------------------------------------------------------------------------------------


def _compared(a: State, b: State) -> Comparison:
    is_of_runs = a.record is not None or b.record is not None
    differing = {
        key: (a.values.get(key), b.values.get(key))
        for key in dict.fromkeys([*a.values, *b.values])
        if not _is_same(a.values.get(key), b.values.get(key))
    }
    if is_of_runs:
        differing = {key: pair for key, pair in differing.items() if key not in _OF_EVERY_RUN and key[0] != "hydra"}
    names = {dotted(key) for key in differing}
    changes = [_change(key, one, other, names) for key, (one, other) in differing.items()]
    changes.sort(key=lambda change: (_ORDER.index(change.identity), change.follows))
    groups = dict.fromkeys([*a.choices, *b.choices])
    choices = [(g, a.choices.get(g), b.choices.get(g)) for g in groups if a.choices.get(g) != b.choices.get(g)]
    surroundings: Sequence[Difference] = ()
    if a.record is not None and b.record is not None:
        surroundings = differences(a.record.get("provenance") or {}, b.record.get("provenance") or {})
    return Comparison(
        a=a,
        b=b,
        changes=tuple(changes),
        files=tuple(_changed_files(a.files, b.files)) if a.files and b.files else (),
        choices=tuple(choices),
        surroundings=tuple(surroundings),
    )


def _is_same(one: Setting | None, other: Setting | None) -> bool:
    if one is None or other is None:
        return one is other
    if one.raw is not None and other.raw is not None:
        return same(one.raw, other.raw)
    return one.value == other.value and type(one.value) is type(other.value)


def _change(key: Key, a: Setting | None, b: Setting | None, differing: set[str]) -> Change:
    marks = [setting.identity for setting in (a, b) if setting is not None]
    follows = a is not None and b is not None and a.written == b.written and bool(differing & {*a.reads, *b.reads})
    alone = a or b
    return Change(
        key=dotted(key),
        a=a,
        b=b,
        identity=min(marks, key=_ORDER.index),
        follows=follows,
        is_default=(a is None or b is None) and alone is not None and (alone.is_default or alone.value in _NOTHING),
    )


def _changed_files(a: Mapping[str, bytes], b: Mapping[str, bytes]) -> Iterator[FileChange]:
    for name in sorted({*a, *b}):
        one, other = a.get(name), b.get(name)
        if one == other:
            continue
        what = "added" if one is None else "removed" if other is None else "changed"
        patch = _patch(name, one or b"", other or b"")
        if patch is None:
            yield FileChange(name=name, what=what, added=None, removed=None)
            continue
        body = patch[2:]
        added = sum(line.startswith("+") for line in body)
        removed = sum(line.startswith("-") for line in body)
        yield FileChange(name=name, what=what, added=added, removed=removed, patch=tuple(patch))


def _patch(name: str, one: bytes, other: bytes) -> list[str] | None:
    if max(len(one), len(other)) > _LARGEST_SHOWN_BYTES or b"\0" in one or b"\0" in other:
        return None
    before, after = (data.decode("utf-8", "replace").splitlines() for data in (one, other))
    return list(difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", lineterm=""))
