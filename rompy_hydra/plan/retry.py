"""When a run that failed is tried again, how often, after what wait, and with what more to use."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from rompy_hydra.backends.config import HouseModel, WholeNumber
from rompy_hydra.units.durations import Seconds

Scalable = Literal["time_limit", "memory"]
Retriable = Literal["failed", "timed_out", "out_of_memory", "lost"]
_NONE: JsonDict = {"identity": "none"}


def _factor(value: float) -> float:
    if not 1 <= value <= 100:
        raise PydanticCustomError("factor", "is a factor from 1 to 100")
    return value


def _only_failed() -> list[Retriable]:
    return ["failed"]


class RetrySpec(HouseModel):
    """Retries of one run; `attempts: 1` is one try and no more."""

    model_config = ConfigDict(frozen=True)

    attempts: Annotated[WholeNumber, Field(ge=1, le=100)] = Field(
        1, description="How often the run is tried at most.", json_schema_extra=_NONE
    )
    wait: Seconds = Field(
        10.0,
        description="Wait before the second try in seconds; it doubles for each further one.",
        json_schema_extra=_NONE,
    )
    max_wait: Seconds = Field(600.0, description="Longest wait in seconds.", json_schema_extra=_NONE)
    on_exit_codes: list[WholeNumber] = Field(
        default_factory=list, description="Only these exit codes of a failed run; empty: all.", json_schema_extra=_NONE
    )
    on_states: list[Retriable] = Field(
        default_factory=_only_failed,
        description="How a run must have ended: failed, timed_out, out_of_memory, lost.",
        json_schema_extra=_NONE,
    )
    scale: dict[Scalable, Annotated[float, AfterValidator(_factor)]] = Field(
        default_factory=dict,
        description="Factors for time_limit and memory, applied again for each further try.",
        json_schema_extra=_NONE,
    )

    def wants(self, state: str, exit_code: int | None) -> bool:
        """Whether a run that ended like this is tried again (if attempts are left)."""
        if state not in self.on_states:
            return False
        return state != "failed" or not self.on_exit_codes or exit_code in self.on_exit_codes

    def factor(self, what: Scalable, attempt: int) -> float:
        """By how much a limit grows for a try, counted from 1."""
        return self.scale.get(what, 1.0) ** (attempt - 1)
