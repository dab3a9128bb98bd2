from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweep.commands import Sweeps


@pytest.fixture
def sweeps(tmp_path: Path) -> Sweeps:
    return Sweeps(tmp_path)
