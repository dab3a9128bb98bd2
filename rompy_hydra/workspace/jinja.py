r"""Jinja2 for workspaces: only this file and `jinja_reading` import it, and only templates with `*.j2` files get here.

Undefined names are errors; text is UTF-8 and its lines end with \n.  A template is its owner's code and is not
sandboxed: whatever goes wrong in it becomes a `ConfigError` with the template's file and line.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from jinja2.utils import missing

from rompy_hydra.errors import ConfigError, Finding, did_you_mean
from rompy_hydra.plan.period import FILTERS as DATE_FILTERS
from rompy_hydra.redaction import redact_text
from rompy_hydra.workspace.template import Template


class Renderer:
    """Renders the files of one template directory; it keeps them compiled until they change on disk."""

    def __init__(self, workspace: str, include: str) -> None:
        self._workspace = Path(workspace)
        self._roots = (f"{workspace}/", f"{include}/")
        self.environment = _Environment(
            loader=jinja2.FileSystemLoader([workspace, include]),
            undefined=_Undefined,
            keep_trailing_newline=True,
            autoescape=False,  # namelists and scripts, not HTML
            finalize=_no_function,
        )
        self.environment.filters |= {**DATE_FILTERS, "quote": quote, "repr": literal}

    def render(self, relative: Path, context: Mapping[str, Any]) -> bytes:
        """The content of one file of the workspace."""
        text = self._translated(
            lambda: self.environment.get_template(relative.as_posix()).render(context), relative, context
        )
        return text.encode("utf-8", "surrogateescape")

    def render_name(self, relative: Path, context: Mapping[str, Any]) -> str:
        """The name of one file of the workspace."""
        return self._translated(
            lambda: self.environment.from_string(relative.as_posix()).render(context), relative, context
        )

    def _translated(self, make: Callable[[], str], relative: Path, context: Mapping[str, Any]) -> str:
        source = self._workspace / relative
        try:
            return make()
        except jinja2.TemplateSyntaxError as error:
            rule, where, mend = (
                f"template syntax: {error.message}",
                self._where_syntax(error, source),
                self.hint(error),
            )
            finding = Finding(key="model.template", rule=rule, where=where, mend=mend)
        except jinja2.TemplateNotFound as error:
            name = str(error.name)
            finding = Finding(
                key="model.template",
                value=name,
                rule="is included, but is neither in workspace/ nor in include/",
                where=self._where(error, source),
                mend=did_you_mean(name, self.environment.list_templates()) or None,
            )
        except _UndefinedNameError as error:
            finding = error.finding(context, self._where(error, source))
        except UnicodeDecodeError as error:
            finding = Finding(
                key="model.template",
                rule=f"is not UTF-8 text (byte {error.start})",
                where=str(source),
                mend="save it as UTF-8, or take '.j2' off its name to have it copied byte for byte",
            )
        except Exception as error:  # noqa: BLE001  # the template is its owner's code: whatever it raises is a finding
            rule = f"{type(error).__name__}: {redact_text(str(error)) or 'no message'}"
            finding = Finding(key="model.template", rule=rule, where=self._where(error, source))
        raise ConfigError(f"cannot render {source}", [finding])

    def _where(self, error: BaseException, source: Path) -> str:
        """File and line: the last of the template's own frames, which Jinja2 writes into the traceback."""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(self._roots)]
        return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(source)

    def _where_syntax(self, error: jinja2.TemplateSyntaxError, source: Path) -> str:
        return f"{error.filename}:{error.lineno}" if error.filename else str(source)

    def hint(self, error: jinja2.TemplateSyntaxError) -> str | None:
        """The nearest filter or test that there is."""
        wrong = re.match(r"No (filter|test) named '(.*)'", error.message or "")
        if wrong is None:
            return None
        return did_you_mean(wrong[2], self.environment.filters if wrong[1] == "filter" else self.environment.tests)


@functools.lru_cache(maxsize=16)  # a sweep renders the same template many times
def _renderer(workspace: str, include: str) -> Renderer:
    return Renderer(workspace, include)


def renderer_of(template: Template) -> Renderer:
    """The renderer of a template."""
    return _renderer(str(template.workspace), str(template.include))


def quote(value: object) -> str:
    """One word for a POSIX shell, whatever the value holds."""
    return shlex.quote(str(value))


def literal(value: object) -> str:
    """A literal for a Python file; a path is its text."""
    return repr(str(value) if isinstance(value, os.PathLike) else value)


class _UndefinedNameError(Exception):
    """A template used a name that does not exist."""

    def __init__(self, message: str, owner: object, name: object) -> None:
        super().__init__(message)
        self.owner, self.name = owner, name

    def finding(self, context: Mapping[str, Any], where: str) -> Finding:
        """What it was, whose it was, and the nearest name that exists."""
        rule = "the template uses a name that does not exist"
        if not isinstance(self.name, str):
            return Finding(key="model.template", rule=str(self), where=where)
        if self.owner is missing:
            return Finding(key=self.name, rule=rule, where=where, mend=did_you_mean(self.name, context))
        owner = next((key for key, value in context.items() if value is self.owner), None)
        key = f"{owner}.{self.name}" if owner else self.name
        of = "" if owner else f" (of a {type(self.owner).__name__})"
        return Finding(
            key=key, rule=rule + of, where=where, mend=did_you_mean(self.name, _names_in(self.owner)) or None
        )


def _names_in(owner: object) -> Iterable[str]:
    return map(str, owner) if isinstance(owner, Mapping) else [name for name in dir(owner) if not name.startswith("_")]


class _Undefined(jinja2.StrictUndefined):
    """Strict, and its error remembers whose name it was."""

    __slots__ = ()

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = missing,
        name: str | None = None,
        exc: type[jinja2.TemplateRuntimeError] = jinja2.UndefinedError,
    ) -> None:
        super().__init__(hint, obj, name, exc)
        # Jinja2 calls it with the message; it need not be a class.
        self._undefined_exception = lambda message: _UndefinedNameError(message, obj, name)  # type: ignore[assignment]


class _Environment(jinja2.Environment):
    """`parameters.items` is the parameter called `items` if there is one, and else the method of the mapping."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def _no_function(value: object) -> object:
    if callable(value) and not isinstance(value, jinja2.Undefined):
        name = getattr(value, "__name__", "this")
        raise TypeError(f"'{name}' is a function, not a value: write '{name}()', or check the name")
    return value
