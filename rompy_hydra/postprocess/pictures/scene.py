"""A picture before it is drawn: its file's name, what stands below it, and the function that draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Look:
    """What the user chose of how pictures look."""

    dpi: int = 110
    colormap: str | None = None
    signed_colormap: str | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture; `draw` makes a figure, or with `write` a file (an animation)."""

    kind: str
    name: str
    title: str
    alt: str
    draw: Callable[[], Figure] | None = None
    write: Callable[[Path], None] | None = None
