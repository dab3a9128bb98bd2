"""The JSON schema and pydantic agree, on random configurations and on what people write.

Excepted, because a schema cannot know it:

* whether paths exist: here every configuration says `check_paths: run_host`, so nobody looks;
* integral floats (`4.0`): JSON Schema calls them integers, as we do, but a validator of another language may not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rompy_hydra.backends import forms, registry
from rompy_hydra.backends.config import BaseBackendConfig, DockerConfig, LocalConfig, SlurmConfig
from rompy_hydra.backends.schema import schema_of, schema_of_all
from rompy_hydra.units.durations import parse_duration, parse_slurm_time
from rompy_hydra.units.sizes import MINIMUM_MEMORY, parse_memory
from tests.backends import plugin_kit
from tests.backends.conftest import Plug

CLASSES: dict[str, type[BaseBackendConfig]] = {"local": LocalConfig, "docker": DockerConfig, "slurm": SlurmConfig}
VALIDATORS = {name: jsonschema.Draft202012Validator(schema_of(name)) for name in CLASSES}
ALL = jsonschema.Draft202012Validator(schema_of_all())

hostile_text = st.sampled_from(
    [
        "",
        " ",
        "\n",
        "\0",
        "a\0b",
        "${x}",
        "$(id)",
        "'",
        '"',
        "\\",
        "a b",
        "ä",
        "\u0661",
        "-",
        "--x",
        "/",
        "..",
        "~",
        "a" * 600,
        "=",
        "1\n",
    ]
)
any_text = st.one_of(hostile_text, st.text(max_size=8))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    any_text,
    st.sampled_from([0, 1, -1, 4.0, 1e300]),
)
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3), max_leaves=4
)


def of_form(pattern: str) -> st.SearchStrategy[str]:
    return st.from_regex(pattern)


def mostly(*good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Good values as a rule, something else now and then."""
    return st.integers(0, 11).flatmap(lambda n: st.one_of(*good) if n else junk)


names = st.sampled_from(["OMP_NUM_THREADS", "_x", "A1", "API_KEY", "1A", "A-B", "", "A\n", "Ä"])
good_names = st.sampled_from(["OMP_NUM_THREADS", "_x", "A1", "LOG_LEVEL"])
words = st.sampled_from(["compute", "gpu", "a b", "x\ny"]) | any_text
env = mostly(
    st.dictionaries(good_names, st.text(max_size=4).filter(lambda t: "\0" not in t), max_size=2),
    st.dictionaries(names, any_text, max_size=2),
)
command = mostly(
    st.just("python run.py"),
    st.lists(st.sampled_from(["a", "b c"]), min_size=1, max_size=3),
    any_text,
    st.lists(scalars, max_size=3),
)
launcher = mostly(st.sampled_from(["mpirun -np 16", "", "srun 'a b'", "x 'y", "x \\"]), st.just(["srun"]))
memory = mostly(
    st.sampled_from(["512m", "1.5g", "2gb", "4096k", "64 GiB", "1024", "0.004g", "0.003g", "1x"]),
    st.integers(0, 2**40),
    of_form(forms.MEMORY),
)
count = mostly(st.integers(-1, 140), st.sampled_from(["1", "4", "128", "0", "04", "1.0"]))
path = mostly(st.sampled_from(["/scratch", "data", "~/x"]))
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "timeout": mostly(
        st.none(),
        st.integers(0, 100_000),
        st.sampled_from(["2h", "59", "3600", "90m", "1:30:00", "5M", "PT1H"]),
        of_form(forms.TIMEOUT),
    ),
    "env_vars": env,
    "working_dir": path | st.none(),
    "command": command | st.none(),
    "shell": mostly(st.booleans()),
    "capture_output": mostly(st.booleans()),
    "stream_output": mostly(st.booleans()),
    "mpiexec": launcher | st.none(),
    "image": mostly(
        st.sampled_from(["swan:latest", "a/b", "r.io:5000/a/b:1", "Swan", "a@sha256:" + "0" * 64]), st.none()
    ),
    "dockerfile": mostly(st.none(), st.none(), st.none(), st.sampled_from(["Dockerfile", "/abs", "d/Dockerfile"])),
    "build_context": mostly(st.none()) | path,
    "build_args": env,
    "executable": command | st.none(),
    "cpu": mostly(
        st.integers(1, 128),
        st.floats(0, 130, allow_nan=False),
        st.sampled_from(["4", "1.5", "128.0", "128.1", "0"]),
        st.none(),
    ),
    "memory": memory | st.none(),
    "user": mostly(st.sampled_from(["appuser", "1000:1000", "a b", "-x"])) | st.none(),
    "volumes": mostly(
        st.lists(st.sampled_from(["/d:/a:ro", "d:/a", "volume:v1:/a:nocopy", "volume:/a", "/d:/a:z,ro"]), max_size=2),
        st.lists(
            st.sampled_from(["/d:a", "/d:/", "/d:/a:RO", "/d:/a:ro,rw", "/d:/a/..", "x", "/d:/a:nocopy"]) | any_text,
            max_size=1,
        ),
        st.lists(of_form(forms.VOLUME), max_size=1),
    ),
    "network": mostly(st.sampled_from(["host", "net_1"])) | st.none(),
    "shm_size": memory | st.none(),
    "pids_limit": count | st.none(),
    "read_only": mostly(st.booleans()),
    "capabilities": mostly(st.lists(st.sampled_from(["SYS_PTRACE", "NET_ADMIN", "sys", "A-B"]), max_size=2)),
    "allow_dangerous_mounts": mostly(st.booleans()),
    "secrets": mostly(st.sampled_from(["env", "file", "mount"])),
    "remove_container": mostly(st.booleans()),
    **dict.fromkeys(
        ("queue", "partition", "account", "qos", "reservation", "constraint", "gres", "mail_user"),
        mostly(words) | st.none(),
    ),
    "nodes": count | st.none(),
    "ntasks": count | st.none(),
    "cpus_per_task": count | st.none(),
    "time_limit": mostly(
        st.sampled_from(["2:00:00", "1-12:00:00", "90m", "30:00", "1:1:1", "0:00:00", "3600"]),
        of_form(forms.TIME_LIMIT),
    )
    | st.none(),
    "gpus": count | st.none(),
    "ntasks_per_node": count | st.none(),
    "exclusive": mostly(st.booleans()),
    "signal": mostly(st.sampled_from(["USR1@300", "TERM@60", "KILL@60", "USR1", "USR2@0"])) | st.none(),
    "export": mostly(st.lists(st.sampled_from(["PATH", "OMP_NUM_THREADS", "1A", ""]), max_size=2)),
    "job_name": mostly(st.sampled_from(["tide", "a b"])) | st.none(),
    "output_file": mostly(st.just("%j.out")) | st.none(),
    "error_file": mostly(st.just("%j.err")) | st.none(),
    "mail_type": mostly(st.sampled_from(["END,FAIL", "ALL", "end"])) | st.none(),
    "additional_options": mostly(st.lists(st.sampled_from(["--exclusive", "--gres=gpu:1", "exclusive"]), max_size=2)),
}


@st.composite
def configurations(draw: Any) -> tuple[str, Any]:
    """A type, and a configuration that might be one of it: a few fields, now and then a strange one."""
    name = draw(st.sampled_from(sorted(CLASSES)))
    known = [field for field in CLASSES[name].model_fields if field in FIELDS]
    chosen = draw(st.lists(st.sampled_from(known), unique=True, max_size=4))
    data = {field: draw(FIELDS[field]) for field in chosen}
    if name == "docker" and "image" not in data and draw(st.integers(0, 9)):
        data["image"] = "swan:latest"
    if not draw(st.integers(0, 14)):
        data[draw(any_text)] = draw(junk)
    return name, data


def pydantic_says(name: str, data: Any) -> bool:
    try:
        CLASSES[name].model_validate({**data, "check_paths": "run_host"})
    except ValidationError:
        return False
    return True


def test_every_field_is_tried() -> None:
    fields = {field for cls in CLASSES.values() for field in cls.model_fields}
    assert fields - FIELDS.keys() == {"type", "check_paths"}


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(configurations())
def test_the_schema_s_verdict_is_pydantic_s(case: tuple[str, Any]) -> None:
    name, data = case
    assume("check_paths" not in data)
    ours = pydantic_says(name, data)
    assert VALIDATORS[name].is_valid(data) == ours
    assert ALL.is_valid({"type": name, **data}) == (ours if data.get("type", name) == name else ALL.is_valid({**data}))


def test_at_least_a_fifth_of_them_are_valid() -> None:
    verdicts: list[bool] = []

    @seed(4)
    @settings(max_examples=300, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(configurations())
    def count(case: tuple[str, Any]) -> None:
        verdicts.append(pydantic_says(*case))

    count()
    assert 0.2 <= sum(verdicts) / len(verdicts) <= 0.8


@settings(max_examples=150)
@given(of_form(forms.TIMEOUT))
def test_every_timeout_of_the_form_is_within_its_bounds(text: str) -> None:
    assert 60 <= parse_duration(text).total_seconds() <= 86400


@settings(max_examples=150)
@given(of_form(forms.TIME_LIMIT))
def test_every_time_limit_of_the_form_is_read(text: str) -> None:
    assert parse_slurm_time(text) > 0


@settings(max_examples=150)
@given(of_form(forms.MEMORY))
def test_every_memory_of_the_form_is_enough(text: str) -> None:
    assume(len(text) <= 64)
    assert parse_memory(text) >= MINIMUM_MEMORY


@settings(max_examples=300)
@given(st.from_regex(r"\A[0-9]{1,7}(\.[0-9]{1,3})? ?[kKmMgGtT]?(i?b)?\Z"))
def test_a_memory_that_is_enough_has_the_form(text: str) -> None:
    try:
        size = parse_memory(text)
    except ValueError:
        size = 0
    if size and not text.startswith("0") and "." not in text:
        assert forms.fits(forms.MEMORY, text)


def json_documents() -> Iterator[tuple[str, Any, bool]]:
    yield "local", {"timeout": 3600.0}, True
    yield "local", {"timeout": 3600.5}, False
    yield "docker", {"image": "a", "cpu": 4.0}, True
    yield "docker", {"image": "a", "cpu": True}, False
    yield "docker", {"image": None, "dockerfile": "Dockerfile"}, True
    yield "docker", {"image": "a", "dockerfile": None}, True
    yield "docker", {"image": "a", "dockerfile": "Dockerfile"}, False
    yield "docker", {}, False
    yield "local", {"type": "docker"}, False
    yield "local", {"type": None}, False


@pytest.mark.parametrize(("name", "data", "good"), list(json_documents()))
def test_the_cases_that_are_easily_wrong(name: str, data: Any, good: bool) -> None:
    assert VALIDATORS[name].is_valid(data) == pydantic_says(name, data) == good


def test_the_schemas_are_schemas_and_json() -> None:
    for schema in (*(v.schema for v in VALIDATORS.values()), ALL.schema):
        jsonschema.Draft202012Validator.check_schema(json.loads(json.dumps(schema)))


def test_the_union_holds_every_registered_backend(plug: Plug) -> None:
    plug("good", run={"good": "good:GoodRunBackend"}, config={"good": "good:GoodConfig"})
    plug("seedy", plugin_kit.SEED_STYLE, run={"seedy": "seedy:SeedRunBackend"})
    plug("bad-moon", plugin_kit.BROKEN, run={"moon": "bad_moon:Run"})
    schema = schema_of_all()
    assert schema["properties"]["type"]["enum"] == ["docker", "good", "local", "seedy", "slurm"]
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"type": "good", "queue": "gpu"})
    assert not validator.is_valid({"type": "good", "image": "a"})
    assert not validator.is_valid({"queue": "gpu"})
    assert validator.is_valid({"type": "seedy", "timeout": 60})
    assert not validator.is_valid({"type": "moon"})
    assert schema_of("good")["properties"]["type"]["const"] == "good"
    assert set(schema["discriminator"]["mapping"]) == set(registry.backend_types())
