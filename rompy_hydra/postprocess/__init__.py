"""What happens to a run's outputs afterwards: an object with `process(model_run, **options) -> {"success": …}`.

`get_processor` takes a name (built in, or of an entry point), a configuration object, a class or an object; `process`
calls it and makes a failure of whatever goes wrong in there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rompy_hydra.postprocess.analyze import AnalyzePostprocessor
    from rompy_hydra.postprocess.archive import ArchivePostprocessor
    from rompy_hydra.postprocess.config import (
        AnalyzePostprocessorConfig,
        ArchivePostprocessorConfig,
        BasePostprocessorConfig,
        NoopPostprocessorConfig,
        VisualizePostprocessorConfig,
    )
    from rompy_hydra.postprocess.noop import NoopPostprocessor
    from rompy_hydra.postprocess.visualize import VisualizePostprocessor

_HOMES = {
    "NoopPostprocessor": "noop",
    "ArchivePostprocessor": "archive",
    "AnalyzePostprocessor": "analyze",
    "VisualizePostprocessor": "visualize",
    "BasePostprocessorConfig": "config",
    "NoopPostprocessorConfig": "config",
    "ArchivePostprocessorConfig": "config",
    "AnalyzePostprocessorConfig": "config",
    "VisualizePostprocessorConfig": "config",
}
__all__ = [
    "AnalyzePostprocessor",
    "AnalyzePostprocessorConfig",
    "ArchivePostprocessor",
    "ArchivePostprocessorConfig",
    "BasePostprocessorConfig",
    "NoopPostprocessor",
    "NoopPostprocessorConfig",
    "Postprocessor",
    "RunLike",
    "VisualizePostprocessor",
    "VisualizePostprocessorConfig",
    "check_options",
    "get_processor",
    "name_of",
    "process",
    "processor_names",
]


class RunLike(Protocol):
    """What a postprocessor may know of a run: its outputs lie in `output_dir / run_id`."""

    @property
    def run_id(self) -> str:
        """The run's name."""
        ...

    @property
    def output_dir(self) -> Any:
        """The directory that holds the run's own."""
        ...


class Postprocessor(Protocol):
    """The seed's interface: `process` answers a dict with `success: bool` and whatever else there is to say."""

    def process(self, model_run: RunLike, **options: Any) -> dict[str, Any]:
        """Process the outputs of one run."""
        ...


def processor_names() -> list[str]:
    """The names that `processor=` may have; nothing is imported."""
    from rompy_hydra.postprocess import registry

    return registry.processor_names()


def get_processor(processor: Any) -> Postprocessor:
    """A postprocessor by its name, its configuration, its class, or itself; `ConfigError` lists the known names."""
    from rompy_hydra.postprocess import registry

    return registry.get_processor(processor)


def name_of(processor: Any) -> str:
    """What a postprocessor is called in a record."""
    if isinstance(processor, str):
        return processor
    told = getattr(processor, "type", None)
    if isinstance(told, str):
        return told
    return str(getattr(processor, "__name__", type(processor).__name__))


def check_options(processor: Any, options: Mapping[str, Any]) -> None:
    """Find wrong options before anything runs; raises `ConfigError` with a finding for each."""
    from rompy_hydra.postprocess import registry

    registry.check_options(get_processor(processor), options)


def process(processor: Any, model_run: RunLike, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a postprocessor answers for one run; a failure in there is an answer with `success: False` and `error`.

    Raises `ConfigError` for an unknown processor or a wrong option: those are requests, not results.
    """
    found = get_processor(processor)
    check_options(found, options)
    try:
        answer: Any = found.process(model_run, **options)
    except Exception as error:  # noqa: BLE001  # foreign code: whatever it raises is its failure, not the run's
        return {"success": False, "error": f"{type(error).__name__}: {error}"}
    if not isinstance(answer, Mapping) or not isinstance(answer.get("success"), bool):
        told = f"{name_of(processor)}.process() answered {answer!r:.200}"
        return {"success": False, "error": f"{told}, not a mapping with success: True or False"}
    return dict(answer)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"rompy_hydra.postprocess.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'rompy_hydra.postprocess' has no attribute {name!r}")
