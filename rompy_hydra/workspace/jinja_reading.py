"""A template's files read as Jinja2 reads them, without values: syntax, names, and which parameters are used at all.

Rendering finds only what the values of one run lead to; a name in a branch that is not taken is found here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from jinja2 import meta, nodes

from rompy_hydra.check.faults import Fault
from rompy_hydra.errors import did_you_mean
from rompy_hydra.workspace.jinja import renderer_of
from rompy_hydra.workspace.template import Template

CONTEXT = ("inputs", "period", "parameters", "resources", "run_id", "model", "vars")
"""The names that every file of a template may use."""

_SUFFIX = ".j2"


@dataclass
class Uses:
    """What a template's files read of `parameters` and `vars`; None stands for all of it."""

    parameters: set[str] | None = field(default_factory=set)
    vars: set[str] | None = field(default_factory=set)

    def add(self, root: str, name: str | None) -> None:
        """Note one name, or with None that the whole mapping is used."""
        known = getattr(self, root)
        if name is None or known is None:
            setattr(self, root, None)
        else:
            known.add(name)


def read_template_files(template: Template) -> tuple[list[Fault], Uses]:
    """What is wrong with the files of a template whatever the values are, and what they use."""
    faults: list[Fault] = []
    uses = Uses()
    for root in (template.workspace, template.include):
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            if path.is_file() and (path.suffix == _SUFFIX or root == template.include):
                faults += _read_file(template, path, uses, checks_names=root == template.workspace)
            name = path.relative_to(root).as_posix()
            if "{{" in name or "{%" in name:
                faults += _read_text(template, path, name, uses, checks_names=True)
    return faults, uses


def _read_file(template: Template, path: Path, uses: Uses, *, checks_names: bool) -> Iterator[Fault]:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        mend = "save it as UTF-8, or take '.j2' off its name to have it copied byte for byte"
        yield Fault("RH402", path, 1, "", f"is not UTF-8 text (byte {error.start})", mend)
        return
    except OSError as error:
        yield Fault("RH004", path, 1, "", f"cannot be read: {error.strerror}")
        return
    yield from _read_text(template, path, text, uses, checks_names=checks_names)


def _read_text(template: Template, path: Path, text: str, uses: Uses, *, checks_names: bool) -> Iterator[Fault]:
    renderer = renderer_of(template)
    environment = renderer.environment
    try:
        tree = environment.parse(text)
        environment.compile(text)  # it also knows filters and tests
    except jinja2.TemplateSyntaxError as error:
        yield Fault("RH402", path, error.lineno, "", f"template syntax: {error.message}", renderer.hint(error))
        return
    _note_uses(tree, uses)
    if checks_names:
        yield from _unknown_names(environment, tree, template, path)


def _note_uses(tree: nodes.Template, uses: Uses) -> None:
    for root in ("parameters", "vars"):
        taken = set()
        for node, name in _accesses(tree, root):
            uses.add(root, name)
            taken.add(id(node.node))
        if any(n.name == root and n.ctx == "load" and id(n) not in taken for n in tree.find_all(nodes.Name)):
            uses.add(root, None)


def _accesses(tree: nodes.Template, root: str) -> Iterator[tuple[nodes.Getattr | nodes.Getitem, str]]:
    """`root.name` and `root['name']`."""
    for attribute in tree.find_all(nodes.Getattr):
        if isinstance(attribute.node, nodes.Name) and attribute.node.name == root:
            yield attribute, attribute.attr
    for item in tree.find_all(nodes.Getitem):
        is_plain = isinstance(item.arg, nodes.Const) and isinstance(item.arg.value, str)
        if is_plain and isinstance(item.node, nodes.Name) and item.node.name == root:
            yield item, item.arg.value  # type: ignore[attr-defined]  # a Const, as just seen


def _unknown_names(
    environment: jinja2.Environment, tree: nodes.Template, template: Template, path: Path
) -> Iterator[Fault]:
    asked = _asked_whether_defined(tree)
    rule = "the template uses a name that does not exist"
    for name in sorted(meta.find_undeclared_variables(tree) - set(CONTEXT) - set(environment.globals) - asked):
        line = min((n.lineno for n in tree.find_all(nodes.Name) if n.name == name), default=1)
        yield Fault("RH403", path, line, name, rule, did_you_mean(name, CONTEXT))
    known = set(template.parameters)
    seen = set()
    for node, name in _accesses(tree, "parameters"):
        is_method = isinstance(node, nodes.Getattr) and hasattr({}, name)
        if name not in known and not is_method and f"parameters.{name}" not in asked and name not in seen:
            seen.add(name)
            yield Fault("RH403", path, node.lineno, f"parameters.{name}", rule, did_you_mean(name, known))


def _asked_whether_defined(tree: nodes.Template) -> set[str]:
    """Names that the template itself asks about: `x is defined`, `x | default(…)`."""
    asked = set()
    tests = (t.node for t in tree.find_all(nodes.Test) if t.name in ("defined", "undefined"))
    filters = (f.node for f in tree.find_all(nodes.Filter) if f.name in ("default", "d"))
    for node in (*tests, *filters):
        if isinstance(node, nodes.Name):
            asked.add(node.name)
        elif isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
            asked.add(f"{node.node.name}.{node.attr}")
    return asked


def uses_in_text(text: str, uses: Uses, names: Mapping[str, re.Pattern[str]]) -> None:
    """What interpolations in a text read: `${vars.x}`, `${model.parameters.y}`, `${.parameters.y}`."""
    for root, pattern in names.items():
        for match in pattern.finditer(text):
            uses.add(root, match[1])
