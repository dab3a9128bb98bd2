"""Examples in the documents run: commands, Python, and the files they show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services import docker_engine

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"\A# ((?:conf|templates)/\S+)\n")
# What sets up a machine cannot run inside a test of the tests.
_NOT_RUN = re.compile(r"^(git clone|cd |make |pip install)")


@dataclass(frozen=True)
class Block:
    """One example in a document."""

    document: str
    number: int
    language: str
    text: str


def blocks(document: Path) -> Iterator[Block]:
    for number, match in enumerate(_BLOCK.finditer(document.read_text()), 1):
        yield Block(document.name, number, match[1], match[2])


def commands(document: Path) -> Iterator[tuple[str, bool]]:
    """Each `$ command` of a document, and whether its output shows that it is refused."""
    for block in blocks(document):
        if block.language == "console":
            lines = block.text.splitlines()
            for number, line in enumerate(lines):
                if line.startswith("$ ") and not _NOT_RUN.match(line[2:]):
                    refused = number + 1 < len(lines) and lines[number + 1].startswith("rompy-hydra: ")
                    yield line[2:], refused


def write_shown_files(document: Path, directory: Path) -> None:
    for block in blocks(document):
        if shown := _FILE.match(block.text):
            path = directory / shown[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text[shown.end() :])


def needs(command: str) -> str | None:
    if "--cfg" in command:
        return None
    if "backend=docker" in command or "runs/inside" in command:
        return "docker"
    if "backend=slurm" in command or "in_queue" in command:
        return "slurm"
    if "model=command" in command or "run --from" in command:
        return None
    if "anuga" in command:
        return "anuga"
    return "veros" if command.startswith("rompy-hydra run") and "model=" not in command else None


def cases() -> Iterator[object]:
    for document in DOCUMENTS:
        for marker in (None, "veros", "anuga", "docker", "slurm"):
            marks = (
                []
                if marker is None
                else [
                    getattr(pytest.mark, marker),
                    pytest.mark.xdist_group("docker" if marker == "docker" else f"docs-{marker}"),
                ]
            )
            if any(needs(c) == marker for c, _ in commands(document)):
                yield pytest.param(document, marker, id=f"{document.name}-{marker or 'quick'}", marks=marks)


@pytest.mark.parametrize(("document", "marker"), list(cases()))
def test_commands_in_documents_run(document: Path, marker: str | None, tmp_path: Path) -> None:
    write_shown_files(document, tmp_path)
    if marker == "docker":
        docker_engine.ensure_public_name("busybox")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = 0
    for command, refused in commands(document):
        if needs(command) != marker:
            continue
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode == 2) if refused else (done.returncode == 0), f"{command}\n{done.stdout}{done.stderr}"
        ran += 1
    assert ran


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_in_documents_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(document):
        if block.language == "python":
            exec(compile(block.text, f"{document.name}, block {block.number}", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_in_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_documented_options_are_those_that_ship() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    for group in ("resources", "site", "model", "backend", "postprocess", "env", "experiment"):
        row = next(line for line in text.splitlines() if line.startswith(f"| `{group}`"))
        named = set(re.findall(r"`([\w]+)`", row.split("|")[3]))
        assert named == {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
