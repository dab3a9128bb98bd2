"""The Docker backend, asked before anything is written: is there an engine, an image, a network; what may be mounted.

DockerConfig  →  Engine  →  image (found, pulled or built)  →  ContainerSettings
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rompy_hydra.backends.config import DockerConfig
from rompy_hydra.errors import ConfigError, Finding, SiteError
from rompy_hydra.plan.resources import Resources, SettledResources
from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.run.command import command_words, launcher_words, own_words
from rompy_hydra.run.docker_build import build_image
from rompy_hydra.run.docker_container import (
    DEFAULT_PIDS,
    MINIMUM_MEMORY_BYTES,
    SECRETS_DIR,
    ContainerSettings,
    refuse_dangerous,
    shm_bytes,
    split_volume,
    volume_binds,
)
from rompy_hydra.run.docker_engine import Engine, EngineError, ImageFacts, usual_sockets
from rompy_hydra.run.placement import Machine, place, placement_variables
from rompy_hydra.run.program import Machinery, Program
from rompy_hydra.run.secret_values import resolve_secrets
from rompy_hydra.units.sizes import format_memory, parse_memory

_PREDEFINED_NETWORKS = ("bridge", "host", "none", "default")
_SECRET = "${secret:"  # noqa: S105 - how a reference to one begins
_NOWHERE = Path("/nonexistent")  # no devices to look for: containers get no GPUs
# Ranks of one container read each other's memory by a system call that a container without capabilities may not have.
_IN_A_CONTAINER = {"OMPI_MCA_btl_vader_single_copy_mechanism": "none"}


class DockerPlanner:
    """A container of an engine."""

    def __init__(self, engine: Engine | None = None, *, tell: Callable[[str], None] = lambda _: None) -> None:
        self._engine = engine
        self._tell = tell
        self._images: dict[tuple[Any, ...], tuple[ImageFacts, dict[str, Any]]] = {}

    @property
    def engine(self) -> Engine:
        """The engine; connected to once."""
        if self._engine is None:
            self._engine = Engine.connect()
        return self._engine

    def key(self, spec: RunSpec) -> Hashable:
        """All of the backend's configuration."""
        return spec.backend.model_dump_json()

    def place(self, spec: RunSpec, settled: SettledResources) -> SettledResources:
        """What the engine's machine can give: one node; `backend.memory` is the memory of the run."""
        config = _config(spec)
        facts = self.engine.facts
        memory = parse_memory(config.memory) if config.memory is not None else settled.memory
        if memory is not None and memory < MINIMUM_MEMORY_BYTES:
            least = format_memory(MINIMUM_MEMORY_BYTES)
            raise ConfigError(
                "the container would get too little memory",
                [Finding("backend.memory", f"an engine asks for {least} at least", format_memory(memory))],
            )
        machine = Machine(tuple(range(facts.cpus)), facts.cpus, facts.memory_bytes, _NOWHERE)
        placed = place(spec.resources, settled.model_copy(update={"memory": memory}), machine=machine, environ={})
        notes = list(placed.notes)
        if config.cpu is not None and config.cpu > facts.cpus and settled.cpus <= facts.cpus:
            notes.append(f"backend.cpu={config.cpu}, but the engine has {facts.cpus}")
        if settled.gpus:
            notes.append("gpus: containers get none")
        return placed.model_copy(update={"notes": tuple(notes)})

    def environment(self, spec: RunSpec, resources: SettledResources, env_files: Sequence[Path]) -> dict[str, str]:
        """Nothing of ours: what holds the run in place, then the variables of run, model and backend."""
        config = _config(spec)
        user = self._user(config)
        launcher = launcher_words(spec, resources)
        machine = Machine(tuple(range(self.engine.facts.cpus)), self.engine.facts.cpus, 0, _NOWHERE)
        env = placement_variables(
            spec.resources,
            resources,
            launcher=launcher,
            environ={},
            machine=machine,
            is_root=user.partition(":")[0] in ("0", "root"),
        )
        if launcher:
            env |= _IN_A_CONTAINER
        if config.user is None and not user.startswith("0:"):
            env |= {"HOME": "/tmp", "USER": _our_name()}  # noqa: S108 - in the container, where nobody knows our uid
        given = _given(spec)
        if config.secrets == "file":
            files = {name: f"{SECRETS_DIR}/{name}" for name, text in given.items() if _SECRET in text}
            given = {n: t for n, t in given.items() if n not in files} | {f"{n}_FILE": p for n, p in files.items()}
        return env | resolve_secrets(given, environ=os.environ, env_files=env_files)

    def program(
        self,
        spec: RunSpec,
        resources: SettledResources,
        _environment: Mapping[str, str],
        _machinery: Machinery,
    ) -> Program:
        """The words as they are: what is installed in the image, the image knows."""
        check = spec.model.success.check
        words = (*launcher_words(spec, resources), *own_words(spec))
        return Program(words, command_words(check) if check is not None else ())

    def settings(
        self, plan: RunPlan, resources: SettledResources, env_files: Sequence[Path], *, make: bool = True
    ) -> ContainerSettings:
        """Everything else that the container gets; the image is found, pulled or built here."""
        spec, config = plan.spec, _config(plan.spec)
        self._check_mounts(config)
        self._check_network(config)
        image, facts = self._image(config, plan.base, make=make)
        files: dict[str, str] = {}
        if config.secrets == "file":
            given = {name: text for name, text in _given(spec).items() if _SECRET in text}
            files = resolve_secrets(given, environ=os.environ, env_files=env_files)
        launcher = launcher_words(spec, resources)
        shm = parse_memory(config.shm_size) if config.shm_size is not None else None
        return ContainerSettings(
            engine=self.engine.address,
            image=image.id,
            image_facts=facts,
            user=self._user(config),
            volumes=volume_binds(config.volumes),
            network=config.network,
            cpus=min(config.cpu, self.engine.facts.cpus) if config.cpu is not None else None,
            binds_cpus=self.engine.facts.binds_cpus,
            shm_bytes=shm or shm_bytes(has_launcher=bool(launcher), memory_bytes=resources.memory),
            capabilities=tuple(config.capabilities),
            read_only=config.read_only,
            pids=config.pids_limit if config.pids_limit is not None else DEFAULT_PIDS,
            remove=config.remove_container,
            log_driver=self.engine.facts.log_driver,
            secret_files=files,
        )

    def choose_cpus(self, _asked: Resources, _settled: SettledResources) -> None:
        """A run alone gets its share of time (`cpu`), on any of them; a sweep deals out numbers itself."""

    # ---- checks

    def _user(self, config: DockerConfig) -> str:
        """The caller, so that the outputs belong to whoever ran it; under a rootless engine that is its root."""
        if config.user is not None:
            return config.user
        return "0:0" if self.engine.facts.is_rootless else f"{os.getuid()}:{os.getgid()}"

    def _check_mounts(self, config: DockerConfig) -> None:
        mounts: list[tuple[str, Path, bool]] = []
        findings: list[Finding] = []
        for number, volume in enumerate(config.volumes):
            source, _, modes = split_volume(volume)
            if source.startswith("/"):
                mounts.append((f"backend.volumes[{number}]", Path(source), "rw" in modes))
            elif not self.engine.has_volume(source):
                findings.append(
                    Finding(
                        key=f"backend.volumes[{number}]",
                        value=volume,
                        rule=f"there is no volume '{source}'",
                        mend=f"type: docker volume create {source}",
                    )
                )
        if findings:
            raise ConfigError("a volume is missing on the engine", findings)
        if config.working_dir is not None:
            mounts.append(("backend.working_dir", config.working_dir, True))
        if not config.allow_dangerous_mounts:
            refuse_dangerous(mounts, usual_sockets(self.engine.address))

    def _check_network(self, config: DockerConfig) -> None:
        name = config.network
        if name is None or name in _PREDEFINED_NETWORKS or name.startswith("container:"):
            return
        if not self.engine.has_network(name):
            raise ConfigError(
                "the container cannot be connected",
                [
                    Finding(
                        key="backend.network",
                        value=name,
                        rule="there is no such network on the engine",
                        mend=f"type: docker network create {name}, or take one of: docker network ls",
                    )
                ],
            )

    # ---- image

    def _image(self, config: DockerConfig, base: Path, *, make: bool) -> tuple[ImageFacts, dict[str, Any]]:
        key = (config.image, config.dockerfile, config.build_context, tuple(config.build_args.items()), make)
        if key not in self._images:
            if config.dockerfile is not None:
                image, facts = build_image(self.engine, config, base, make=make, tell=self._tell)
            else:
                assert config.image is not None
                image = self._found_or_pulled(config.image, make=make)
                facts = {"name": config.image, "repo_digests": list(image.repo_digests)}
            self._check_platform(image, facts["name"])
            self._images[key] = (
                image,
                {**facts, "platform": image.platform, "engine_version": self.engine.facts.version},
            )
        return self._images[key]

    def _found_or_pulled(self, name: str, *, make: bool) -> ImageFacts:
        found = self.engine.image(name)
        if found is None and make:
            self._tell(f"pulling the image {name}")
            try:
                self.engine.pull(name)
            except EngineError as error:
                raise SiteError(
                    f"the image '{name}' is not on the engine at {self.engine.address} and cannot be pulled: {error}\n"
                    f"    check its name (backend.image), log in to its registry (docker login), or build it: "
                    "backend.image=null backend.dockerfile=Dockerfile"
                ) from error
            found = self.engine.image(name)
        if found is None:
            if not make:
                return ImageFacts(id="", platform="")  # a dry run pulls nothing
            raise SiteError(f"the image '{name}' was pulled, but the engine does not have it")
        return found

    def _check_platform(self, image: ImageFacts, name: str) -> None:
        ours = self.engine.facts.platform
        if image.platform and "/".join(image.platform.split("/")[:2]) != ours:
            raise SiteError(
                f"the image '{name}' is for {image.platform}, and the engine at {self.engine.address} runs {ours}: "
                f"get one for it (docker pull --platform {ours} {name}), or build it there"
            )


def _config(spec: RunSpec) -> DockerConfig:
    assert isinstance(spec.backend, DockerConfig)
    return spec.backend


def _given(spec: RunSpec) -> dict[str, str]:
    return {**spec.env_vars, **spec.model.env_vars, **spec.backend.env_vars}


def _our_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
