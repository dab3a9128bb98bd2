"""The packaged conf/ and templates/ are found however the package was installed (design, decision 5).

Real builds and real installs of a copy of this checkout. The dependencies are not installed again: a `.pth` file lets
the new environments see those of the one that runs the tests, behind their own packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What git does not keep is no part of a checkout.
NOT_IN_GIT = (".git", ".venv", "runs", "outputs", "multirun", "build", "dist", "__pycache__", ".*_cache", ".hypothesis")

pytestmark = pytest.mark.xdist_group("distribution")


@dataclass(frozen=True)
class Distributions:
    """What was built from one copy of the checkout."""

    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


@dataclass(frozen=True)
class Environment:
    """A new virtual environment that holds nothing but our package."""

    folder: Path

    def python(self, code: str, *, cwd: Path) -> str:
        return run([self.folder / "bin" / "python", "-c", code], cwd=cwd)

    def rompy_hydra(self, *args: str, cwd: Path) -> str:
        return run([self.folder / "bin" / "rompy-hydra", *args], cwd=cwd)


def run(argv: list[str | Path], *, cwd: Path) -> str:
    # PYTHONPATH would put the checkout first and prove nothing
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, argv))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def copy_of_the_checkout(target: Path) -> Path:
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*NOT_IN_GIT), symlinks=True)
    return target


def build(source: Path, target: Path, *kinds: str) -> None:
    run([sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", target, source], cwd=target.parent)


def install(folder: Path, *what: str | Path) -> Environment:
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    ours = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], cwd=folder).strip())
    # a plain path: the .pth files of that folder (an editable install of this very checkout) are not followed
    (ours / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    flags = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    run([sys.executable, "-m", "pip", "--python", python, "install", *flags, *what], cwd=folder)
    return Environment(folder)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    base = tmp_path_factory.mktemp("built")
    source = copy_of_the_checkout(base / "checkout")
    direct, through_sdist = base / "direct", base / "through_sdist"
    build(source, direct, "--wheel")
    build(source, through_sdist)
    return Distributions(
        wheel=next(direct.glob("*.whl")),
        sdist=next(through_sdist.glob("*.tar.gz")),
        wheel_of_sdist=next(through_sdist.glob("*.whl")),
    )


def assert_it_works(environment: Environment, elsewhere: Path) -> None:
    """From another folder, with nothing of the checkout near: the packaged config and templates, one whole run."""
    where = (
        "from rompy_hydra.compose.sources import packaged_dir; print(packaged_dir('conf'), packaged_dir('templates'))"
    )
    for found in environment.python(where, cwd=elsewhere).split():
        assert Path(found).is_relative_to(environment.folder)
        assert any(Path(found).iterdir())
    command = ["run", "model=command", "backend.command=echo hello", "output_dir=here", "run_id=one"]
    environment.rompy_hydra(*command, cwd=elsewhere)
    assert (elsewhere / "here" / "one" / "logs" / "stdout.log").read_text() == "hello\n"
    assert "veros_acc" in environment.rompy_hydra("run", "--cfg", "job", cwd=elsewhere)
    environment.rompy_hydra("init", "new", cwd=elsewhere)
    assert "nothing is wrong" in environment.rompy_hydra("check", "new", cwd=elsewhere)


def test_a_wheel_works_in_an_empty_environment(distributions: Distributions, tmp_path: Path) -> None:
    environment = install(tmp_path / "env", distributions.wheel)
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    assert_it_works(environment, elsewhere)


def test_a_wheel_built_from_the_sdist_works(distributions: Distributions, tmp_path: Path) -> None:
    environment = install(tmp_path / "env", distributions.wheel_of_sdist)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert_it_works(environment, elsewhere)


def test_an_editable_install_sees_a_yaml_file_that_was_edited_afterwards(tmp_path: Path) -> None:
    checkout = copy_of_the_checkout(tmp_path / "checkout")
    environment = install(tmp_path / "env", "--editable", checkout)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    site = checkout / "conf" / "site" / "laptop.yaml"
    before = environment.rompy_hydra("run", "--cfg", "job", "--package", "site", cwd=elsewhere)
    assert "planted-launcher" not in before
    site.write_text(site.read_text().replace("launcher: mpirun", "launcher: planted-launcher"))
    after = environment.rompy_hydra("run", "--cfg", "job", "--package", "site", cwd=elsewhere)
    assert "launcher: planted-launcher" in after


def test_an_editable_install_keeps_no_copy_that_would_go_stale(tmp_path: Path) -> None:
    environment = install(tmp_path / "env", "--editable", copy_of_the_checkout(tmp_path / "checkout"))
    assert not list(environment.folder.rglob("*.yaml"))


def test_a_wheel_holds_conf_and_templates_once_and_nothing_of_the_workshop(distributions: Distributions) -> None:
    expected = {
        f"rompy_hydra/{path.relative_to(ROOT).as_posix()}"
        for kind in ("conf", "templates")
        for path in (ROOT / kind).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = zipfile.ZipFile(distributions.wheel).namelist()
    assert max(Counter(names).values()) == 1
    assert {name for name in names if name.split("/")[1] in {"conf", "templates"}} == expected
    assert {name.split("/")[0] for name in names} == {
        "rompy_hydra",
        next(n for n in names if "dist-info" in n).split("/")[0],
    }


def test_both_ways_give_the_same_wheel(distributions: Distributions) -> None:
    direct, through = (zipfile.ZipFile(path) for path in (distributions.wheel, distributions.wheel_of_sdist))
    assert {name: direct.read(name) for name in direct.namelist()} == {
        name: through.read(name) for name in through.namelist()
    }


def test_the_sdist_holds_what_is_needed_to_build_and_test(distributions: Distributions) -> None:
    with tarfile.open(distributions.sdist) as archive:
        inside = {name.partition("/")[2].partition("/")[0] for name in archive.getnames()}
    assert inside >= {"pyproject.toml", "README.md", "LICENSE", "rompy_hydra", "conf", "templates", "tests"}
