"""What happens to a run's outputs afterwards; `get_processor(name)` gives an object with `process(run, **options)`."""

from __future__ import annotations

from typing import Any, Protocol

from rompy_hydra.errors import ConfigError, Finding, did_you_mean


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


_BUILT_IN = {"noop": ("rompy_hydra.postprocess.noop", "NoopPostprocessor")}


def processor_names() -> list[str]:
    """The names that `processor=` may have."""
    return sorted(_BUILT_IN)


def get_processor(processor: str | type | Postprocessor) -> Postprocessor:
    """A postprocessor by its name, its class, or itself; `ConfigError` lists the known names."""
    if isinstance(processor, str):
        if processor not in _BUILT_IN:
            raise ConfigError(
                f"there is no postprocessor '{processor}'",
                [
                    Finding(
                        key="postprocess.processor",
                        value=repr(processor),
                        rule="no such postprocessor",
                        mend=did_you_mean(processor, _BUILT_IN),
                    )
                ],
            )
        import importlib

        module, name = _BUILT_IN[processor]
        found: Postprocessor = getattr(importlib.import_module(module), name)()
        return found
    return processor() if isinstance(processor, type) else processor
