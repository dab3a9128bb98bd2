"""`sweep:` of a configuration: which points there are, and how they are driven.

    design      the points, as parts whose product is taken: grid, zip, table, samples, union
    zip, table, samples, repeats, exclude    the same from the command line, in one word each
    jobs, cpus, memory, timing, on_failure, max_failures, on_invalid    how they are driven
    max_in_queue, runs_per_job, runs_at_once, job_time, max_core_hours  the same on a cluster

Values of a `grid` or `zip` are a list of data, or one text in Hydra's sweep grammar (`range(1,5)`, `glob(*)`, `1,2,4`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StrictBool, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rompy_hydra.backends.config import HouseModel, Text, WholeNumber
from rompy_hydra.plan.conditions import Condition, ConditionError
from rompy_hydra.units.durations import PositiveSeconds
from rompy_hydra.units.sizes import Memory

Keys = list[Text]
Method = Literal["lhs", "sobol", "random"]


class _Part(HouseModel):
    model_config = ConfigDict(frozen=True)


def _mark() -> dict[str, Any]:
    return {"identity": "none"}  # a sweep's policy is in neither identity of a run


def _condition(text: str) -> str:
    try:
        Condition(text)
    except ConditionError as error:
        raise PydanticCustomError("condition", "{why}", {"why": str(error)}) from None
    return text


def _values(value: object) -> object:
    if isinstance(value, list) and not value:
        raise PydanticCustomError("no_values", "a key with no value at all makes no point")
    return value if isinstance(value, (list, str)) else [value]


Values = Annotated[list[Any] | str, BeforeValidator(_values)]
KeyedValues = dict[Text, Values]


class Dimension(_Part):
    """How one key of a sample varies."""

    low: float | None = None
    high: float | None = None
    scale: Literal["linear", "log"] = "linear"
    type: Literal["float", "int"] = Field("float", description="`int`: whole numbers, both ends included.")
    choices: list[Any] | None = Field(None, description="Instead of bounds: one of these.")

    @model_validator(mode="before")
    @classmethod
    def _bounds(cls, value: object) -> object:
        """`[low, high]`; whole numbers where both are written as such."""
        if not isinstance(value, (list, tuple)):
            return value
        if len(value) != 2 or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in value):
            raise PydanticCustomError("bounds", "bounds are two numbers: [low, high]")
        kind = "int" if all(isinstance(v, int) for v in value) else "float"
        return {"low": value[0], "high": value[1], "type": kind}

    @model_validator(mode="after")
    def _is_one_thing(self) -> Dimension:
        if self.choices is not None:
            if self.low is not None or self.high is not None or not self.choices:
                raise PydanticCustomError("dimension", "give bounds or choices (at least one), not both")
            return self
        if self.low is None or self.high is None:
            raise PydanticCustomError("dimension", "give low and high, or choices")
        if not (math.isfinite(self.low) and math.isfinite(self.high)) or self.low >= self.high:
            raise PydanticCustomError("dimension", "low must be less than high, and both finite")
        if self.scale == "log" and self.low <= 0:
            raise PydanticCustomError("dimension", "a logarithmic scale needs bounds above 0")
        if self.type == "int" and (self.low != int(self.low) or self.high != int(self.high)):
            raise PydanticCustomError("dimension", "whole numbers need whole bounds")
        return self


def _flattened(value: dict[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and not inner.keys() <= Dimension.model_fields.keys():
            yield from _flattened(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


class SamplesSpec(_Part):
    """Points drawn from a space."""

    method: Method = Field("lhs", description="Latin hypercube, Sobol sequence, or independent random numbers.")
    n: Annotated[WholeNumber, Field(ge=1, le=10_000_000)] | None = Field(None, description="How many; null: none.")
    seed: Annotated[WholeNumber, Field(ge=0)] = Field(0, description="The same seed gives the same points.")
    over: dict[Text, Dimension] = Field(default_factory=dict, description="Key to [low, high], or to a mapping.")

    @field_validator("over", mode="before")
    @classmethod
    def _dotted_keys(cls, value: object) -> object:
        """`over.a.b=[0,1]` on a command line makes maps in maps; their keys are one dotted key."""
        return dict(_flattened(value, "")) if isinstance(value, dict) else value


class TableSpec(_Part):
    """Points from the rows of a file, CSV (`.csv`, `.tsv`) or Parquet (`.parquet`): a column for each key."""

    file: Text = Field(..., description="The file; a relative path starts where the command was typed.")
    columns: dict[Text, Text] = Field(
        default_factory=dict, description="Column to key, where a column's name is not the key."
    )
    ignore: Keys = Field(default_factory=list, description="Columns that are for people only.")
    name: Text = Field("name", description="The column that names the points, if there is one.")

    @model_validator(mode="before")
    @classmethod
    def _only_a_file(cls, value: object) -> object:
        return {"file": value} if isinstance(value, str) else value


def _runs_per_job(value: object) -> object:
    if value == "auto" or value is None:
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PydanticCustomError("runs_per_job", "is a whole number from 1, or auto")
    return value


RunsPerJob = Annotated[int | Literal["auto"], BeforeValidator(_runs_per_job)]


class DesignPart(_Part):
    """One part of a design; exactly one of its fields is given."""

    grid: KeyedValues | None = Field(None, description="Key to values: every combination.")
    zip: KeyedValues | None = Field(None, description="Key to values that vary together.")
    table: TableSpec | None = Field(None, description="The rows of a file.")
    samples: SamplesSpec | None = Field(None, description="Points drawn from a space.")
    union: list[list[DesignPart]] | None = Field(None, description="Designs, one after the other.")

    @model_validator(mode="after")
    def _one_thing(self) -> DesignPart:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "design",
                "a part of a design is one of grid, zip, table, samples, union (given: {given})",
                {"given": ", ".join(given) or "nothing"},
            )
        if self.samples is not None and self.samples.n is None:
            raise PydanticCustomError("samples", "samples need n, how many they are")
        return self


def _groups_of_keys(value: object) -> object:
    """`[a, b]` is one group of keys, `[[a, b], [c, d]]` are two."""
    if isinstance(value, list) and value and all(isinstance(key, str) for key in value):
        return [value]
    return value


class SweepSpec(_Part):
    """The points of a sweep and how they are driven."""

    design: list[DesignPart] = Field(
        default_factory=list,
        description="Parts whose product is taken, the last varies fastest.",
        json_schema_extra=_mark(),
    )
    zip: Annotated[list[Keys], BeforeValidator(_groups_of_keys)] = Field(
        default_factory=list,
        description="Keys of the command line that vary together: [a.b, c.d], or several such lists.",
        json_schema_extra=_mark(),
    )
    table: TableSpec | None = Field(None, description="A file of points.", json_schema_extra=_mark())
    samples: SamplesSpec = Field(
        default_factory=SamplesSpec, description="Points drawn from a space.", json_schema_extra=_mark()
    )
    exclude: list[Annotated[Text, AfterValidator(_condition)]] = Field(
        default_factory=list,
        description="Conditions over composed values; a point for which one holds is left out.",
        json_schema_extra=_mark(),
    )
    repeats: Annotated[WholeNumber, Field(ge=1, le=1_000_000)] = Field(
        1, description="How often the whole design is run.", json_schema_extra=_mark()
    )
    jobs: Annotated[WholeNumber, Field(ge=1)] | None = Field(
        None, description="Most runs at a time; null: as many as fit.", json_schema_extra=_mark()
    )
    cpus: Annotated[WholeNumber, Field(ge=1)] | None = Field(
        None, description="CPUs for all runs together; null: those of this machine.", json_schema_extra=_mark()
    )
    memory: Memory | None = Field(
        None, description="Memory for all runs together; null: that of this machine.", json_schema_extra=_mark()
    )
    timing: StrictBool = Field(
        False, description="One run at a time on CPUs of its own, for measurements.", json_schema_extra=_mark()
    )
    on_failure: Literal["continue", "fail_fast"] = Field(
        "continue", description="What a failed run means for those that wait.", json_schema_extra=_mark()
    )
    max_failures: Annotated[WholeNumber, Field(ge=1)] | None = Field(
        None, description="After so many failed runs no other is started.", json_schema_extra=_mark()
    )
    on_invalid: Literal["error", "skip"] = Field(
        "error", description="Whether an invalid point keeps the others from starting.", json_schema_extra=_mark()
    )

    max_in_queue: Annotated[WholeNumber, Field(ge=1)] | None = Field(
        None,
        description="Most jobs of the sweep in the scheduler's queue at a time (a task of an array is a job).",
        json_schema_extra=_mark(),
    )
    runs_per_job: RunsPerJob = Field(
        1,
        description="Runs in one job of the scheduler; auto: as many as take job_time together.",
        json_schema_extra=_mark(),
    )
    runs_at_once: Annotated[WholeNumber, Field(ge=1, le=1000)] = Field(
        1,
        description="Runs of one job that go side by side; it asks for so many times the CPUs and memory of one.",
        json_schema_extra=_mark(),
    )
    job_time: PositiveSeconds = Field(
        600.0, description="How long a job is meant to take with runs_per_job=auto.", json_schema_extra=_mark()
    )
    max_core_hours: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="A sweep that could take more core-hours (cpus x time limit) is refused before it starts.",
        json_schema_extra=_mark(),
    )

    @model_validator(mode="before")
    @classmethod
    def _exclude_is_a_list(cls, value: object) -> object:
        if isinstance(value, dict) and isinstance(value.get("exclude"), str):
            return {**value, "exclude": [value["exclude"]]}
        return value

    @property
    def failures_allowed(self) -> int | None:
        """After how many failed runs no other is started; None: never."""
        return 1 if self.on_failure == "fail_fast" else self.max_failures
