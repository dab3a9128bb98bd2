"""The options of the built-in postprocessors, as validated data; keywords are held against these too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictStr, model_validator
from pydantic_core import PydanticCustomError

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


def _patterns(value: object) -> object:
    """A text holds one pattern, or several with commas between them."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


Patterns = Annotated[list[StrictStr], BeforeValidator(_patterns)]


def _numbers(value: object) -> object:
    """A text holds one number, or several with commas between them."""
    if isinstance(value, str):
        return _patterns(value)
    return [value] if isinstance(value, int | float) else value


def _points(value: object) -> object:
    """A list of places has no names: they get numbers; one place alone is a list of one."""
    if isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(part, int | float) for part in value):
            value = [value]
        return {f"point{number}": place for number, place in enumerate(value, 1)}
    return value


Place = tuple[float, float]
PointName = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]  # a part of figures' names
Points = Annotated[dict[PointName, Place], BeforeValidator(_points)]
SectionKind = Literal["lon", "lat", "x", "y"]
Section = Annotated[dict[SectionKind, float], Field(min_length=1, max_length=1)]


class ArchivePostprocessorConfig(BasePostprocessorConfig):
    """A run's directory in one compressed file with a manifest."""

    type: Literal["archive"] = "archive"
    format: Literal["tar.gz", "tar.zst", "zip"] = Field(
        "tar.gz", description="Form of the archive; tar.zst needs the extra 'archive'."
    )
    include: Patterns = Field(
        default_factory=list,
        description="Only files that fit one of these patterns, and the record (*.nc, out/**); default: all.",
    )
    exclude: Patterns = Field(default_factory=list, description="No files that fit one of these patterns.")
    destination: HostPath | None = Field(
        None, description="Directory for the archive (default: the run's own); must exist."
    )
    level: int | None = Field(None, ge=1, le=22, description="How hard to compress: 1 to 9, of tar.zst to 22.")
    reproducible: StrictBool = Field(
        False, description="The same files make the same bytes: no times, no owners, usual modes."
    )
    remove_originals: StrictBool = Field(
        False,
        description="Remove what was archived, once it was read back; record, logs, metrics and configuration stay.",
    )
    overwrite: StrictBool = Field(False, description="Replace an archive of another run that has the same name.")

    @model_validator(mode="after")
    def _check_level(self) -> Self:
        if self.level is not None and self.level > 9 and self.format != "tar.zst":
            raise PydanticCustomError("level", "level: {form} has levels from 1 to 9", {"form": self.format})
        return self


class _ResultsConfig(BasePostprocessorConfig):
    """Which of a run's results are looked at."""

    files: Patterns = Field(
        default_factory=list, description="Result files, by patterns (*.averages.nc); default: all NetCDF outputs."
    )
    variables: Patterns = Field(default_factory=list, description="Variables, by patterns (temp, surface_*).")
    points: Points = Field(
        default_factory=dict,
        description="Places for series and spectra: [x, y] or [longitude, latitude] by name, or a list of them.",
    )
    level: float | None = Field(
        None, description="Height or depth of the layer to take, as the results' axis counts it; default: the surface."
    )
    dry_depth: float = Field(0.001, ge=0, description="In m: shallower water is land (ANUGA).")
    segment: int | None = Field(
        None, ge=8, description="Samples in a segment of Welch's spectra; default: by the length."
    )


class AnalyzePostprocessorConfig(_ResultsConfig):
    """Numbers from the outputs."""

    type: Literal["analyze"] = "analyze"
    output_format: Literal["netcdf", "csv", "parquet"] = Field("netcdf", description="Form of the results.")
    compress: StrictBool = Field(True, description="Compress the results.")
    analysis_type: Literal["summary", "timeseries", "spectral", "compare"] = Field(
        "summary", description="What is computed."
    )
    percentiles: Annotated[list[Annotated[float, Field(ge=0, le=100)]], BeforeValidator(_numbers)] = Field(
        default_factory=lambda: [1.0, 5.0, 50.0, 95.0, 99.0], description="Percentiles of a summary."
    )
    reference: HostPath | None = Field(
        None, description="What compare holds the results against: a CSV or NetCDF file, or another run's directory."
    )
    time_origin: StrictStr | None = Field(
        None, description="Date at time 0 of results that do not know it (2020-01-01T00:00), to compare with dates."
    )

    @model_validator(mode="after")
    def _check_reference(self) -> Self:
        if self.analysis_type == "compare" and self.reference is None:
            raise PydanticCustomError(
                "reference", "reference: compare needs one: reference=obs.csv or another run's directory"
            )
        return self


Picture = Literal["maps", "sections", "timeseries", "spectra", "animation"]
PICTURES: tuple[Picture, ...] = ("maps", "sections", "timeseries", "spectra", "animation")


class VisualizePostprocessorConfig(_ResultsConfig):
    """Pictures of the outputs, and a page that shows them."""

    type: Literal["visualize"] = "visualize"
    output_format: Literal["png", "svg"] = Field("png", description="Form of the pictures (an animation is a GIF).")
    pictures: Annotated[list[Picture], BeforeValidator(_patterns)] = Field(
        default_factory=lambda: list(PICTURES), description="Kinds of pictures."
    )
    most: int = Field(8, ge=1, le=100, description="Variables that are drawn when none is named.")
    time: int = Field(-1, description="Which record the maps and sections show: 0 is the first, -1 the last.")
    section: Section | None = Field(
        None, description="Where sections lie: {lon: 30}, {y: 25}; default: the zonal mean, or along the middle."
    )
    dpi: int = Field(110, ge=40, le=600, description="Pixels per inch.")
    colormap: StrictStr | None = Field(
        None, description="Of fields without a sign: a name of matplotlib's, or cmo.NAME of the package cmocean."
    )
    signed_colormap: StrictStr | None = Field(None, description="Of fields with a sign.")
    frames: int = Field(60, ge=2, le=500, description="Pictures in an animation, at most.")
    separate_files: StrictBool | None = Field(
        None,
        description="A file for each picture in pictures/, or one page with all of them in it;"
        " default: files for a run, the page alone for a point of a sweep (few files).",
    )
