"""Postprocessors that have their names and options already, and say that a later version does the work."""

from __future__ import annotations

from typing import Any, ClassVar

from rompy_hydra import postprocess
from rompy_hydra.postprocess import RunLike


class LaterPostprocessor:
    """Takes its options, does nothing, and fails with a sentence that says so."""

    name: ClassVar[str] = ""
    options_class: ClassVar[str] = ""
    is_for_later: ClassVar[bool] = True

    def process(self, model_run: RunLike, **options: Any) -> dict[str, Any]:
        """`{"success": False, "error": …}`; raises a pydantic error for options that it will not have either."""
        getattr(postprocess, self.options_class).model_validate(options)
        error = f"the postprocessor '{self.name}' comes in a later version; the outputs are as the run left them"
        return {"success": False, "processor": self.name, "run_id": model_run.run_id, "error": error, "message": error}


class AnalyzePostprocessor(LaterPostprocessor):
    """Will compute summaries, time series and spectra."""

    name = "analyze"
    options_class = "AnalyzePostprocessorConfig"


class VisualizePostprocessor(LaterPostprocessor):
    """Will draw maps, sections, time series and spectra."""

    name = "visualize"
    options_class = "VisualizePostprocessorConfig"
