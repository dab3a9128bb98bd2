"""Which repositories are asked, in which order, and which file of them answers for an option (→ verbs/sources)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigSource

from rompy_hydra.compose.composer import INNER_GROUPS, Composition, Request, compose, open_loader
from rompy_hydra.compose.explain import Explainer, Explanation
from rompy_hydra.compose.loader import HYDRA_PROVIDER
from rompy_hydra.compose.plugin_source import PluginSource
from rompy_hydra.compose.shadowing import Shadowing, is_file_source
from rompy_hydra.compose.site_choice import personal_file, personal_lines
from rompy_hydra.errors import ConfigError, Finding, did_you_mean
from rompy_hydra.record.differences import revision
from rompy_hydra.record.provenance import git_state

_TEMPLATES = ("template", "templates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One that is asked: how it was named, where it is, and its revision or what is wrong with it."""

    origin: str
    path: str
    about: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Who answers for an option, a template or a key; `number` is that of the place, `hides` are files behind it."""

    title: str
    group: str
    name: str
    file: str
    number: int = 0
    hides: tuple[str, ...] = ()
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "hides": list(self.hides)}


class Answers:
    """Asks the sources of one request; composes only where a key is asked for."""

    def __init__(self, request: Request, *, cwd: Path) -> None:
        self._request = request
        self._cwd = cwd
        self._loader, self._templates = open_loader(request)
        found = self._loader.sources_of(request.config_name, request.overrides)
        self._sources = [s for s in found if _is_asked(s)]
        self._shadowing = Shadowing(self._sources)
        self._composition: Composition | None = None

    @property
    def renamed(self) -> list[Finding]:
        """Old names of keys that were met."""
        return self._composition.renamed if self._composition is not None else []

    def personal(self) -> Place | None:
        """The person's own file, whose values stand before those of the command line; None where there is no home."""
        path = personal_file(self._request.environ)
        if path is None:
            return None
        keys = [line.partition("=")[0].lstrip("+") for line in personal_lines(self._request.environ)]
        about = f"sets {', '.join(keys)}" if keys else "empty" if path.exists() else "not there"
        return Place(origin="personal file", path=str(path), about=about)

    def places(self) -> list[Place]:
        """Everybody who is asked, in order."""
        return [self._place(source) for source in self._sources]

    def all(self) -> list[Answer]:
        """Every option and every template."""
        answers = [self._option(path) for path in self._options("")]
        return [*answers, *self._all_templates()]

    def of(self, name: str) -> list[Answer]:
        """The options of a group, one option, templates, or who set the values of a key.  Raises `ConfigError`."""
        name = name.strip("/")
        group, _, option = name.partition("/")
        if group in _TEMPLATES:
            return [a for a in self._all_templates() if not option or a.name == option] or self._none(name)
        if self._is_group(name):
            return [self._option(path) for path in self._options(name)]
        if self._shadowing.files(name):
            return [self._option(name)]
        if "/" in name:
            return self._none(name)
        return [self._of_key(explanation) for explanation in self._explainer().asked(name)]

    def _place(self, source: ConfigSource) -> Place:
        if isinstance(source, PluginSource):
            names = ", ".join(source.list("backend", ObjectType.CONFIG))
            return Place(origin="plug-ins", path=f"backend: {names or 'none'}")
        repository = next((r for r in self._request.sources.repositories if str(r.conf) == source.path), None)
        path = Path(source.path)
        if repository is None:
            about = "" if source.available() else "not there"
            return Place(origin="hydra.searchpath", path=f"{source.scheme()}://{source.path}", about=about)
        if repository.revision is not None:
            about = f"{repository.revision.short} of {repository.revision.url}"
        else:
            about = revision(git_state(path)) or ""
        return Place(origin=repository.origin, path=str(path), about=about)

    def _options(self, group: str) -> Iterator[str]:
        """Config paths below a group, nested groups last."""
        names = {n for s in self._sources if s.available() for n in self._listed(s, group, ObjectType.CONFIG)}
        for name in sorted(names):
            yield f"{group}/{name}" if group else name
        groups = {n for s in self._sources if s.available() for n in self._listed(s, group, ObjectType.GROUP)}
        for name in sorted(groups):
            inner = f"{group}/{name}" if group else name
            if inner not in (*INNER_GROUPS, "hydra", "__pycache__"):
                yield from self._options(inner)

    @staticmethod
    def _listed(source: ConfigSource, group: str, kind: ObjectType) -> list[str]:
        return source.list(group, kind) if not group or source.is_group(group) else []

    def _is_group(self, name: str) -> bool:
        return any(s.available() and s.is_group(name) for s in self._sources)

    def _option(self, config_path: str) -> Answer:
        files = self._shadowing.files(config_path)
        group, _, name = config_path.rpartition("/")
        asked = [s for s in self._sources if s.available() and s.is_config(config_path)]
        return Answer(
            title=config_path,
            group=group,
            name=name,
            file=files[0],
            number=self._sources.index(asked[0]) + 1,
            hides=tuple(files[1:]),
        )

    def _all_templates(self) -> list[Answer]:
        roots = [r.templates for r in self._request.sources.repositories]
        numbers = {s.path: n for n, s in enumerate(self._sources, 1)}
        found = []
        for name, directory in sorted(self._templates.directories.items()):
            others = [root / name for root in roots if (root / name / "template.yaml").is_file()]
            conf = next(r.conf for r in self._request.sources.repositories if r.templates == directory.parent)
            hides = tuple(str(other) for other in others if other != directory)
            title = f"template/{name}"
            number = numbers.get(str(conf), 0)
            answer = Answer(title=title, group="template", name=name, file=str(directory), number=number, hides=hides)
            found.append(answer)
        return found

    def _of_key(self, explanation: Explanation) -> Answer:
        link = explanation.winner
        hides = tuple(where for link in explanation.chain for where, _ in link.hides)
        note = (link.chosen if link is not None else None) or ""
        where = link.where if link is not None else "nobody: it was taken away"
        return Answer(title=explanation.key, group="", name=explanation.key, file=where, hides=hides, note=note)

    def _explainer(self) -> Explainer:
        self._composition = compose(self._request)
        return Explainer(self._composition, cwd=self._cwd)

    def _none(self, name: str) -> list[Answer]:
        known = [*self._options(""), *(f"template/{t}" for t in self._templates)]
        finding = Finding(name, "nobody has such an option", mend=did_you_mean(name, known) or None)
        raise ConfigError(f"there is no '{name}'", [finding])


def _is_asked(source: ConfigSource) -> bool:
    return (is_file_source(source) and source.provider != HYDRA_PROVIDER) or (
        isinstance(source, PluginSource) and bool(source.list("backend", ObjectType.CONFIG))
    )
