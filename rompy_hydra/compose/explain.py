"""Who set each value: the chain of all that said it, the winner last, and what its interpolations read (→ verbs).

composition → History (layers) → Explainer → Explanation of a key: links, and the explanations of what it reads
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

from hydra.core.default_element import ResultDefault
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rompy_hydra.backends.registry import config_class
from rompy_hydra.compose.composer import Composition, wrong
from rompy_hydra.compose.hydra_job import settle
from rompy_hydra.compose.layers import GONE, MISSING, Event, History, Path, at, child_of, plain, same
from rompy_hydra.compose.loader import HYDRA_PROVIDER
from rompy_hydra.compose.marks import mark_of
from rompy_hydra.compose.nodes import defaults_of
from rompy_hydra.compose.references import Reference, references
from rompy_hydra.compose.resolvers import ENV_VARIABLE
from rompy_hydra.compose.shadowing import Shadowing
from rompy_hydra.compose.site_choice import PERSONAL_KEYS, SITE_VARIABLE, personal_file, personal_lines, site_of_host
from rompy_hydra.compose.tree import written
from rompy_hydra.errors import ConfigError, Finding, did_you_mean
from rompy_hydra.plan.spec import ModelSpec
from rompy_hydra.redaction import REDACTED, looks_like_credential, redact, redact_override, redact_text

_SCHEMAS = {
    "schema/run": "RunSpec",
    "schema/model": "ModelSpec",
    "schema/site": "SiteSpec",
    "schema/postprocess": "PostprocessSpec",
    "schema/resources": "Resources",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One that set a value.

    `where` is `file:line`, an override or a default; `kind` is default, template, file, node, override, environment,
    hydra or house; `chosen` tells the option of a group it stands in and who chose that; `hides` what the same option
    of a repository further down says.
    """

    value: Any
    where: str
    kind: str
    layer: str | None = None
    chosen: str | None = None
    note: str | None = None
    hides: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What an interpolation reads: another key (`explanation`), or something else (`text` says what)."""

    reference: str
    text: str
    explanation: Explanation | None = None
    is_secret: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One value: as it is written and resolved (or why it cannot be), and who set it; the winner is the last link."""

    path: Path
    written: Any
    value: Any
    problem: str | None
    chain: tuple[Link, ...]
    reads: tuple[Read, ...] = ()
    identity: str = "none"
    is_secret: bool = False
    raw: Any = field(default=None, repr=False)  # the resolved value even of a credential: to compare, never to show

    @property
    def key(self) -> str:
        """The dotted key."""
        return dotted(self.path)

    @property
    def winner(self) -> Link | None:
        """Who set it last; None where it was taken away or never set."""
        real = [link for link in self.chain if link.value is not GONE]
        return real[-1] if real and self.written is not GONE else None

    @property
    def is_default(self) -> bool:
        """Whether nothing but a default of ours or of Hydra's says it."""
        return all(link.kind in ("default", "hydra", "house") for link in self.chain)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, credentials taken out."""
        return {
            "key": self.key,
            "value": None if self.value is GONE else self.value,
            "written": None if self.written is GONE else self.written,
            "problem": self.problem,
            "identity": self.identity,
            "set_by": self.winner.where if self.winner else None,
            "chain": [_link(link) for link in self.chain],
            "reads": [_read(read) for read in self.reads],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The option of a group, and who chose it; `file` is what answered, `hides` what it kept from being asked."""

    group: str
    option: str | None
    where: str
    file: str | None
    hides: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "group": self.group,
            "option": self.option,
            "set_by": self.where,
            "file": self.file,
            "hides": list(self.hides),
        }


def dotted(path: Sequence[str]) -> str:
    """A path as people write it; a part with a dot in it in brackets."""
    text = ""
    for part in path:
        text += f"[{part}]" if "." in part else f".{part}" if text else part
    return text


class Explainer:
    """Answers for one composition; values as they are shown, without credentials.

    `cwd` is where relative directories start.  Raises `ConfigError` with the findings of a composition that is wrong.
    """

    def __init__(self, composition: Composition, *, cwd: FilePath) -> None:
        if composition.findings:
            raise wrong(composition.findings)
        settle(composition, cwd)
        self.composition = composition
        self._provenance = composition.provenance
        self._history = History(composition)
        self._shadowing = Shadowing(composition.provenance.loader.found.get_sources())
        self._known: dict[Path, Explanation] = {}
        self._choosers: dict[str, str] = {}
        self._personal = personal_places(composition.request.environ)
        backend = at(composition.config, ("backend", "type"))
        self._backend = str(written(backend)) if backend is not None else None

    # -- what there is ---------------------------------------------------------------------------------------------

    def paths(self, *, with_hydra: bool = False) -> list[Path]:
        """Every value of the configuration, in its order."""
        return [path for path in self._history.final if with_hydra or path[0] != "hydra"]

    def all(self) -> Iterator[Explanation]:
        """Every value explained."""
        return map(self.explain, self.paths())

    def asked(self, key: str) -> list[Explanation]:
        """A value, all that is below a map, or what was there and was taken away.  Raises `ConfigError` for a typo."""
        path = self._split(key)
        below = [p for p in self._history.final if p[: len(path)] == path]
        if below:
            return [self.explain(p) for p in below]
        if (found := self._within(path)) is not None:
            return found
        gone = [p for p in self._history.paths() if p[: len(path)] == path]
        if gone:
            return [self.explain(p) for p in gone]
        known = [dotted(p[:n]) for p in self._history.final if p[0] != "hydra" for n in range(1, len(p) + 1)]
        mend = did_you_mean(key, [*known, *self.composition.choices]) or None
        raise ConfigError(f"there is no key '{key}'", [Finding(key, "no such key in this configuration", mend=mend)])

    def has(self, key: str) -> bool:
        """Whether the configuration has a value there, or one below it."""
        path = self._split(key)
        return any(p[: len(path)] == path for p in self._history.final)

    def choices(self) -> list[Choice]:
        """Every group, with what was chosen."""
        return [self.choice(group) for group in self.composition.choices]

    def choice(self, group: str) -> Choice:
        """The option of a group.  Raises `KeyError` for what is none."""
        option = self.composition.choices[group]
        files = self._shadowing.files(f"{group}/{option}") if option is not None else []
        return Choice(
            group=group,
            option=option,
            where=self._chooser(group),
            file=files[0] if files else None,
            hides=tuple(files[1:]),
        )

    # -- one value -------------------------------------------------------------------------------------------------

    def explain(self, path: Path) -> Explanation:
        """The explanation of a value of the tree, or of an item in a list."""
        if path not in self._known:
            self._known[path] = self._explain(path, ())
        return self._known[path]

    def _explain(self, path: Path, above: tuple[Path, ...]) -> Explanation:
        whole, inner = self._whole(path)
        events = [event for event in self._history.of(whole) if not event.is_idle]
        value = _item(self._history.final.get(whole, GONE), inner)
        node = at(self._root(path), self._below_root(path))
        reads = tuple(self._reads(path, value, above))
        secret = any(read.is_secret for read in reads) or is_secret(path, value)
        resolved, problem = self._resolved(path, node) if value is not GONE else (GONE, None)
        links = [*self._below_a_template(whole, inner, events), *(self._link(event, whole, inner) for event in events)]
        links = [link for n, link in enumerate(links) if not _is_repeated(links, n)]
        if secret:
            links = [
                replace(link, value=hidden(link.value), hides=tuple((w, REDACTED) for w, _ in link.hides))
                for link in links
            ]
        return Explanation(
            path=path,
            written=hidden(value) if secret else shown(path, value),
            value=hidden(resolved) if secret else shown(path, resolved),
            problem=problem,
            chain=tuple(links),
            reads=reads,
            identity=mark_of(whole, self._backend),
            is_secret=secret,
            raw=resolved,
        )

    def _link(self, event: Event, path: Path, inner: Path) -> Link:
        value = shown((*path, *inner), _item(event.value, inner))
        override, layer = event.step.override, event.step.layer
        if override is not None:
            line = override.input_line or override.key_or_group
            kind, where = "override", f"the override '{redact_override(line)}'"
            if line in self._personal:
                kind, where = "file", self._personal[line]
            return Link(value=value, where=where, kind=kind, note=self._note(event, path))
        if layer is None:
            what = "Hydra" if path[0] == "hydra" else "rompy-hydra"
            return Link(value=value, where=f"{what}, when it had composed", kind="house")
        kind, where = self._place(layer, path, inner)
        hides = self._shadowing.hidden_values(layer.config_path or "", _below_package(layer, (*path, *inner)))
        return Link(
            value=value,
            where=where,
            kind=kind,
            layer=layer.config_path,
            chosen=self._chosen(layer),
            note=self._note(event, path),
            hides=tuple((place, shown(path, said)) for place, said in hides) if event.said is not GONE else (),
        )

    def _below_a_template(self, path: Path, inner: Path, events: Sequence[Event]) -> Iterator[Link]:
        """The default that a template's own `model:` hides: its node holds both."""
        layer = events[0].step.layer if events else None
        if layer is None or not (layer.config_path or "").startswith("template/") or path[1:2] == ("parameters",):
            return
        default = _item(defaults_of(ModelSpec), (*path[1:], *inner))
        if default is not GONE and default != MISSING and not same(default, _item(events[0].value, inner)):
            where = f"the default of ModelSpec.{'.'.join(path[1:])}"
            yield Link(value=shown(path, default), where=where, kind="default")

    def _place(self, layer: ResultDefault, path: Path, inner: Path) -> tuple[str, str]:
        name = layer.config_path or ""
        kind = "template" if name.startswith("template/") else "file"
        where = self._provenance.position(layer, (*path, *inner))
        if where is None and inner:
            where = self._provenance.position(layer, path)
        if where is not None:
            return "node" if where.startswith("the node ") else kind, where
        if kind == "template":
            return self._of_template(name.partition("/")[2], path)
        if name in _SCHEMAS or name.startswith("schema/backend/"):
            return "default", f"the default of {_class_name(name)}.{'.'.join(_below_package(layer, path) or path)}"
        if (file := self._provenance.file_of(name)) is not None:
            return "file", str(file)
        result = self._provenance.loader.found.load_config(name)
        if result is not None and result.provider == HYDRA_PROVIDER:
            return "hydra", f"Hydra's own {name}"
        return "node", f"the option '{name}' of {result.provider if result is not None else 'nobody'}"

    def _of_template(self, name: str, path: Path) -> tuple[str, str]:
        template = self.composition.templates.get(name)
        if template is not None and (path[1:] in (("name",), ("template",)) or path[1:2] == ("parameters",)):
            return "template", str(template.declaration)
        return "default", f"the default of ModelSpec.{'.'.join(path[1:])}"

    def _chosen(self, layer: ResultDefault) -> str | None:
        group, _, option = (layer.config_path or "").rpartition("/")
        if not group or self.composition.choices.get(group) != option:
            return None
        return f"{group}={option}, chosen by {self._chooser(group)}"

    def _chooser(self, group: str) -> str:
        if group not in self._choosers:
            where = self._provenance.chooser(group)
            if where.startswith("the defaults list of "):
                where = self._provenance.place_of_choice(where.removeprefix("the defaults list of "), group) or where
            option = self.composition.choices.get(group)
            if where == f"the override '{group}={option}'":
                where = self._who_gave(group, option) or where
            self._choosers[group] = where
        return self._choosers[group]

    def _who_gave(self, group: str, option: str | None) -> str | None:
        """Who gave an override that nobody typed; None for one that was typed."""
        request = self.composition.request
        if group == "env" and not self._is_typed("env"):
            return f"the environment variable {ENV_VARIABLE}={option}"
        if group != "site" or request.overrides[:1] != (f"site={option}",):
            return None  # what is added stands in front
        if request.environ.get(SITE_VARIABLE) == option:
            return f"the environment variable {SITE_VARIABLE}={option}"
        is_here = site_of_host(request.sources) == option
        return "the name of this machine, which is one of its hosts" if is_here else None

    def _is_typed(self, group: str) -> bool:
        return any(line.lstrip("+~").partition("=")[0] == group for line in self.composition.request.overrides)

    def _note(self, event: Event, path: Path) -> str | None:
        if event.value is GONE:
            return "takes it away"
        if event.said is not GONE:
            return None
        for length in range(len(path) - 1, 0, -1):
            for earlier in self._history.of(path[:length]):
                if isinstance(earlier.value, str) and "${" in earlier.value:
                    return f"{dotted(path[:length])} was {earlier.value}; merging into it makes it a copy"
        return "follows from what it merges"

    # -- interpolations --------------------------------------------------------------------------------------------

    def _reads(self, path: Path, value: Any, above: tuple[Path, ...]) -> Iterator[Read]:
        parent = at(self._root(path), self._below_root(path)[:-1])
        for reference in references(value, parent if parent is not None else self.composition.config, path):
            yield self._read(reference, (*above, path))

    def _read(self, reference: Reference, above: tuple[Path, ...]) -> Read:
        text = reference.text
        if reference.path is not None:
            target = self._target(reference.path)
            if target in above:
                return Read(reference=text, text=f"{dotted(target)}, which is above")
            if target[0] == "hydra" or self._whole(target)[0] in self._history.final:
                found = self._known.get(target) or self._explain(target, above)
                return Read(reference=text, text=found.key, explanation=found, is_secret=found.is_secret)
            below = [p for p in self._history.final if p[: len(target)] == target]
            what = (
                f"the map {dotted(target)} ({len(below)} values)" if below else f"{dotted(target)}, which is not there"
            )
            return Read(reference=text, text=what, is_secret=any(is_secret(p, self._history.final[p]) for p in below))
        if (variable := reference.variable) is not None:
            is_set = variable in self.composition.request.environ
            what = f"the environment variable {variable}, which is {'set' if is_set else 'not set'}"
            return Read(reference=text, text=what, is_secret=is_set and looks_like_credential(variable))
        if reference.name == "secret":
            return Read(reference=text, text="a reference, resolved where the run starts")
        return Read(reference=text, text=f"the resolver {reference.name}")

    def _target(self, path: Path) -> Path:
        """Where a key really is: an interpolation on the way stands for the map that it names."""
        for length in range(1, len(path)):
            value = self._history.final.get(path[:length])
            if isinstance(value, str) and "${" in value:
                found = references(value, self.composition.config, path[:length])
                if len(found) == 1 and found[0].path is not None and found[0].text == value:
                    return self._target((*found[0].path, *path[length:]))
                return path[:length]
        return path

    def _within(self, path: Path) -> list[Explanation] | None:
        """What is inside of a list, or below an interpolation that stands for a map."""
        whole, inner = self._whole(path)
        if inner and _item(self._history.final.get(whole, GONE), inner) is not GONE:
            return [self.explain(path)]
        target = self._target(path)
        if target != path and target in self._history.final:
            first = next(path[:n] for n in range(1, len(path)) if path[:n] in self._history.final)
            return [self.explain(first), self.explain(target)]
        return None

    # -- the tree --------------------------------------------------------------------------------------------------

    def _split(self, key: str) -> Path:
        parts = tuple(key.split("."))
        for path in (*self._history.final, *self._history.paths()):  # a key with dots in it, as it is shown
            if dotted(path) == key:
                return path
        return parts

    def _whole(self, path: Path) -> tuple[Path, Path]:
        """(the path of a value, the way inside it): a list is one value."""
        for length in range(len(path), 0, -1):
            if self._history.of(path[:length]):
                return path[:length], path[length:]
        return path, ()

    def _root(self, path: Path) -> DictConfig:
        return self.composition.hydra if path[0] == "hydra" else self.composition.config

    @staticmethod
    def _below_root(path: Path) -> Path:
        return path[1:] if path[0] == "hydra" else path

    def _resolved(self, path: Path, node: Any) -> tuple[Any, str | None]:
        parent = at(self._root(path), self._below_root(path)[:-1])
        if node is None or parent is None:
            return GONE, "cannot be looked at"
        try:
            key: Any = next(k for k in _keys(parent) if child_of(parent, str(k)) is node)
            value = parent[key]
            if OmegaConf.is_config(value):
                value = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            text = redact_text((error.msg or str(error)).splitlines()[0])
            return GONE, "must be given" if written(node) == MISSING else f"cannot be resolved: {text}"
        return plain(value), None


def personal_places(environ: Mapping[str, str]) -> dict[str, str]:
    """Each override that the personal file stands for → its `file:line`."""
    path = personal_file(environ)
    lines = personal_lines(environ)
    if path is None or not lines:
        return {}
    texts = path.read_text(encoding="utf-8").splitlines()
    values = [number for number, text in enumerate(texts, 1) if text[:1].isalpha() and ":" in text]
    names = {PERSONAL_KEYS.get(texts[n - 1].partition(":")[0].strip(), ""): n for n in values}
    keys = {line: line.partition("=")[0].lstrip("+").rpartition(".")[2] for line in lines}
    return {line: f"{path}:{names.get(key, 1)}" for line, key in keys.items()}


def is_secret(path: Path, value: Any) -> bool:
    """Whether a value is a credential by its key's name."""
    return value == REDACTED or bool(value is not GONE and shown(path, value, texts=False) != value)


def shown(path: Path, value: Any, *, texts: bool = True) -> Any:
    """A value without credentials."""
    if value is GONE:
        return value
    name = next((part for part in reversed(path) if not part.isdigit()), "")
    clean = redact(value, name)
    return redact_text(clean) if texts and isinstance(clean, str) else clean


def hidden(value: Any) -> Any:
    """The place of a credential; what is no value, or only a reference, stays."""
    if value is GONE or value is None or value == MISSING:
        return value
    is_reference = isinstance(value, str) and value.startswith("${") and value.endswith("}") and "," not in value
    return value if is_reference else REDACTED


def _without_secret(link: Link) -> Link:
    return replace(link, value=hidden(link.value), hides=tuple((place, REDACTED) for place, _ in link.hides))


def _keys(parent: DictConfig | ListConfig) -> Sequence[Any]:
    return range(len(parent)) if isinstance(parent, ListConfig) else list(parent)


def _item(value: Any, inner: Path) -> Any:
    """What is at a place inside of a list as it is written."""
    for part in inner:
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return GONE
    return value


def _is_repeated(links: Sequence[Link], number: int) -> bool:
    """Whether an entry only says that there was nothing, where there was nothing before."""
    if links[number].value is not GONE:
        return False
    return number == 0 or links[number - 1].value is GONE


def _below_package(layer: ResultDefault, path: Path) -> Path | None:
    package = tuple(p for p in (layer.package or "").split(".") if p and p != "_global_")
    return path[len(package) :] if path[: len(package)] == package else None


def _class_name(config_path: str) -> str:
    if config_path in _SCHEMAS:
        return _SCHEMAS[config_path]
    try:
        return config_class(config_path.rpartition("/")[2]).__name__
    except ConfigError:
        return config_path


def _link(link: Link) -> dict[str, Any]:
    file, _, line = link.where.rpartition(":")
    has_line = link.kind in ("file", "template") and line.isdigit()
    return {
        "value": None if link.value is GONE else link.value,
        "is_removal": link.value is GONE,
        "where": link.where,
        "file": file if has_line else None,
        "line": int(line) if has_line else None,
        "kind": link.kind,
        "layer": link.layer,
        "chosen": link.chosen,
        "note": link.note,
        "hides": [{"where": where, "value": value} for where, value in link.hides],
    }


def _read(read: Read) -> dict[str, Any]:
    return {
        "reference": read.reference,
        "what": read.text,
        "explanation": read.explanation.to_dict() if read.explanation is not None else None,
    }
