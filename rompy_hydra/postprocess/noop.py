"""The default postprocessor: leaves the outputs as they are and says where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rompy_hydra.postprocess import RunLike


class NoopPostprocessor:
    """Nothing is done; the answer names the run and its directory."""

    options_class = "NoopPostprocessorConfig"

    def process(
        self, model_run: RunLike, validate_outputs: bool = False, output_dir: str | Path | None = None
    ) -> dict[str, Any]:
        """`{"success": True, …}`; with `validate_outputs` a missing directory is a failure.

        Raises `ValueError` for what is no run.
        """
        if model_run is None:
            raise ValueError("model_run cannot be None: give a run")
        if not hasattr(model_run, "run_id"):
            raise ValueError("model_run must have a run_id attribute")
        directory = Path(output_dir or Path(model_run.output_dir) / str(model_run.run_id))
        answer = {
            "success": True,
            "processor": "noop",
            "run_id": model_run.run_id,
            "output_dir": str(directory),
            "validated": bool(validate_outputs),
            "message": "nothing to do",
        }
        if not validate_outputs:
            return answer
        if not directory.is_dir():
            message = f"the output directory was not found: {directory}"
            return {**answer, "success": False, "message": message, "error": message}
        files = sum(path.is_file() for path in directory.rglob("*"))
        return {**answer, "file_count": files, "message": "nothing to do: validation only"}
