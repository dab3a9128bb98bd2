"""The options of the built-in postprocessors, as validated data; keywords are held against these too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, StrictBool

from rompy_hydra.backends.config import HostPath, HouseModel

if TYPE_CHECKING:
    from typing import Self


class BasePostprocessorConfig(HouseModel):
    """Which postprocessor, and its options: every field but `type` is one."""

    type: str = Field("", description="Which postprocessor this is.")

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Refuse the base itself: it names no postprocessor."""
        if cls is BasePostprocessorConfig:
            raise TypeError(
                "Can't instantiate abstract class BasePostprocessorConfig: take NoopPostprocessorConfig or another"
                " class that inherits from it"
            )
        return super().__new__(cls)

    @property
    def options(self) -> dict[str, Any]:
        """What was given, as keywords of `process`."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "type"}

    def get_postprocessor_class(self) -> Any:
        """The class with `process(model_run, **options)`."""
        from rompy_hydra.postprocess.registry import processor_class

        return processor_class(self.type)


class NoopPostprocessorConfig(BasePostprocessorConfig):
    """Nothing is done; on request the run's directory must be there."""

    type: Literal["noop"] = "noop"
    validate_outputs: StrictBool = Field(
        False, description="Fail where the run's directory is missing; count its files."
    )
    output_dir: HostPath | None = Field(None, description="Look here instead of in the run's own directory.")


class ArchivePostprocessorConfig(BasePostprocessorConfig):
    """The outputs with the record and the logs in one compressed file."""

    type: Literal["archive"] = "archive"
    format: Literal["tar.gz"] = Field("tar.gz", description="Form of the archive.")
    destination: HostPath | None = Field(
        None, description="Directory for the archive (default: the run's own); must exist."
    )


class AnalyzePostprocessorConfig(BasePostprocessorConfig):
    """Numbers from the outputs."""

    type: Literal["analyze"] = "analyze"
    output_format: Literal["netcdf", "csv", "parquet"] = Field("netcdf", description="Form of the results.")
    compress: StrictBool = Field(True, description="Compress the results.")
    analysis_type: Literal["summary", "timeseries", "spectral", "compare"] = Field(
        "summary", description="What is computed."
    )


class VisualizePostprocessorConfig(BasePostprocessorConfig):
    """Pictures of the outputs."""

    type: Literal["visualize"] = "visualize"
    output_format: Literal["png", "svg"] = Field("png", description="Form of the pictures.")
