"""The two identities: every field carries its mark, and the list is a constant."""

from __future__ import annotations

import pytest

from rompy_hydra.backends.config import DockerConfig, LocalConfig, SlurmConfig
from rompy_hydra.plan.identity import marked, point_id, science_id, unmarked
from rompy_hydra.plan.spec import RunSpec

SCIENCE: dict[type, set[str]] = {
    RunSpec: {"model.template", "model.parameters", "model.command", "model.env_vars", "vars", "period"},
    LocalConfig: {"command", "shell"},
    DockerConfig: {"image", "dockerfile", "build_context", "build_args", "executable"},
    SlurmConfig: {"command"},
}


@pytest.mark.parametrize("cls", [LocalConfig, DockerConfig, SlurmConfig])
def test_every_field_of_a_backend_carries_a_mark(cls: type) -> None:
    assert set(unmarked(cls)) <= {"type"}


def test_every_field_of_a_run_carries_a_mark() -> None:
    assert set(unmarked(RunSpec)) == {"backend.type"}


@pytest.mark.parametrize("cls", SCIENCE)
def test_the_fields_that_are_science_are_these(cls: type) -> None:
    assert {key for key in fields_marked(cls, "science") if not key.startswith("backend.")} == SCIENCE[cls]


def fields_marked(cls: type, mark: str, prefix: str = "") -> set[str]:
    from pydantic import BaseModel

    found: set[str] = set()
    for name, field in cls.model_fields.items():  # type: ignore[attr-defined]  # pydantic classes
        kind = field.annotation
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("identity") == mark:
            found.add(prefix + name)
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= fields_marked(kind, mark, f"{prefix}{name}.")
    return found


def spec(**more: object) -> RunSpec:
    return RunSpec.model_validate(
        {"run_id": "r", "model": {"name": "m", "command": "true"}, "backend": {"type": "local"}, **more}
    )


@pytest.mark.parametrize(
    "more",
    [
        {"run_id": "other"},
        {"output_dir": "/elsewhere"},
        {"resources": {"time_limit": 60}},
        {"backend": {"type": "local", "timeout": 60, "stream_output": True}},
        {"env_vars": {"LOG_LEVEL": "DEBUG"}},
        {"on_existing": "new"},
        {"site": {"name": "elsewhere", "account": "x"}},
    ],
)
def test_what_is_not_science_leaves_the_science_id(more: dict[str, object]) -> None:
    assert science_id(dict(marked(spec(), "science")), {}) == science_id(dict(marked(spec(**more), "science")), {})


@pytest.mark.parametrize(
    "more",
    [
        {"model": {"name": "m", "command": "false"}},
        {"model": {"name": "m", "command": "true", "parameters": {"a": 1}}},
        {"backend": {"type": "local", "command": "false"}},
        {"vars": {"a": 1}},
    ],
)
def test_what_is_science_changes_the_science_id(more: dict[str, object]) -> None:
    assert science_id(dict(marked(spec(), "science")), {}) != science_id(dict(marked(spec(**more), "science")), {})


def test_content_outside_of_the_configuration_is_science_too() -> None:
    part = dict(marked(spec(), "science"))
    assert science_id(part, {"template": "a"}) != science_id(part, {"template": "b"})


def test_a_point_is_told_apart_by_swept_execution_keys_and_repeats() -> None:
    ids = {point_id("s", {}), point_id("s", {"cpus": 1}), point_id("s", {"cpus": 2}), point_id("s", {}, repeat=1)}
    assert len(ids) == 4
