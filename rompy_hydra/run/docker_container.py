"""A container as plain data: what is planned (`ContainerSettings`), what the engine is asked for (`container_config`).

    DockerConfig  →  ContainerSettings  →  placed in a run's directory  →  the engine's JSON

No engine is asked in here, so that a dry run can show all of it and a test can read all of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rompy_hydra.errors import ConfigError, Finding

LABEL = "rompy-hydra."
TOKEN_LABEL = f"{LABEL}token"
ROLE_LABEL = f"{LABEL}role"
SECRETS_DIR = "/run/secrets"
MINIMUM_MEMORY_BYTES = 6 * 1024 * 1024  # what an engine accepts
DEFAULT_PIDS = 4096
_MPI_SHM_BYTES = 1 << 30  # ranks talk through /dev/shm, and an engine's 64 MiB are soon full
_MOUNTS_OF_ONE_DIRECTORY = 16
# Docker's one driver that keeps bytes as they are (Podman's only one does, too); its files are gone with the container.
_LOG_OPTIONS = {"local": {"max-size": "1t", "max-file": "1", "compress": "false"}}

# Whoever may write here, or see all of it, has the machine.  Reading single things below /etc is everyday.
_PROTECTED = (
    *("/etc", "/proc", "/sys", "/dev", "/boot", "/run", "/var/run", "/var/lib/docker", "/var/lib/containerd"),
    *("/var/lib/containers", "/bin", "/sbin", "/lib", "/lib64", "/usr/bin", "/usr/sbin", "/usr/lib", "/root/.ssh"),
)
_NEVER_BELOW = ("/proc", "/sys", "/dev", "/boot", "/var/lib/docker", "/var/lib/containerd", "/root/.ssh")
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - it is no place of ours, and no device


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of this machine at the same path in the container."""

    path: str
    writable: bool = False

    def to_api(self) -> dict[str, Any]:
        """The engine's form, which takes any path, also one with a colon."""
        return {"Type": "bind", "Source": self.path, "Target": self.path, "ReadOnly": not self.writable}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSettings:
    """Everything that a container of a run gets beside its command, its environment and its memory.

    `image` is the image's own id, so that a name that is moved meanwhile changes nothing.  `volumes` are the engine's
    `host:container:mode`.  `secret_files` maps names below /run/secrets to values, which are in no dump of ours.
    """

    engine: str
    image: str
    image_facts: Mapping[str, Any] = field(default_factory=dict)
    user: str
    mounts: tuple[Mount, ...] = ()
    volumes: tuple[str, ...] = ()
    network: str | None = None
    cpus: float | None = None
    binds_cpus: bool = False
    shm_bytes: int | None = None
    capabilities: tuple[str, ...] = ()
    read_only: bool = False
    pids: int = DEFAULT_PIDS
    remove: bool = True
    log_driver: str = "local"
    labels: Mapping[str, str] = field(default_factory=dict)
    secret_files: Mapping[str, str] = field(default_factory=dict, repr=False)

    def placed(
        self, *, run_dir: Path, directory: Path, links: Sequence[str] = (), labels: Mapping[str, str] | None = None
    ) -> ContainerSettings:
        """The same for one run: its directory, where its command runs, and what its linked inputs lead to.

        `links` are names in the run directory.  A linked target is mounted read-only at its own path; many in one
        directory are one mount of that directory.
        """
        writable = [run_dir] if directory.is_relative_to(run_dir) else [run_dir, directory]
        taken = {volume.split(":")[1] for volume in self.volumes}
        mounts = [Mount(str(path), writable=True) for path in writable if str(path) not in taken]
        targets = [str((run_dir / name).readlink()) for name in links if (run_dir / name).is_symlink()]
        outside = [t for t in dict.fromkeys(targets) if not any(Path(t).is_relative_to(path) for path in writable)]
        mounts += [Mount(path) for path in _few(outside) if path not in taken]
        return replace(self, mounts=tuple(mounts), labels={**self.labels, **(labels or {})})

    def to_wire(self) -> dict[str, Any]:
        """Plain data for the pipe to the keeper."""
        return asdict(self)

    def provenance(self) -> dict[str, Any]:
        """What the record keeps of the image."""
        return {"image": {**self.image_facts, "id": self.image}}


def _few(targets: list[str]) -> list[str]:
    """The targets, those of a directory with many of them as that directory."""
    by_directory: dict[str, list[str]] = {}
    for target in targets:
        by_directory.setdefault(os.path.dirname(target), []).append(target)  # noqa: PTH120 - text in, text out
    return [
        path
        for directory, members in by_directory.items()
        for path in ([directory] if len(members) > _MOUNTS_OF_ONE_DIRECTORY and directory != "/" else members)
    ]


def container_config(
    settings: Mapping[str, Any],
    *,
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: str,
    memory_bytes: int | None,
    cpu_affinity: Sequence[int] | None = None,
    token: str,
    role: str = "run",
    secrets_at: str | None = None,
) -> dict[str, Any]:
    """The engine's JSON for a container: `settings` as `to_wire` gave it.

    `cpu_affinity` are CPUs by their numbers, which a sweep deals out; an engine of another machine has others.
    `secrets_at` is the directory of this machine (in memory) that holds the secret files for the moment of the start.
    """
    binds = list(settings["volumes"])
    mounts = [Mount(**mount).to_api() for mount in settings["mounts"]]
    if secrets_at is not None:
        mounts += [
            {"Type": "bind", "Source": f"{secrets_at}/{name}", "Target": f"{SECRETS_DIR}/{name}", "ReadOnly": True}
            for name in settings["secret_files"]
        ]
    host: dict[str, Any] = {
        "Binds": binds,
        "Mounts": mounts,
        "Init": True,  # reaps orphans, and takes the signals that the kernel would keep from process 1
        "AutoRemove": False,  # the exit code must outlive us; who records the end removes
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": settings["log_driver"], "Config": _LOG_OPTIONS.get(settings["log_driver"], {})},
        "CapDrop": ["ALL"],
        "CapAdd": list(settings["capabilities"]),
        "SecurityOpt": ["no-new-privileges:true"],
        "Privileged": False,
        "ReadonlyRootfs": settings["read_only"],
        "PidsLimit": settings["pids"],
    }
    if settings["read_only"]:
        host["Tmpfs"] = {"/tmp": "rw,mode=1777"}  # noqa: S108 - the container's own, in memory
    if settings["network"] is not None:
        host["NetworkMode"] = settings["network"]
    if settings["cpus"] is not None:
        host["NanoCpus"] = round(settings["cpus"] * 1e9)
    if cpu_affinity and settings["binds_cpus"] and settings["engine"].startswith("unix:"):
        host["CpusetCpus"] = ",".join(map(str, cpu_affinity))
    if memory_bytes is not None:
        host |= {"Memory": memory_bytes, "MemorySwap": memory_bytes}  # the same: no swap beside it
    if settings["shm_bytes"] is not None:
        host["ShmSize"] = settings["shm_bytes"]
    return {
        "Image": settings["image"],
        "Entrypoint": [argv[0]],
        "Cmd": list(argv[1:]),
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "User": settings["user"],
        "WorkingDir": directory,
        "Labels": {**settings["labels"], TOKEN_LABEL: token, ROLE_LABEL: role},
        "Healthcheck": {"Test": ["NONE"]},  # an image's own would run beside the model
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": False,
        "Tty": False,
        "HostConfig": host,
    }


def shm_bytes(*, has_launcher: bool, memory_bytes: int | None) -> int | None:
    """How large /dev/shm is made: enough for MPI, within the memory of the run (it counts there); None: as it is."""
    if not has_launcher:
        return None
    return _MPI_SHM_BYTES if memory_bytes is None else max(min(_MPI_SHM_BYTES, memory_bytes // 2), 1 << 20)


# ---- mounts


def volume_binds(volumes: Sequence[str]) -> tuple[str, ...]:
    """`DockerConfig.volumes` as the engine reads them; one that does not say `rw` is read-only.

    Raises `ConfigError` where two volumes would lie at one place in the container.
    """
    binds: list[str] = []
    places: dict[str, str] = {}
    findings: list[Finding] = []
    for number, volume in enumerate(volumes):
        source, target, modes = split_volume(volume)
        if "rw" not in modes and "ro" not in modes:
            modes = ("ro", *modes)
        place = target.rstrip("/")
        if place in places:
            findings.append(
                Finding(
                    key=f"backend.volumes[{number}]",
                    value=volume,
                    rule=f"{place} in the container is taken by {places[place]}",
                    mend="mount one of them elsewhere",
                )
            )
        places[place] = volume
        binds.append(f"{source}:{target}:{','.join(modes)}")
    if findings:
        raise ConfigError("two volumes have one place in the container", findings)
    return tuple(binds)


def split_volume(volume: str) -> tuple[str, str, tuple[str, ...]]:
    """Source (a path, or the name of a volume), place in the container, modes."""
    parts = volume.split(":")
    if parts[0] == "volume" and not parts[1].startswith("/"):
        parts = parts[1:]
    modes = tuple(parts[2].split(",")) if len(parts) == 3 else ()
    return parts[0], parts[1], modes


def dangerous_mount(path: Path, *, writable: bool, engine_sockets: Sequence[Path] = ()) -> str | None:
    """Why a path of this machine should not be mounted without a word; None: no reason known."""
    real = path.resolve()
    if real.is_socket() or any(socket.resolve() == real for socket in engine_sockets):
        return "it is a socket: whoever speaks to an engine through it has this machine"
    if real == Path("/"):
        return "it is the whole machine"
    for text in _PROTECTED:
        protected = Path(text)
        if real == protected or protected.is_relative_to(real):
            return f"it holds {text} of this machine" if real != protected else "it belongs to this machine's system"
        inside = real.is_relative_to(protected) and not real.is_relative_to(_SHARED_MEMORY)
        if inside and (text in _NEVER_BELOW or (writable and text not in ("/run", "/var/run"))):
            return f"it lies in {text}, which belongs to this machine's system"
    if any(socket.resolve().is_relative_to(real) for socket in engine_sockets):
        return "it holds the engine's socket: whoever speaks to an engine through it has this machine"
    return None


def refuse_dangerous(mounts: Sequence[tuple[str, Path, bool]], engine_sockets: Sequence[Path]) -> None:
    """`mounts` are (key, path, writable); raises `ConfigError` that names every dangerous one."""
    findings = [
        Finding(
            key=key,
            value=str(path),
            rule=f"is not mounted without an explicit word: {why}",
            mend="mount a directory of yours instead, or add backend.allow_dangerous_mounts=true",
        )
        for key, path, writable in mounts
        if (why := dangerous_mount(path, writable=writable, engine_sockets=engine_sockets)) is not None
    ]
    if findings:
        raise ConfigError("a mount would hand this machine to the container", findings)
