from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.backends import plugin_kit

Plug = Callable[..., None]


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plug]:
    """Makes third-party packages appear on the import path: `plug(name, source, run={…}, config={…})`."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def install(
        name: str, source: str = plugin_kit.GOOD, *, root: str = "rompy_hydra", **kinds: Mapping[str, str]
    ) -> None:
        module = name.replace("-", "_")
        groups: dict[str, Any] = {f"{root}.{kind}": names for kind, names in kinds.items()}
        plugin_kit.lay_out(site, name, {f"{module}.py": source}, groups)

    yield install
    for module in set(sys.modules) - before:
        if str(site) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]
