"""Which postprocessors exist: the built-in ones, registered in code, and the plug-ins, by their entry points' names."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from rompy_hydra.backends import discovery
from rompy_hydra.backends.discovery import BrokenPluginError
from rompy_hydra.backends.registry import BUILT_IN_PACKAGE, Problem
from rompy_hydra.errors import ConfigError, Finding, did_you_mean
from rompy_hydra.postprocess import Postprocessor

if TYPE_CHECKING:
    from rompy_hydra.postprocess.config import BasePostprocessorConfig

_BUILT_IN = {
    "noop": "NoopPostprocessor",
    "archive": "ArchivePostprocessor",
    "analyze": "AnalyzePostprocessor",
    "visualize": "VisualizePostprocessor",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One postprocessor that can be had: its name, its class, and who brings it."""

    name: str
    package: str
    load: Callable[[], Any]
    replaces_built_in: bool = False


def processor_names() -> list[str]:
    """The names that `processor=` may have; nothing is imported."""
    return sorted({*_BUILT_IN, *(entry.name for entry in discovery.entries("postprocess"))})


def processors() -> tuple[dict[str, Registered], list[Problem]]:
    """Every postprocessor that can be used, by name, and every plug-in that cannot."""
    usable: dict[str, Registered] = {}
    problems: list[Problem] = []
    for name in processor_names():
        found, wrong = _look_up(name)
        problems += wrong
        if found is not None:
            usable[name] = found
    return usable, problems


def processor_class(name: str) -> Any:
    """The class of a name, or of `package.module:Class`; `ConfigError` lists the known names."""
    if ":" in name:
        return _imported(name)
    found, problems = _look_up(name)
    if found is not None:
        return found.load()
    cause = problems[0].cause if problems else "no such postprocessor"
    mend = (
        f"mend or uninstall {' or '.join(problems[0].packages)}" if problems else did_you_mean(name, processor_names())
    )
    headline = f"the postprocessor '{name}' cannot be used" if problems else f"there is no postprocessor '{name}'"
    raise ConfigError(headline, [Finding(key="postprocess.processor", value=repr(name), rule=cause, mend=mend)])


def _imported(place: str) -> Any:
    module, _, attribute = place.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"the postprocessor '{place}' cannot be imported",
            [
                Finding(
                    key="postprocess.processor",
                    value=repr(place),
                    rule=why,
                    mend="write package.module:Class of something that is installed",
                )
            ],
        ) from error


def get_processor(processor: Any) -> Postprocessor:
    """A postprocessor by its name, its configuration, its class, or itself; `ConfigError` lists the known names."""
    found = processor_class(processor) if isinstance(processor, str) else processor
    if isinstance(found, type):
        found = found()
    if callable(getattr(found, "process", None)):
        return cast("Postprocessor", found)
    if _is_config(found):
        return _Configured(get_processor(found.get_postprocessor_class()), found)
    raise ConfigError(
        f"{found!r:.100} is no postprocessor",
        [
            Finding(
                key="postprocess.processor",
                rule="it has no method process(model_run, **options)",
                mend=f"give a name ({', '.join(processor_names())}), a configuration, a class or an object",
            )
        ],
    )


def _is_config(found: Any) -> bool:
    from rompy_hydra.postprocess.config import BasePostprocessorConfig as Base

    return isinstance(found, Base) or (isinstance(found, type) and issubclass(found, Base))


def check_options(processor: Postprocessor, options: Mapping[str, Any]) -> None:
    """Hold options against the configuration class of a postprocessor, or against the signature of its `process`."""
    if callable(check_tools := getattr(processor, "check_tools", None)):
        check_tools(options)  # MissingToolError: what it, or an option, needs is not installed
    if not options and isinstance(getattr(processor, "options_class", None), str):
        return  # none of ours needs any
    cls = _options_class(processor)
    if cls is not None:
        try:
            cls.model_validate(dict(options))
        except ValidationError as error:
            raise ConfigError(
                "the options of the postprocessor are wrong",
                [
                    Finding(key=".".join(["postprocess.options", *map(str, item["loc"])]), rule=item["msg"])
                    for item in error.errors(include_url=False, include_input=False)
                ],
            ) from None
        return
    try:
        inspect.signature(processor.process).bind(None, **options)
    except TypeError as error:
        raise ConfigError(
            "the options of the postprocessor are wrong",
            [Finding(key="postprocess.options", rule=str(error), mend=f"it takes {_takes(processor)}")],
        ) from None
    except ValueError:
        return  # no signature to be had: it will say so itself


def _options_class(processor: Postprocessor) -> Any:
    """The pydantic class of a postprocessor's options: ours by name, so that it is imported when there are some."""
    name = getattr(processor, "options_class", None)
    if isinstance(name, str):
        return getattr(importlib.import_module("rompy_hydra.postprocess"), name)
    cls = getattr(processor, "config_class", None)
    return cls if _is_config(cls) else None


class _Configured:
    """A postprocessor with the options of a configuration object; keywords of the call win."""

    def __init__(self, processor: Postprocessor, config: BasePostprocessorConfig) -> None:
        self.config_class = _options_class(processor)
        self._processor = processor
        self._config = config

    def process(self, model_run: Any, **options: Any) -> dict[str, Any]:
        """Process the outputs of one run."""
        return self._processor.process(model_run, **{**self._config.options, **options})


def _takes(processor: Postprocessor) -> str:
    parameters = list(inspect.signature(processor.process).parameters.values())[1:]
    return ", ".join(parameter.name for parameter in parameters) or "no options"


def _look_up(name: str) -> tuple[Registered | None, list[Problem]]:
    built_in = (
        Registered(name=name, package=BUILT_IN_PACKAGE, load=lambda: _built_in(name)) if name in _BUILT_IN else None
    )
    entries = discovery.entries_named(name, "postprocess")
    packages = tuple(sorted({entry.origin for entry in entries}))
    if len(packages) > 1:
        cause = f"two plug-ins register the postprocessor '{name}': {' and '.join(packages)}"
        return None, [Problem(name=name, packages=packages, cause=cause, is_conflict=True)]
    for entry in entries:
        try:
            found = entry.load()
        except BrokenPluginError as error:
            return built_in, [Problem(name=name, packages=packages, cause=str(error))]
        if not callable(getattr(found, "process", None)) and not _is_config(found):
            cause = f"{entry.value} of the package {entry.origin} has no method process(model_run, **options)"
            return built_in, [Problem(name=name, packages=packages, cause=cause)]
        replaces = built_in is not None
        return Registered(name=name, package=entry.origin, load=partial(_itself, found), replaces_built_in=replaces), []
    return built_in, []


def _itself(found: Any) -> Any:
    return found


def _built_in(name: str) -> Any:
    return getattr(importlib.import_module("rompy_hydra.postprocess"), _BUILT_IN[name])
