"""The seed's name for `rompy_hydra.postprocess`: the postprocessors and their configurations, looked up lazily."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    from rompy_hydra import postprocess

    if name in postprocess.__all__:
        return getattr(postprocess, name)
    raise AttributeError(f"module 'rompy_hydra.backends.postprocessors' has no attribute {name!r}")


def __dir__() -> list[str]:
    from rompy_hydra import postprocess

    return sorted(postprocess.__all__)
