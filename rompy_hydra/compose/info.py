"""What `--info` prints: how Hydra arrives at our composition, as Hydra tells it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import hydra
from hydra.core.default_element import DefaultsTreeNode, GroupDefault, InputDefault
from hydra.core.plugins import Plugins
from hydra.plugins.completion_plugin import CompletionPlugin
from hydra.plugins.config_source import ConfigSource
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper

import rompy_hydra
from rompy_hydra.compose.composer import Composition, Request, compose, wrong
from rompy_hydra.compose.loader import Loader
from rompy_hydra.compose.search_path import build_search_path
from rompy_hydra.compose.show import as_yaml
from rompy_hydra.compose.tree import written
from rompy_hydra.redaction import redact

_KINDS: tuple[tuple[str, type, str], ...] = (
    ("ConfigSource", ConfigSource, ""),
    ("CompletionPlugin", CompletionPlugin, ""),
    ("Launcher", Launcher, " (not used: backend= chooses where runs go)"),
    ("Sweeper", Sweeper, " (not used: -m makes the points itself)"),
    ("SearchPathPlugin", SearchPathPlugin, ""),
)


def information(what: str, request: Request) -> str:
    """`what` is all, config, defaults, defaults-tree, plugins or searchpath.

    Raises `ConfigError` with the findings where the configuration itself is needed and wrong.
    """
    parts = {
        "all": (_versions, _plugins, _search_path, _tree, _defaults, _config),
        "config": (_search_path, _tree, _defaults, _config),
        "defaults": (_defaults,),
        "defaults-tree": (_tree,),
        "plugins": (_plugins,),
        "searchpath": (_search_path,),
    }[what]
    asked = _Asked(request)
    return "\n".join("\n".join(part(asked)) + "\n" for part in parts)


class _Asked:
    """The request, and its composition for those who need it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.loader = Loader(build_search_path(request.sources))  # it also makes our sources known as plug-ins
        self._composition: Composition | None = None

    @property
    def composition(self) -> Composition:
        if self._composition is None:
            self._composition = compose(self.request)
            if self._composition.findings:
                raise wrong(self._composition.findings)
        return self._composition


def _versions(_: _Asked) -> Iterator[str]:
    yield from _title(f"rompy-hydra {rompy_hydra.__version__}, Hydra {hydra.__version__}", "=")


def _plugins(_: _Asked) -> Iterator[str]:
    yield from _title("Installed Hydra Plugins")
    plugins = Plugins.instance()
    others = {plugin.__name__ for plugin in plugins.discover()}
    for name, kind, remark in _KINDS:
        found = sorted(plugin.__name__ for plugin in plugins.discover(kind))
        others -= set(found)
        if found:
            yield f"{name}:{remark}"
        yield from (f"    {plugin}" for plugin in found)
    if others:
        yield "Generic plugins:"
        yield from (f"    {plugin}" for plugin in sorted(others))


def _search_path(asked: _Asked) -> Iterator[str]:
    """Without composing: it is wanted most where composing fails."""
    request = asked.request
    found = asked.loader.sources_of(request.config_name, request.overrides)
    origins = {str(r.conf): r.origin for r in request.sources.users}
    yield from _title("Config search path")
    yield from _table(
        ["Provider", "Search path", "Named by"],
        [
            [
                source.provider,
                f"{source.scheme()}://{source.path}" + ("" if source.available() else " (not there)"),
                origins.get(source.path, ""),
            ]
            for source in found
        ],
    )


def _tree(asked: _Asked) -> Iterator[str]:
    yield from _title("Defaults Tree")
    defaults = asked.composition.provenance.defaults_list()
    if defaults is not None:
        yield from _branch(defaults.defaults_tree, "")


def _branch(node: DefaultsTreeNode | InputDefault, indent: str) -> Iterator[str]:
    children = (node.children or []) if isinstance(node, DefaultsTreeNode) else []
    yield indent + _name(node.node if isinstance(node, DefaultsTreeNode) else node) + (":" if children else "")
    for child in children:
        yield from _branch(child, indent + "  ")


def _name(node: InputDefault) -> str:
    if isinstance(node, GroupDefault):
        return f"{node.get_override_key()}: {node.get_name() or 'null'}"
    return str(node.get_config_path())


def _defaults(asked: _Asked) -> Iterator[str]:
    yield from _title("Defaults List")
    defaults = asked.composition.provenance.defaults_list()
    rows = [
        [d.config_path or "", d.package or "", "True" if d.is_self else "False", d.parent or ""]
        for d in (defaults.defaults if defaults is not None else [])
    ]
    yield from _table(["Config path", "Package", "_self_", "Parent"], rows)


def _config(asked: _Asked) -> Iterator[str]:
    yield from _title("Config")
    yield as_yaml(redact(written(asked.composition.config))).rstrip("\n")


def _title(text: str, line: str = "*") -> Iterator[str]:
    yield text
    yield line * len(text)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[n]) for row in [header, *rows]) for n in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    yield line(header)
    yield "-" * len(line(header))
    yield from (line(row) for row in rows)
    yield "-" * len(line(header))
