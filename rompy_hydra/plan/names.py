"""Names that become directories: what a `run_id` may be, so that nothing ever leaves `output_dir`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, StrictStr
from pydantic_core import PydanticCustomError

from rompy_hydra.backends.config import check_text

_RUN_ID = re.compile(r"[^\x00-\x1f\x7f/\\]{1,200}\Z")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")


def _run_id(value: str) -> str:
    if not _RUN_ID.match(value) or value.strip() != value or value.startswith((".", "-", "~")):
        raise PydanticCustomError(
            "run_id",
            "a run_id names one directory below output_dir: 1 to 200 characters, no '/', no '\\', no control"
            " character, no blank at its ends, not starting with '.', '-' or '~'",
        )
    if len(value.encode("utf-8", "surrogateescape")) > 240:
        raise PydanticCustomError("run_id", "a run_id may take at most 240 bytes")
    return value


def _model_name(value: str) -> str:
    if not _MODEL_NAME.match(value):
        raise PydanticCustomError(
            "model_name", "a model's name is made of letters, digits, '_', '.', '-' and starts with a letter or digit"
        )
    return value


RunId = Annotated[StrictStr, BeforeValidator(check_text), AfterValidator(_run_id)]
ModelName = Annotated[StrictStr, BeforeValidator(check_text), AfterValidator(_model_name)]
