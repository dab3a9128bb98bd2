"""The import rule: imports go down the ladder, foreign libraries stay in their one room, the keeper stays light.

What counts is what importing a module runs: statements at module level, also inside `if`, `try`, `with` and class
bodies. Imports inside functions run later and may point up; so may those under `if TYPE_CHECKING`, which never run. The
rules on foreign libraries and on executors look at every import all the same: they say who may know a thing at all.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "rompy_hydra"

# From the street down; a room may import its own rung and all below. The first part of the module's name is its room.
LADDER: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            {"cli", "verbs", "__main__"},
            {"compose", "workflow", "sweeping", "model", "collection"},
            {"steps"},
            {"sweep", "report"},
            {"run", "workspace", "postprocess"},
            {"record"},
            {"plan"},
            {"backends"},
            {"units", "redaction", "check", "repository"},
            {"errors"},
        ),
    )
)
# library → the only modules that may import it, at any level
FOREIGN = {"hydra": "compose.", "omegaconf": "compose.", "docker": "run.docker"}
EXECUTORS = ("local", "docker", "slurm")


@dataclass(frozen=True)
class Import:
    """One imported module, absolute, and how it is imported."""

    line: int
    target: str
    names: tuple[str, ...]
    runs: bool  # false inside a function or under TYPE_CHECKING


def findings(sources: Mapping[str, str]) -> list[str]:
    """Every broken rule in a package given as {path below its root: source text}."""
    package = Package(sources)
    found = [
        *upward_imports(package),
        *room_cycles(package),
        *foreign_libraries(package),
        *executors_that_know_each_other(package),
        *heavy_keeper(package),
    ]
    return sorted(set(found))


class Package:
    """The modules of the package and what each imports."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.paths = {module_name(path): path for path in sources}
        self.imports = {
            name: list(read_imports(sources[path], name, is_package=path.endswith("__init__.py")))
            for name, path in self.paths.items()
        }

    def where(self, module: str, found: Import) -> str:
        return f"{PACKAGE}/{self.paths[module]}:{found.line}: imports {full_name(found)}"

    def inside(self, found: Import) -> Iterator[str]:
        """The modules of this package that an import names: `from a import b` names a.b if that is a module, else a."""
        if found.target != PACKAGE and not found.target.startswith(PACKAGE + "."):
            return
        submodules = [f"{found.target}.{name}" for name in found.names]
        known = [name for name in submodules if name in self.paths]
        yield from known
        if len(known) < len(submodules) or not submodules:
            yield found.target

    def runs_before(self, module: str) -> Iterator[str]:
        """The packages whose __init__ runs when a module is imported."""
        parts = module.split(".")
        yield from (".".join(parts[:end]) for end in range(1, len(parts)))


def upward_imports(package: Package) -> Iterator[str]:
    """Rooms without a rung, and module-level imports of a higher rung."""
    for module, imports in package.imports.items():
        room = room_of(module)
        if room is not None and rung(room) is None:
            yield f"{PACKAGE}/{package.paths[module]}:1: the room `{room}` has no rung; add it to LADDER in this test"
            continue
        for found in imports:
            if not found.runs:
                continue
            for target in package.inside(found):
                other = room_of(target)
                if other is None:
                    # The package's own __init__ looks up public names; through it a low room could reach any high one.
                    if any(f"{PACKAGE}.{name}" not in package.paths for name in found.names if name != "__version__"):
                        yield f"{package.where(module, found)}; import it from its own room, not from {PACKAGE}"
                    continue
                if room is None:
                    yield f"{package.where(module, found)}; {PACKAGE}/__init__ looks names up lazily"
                    continue
                own_rung, other_rung = rung(room), rung(other)
                if own_rung is not None and other_rung is not None and other_rung < own_rung:
                    yield f"{package.where(module, found)}; imports go down only: {other} stands above {room}"


def room_cycles(package: Package) -> Iterator[str]:
    """Rooms of one rung that import each other at module level, each way."""
    uses: dict[tuple[str, str], tuple[str, Import]] = {}
    for module, imports in package.imports.items():
        room = room_of(module)
        for found in imports:
            for other in (room_of(target) for target in package.inside(found) if found.runs):
                if room and other and room != other:
                    uses.setdefault((room, other), (module, found))
    for (room, other), (module, found) in uses.items():
        if (other, room) in uses:
            yield f"{package.where(module, found)}; {room} and {other} import each other"


def foreign_libraries(package: Package) -> Iterator[str]:
    """Hydra, OmegaConf and docker outside the one room that may know them."""
    for module, imports in package.imports.items():
        inside = module.removeprefix(PACKAGE + ".")
        for found in imports:
            library = found.target.partition(".")[0]
            home = FOREIGN.get(library)
            if home is not None and not f"{inside}.".startswith(home):
                yield f"{package.where(module, found)}; only {PACKAGE}.{home.rstrip('.')} may know {library}"


def executors_that_know_each_other(package: Package) -> Iterator[str]:
    """`run/local`, `run/docker` and `run/slurm` importing one another, or the templates."""
    for module, imports in package.imports.items():
        own = executor_of(module)
        if own is None:
            continue
        for found in imports:
            for target in package.inside(found):
                other = executor_of(target)
                if other is not None and other != own:
                    yield f"{package.where(module, found)}; executors do not know each other"
                if target.startswith(f"{PACKAGE}.workspace.") and "layout" not in target:
                    yield f"{package.where(module, found)}; executors know directories, not templates"


def heavy_keeper(package: Package) -> Iterator[str]:
    """Anything but the standard library in what starting the keeper imports, directly or through our own modules."""
    starts = [name for name in package.paths if name.startswith(f"{PACKAGE}.run.keeper")]
    reached = {name: name for name in starts}  # module → the chain that leads to it
    waiting = list(starts)
    while waiting:
        module = waiting.pop()
        for found in package.imports[module]:
            if not found.runs:
                continue
            top = found.target.partition(".")[0]
            if top != PACKAGE:
                if top not in sys.stdlib_module_names:
                    yield f"{package.where(module, found)}; the keeper is stdlib-only (reached by {reached[module]})"
                continue
            for target in package.inside(found):
                for needed in (*package.runs_before(target), target):
                    if needed in package.paths and needed not in reached:
                        reached[needed] = f"{reached[module]} → {needed}"
                        waiting.append(needed)


def read_imports(source: str, module: str, *, is_package: bool) -> Iterator[Import]:
    """All imports of one source text, relative ones made absolute."""
    base = module.split(".") if is_package else module.split(".")[:-1]
    for node, runs in walk(ast.parse(source).body, runs=True):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name, (), runs) for alias in node.names)
        else:
            above = base[: len(base) - node.level + 1] if node.level else []
            target = ".".join([*above, *([node.module] if node.module else [])])
            yield Import(node.lineno, target, tuple(alias.name for alias in node.names), runs)


def walk(body: Iterable[ast.AST], *, runs: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, runs
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from walk(ast.iter_child_nodes(node), runs=False)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from walk(node.body, runs=False)
            yield from walk(node.orelse, runs=runs)
        else:
            yield from walk(ast.iter_child_nodes(node), runs=runs)


def module_name(path: str) -> str:
    parts = [PACKAGE, *Path(path).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str | None:
    """`rompy_hydra.run.local` → run; None for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def rung(room: str) -> int | None:
    return next((number for number, rooms in enumerate(LADDER) if room in rooms), None)


def executor_of(module: str) -> str | None:
    parts = module.split(".")
    if parts[:2] != [PACKAGE, "run"] or len(parts) < 3:
        return None
    return next((name for name in EXECUTORS if parts[2].startswith(name)), None)


def full_name(found: Import) -> str:
    return f"{found.target}.{{{', '.join(found.names)}}}" if found.names else found.target


def package_sources() -> dict[str, str]:
    base = ROOT / PACKAGE
    # what is shipped is no part of the package: it may hold models' own code
    shipped = {"conf", "templates", "skeleton"}
    paths = [path for path in sorted(base.rglob("*.py")) if shipped.isdisjoint(path.relative_to(base).parts)]
    return {path.relative_to(base).as_posix(): path.read_text() for path in paths}


def test_the_package_keeps_the_import_rule() -> None:
    broken = findings(package_sources())
    assert not broken, "\n" + "\n".join(broken)


def test_there_is_a_keeper_to_watch() -> None:
    assert any(path.startswith("run/keeper") for path in package_sources())


SOUND = {
    "__init__.py": "__version__ = '1'\ndef __getattr__(name):\n    from rompy_hydra.model import ModelRun\n",
    "cli.py": "from rompy_hydra import __version__, workflow\n",
    "workflow.py": "from rompy_hydra.compose import composer\nfrom rompy_hydra.run.base import Job\n",
    "compose/__init__.py": "",
    "compose/composer.py": "import hydra\nfrom omegaconf import OmegaConf\nfrom ..plan import names\n",
    "plan/__init__.py": "",
    "plan/names.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rompy_hydra.workflow import Path\n",
    "record/__init__.py": "",
    "record/states.py": "import enum\n",
    "run/__init__.py": "",
    "run/base.py": "import pydantic\nfrom rompy_hydra.record import states\n",
    "run/docker.py": "def client():\n    import docker\n    return docker.from_env()\n",
    "run/local.py": "from rompy_hydra.run import base\n",
    "run/keeper.py": "import os\nfrom rompy_hydra.record.states import RunState\n",
}


def test_a_sound_package_passes() -> None:
    assert findings(SOUND) == []


TYPING_ONLY = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "
PLANTED = [
    (
        "plan/names.py",
        "import rompy_hydra.workflow",
        "plan/names.py:1: imports rompy_hydra.workflow; imports go down only",
    ),
    (
        "plan/names.py",
        "x = 1\nfrom .. import workflow",
        "plan/names.py:2: imports rompy_hydra.{workflow}; imports go down",
    ),
    (
        "record/states.py",
        "try:\n    from ..run import base\nexcept ImportError: ...",
        "states.py:2: imports rompy_hydra.run",
    ),
    (
        "record/states.py",
        "class A:\n    import rompy_hydra.cli",
        "states.py:2: imports rompy_hydra.cli; imports go down",
    ),
    ("plan/names.py", "from rompy_hydra import ModelRun", "import it from its own room"),
    ("__init__.py", "from rompy_hydra.model import ModelRun", "looks names up lazily"),
    ("compose/composer.py", "from rompy_hydra import workflow", "compose and workflow import each other"),
    ("shed/tools.py", "", "the room `shed` has no rung"),
    (
        "plan/names.py",
        "def f():\n    from omegaconf import OmegaConf",
        "names.py:2: imports omegaconf.{OmegaConf}; only",
    ),
    ("cli.py", TYPING_ONLY + "import hydra", "only rompy_hydra.compose may know hydra"),
    ("run/local.py", "def f():\n    import docker.errors", "only rompy_hydra.run.docker may know docker"),
    ("run/local.py", "from rompy_hydra.run import docker", "executors do not know each other"),
    ("run/local.py", "from rompy_hydra.workspace.render import render", "executors know directories, not templates"),
    ("run/keeper.py", "import psutil", "run/keeper.py:1: imports psutil; the keeper is stdlib-only"),
    ("record/states.py", "import pydantic", "states.py:1: imports pydantic; the keeper is stdlib-only (reached by"),
    ("record/__init__.py", "import yaml", "rompy_hydra.run.keeper → rompy_hydra.record"),
]


@pytest.mark.parametrize(("path", "source", "complaint"), PLANTED)
def test_a_planted_mistake_is_found(path: str, source: str, complaint: str) -> None:
    broken = findings({**SOUND, path: source})
    assert any(complaint in line for line in broken), broken
