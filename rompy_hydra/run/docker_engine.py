"""The Docker engine: the one file that knows the `docker` SDK, and where its exceptions become ours.

Every method that talks to the engine raises `EngineError` (a `SiteError`) with the engine's own words.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlparse

from rompy_hydra.errors import MissingToolError, SiteError
from rompy_hydra.run.docker_container import TOKEN_LABEL

DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
_TIMEOUT_S = 120.0  # a call, not a run: an engine under load needs seconds for a start
_READ = 1 << 16
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i386": "386", "i686": "386"}


class EngineError(SiteError):
    """The engine did not do what it was asked; `status` is its HTTP status, None where it did not answer at all."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)

    @property
    def is_silent(self) -> bool:
        """Whether the engine gave no answer: it may be restarting."""
        return self.status is None


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine is and has."""

    cpus: int
    memory_bytes: int
    platform: str
    version: str
    is_rootless: bool
    is_podman: bool = False
    binds_cpus: bool = False
    """Whether containers can be bound to CPUs by their numbers here (`cpuset`); rootless engines mostly cannot."""

    @property
    def log_driver(self) -> str:
        """The driver that keeps the bytes of a log as they are."""
        return "json-file" if self.is_podman else "local"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """An image that is on the engine."""

    id: str
    platform: str
    repo_digests: tuple[str, ...] = ()
    user: str = ""


def engine_address(environ: Mapping[str, str] = os.environ) -> str:
    """Where the engine is: `DOCKER_HOST`, else the docker command's current context, else the usual socket."""
    if environ.get("DOCKER_HOST"):
        return environ["DOCKER_HOST"]
    with suppress(Exception):  # contexts are a convenience; a broken one must not hide the usual socket
        from docker.context import ContextAPI

        context = ContextAPI.get_current_context()
        if context.name != "default" and context.Host:
            return str(context.Host)
    return DEFAULT_ADDRESS


def socket_path(address: str) -> Path | None:
    """The socket of an engine of this machine."""
    return Path(urlparse(address).path) if address.startswith("unix://") else None


class Engine:
    """A connection to an engine."""

    def __init__(self, client: Any, address: str) -> None:
        self.address = address
        self._client = client
        self._facts: EngineFacts | None = None

    @classmethod
    def connect(cls, address: str | None = None, *, timeout_s: float = _TIMEOUT_S) -> Engine:
        """Connect to the engine of `address` (default: as `engine_address`).

        MissingToolError: no SDK, or no engine there.  SiteError: no permission, or it does not answer.
        """
        try:
            import docker
            import docker.utils
        except ModuleNotFoundError as error:
            raise MissingToolError(
                f"the Docker backend needs the Python package docker ({error}): pip install docker"
            ) from error
        address = address or engine_address()
        _knock(address)
        settings: dict[str, Any] = {**docker.utils.kwargs_from_env(), "base_url": address, "timeout": timeout_s}
        try:
            return cls(docker.APIClient(version="auto", **settings), address)
        except Exception as error:
            raise EngineError(f"the Docker engine at {address} does not answer: {_words(error)}; {_START}") from error

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    @property
    def facts(self) -> EngineFacts:
        """What the engine is and has; asked once."""
        if self._facts is None:
            with self._asked("what it is"):
                info = self._client.info()
                components = self._client.version().get("Components") or []
            options = " ".join(info.get("SecurityOptions") or [])
            machine = str(info.get("Architecture", ""))
            self._facts = EngineFacts(
                cpus=int(info.get("NCPU") or 1),
                memory_bytes=int(info.get("MemTotal") or 0),
                platform=f"{info.get('OSType', 'linux')}/{_ARCHITECTURES.get(machine, machine)}",
                version=str(info.get("ServerVersion", "")),
                is_rootless="rootless" in options,
                binds_cpus=bool(info.get("CPUSet")) and "rootless" not in options,
                is_podman=any("podman" in str(part.get("Name")).lower() for part in components),
            )
        return self._facts

    # ---- images, networks, volumes

    def image(self, name: str) -> ImageFacts | None:
        """An image of the engine by name or id; None where it has none."""
        with self._asked(f"for the image {name}", absent=404) as answer:
            answer.value = self._client.inspect_image(name)
        if answer.value is None:
            return None
        found: dict[str, Any] = answer.value
        variant = f"/{found['Variant']}" if found.get("Variant") else ""
        return ImageFacts(
            id=str(found["Id"]) if str(found["Id"]).startswith("sha256:") else f"sha256:{found['Id']}",
            platform=f"{found.get('Os', '')}/{found.get('Architecture', '')}{variant}",
            repo_digests=tuple(found.get("RepoDigests") or ()),
            user=str((found.get("Config") or {}).get("User") or ""),
        )

    def pull(self, name: str) -> None:
        """Bring an image to the engine."""
        repository, tag = name, None
        if "@" not in name:
            head, _, last = name.rpartition("/")
            repository, _, tag = last.partition(":")
            repository = f"{head}/{repository}" if head else repository
        with self._asked(f"to pull the image {name}"):
            tag = tag or ("latest" if "@" not in name else None)
            for fact in self._client.pull(repository, tag=tag, stream=True, decode=True):
                if "error" in fact:
                    raise EngineError(f"the image {name} cannot be pulled: {fact['error']}", status=500)

    def has_network(self, name: str) -> bool:
        """Whether there is a network of that name or id."""
        with self._asked(f"for the network {name}", absent=404) as answer:
            answer.value = self._client.inspect_network(name)
        return answer.value is not None

    def has_volume(self, name: str) -> bool:
        """Whether there is a volume of that name."""
        with self._asked(f"for the volume {name}", absent=404) as answer:
            answer.value = self._client.inspect_volume(name)
        return answer.value is not None

    def build(
        self, context: BinaryIO, *, dockerfile: str, tag: str, build_args: Mapping[str, str], log: BinaryIO
    ) -> None:
        """Build an image from a tar file; what the engine says goes to `log`, line by line."""
        with self._asked(f"to build the image {tag}"):
            answer = self._client.build(
                fileobj=context,
                custom_context=True,
                dockerfile=dockerfile,
                tag=tag,
                buildargs=dict(build_args),
                labels={"rompy-hydra.built": tag},
                rm=True,
                forcerm=True,
                decode=True,
            )
            for fact in answer:
                log.write(str(fact.get("stream") or fact.get("error") or "").encode())
                log.flush()
                if "error" in fact:
                    raise EngineError(str(fact["error"]), status=500)

    # ---- containers

    def create(self, config: dict[str, Any], name: str) -> str:
        """Make a container, and hand back its id."""
        with self._asked("to create the container"):
            return str(self._client.create_container_from_config(config, name)["Id"])

    def attach(self, container: str) -> Stream:
        """What the container writes from now on; asked before its start it is every byte."""
        with self._asked("for the output of the container"):
            raw = self._client.attach_socket(container, {"stdout": 1, "stderr": 1, "stream": 1})
        return Stream(raw.fileno(), raw)

    def follow_logs(self, container: str) -> Stream:
        """What the container has written so far and will write, from the engine's own log."""
        with self._asked("for the logs of the container"):
            url = self._client._url("/containers/{0}/logs", container)  # noqa: SLF001 - the public one reads lines
            params = {"stdout": 1, "stderr": 1, "follow": 1}
            answer = self._client._get(url, params=params, stream=True, timeout=None)  # noqa: SLF001
            self._client._raise_for_status(answer)  # noqa: SLF001
        ours, theirs = socket.socketpair()

        def carry() -> None:
            # The answer is in HTTP chunks, which only a blocking reader takes apart: a thread, and a pipe to poll on.
            with suppress(Exception):  # the engine went away: the end of the stream, as anybody sees
                for chunk in answer.iter_content(_READ):
                    theirs.sendall(chunk)
            theirs.close()

        threading.Thread(target=carry, daemon=True).start()
        return Stream(ours.fileno(), ours)

    def start(self, container: str) -> None:
        """Start it."""
        with self._asked("to start the container"):
            self._client.start(container)

    def inspect(self, container: str) -> dict[str, Any] | None:
        """Everything that the engine knows of a container; None where there is none."""
        with self._asked("for the container", absent=404) as answer:
            answer.value = self._client.inspect_container(container)
        found: dict[str, Any] | None = answer.value
        return found

    def kill(self, container: str, signal: str) -> None:
        """Send a signal; to one that has ended it is no error."""
        with self._asked(f"to send {signal}", absent=409) as answer:
            try:
                self._client.kill(container, signal)
            except Exception as error:
                if _status(error) == 404:
                    return
                raise
            answer.value = True

    def remove(self, container: str) -> None:
        """Remove it with its anonymous volumes, running or not; one that is gone is no error."""
        with self._asked("to remove the container", absent=404) as answer:
            try:
                self._client.remove_container(container, v=True, force=True)
            except Exception as error:
                if _status(error) == 409:  # its removal is in progress
                    return
                raise
            answer.value = True

    def find(self, token: str) -> list[dict[str, Any]]:
        """The containers of one attempt, whatever their state."""
        with self._asked("for its containers"):
            return list(self._client.containers(all=True, filters={"label": f"{TOKEN_LABEL}={token}"}))

    @contextmanager
    def _asked(self, what: str, *, absent: int | None = None) -> Iterator[_Answer]:
        answer = _Answer()
        try:
            yield answer
        except SiteError:
            raise
        except Exception as error:
            status = _status(error)
            if absent is not None and status == absent:
                return
            raise EngineError(f"the Docker engine, asked {what}: {_words(error)}", status=status) from error


class _Answer:
    value: Any = None


class Stream:
    """Something to poll on and to read from without waiting; closed by `close`."""

    def __init__(self, fd: int, owner: Any) -> None:
        self.fd = fd
        self._owner = owner
        os.set_blocking(fd, False)

    def read(self) -> bytes | None:
        """The next bytes; empty at the end, None where there are none yet."""
        try:
            return os.read(self.fd, _READ)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                return b""
            raise

    def close(self) -> None:
        """Read no more."""
        with suppress(OSError):
            self._owner.close()


_START = "start it (systemctl start docker), or set DOCKER_HOST to one that runs"


def _knock(address: str) -> None:
    """Say clearly why a socket of this machine cannot be used; other addresses are left to the SDK."""
    path = socket_path(address)
    if path is None:
        return
    with socket.socket(socket.AF_UNIX) as knock:
        try:
            knock.settimeout(10)
            knock.connect(str(path))
        except PermissionError as error:
            raise SiteError(
                f"you may not use the Docker engine at {path} (permission denied): ask for membership in the group"
                f" {_group_of(path)}, log in anew, or use a rootless engine (DOCKER_HOST)"
            ) from error
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            others = [other for other in _usual_sockets() if other != path and other.is_socket()]
            hint = f"; there is one at {others[0]}: export DOCKER_HOST=unix://{others[0]}" if others else f"; {_START}"
            why = "there is no such socket" if isinstance(error, FileNotFoundError) else "nobody answers"
            raise MissingToolError(f"no Docker engine at {path} ({why}){hint}; or add backend=local") from error
        except OSError as error:
            raise EngineError(f"the Docker engine at {path} does not answer: {error.strerror or error}") from error


def _usual_sockets() -> list[Path]:
    """Where engines listen: Docker's, a rootless one's, Podman's of the user and of the system."""
    own = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    return [
        Path("/var/run/docker.sock"),
        own / "docker.sock",
        own / "podman" / "podman.sock",
        Path("/run/podman/podman.sock"),
    ]


def usual_sockets(address: str) -> list[Path]:
    """The sockets that no container should get: the engine's own, and where others listen."""
    own = socket_path(address)
    return [*([own] if own is not None else []), *_usual_sockets()]


def _group_of(path: Path) -> str:
    try:
        return path.group()
    except (KeyError, OSError):
        return "docker"


def _status(error: Exception) -> int | None:
    answer = getattr(error, "response", None)
    return getattr(answer, "status_code", None)


def _words(error: Exception) -> str:
    """The engine's own words, one line."""
    said = getattr(error, "explanation", None) or str(error) or type(error).__name__
    return " ".join(str(said).split())


def context_files(root: Path, dockerfile: str) -> list[str]:
    """The files and directories of a build context that its `.dockerignore` leaves, relative and sorted."""
    from docker.utils.build import exclude_paths

    ignore = root / ".dockerignore"
    patterns = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
    rules = [line.strip() for line in patterns if line.strip() and not line.startswith("#")]
    return sorted(name for name in exclude_paths(str(root), rules, dockerfile=dockerfile) if name)


def context_tar(root: Path, names: list[str]) -> BinaryIO:
    """The build context as a tar file, owned by root, as the docker command sends it."""
    from docker.utils.build import create_archive

    tar: Any = create_archive(str(root), files=names, gzip=False)
    return tar  # type: ignore[no-any-return]
