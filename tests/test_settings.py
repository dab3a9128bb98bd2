"""Every setting changes something: a field that no code reads is a promise that nobody keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

import rompy_hydra
from rompy_hydra.backends.config import DockerConfig, LocalConfig, SlurmConfig
from rompy_hydra.plan.spec import RunSpec

PACKAGE = Path(rompy_hydra.__file__).parent
# The schema itself does not count as a reader.
SCHEMA = {PACKAGE / "plan" / "spec.py", PACKAGE / "backends" / "config.py"}
SOURCE = "\n".join(path.read_text() for path in sorted(PACKAGE.rglob("*.py")) if path not in SCHEMA)

# Composed and validated, but only the backends of later versions read them.
NOT_YET = {
    DockerConfig: {
        "image", "dockerfile", "build_context", "build_args", "executable", "cpu", "memory", "user", "volumes",
        "network", "remove_container",
    },
    SlurmConfig: {
        "queue", "partition", "account", "qos", "reservation", "constraint", "nodes", "ntasks", "cpus_per_task",
        "memory", "gres", "time_limit", "job_name", "output_file", "error_file", "mail_type", "mail_user",
        "additional_options",
    },
}  # fmt: skip
# Read by interpolation in conf/ (`account: ${site.account}`), or for people only.
READ_IN_CONF = {"site.partition", "site.account", "site.qos", "model.image"}
FOR_PEOPLE = {"model.description", "site.name"}
READ_BY_THEIR_SCHEMA = {"check_paths"}


def fields(cls: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, field in cls.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and prefix + name != "backend":
            yield from fields(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", name


def is_read(name: str) -> bool:
    return re.search(rf"\.{name}\b|[\"']{name}[\"']", SOURCE) is not None


@pytest.mark.parametrize("key", [key for key, _ in fields(RunSpec)])
def test_a_key_of_a_run_is_read(key: str) -> None:
    conf = "\n".join(path.read_text() for path in (PACKAGE.parent / "conf").rglob("*.yaml"))
    if key in READ_IN_CONF:
        assert f"${{{key}}}" in conf
    elif key not in FOR_PEOPLE:
        assert is_read(key.rpartition(".")[2])


@pytest.mark.parametrize("cls", [LocalConfig, DockerConfig, SlurmConfig])
def test_a_field_of_a_backend_is_read_or_said_to_be_for_later(cls: type[BaseModel]) -> None:
    unread = {name for _, name in fields(cls) if not is_read(name)} - READ_BY_THEIR_SCHEMA
    assert unread <= NOT_YET.get(cls, set())
