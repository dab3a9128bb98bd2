"""Postprocessors that have their names and options already, and say that a later version does the work."""

from __future__ import annotations

from typing import Any, ClassVar

from rompy_hydra.postprocess import RunLike
from rompy_hydra.postprocess.config import (
    AnalyzePostprocessorConfig,
    BasePostprocessorConfig,
    VisualizePostprocessorConfig,
)


class LaterPostprocessor:
    """Takes its options, does nothing, and fails with a sentence that says so."""

    name: ClassVar[str] = ""
    config_class: ClassVar[type[BasePostprocessorConfig]] = BasePostprocessorConfig
    is_for_later: ClassVar[bool] = True

    def process(self, model_run: RunLike, **options: Any) -> dict[str, Any]:
        """`{"success": False, "error": …}`; raises a pydantic error for options that it will not have either."""
        self.config_class.model_validate(options)
        error = f"the postprocessor '{self.name}' comes in a later version; the outputs are as the run left them"
        return {"success": False, "processor": self.name, "run_id": model_run.run_id, "error": error, "message": error}


class AnalyzePostprocessor(LaterPostprocessor):
    """Will compute summaries, time series and spectra."""

    name = "analyze"
    config_class = AnalyzePostprocessorConfig


class VisualizePostprocessor(LaterPostprocessor):
    """Will draw maps, sections, time series and spectra."""

    name = "visualize"
    config_class = VisualizePostprocessorConfig
