"""The embedded libraries are the published ones, and each has its licence beside it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import rompy_hydra.report
from rompy_hydra.report.page import LIBRARIES

VENDOR = Path(rompy_hydra.report.__file__).parent / "vendor"
ROWS = re.findall(
    r"^\| (\S+) \| (\S+) (\S+) \| .*?\((LICENSE\S+?)\).*\| ([0-9a-f]{64}) \|$",
    (VENDOR / "VENDORED.md").read_text(),
    re.MULTILINE,
)


def test_every_file_is_as_it_was_published() -> None:
    for name, _, _, licence, sha256 in ROWS:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == sha256, name
        assert "ermission" in (VENDOR / licence).read_text()


def test_every_file_is_named() -> None:
    named = {row[0] for row in ROWS} | {row[3] for row in ROWS} | {"VENDORED.md"}
    assert {path.name for path in VENDOR.iterdir()} == named
    assert set(LIBRARIES) < named


def test_nothing_in_them_ends_a_script() -> None:
    for name, *_ in ROWS:
        assert not re.search(rb"</script|<!--", (VENDOR / name).read_bytes(), re.IGNORECASE), name
