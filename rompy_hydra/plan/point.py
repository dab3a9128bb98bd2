"""`Point`: one run of a sweep as it is intended; sweep composer → point → scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rompy_hydra.errors import ConfigError
from rompy_hydra.plan.run_plan import RunPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of a sweep.

    `number` counts from 0 and never changes; `name` is unique in the sweep and what people call it; `overrides` is all
    that was composed for it, `swept` the keys that vary with the values of this point.  `subdir` is its directory below
    the sweep's where somebody chose that (`hydra.sweep.subdir`).
    """

    number: int
    name: str
    overrides: tuple[str, ...]
    plan: RunPlan
    swept: Mapping[str, Any] = field(default_factory=dict)
    repeat: int = 0
    subdir: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidPoint:
    """A point that cannot be: what was asked, and everything that is wrong with it."""

    number: int
    name: str
    overrides: tuple[str, ...]
    error: ConfigError
    swept: Mapping[str, Any] = field(default_factory=dict)
    repeat: int = 0
