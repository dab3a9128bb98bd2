"""The code blocks of the seed's document, cut out of it."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).with_name("backend_reference.rst")
_START = re.compile(r"^\.\. code-block:: (\w+)$")
_ROOT = re.compile(r"^(\s*)(from|import) rompy(?=[.\s])", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block: its language, the heading above it, its text, the line it starts on."""

    language: str
    heading: str
    text: str
    line: int

    @property
    def code(self) -> str:
        """The text with the package root of ours in its imports."""
        return _ROOT.sub(r"\1\2 rompy_hydra", self.text)


def read_blocks(document: Path = DOCUMENT) -> list[Block]:
    """All blocks, in order."""
    lines = document.read_text().splitlines()
    blocks: list[Block] = []
    heading = ""
    for number, line in enumerate(lines):
        if number + 1 < len(lines) and re.match(r"^[=\-]{4,}$", lines[number + 1]) and line.strip():
            heading = line
        if start := _START.match(line):
            body = []
            for inner in lines[number + 1 :]:
                if inner.strip() and not inner.startswith(" "):
                    break
                body.append(inner)
            text = textwrap.dedent("\n".join(body)).strip("\n") + "\n"
            blocks.append(Block(start[1], heading, text, number + 1))
    return blocks
