"""A Debian base image for real models, made here by debootstrap, and wheels for a build without a network.

Both are kept beside the services' other state: the first test that needs them makes them, every later one finds them.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.services.daemon import STATE_DIR, ServiceError, one_at_a_time, require_programs, require_root

SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv", "openmpi-bin", "libopenmpi3", "libgomp1", "openssh-client")
_RECIPE = hashlib.sha256(f"{SUITE} {PACKAGES}".encode()).hexdigest()[:12]
DEBIAN_IMAGE = f"rompy-test/debian:{_RECIPE}"


def missing() -> str | None:
    """Why the image can neither be found nor made."""
    if _has_image() or shutil.which("debootstrap"):
        return None
    return "no `debootstrap` on PATH; on Debian: apt-get install debootstrap"


def ensure_debian_image() -> str:
    """The name of an image with Python and Open MPI; making it takes a minute."""
    if _has_image():
        return DEBIAN_IMAGE
    require_root("debootstrap")
    require_programs(["debootstrap"], package="debootstrap")
    with one_at_a_time():
        if _has_image():
            return DEBIAN_IMAGE
        root = STATE_DIR / "debian"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        log = STATE_DIR / "logs" / "debootstrap.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        words = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)]
        with log.open("wb") as out:
            if subprocess.run(words, stdout=out, stderr=subprocess.STDOUT, check=False).returncode != 0:
                raise ServiceError(f"debootstrap failed; its log: {log}")
        tar = subprocess.Popen(["tar", "-C", str(root), "--exclude=./var/cache/apt/archives/*.deb", "-c", "."],
                               stdout=subprocess.PIPE)  # fmt: skip
        done = subprocess.run(
            ["docker", "import", "-", DEBIAN_IMAGE], stdin=tar.stdout, capture_output=True, check=False
        )
        assert tar.stdout is not None
        tar.stdout.close()
        if done.returncode != 0 or tar.wait() != 0:
            raise ServiceError(f"the Debian image cannot be imported: {done.stderr.decode(errors='replace').strip()}")
        shutil.rmtree(root, ignore_errors=True)
    return DEBIAN_IMAGE


def ensure_wheels(*packages: str) -> Path:
    """A directory with wheels of these packages and all that they need, in the versions that are installed here."""
    pip = [sys.executable, "-m", "pip"]
    frozen = subprocess.run([*pip, "freeze", "--exclude-editable"], capture_output=True, text=True, check=True).stdout
    key = hashlib.sha256(f"{packages} {frozen} {sys.version_info[:2]}".encode()).hexdigest()[:12]
    directory = STATE_DIR / "wheels" / key
    with one_at_a_time():
        if not directory.exists():
            making = directory.with_name(f"{key}.making")
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(parents=True)
            (making / "constraints.txt").write_text(frozen)
            words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(making)]
            done = subprocess.run(
                [*words, "--constraint", str(making / "constraints.txt"), *packages],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise ServiceError(f"wheels of {', '.join(packages)} cannot be made: {done.stderr.strip()}")
            (making / "constraints.txt").unlink()
            making.rename(directory)
    return directory


def _has_image() -> bool:
    found = subprocess.run(["docker", "image", "inspect", DEBIAN_IMAGE], capture_output=True, check=False)
    return found.returncode == 0
