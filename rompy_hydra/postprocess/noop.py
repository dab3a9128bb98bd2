"""The default postprocessor: leaves the outputs as they are and says where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rompy_hydra.errors import ConfigError, Finding
from rompy_hydra.postprocess import RunLike


class NoopPostprocessor:
    """Nothing is done; the answer names the run and its directory."""

    def process(self, model_run: RunLike, **options: Any) -> dict[str, Any]:
        """`{"success": True, …}`; options are refused: there is nothing to tune."""
        if options:
            raise ConfigError(
                "noop takes no options",
                [
                    Finding(key=f"postprocess.options.{name}", rule="noop has no options", mend="leave it out")
                    for name in options
                ],
            )
        return {
            "success": True,
            "processor": "noop",
            "run_id": model_run.run_id,
            "output_dir": str(Path(model_run.output_dir) / model_run.run_id),
            "message": "nothing to do",
        }
