"""Images that are built here: named by what goes into them, so that the same content is built once and a change anew.

Dockerfile + context (without what .dockerignore names) + build arguments + base images  →  name:tag  →  image
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rompy_hydra.backends.config import DockerConfig
from rompy_hydra.errors import ConfigError, Finding, SiteError
from rompy_hydra.run.docker_engine import Engine, EngineError, ImageFacts, context_files, context_tar

_LAST_LINES = 15
_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", re.IGNORECASE)
_ARG = re.compile(r"^\s*ARG\s+([A-Za-z_][A-Za-z0-9_]*)(?:=(\S*))?", re.IGNORECASE)


def build_image(
    engine: Engine,
    config: DockerConfig,
    base: Path,
    *,
    make: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[ImageFacts, dict[str, Any]]:
    """The image of a Dockerfile: the one that is there already, or built now; with what the record keeps of it.

    `base` is where relative paths start.  `make=False`: nothing is built (its id is then empty if it is not there).

    Raises:
        ConfigError: no Dockerfile there, or a secret in the build arguments.
        SiteError: the build failed, with its last lines and the path of its log.
    """
    root, dockerfile = _where(config, base)
    _refuse_secrets(config.build_args)
    names = context_files(root, dockerfile)
    tag = f"rompy-hydra/{_name_of(root)}:{_digest(engine, root, names, dockerfile, config.build_args)}"
    facts = {"name": tag, "dockerfile": dockerfile, "repo_digests": []}
    found = engine.image(tag)
    if found is not None:
        return found, facts
    if not make:
        return ImageFacts(id="", platform=""), facts
    log = _log_path(tag)
    with _one_at_a_time(log):
        found = engine.image(tag)  # another run may have built it while we waited
        if found is None:
            tell(f"building the image of {root / dockerfile} as {tag} (log: {log})")
            _build(engine, root, names, dockerfile, tag, config.build_args, log)
            found = engine.image(tag)
    if found is None:
        raise SiteError(f"the image {tag} was built, but the engine does not have it; the log: {log}")
    return found, {**facts, "build_log": str(log)}


def _where(config: DockerConfig, base: Path) -> tuple[Path, str]:
    """The context's directory and the Dockerfile's name in it."""
    assert config.dockerfile is not None
    if config.build_context is not None:
        root, dockerfile = base / config.build_context, str(config.dockerfile)
    else:
        root, dockerfile = (base / config.dockerfile).parent, config.dockerfile.name
    if not (root / dockerfile).is_file():
        raise ConfigError(
            "the image cannot be built",
            [
                Finding(
                    key="backend.dockerfile",
                    value=str(config.dockerfile),
                    rule=f"there is no file {root / dockerfile}",
                    mend="give its path, or backend.build_context and the path in there",
                )
            ],
        )
    return root, dockerfile


def _refuse_secrets(build_args: Mapping[str, str]) -> None:
    findings = [
        Finding(
            key=f"backend.build_args.{name}",
            rule="holds a secret, and build arguments stay readable in the image (docker history)",
            mend="hand the secret over when the container runs: env_vars, or backend.secrets=file",
        )
        for name, value in build_args.items()
        if "${secret:" in value
    ]
    if findings:
        raise ConfigError("a secret would stay in the image", findings)


def _build(
    engine: Engine,
    root: Path,
    names: list[str],
    dockerfile: str,
    tag: str,
    build_args: Mapping[str, str],
    log: Path,
) -> None:
    with log.open("wb") as out, context_tar(root, names) as context:
        try:
            engine.build(context, dockerfile=dockerfile, tag=tag, build_args=build_args, log=out)
        except EngineError as error:
            said = str(error)
        else:
            return
    lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-_LAST_LINES:]
    shown = "\n".join(f"    {line}" for line in lines)
    raise SiteError(f"the image of {root / dockerfile} could not be built: {said}\n{shown}\n    the whole log: {log}")


def _digest(engine: Engine, root: Path, names: list[str], dockerfile: str, build_args: Mapping[str, str]) -> str:
    """16 hexadecimal digits over all that goes into the image; times and owners do not."""
    total = hashlib.sha256()
    for part in (dockerfile, *(f"{k}={v}" for k, v in sorted(build_args.items()))):
        total.update(f"{len(part)}:{part}".encode())
    for image in _base_images(root / dockerfile, build_args):
        found = engine.image(image)
        total.update(f"from {image} {found.id if found else ''}".encode())
    for name in names:
        path = root / name
        info = path.lstat()
        total.update(f"{len(name)}:{name}:{stat.S_IFMT(info.st_mode):o}:{info.st_mode & 0o777:o}".encode())
        if stat.S_ISLNK(info.st_mode):
            total.update(os.fsencode(path.readlink()))
        elif stat.S_ISREG(info.st_mode):
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]


def _base_images(dockerfile: Path, build_args: Mapping[str, str]) -> list[str]:
    """What its FROM lines name, as far as arguments given here or by default tell: another base, another image."""
    values: dict[str, str] = {}
    found = []
    for line in dockerfile.read_text(encoding="utf-8", errors="replace").splitlines():
        if argument := _ARG.match(line):
            values.setdefault(argument[1], build_args.get(argument[1], (argument[2] or "").strip("\"'")))
        elif source := _FROM.match(line):
            name = re.sub(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?", lambda m: values.get(m[1], ""), source[1])
            if name and name != "scratch" and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]*", name):
                found.append(name)
    return found


def _name_of(root: Path) -> str:
    """The context's name as an image may be called."""
    return re.sub(r"[^a-z0-9]+", "-", root.resolve().name.lower()).strip("-") or "image"


def _log_path(tag: str) -> Path:
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    log = state / "rompy-hydra" / "builds" / f"{tag.partition('/')[2].replace(':', '-')}.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SiteError(f"the log of the build cannot be written: {log}: {error.strerror}") from error
    return log


@contextmanager
def _one_at_a_time(log: Path) -> Iterator[None]:
    """Runs that need the same image at the same moment build it once."""
    with log.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
