"""Third-party packages for tests: laid out by hand as pip leaves them, or as wheels that pip installs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

GOOD = """\
from typing import Literal
from pydantic import Field
from rompy_hydra.backends.config import BaseBackendConfig

class GoodConfig(BaseBackendConfig):
    '''A well-behaved plug-in.'''
    type: Literal["good"] = "good"
    queue: str = Field("short", description="Queue.")

    def get_backend_class(self):
        return GoodRunBackend

class GoodRunBackend:
    def run(self, model_run, config):
        from pathlib import Path
        workspace = Path(model_run.generate())
        (workspace / "queue.txt").write_text(config.queue)
        print("good ran", model_run.run_id)
        return True

class Count:
    def process(self, model_run, **options):
        from pathlib import Path
        files = list((Path(model_run.output_dir) / model_run.run_id).iterdir())
        return {"success": True, "files": len(files), **options}
"""

# As ROMPY's documents show one: no `type`, no configuration class of its own.
SEED_STYLE = """\
import logging, os, time

class SeedRunBackend:
    def __init__(self):
        self.logger = logging.getLogger(__name__)

    def run(self, model_run, config):
        self.logger.info("asked to run %s", model_run.run_id)
        answer = config.env_vars.get("ANSWER", "yes")
        (__import__("pathlib").Path(model_run.generate()) / "pid").write_text(str(os.getpid()))
        if answer == "raise":
            raise RuntimeError("no node would have it")
        if answer == "none":
            return None
        if answer == "sleep":
            time.sleep(60)
        return answer == "yes"
"""

BROKEN = "raise ImportError('libmoon.so.3 is not there')\n"


def entry_points(groups: Mapping[str, Mapping[str, str]]) -> str:
    """The text of `entry_points.txt`."""
    return "".join(
        f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in names.items()) for group, names in groups.items()
    )


def metadata(name: str, version: str, groups: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "entry_points.txt": entry_points(groups),
    }


def lay_out(
    directory: Path,
    name: str,
    modules: Mapping[str, str],
    groups: Mapping[str, Mapping[str, str]],
    version: str = "1.0",
) -> None:
    """A package as it lies in site-packages."""
    for path, text in modules.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)
    info = directory / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    for file, text in metadata(name, version, groups).items():
        (info / file).write_text(text)


def make_wheel(
    directory: Path,
    name: str,
    modules: Mapping[str, str],
    groups: Mapping[str, Mapping[str, str]],
    version: str = "1.0",
) -> Path:
    """A wheel file."""
    stem = f"{name.replace('-', '_')}-{version}"
    path = directory / f"{stem}-py3-none-any.whl"
    files = {**modules, **{f"{stem}.dist-info/{k}": v for k, v in metadata(name, version, groups).items()}}
    record = f"{stem}.dist-info/RECORD"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
        wheel.writestr(record, "".join(f"{file},,\n" for file in [*files, record]))
    return path


def pip_install(target: Path, *what: Path) -> None:
    """Install into a folder, from nothing but what is given."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    command += ["--disable-pip-version-check", "--target", str(target), *map(str, what)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
