"""Why nothing could be computed or drawn: a sentence for the answer of the postprocessor."""

from __future__ import annotations

from rompy_hydra.errors import MissingToolError, RompyHydraError


class NothingToProcessError(RompyHydraError):
    """The results do not hold what was asked for; the message says what they hold and what would be right."""


def missing_library(error: ImportError, *, extra: str = "analysis") -> MissingToolError:
    """What to install, for an import that failed."""
    name = error.name or str(error)
    return MissingToolError(f"the Python package '{name}' is missing: pip install 'rompy-hydra[{extra}]'")
