"""Templates and libraries → one HTML file that needs nothing else and may fetch nothing.

Every expression of a template is escaped (Jinja2's autoescape) and cleaned of invisible characters.  The page's own
policy forbids what escaping might have missed: scripts run only if their hash is named, and nothing is fetched.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import SiteError
from rompy_hydra.report.columns import clean

if TYPE_CHECKING:
    import jinja2

LIBRARIES = ("d3.min.js", "plot.umd.min.js", "tabulator.min.js")
_SOURCE_MAP = re.compile(r"^(?://# |/\*# )sourceMappingURL=.*$", re.MULTILINE)
_LINE_ENDS = re.compile(r"\r\n?")


def render(template: str, context: Mapping[str, Any], *, scripts: Sequence[str] = ()) -> bytes:
    """A page of `pages/`; `scripts` are the texts of what may run in it."""
    from markupsafe import Markup

    texts = [_LINE_ENDS.sub("\n", script) for script in scripts]  # as the browser reads them: the hash is of that
    page = _environment().get_template(template)
    html = page.render(
        {
            **context,
            "policy": policy(texts),
            "scripts": [Markup(text) for text in texts],  # noqa: S704  # our own files, see `embedded`
            "style": Markup(_asset("pages", "report.css")),  # noqa: S704  # our own file
        }
    )
    return html.encode("utf-8", "replace")


def policy(scripts: Sequence[str]) -> str:
    """The content security policy: these scripts, styles of the page, pictures in the page, nothing else."""
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts]
    run = " ".join(hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {run}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def embedded(name: str) -> str:
    """A library of `vendor/`, or a script of `pages/`, as it is put between `<script>` and `</script>`."""
    folder = "vendor" if name in LIBRARIES or name.endswith(".css") else "pages"
    return _SOURCE_MAP.sub("", _asset(folder, name)).strip()


def write_page(path: Path, page: bytes) -> None:
    """Write it aside, then rename it: whoever reloads gets the old page or the new one, whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(page)
        aside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise SiteError(
            f"the report {path} cannot be written: {error.strerror or error}; write it elsewhere with --output FILE"
        ) from error


@lru_cache(maxsize=16)
def _asset(folder: str, name: str) -> str:
    return (resources.files("rompy_hydra.report") / folder / name).read_text("utf-8")


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    import jinja2
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    return jinja2.Environment(
        loader=jinja2.PackageLoader("rompy_hydra.report", "pages"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
