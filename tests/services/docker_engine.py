"""The Docker engine: Debian's `dockerd` started by hand, and a tiny image, since a closed network pulls none."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.services.daemon import STATE_DIR, Daemon, ServiceError, require_programs, require_root

SOCKET = Path("/var/run/docker.sock")
ENGINE_PID_FILE = STATE_DIR / "docker" / "dockerd.pid"
CONTAINERD_PID_FILE = STATE_DIR / "docker" / "exec" / "containerd" / "containerd.pid"
TINY_IMAGE = "rompy-test/busybox:latest"
DOCKERD = Daemon(
    "dockerd",
    [
        "dockerd",
        f"--data-root={STATE_DIR}/docker/data",
        f"--exec-root={STATE_DIR}/docker/exec",
        f"--pidfile={ENGINE_PID_FILE}",
        f"--host=unix://{SOCKET}",
    ],
)
_RECIPE_LABEL = "rompy-test.recipe"


def missing() -> str | None:
    """Why the engine cannot be used, with what to do; None if it can."""
    if shutil.which("docker") is None:
        return "no `docker` on PATH; on Debian: apt-get install docker.io, then `make services`"
    try:
        answer = _docker("version", "--format", "{{.Server.Version}}", timeout=20)
    except subprocess.TimeoutExpired:
        return "the Docker engine does not answer within 20 s; look at `python3 -m tests.services status`"
    if answer.returncode != 0:
        return f"no Docker engine answers ({_last_line(answer)}); start it with `make services`"
    return None


def start() -> None:
    """Start the engine unless one answers already (then that one is used), and import the tiny image."""
    if missing() is not None:
        require_root("the Docker engine")
        require_programs(["dockerd", "docker"], package="docker.io")
        if DOCKERD.pid() is None:
            # after a kill -9, dockerd trusts these files while any process, even an unreaped zombie, has their pid
            for leftover in (ENGINE_PID_FILE, CONTAINERD_PID_FILE):
                leftover.unlink(missing_ok=True)
            DOCKERD.start()
        DOCKERD.wait_until(missing, seconds=60)
    ensure_tiny_image()


def stop() -> bool:
    return DOCKERD.stop()


def status() -> str:
    reason = missing()
    if reason is not None:
        return f"not running: {reason}"
    pid = DOCKERD.pid()
    owner = f"pid {pid}, log {DOCKERD.log}" if pid else "not started by us"
    return f"running on {SOCKET} ({owner}); image {TINY_IMAGE}"


def ensure_tiny_image() -> str:
    """Import the tiny image if this engine has none of the present recipe; return its name."""
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        raise ServiceError("the tiny image needs a static busybox; on Debian: apt-get install busybox-static")
    archive = _tiny_root(busybox)
    recipe = hashlib.sha256(archive).hexdigest()[:16]
    label = "{{index .Config.Labels " + f'"{_RECIPE_LABEL}"' + "}}"
    known = _docker("image", "inspect", "--format", label, TINY_IMAGE)
    if known.returncode != 0 or known.stdout.decode().strip() != recipe:
        labelled = ["--change", f"LABEL {_RECIPE_LABEL}={recipe}"]
        imported = _docker("import", *labelled, "-", TINY_IMAGE, stdin=archive)
        if imported.returncode != 0:
            raise ServiceError(f"cannot import {TINY_IMAGE}: {_last_line(imported)}")
    return TINY_IMAGE


def ensure_public_name(name: str) -> None:
    """Have the tiny image stand in for a public one of this name, where the engine does not have that."""
    if _docker("image", "inspect", name).returncode != 0:
        _docker("tag", ensure_tiny_image(), name)


def _tiny_root(busybox: Path) -> bytes:
    """A root file system of one static program: no bash, no /etc/passwd, as in many real images."""
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    content = busybox.read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("tmp", 0o1777)):
            tar.addfile(_entry(name, tarfile.DIRTYPE, mode))
        program = _entry("bin/busybox", tarfile.REGTYPE, 0o755)
        program.size = len(content)
        tar.addfile(program, io.BytesIO(content))
        for applet in sorted(set(applets) - {"busybox"}):
            link = _entry(f"bin/{applet}", tarfile.SYMTYPE, 0o777)
            link.linkname = "busybox"
            tar.addfile(link)
    return buffer.getvalue()


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    return entry


def _docker(*args: str, stdin: bytes | None = None, timeout: float = 120) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["docker", *args], input=stdin, capture_output=True, timeout=timeout, check=False)


def _last_line(result: subprocess.CompletedProcess[bytes]) -> str:
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {result.returncode}"
