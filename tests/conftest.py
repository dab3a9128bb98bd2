"""What every test gets: no sight of the user's own settings, and markers that mean "this real thing must be here".

A test marked `docker`, `slurm`, `browser`, `veros` or `anuga` is skipped, with the reason and the mend, where that
thing is missing. A thing that ROMPY_HYDRA_REQUIRE names (a comma list, as CI sets it) fails the test instead: there, a
skip would hide a hole.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.services import docker_engine, slurm

REQUIRE_VARIABLE = "ROMPY_HYDRA_REQUIRE"
SEED_VARIABLE = "ROMPY_HYDRA_SOAK_SEED"
SECONDS_VARIABLE = "ROMPY_HYDRA_SOAK_SECONDS"

# Read once, here: the isolation below hides every ROMPY_* variable from the tests.
SOAK_SEED = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(2**32))
SOAK_SECONDS = float(os.environ.get(SECONDS_VARIABLE) or 60)

# On a loaded two-core machine a slow example says nothing about the code.
hypothesis.settings.register_profile("rompy_hydra", deadline=None, print_blob=True)
hypothesis.settings.load_profile("rompy_hydra")


def _browser_missing() -> str | None:
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {' and no '.join(absent)}; on Debian: apt-get install chromium chromium-driver" if absent else None


def _package_missing(name: str) -> str | None:
    return None if importlib.util.find_spec(name) else f"{name} is not installed; pip install -e '.[{name}]'"


def _anuga_missing() -> str | None:
    if shutil.which("mpirun") is None:
        return "no mpirun; on Debian: apt-get install openmpi-bin"
    return _package_missing("anuga")


NEEDS: dict[str, Callable[[], str | None]] = {
    "docker": docker_engine.missing,
    "slurm": slurm.missing,
    "browser": _browser_missing,
    "veros": functools.partial(_package_missing, "veros"),
    "anuga": _anuga_missing,
}


@functools.cache
def missing(need: str) -> str | None:
    """Why a real thing cannot be used, asked once per test process; None if it can."""
    return NEEDS[need]()


def required() -> frozenset[str]:
    """The needs that must not be skipped here."""
    return frozenset(name.strip() for name in os.environ.get(REQUIRE_VARIABLE, "").split(",")) - {""}


def pytest_configure(config: pytest.Config) -> None:
    if unknown := required() - NEEDS.keys():
        raise pytest.UsageError(f"{REQUIRE_VARIABLE} names {', '.join(sorted(unknown))}; it knows {', '.join(NEEDS)}")


def pytest_report_header(config: pytest.Config) -> list[str]:
    lines = [f"{REQUIRE_VARIABLE}: {', '.join(sorted(required())) or 'nothing (what is missing is skipped)'}"]
    if _soaking(config):
        lines.append(f"soak: {SOAK_SECONDS:.0f} s, seed {SOAK_SEED} (again: {SEED_VARIABLE}={SOAK_SEED} make soak)")
    return lines


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the soak out unless `-m` asks for it, whatever else is asked for."""
    if _soaking(config):
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    if soak:
        items[:] = [item for item in items if item not in soak]
        config.hook.pytest_deselected(items=soak)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for need in NEEDS:
        if item.get_closest_marker(need) is None:
            continue
        reason = missing(need)
        if reason is None:
            continue
        if need in required():
            pytest.fail(f"{REQUIRE_VARIABLE} asks for {need}: {reason}", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def private_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Paths for a user's folders, a new one for each test; nothing exists there until something is written."""
    base = tmp_path_factory.mktemp("homes")
    return (base / str(number) for number in itertools.count())


@pytest.fixture(scope="session")
def git_settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git configuration with a name to commit under, in place of the user's (signing, hooks, templates)."""
    path = tmp_path_factory.mktemp("git") / "config"
    path.write_text("[user]\n\tname = Test\n\temail = test@example.org\n[init]\n\tdefaultBranch = main\n")
    return path


@pytest.fixture(autouse=True)
def isolated_environment(monkeypatch: pytest.MonkeyPatch, private_home: Iterator[Path], git_settings: Path) -> None:
    """Hide what this user or this job has set: our variables, XDG folders, git's settings, a surrounding MPI job.

    HOME stays: interpreters and tools are found through it, and everything of ours looks at the XDG folders first.
    """
    for name in list(os.environ):
        ours = name.startswith("ROMPY_") and name != REQUIRE_VARIABLE
        foreign = name.startswith(("SLURM_", "SBATCH_", "OMPI_", "PMI_", "HYDRA_")) and name != "SLURM_CONF"
        if ours or foreign:
            monkeypatch.delenv(name)
    home = next(private_home)
    for kind in ("CONFIG", "CACHE", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(git_settings))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture(scope="session")
def tiny_image() -> str:
    """The name of an image of one static program, present in the engine (for tests marked `docker`)."""
    return docker_engine.ensure_tiny_image()


@pytest.fixture
def soak_random() -> random.Random:
    """The source of randomness of a soak test; its seed is in the header of the test run."""
    return random.Random(SOAK_SEED)


@pytest.fixture
def soak_seconds() -> float:
    """How long a soak test goes on."""
    return SOAK_SECONDS


def _soaking(config: pytest.Config) -> bool:
    return "soak" in str(config.getoption("markexpr"))
