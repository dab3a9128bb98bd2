"""The rules of the configuration classes, one line for each value that is taken or refused."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rompy_hydra.backends import BackendConfig, BaseBackendConfig, DockerConfig, LocalConfig, SlurmConfig
from rompy_hydra.run import DockerRunBackend, LocalRunBackend, SlurmRunBackend

CLASSES: dict[str, type[BaseBackendConfig]] = {"local": LocalConfig, "docker": DockerConfig, "slurm": SlurmConfig}
DIGEST = "sha256:" + "a1" * 32


def make(kind: str, **fields: Any) -> BaseBackendConfig:
    if kind == "docker" and "image" not in fields and "dockerfile" not in fields:
        fields["image"] = "swan:latest"
    return CLASSES[kind](**fields)


@pytest.mark.parametrize(
    ("kind", "field", "value", "becomes"),
    [
        ("local", "timeout", 60, 60),
        ("local", "timeout", 86400, 86400),
        ("local", "timeout", None, None),
        ("local", "timeout", "3600", 3600),
        ("local", "timeout", 3600.0, 3600),
        ("local", "timeout", "2h", 7200),
        ("local", "timeout", "1h30m", 5400),
        ("local", "timeout", "1:30:00", 5400),
        ("local", "timeout", "24:00:00", 86400),
        ("local", "timeout", "PT90M", 5400),
        ("local", "timeout", "1d", 86400),
        ("local", "env_vars", {"OMP_NUM_THREADS": "4", "_x9": ""}, {"OMP_NUM_THREADS": "4", "_x9": ""}),
        ("local", "command", "python run.py", "python run.py"),
        ("local", "command", ["a program", ""], ["a program", ""]),
        ("local", "command", None, None),
        ("local", "shell", False, False),
        ("local", "mpiexec", "mpirun -np 16", "mpirun -np 16"),
        ("local", "mpiexec", "", None),
        ("docker", "image", "simple-name", "simple-name"),
        ("docker", "image", "registry.example.com/repo/image:tag", "registry.example.com/repo/image:tag"),
        ("docker", "image", "localhost:5000/image:latest", "localhost:5000/image:latest"),
        ("docker", "image", f"a/b:1@{DIGEST}", f"a/b:1@{DIGEST}"),
        ("docker", "dockerfile", "docker/Dockerfile", Path("docker/Dockerfile")),
        ("docker", "cpu", 1, 1),
        ("docker", "cpu", 1.5, 1.5),
        ("docker", "cpu", "1.5", 1.5),
        ("docker", "cpu", 128, 128),
        ("docker", "cpu", None, None),
        ("docker", "memory", "512m", "512m"),
        ("docker", "memory", "1.5g", "1.5g"),
        ("docker", "memory", "2gb", "2gb"),
        ("docker", "memory", "2 GiB", "2 GiB"),
        ("docker", "memory", 4194304, 4194304),
        ("docker", "memory", "4194304", "4194304"),
        ("docker", "user", "1000:1000", "1000:1000"),
        ("docker", "network", "host", "host"),
        ("docker", "volumes", ["volume:scratch:/data:ro,nocopy"], ["volume:scratch:/data:ro,nocopy"]),
        ("docker", "volumes", ["/:/host:ro,z,rslave"], ["/:/host:ro,z,rslave"]),
        ("slurm", "queue", "gpu", "gpu"),
        ("slurm", "time_limit", "100:00:00", "100:00:00"),
        ("slurm", "time_limit", "1-12:00:00", "1-12:00:00"),
        ("slurm", "time_limit", "90m", "90m"),
        ("slurm", "nodes", "100", 100),
        ("slurm", "cpus_per_task", 128, 128),
        ("slurm", "mail_type", "BEGIN,END,FAIL", "BEGIN,END,FAIL"),
        ("slurm", "additional_options", ["--gres=gpu:1", "--exclusive"], ["--gres=gpu:1", "--exclusive"]),
        ("slurm", "output_file", "slurm-%j.out", "slurm-%j.out"),
    ],
)
def test_a_value_is_taken(kind: str, field: str, value: Any, becomes: Any) -> None:
    got = getattr(make(kind, **{field: value}), field)
    assert got == becomes
    assert type(got) is type(becomes)


@pytest.mark.parametrize(
    ("kind", "field", "value", "says"),
    [
        ("local", "timeout", 59, "Input should be greater than or equal to 60"),
        ("local", "timeout", 86401, "Input should be less than or equal to 86400"),
        ("local", "timeout", "59", "greater than or equal to 60"),
        ("local", "timeout", "25h", "less than or equal to 86400"),
        ("local", "timeout", True, "boolean"),
        ("local", "timeout", 60.5, "whole seconds"),
        ("local", "timeout", float("nan"), "finite"),
        ("local", "timeout", "soon", "not a duration"),
        ("local", "timeout", "3600\n", "write seconds"),
        ("local", "timeout", [3600], "not a duration"),
        ("local", "env_vars", {"": "x"}, "Environment variable keys cannot be empty"),
        ("local", "env_vars", {"A-B": "x"}, "no name of an environment variable"),
        ("local", "env_vars", {"1A": "x"}, "no name of an environment variable"),
        ("local", "env_vars", {"A=B": "x"}, "no name of an environment variable"),
        ("local", "env_vars", {"A\n": "x"}, "no name of an environment variable"),
        ("local", "env_vars", {"A": "x\0y"}, "NUL"),
        ("local", "env_vars", {"A": 4}, "4 is not text; quote it: '4'"),
        ("local", "env_vars", {"A": True}, "true is not text; quote it: 'true'"),
        ("local", "env_vars", {"A": None}, "is the variable that it is read from set"),
        ("local", "env_vars", {"A": ["x"]}, "string"),
        ("local", "env_vars", {3: "x"}, "string"),
        ("local", "env_vars", "A=x", "dictionary"),
        ("local", "working_dir", "/no/such/place", "Working directory does not exist"),
        ("local", "working_dir", __file__, "Working directory is not a directory"),
        ("local", "working_dir", "", "must not be empty"),
        ("local", "command", "", "must not be empty"),
        ("local", "command", "  \n", "must not be empty"),
        ("local", "command", [], "must start with the program's name"),
        ("local", "command", ["", "x"], "must start with the program's name"),
        ("local", "command", ["sleep", 3], "quote it"),
        ("local", "command", 7, "quote it"),
        ("local", "shell", "yes", "boolean"),
        ("local", "shell", 1, "boolean"),
        ("local", "capture_output", None, "boolean"),
        ("local", "mpiexec", "mpirun 'x", "close the quotes"),
        ("local", "comand", "x", "Extra inputs are not permitted: there is no such field; did you mean 'command'?"),
        ("local", "type", "docker", "local"),
        ("docker", "image", "", "no image name"),
        ("docker", "image", "Swan:latest", "no image name"),
        ("docker", "image", "swan:latest\n", "no image name"),
        ("docker", "image", "swan@sha256:abc", "no image name"),
        ("docker", "dockerfile", "/absolute/Dockerfile", "Dockerfile path must be relative to build context"),
        ("docker", "cpu", 0, "Input should be greater than or equal to 1"),
        ("docker", "cpu", 0.5, "Input should be greater than or equal to 1"),
        ("docker", "cpu", 256, "Input should be less than or equal to 128"),
        ("docker", "cpu", True, "boolean"),
        ("docker", "cpu", float("nan"), "greater than or equal to 1"),
        ("docker", "cpu", "many", "between 1 and 128"),
        ("docker", "memory", "1x", "not a memory size"),
        ("docker", "memory", "", "not a memory size"),
        ("docker", "memory", 0, "memory is 0"),
        ("docker", "memory", "1024", "less than the minimum"),
        ("docker", "memory", "-1g", "negative"),
        ("docker", "memory", True, "boolean"),
        ("docker", "memory", "1.23456g", "three decimals"),
        ("docker", "user", 1000, "quote it"),
        ("docker", "user", "a b", "must be a user"),
        ("docker", "volumes", ["nonsense"], "Volume mount must contain ':' separator"),
        ("docker", "volumes", ["/no/such:/app"], "Host path does not exist"),
        ("docker", "volumes", ["/:app"], "must be absolute"),
        ("docker", "volumes", ["/:/"], "below '/'"),
        ("docker", "volumes", ["/:/app/../.."], "without '.' and '..'"),
        ("docker", "volumes", ["/:/app:RO"], "no mode 'RO'"),
        ("docker", "volumes", ["/:/app:ro,rw"], "contradict"),
        ("docker", "volumes", ["/:/app:ro,ro"], "contradict or repeat"),
        ("docker", "volumes", ["/:/app:nocopy"], "no mode 'nocopy'"),
        ("docker", "volumes", ["volume:-x:/data"], "no name of a volume"),
        ("docker", "volumes", ["/:/a:ro:x"], "host:container[:mode]"),
        ("docker", "volumes", "/:/app", "list"),
        ("docker", "build_context", "/no/such/place", "Build context directory does not exist"),
        ("docker", "build_context", __file__, "Build context must be a directory"),
        ("slurm", "time_limit", "00:00", "ambiguous"),
        ("slurm", "time_limit", "1:1:1", "HH:MM:SS"),
        ("slurm", "time_limit", "12345:00:00", "HH:MM:SS"),
        ("slurm", "time_limit", 43200, "ambiguous"),
        ("slurm", "time_limit", "0:00:00", "limit"),
        ("slurm", "nodes", 0, "greater than or equal to 1"),
        ("slurm", "nodes", 101, "less than or equal to 100"),
        ("slurm", "cpus_per_task", 129, "less than or equal to 128"),
        ("slurm", "ntasks", True, "boolean"),
        ("slurm", "queue", "a\n#SBATCH --x", "one word"),
        ("slurm", "job_name", "a\nb", "one line"),
        ("slurm", "mail_type", "WHENEVER", "mail types"),
        ("slurm", "additional_options", ["exclusive"], "option of sbatch"),
        ("slurm", "additional_options", ["--x\n--y"], "option of sbatch"),
    ],
)
def test_a_value_is_refused_with_a_sentence(kind: str, field: str, value: Any, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make(kind, **{field: value})
    (problem,) = [p for p in caught.value.errors() if says in p["msg"]]
    assert problem["loc"][0] == field


def test_exactly_one_of_image_and_dockerfile_is_wanted() -> None:
    with pytest.raises(ValidationError, match="Either 'image' or 'dockerfile' must be provided"):
        DockerConfig()
    with pytest.raises(ValidationError, match="Cannot specify both 'image' and 'dockerfile'"):
        DockerConfig(image="a", dockerfile=Path("Dockerfile"))
    assert DockerConfig(image="a", dockerfile=None).image == "a"


def test_a_dockerfile_is_looked_for_in_its_context(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    assert DockerConfig(dockerfile="Dockerfile", build_context=tmp_path).build_context == tmp_path
    with pytest.raises(ValidationError, match="Dockerfile does not exist"):
        DockerConfig(dockerfile="other", build_context=tmp_path)


def test_the_base_class_is_abstract() -> None:
    with pytest.raises(TypeError, match="Can't instantiate abstract class"):
        BaseBackendConfig()


@pytest.mark.parametrize(
    ("kind", "cls"), [("local", LocalRunBackend), ("docker", DockerRunBackend), ("slurm", SlurmRunBackend)]
)
def test_a_configuration_knows_its_backend_class(kind: str, cls: type) -> None:
    config = make(kind)
    assert config.get_backend_class() is cls
    assert isinstance(config, BackendConfig)  # type: ignore[arg-type]  # a union, as ROMPY has it


def test_relative_host_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "volume").mkdir()
    monkeypatch.chdir(tmp_path)
    config = DockerConfig(image="a", volumes=["data:/a", "./data:/b:ro", "volume:/c"], working_dir="data")
    assert config.volumes == [f"{tmp_path}/data:/a", f"{tmp_path}/data:/b:ro", f"{tmp_path}/volume:/c"]
    assert config.working_dir == tmp_path / "data"
    monkeypatch.chdir("/")
    assert config.validate()


def test_path_checks_can_be_left_to_the_machine_that_runs() -> None:
    config = DockerConfig(image="a", volumes=["/scratch/me:/a"], working_dir="/scratch/me", check_paths="run_host")
    assert config.volumes == ["/scratch/me:/a"]
    with pytest.raises(ValidationError):
        DockerConfig(image="a", working_dir="/scratch/me")
    with pytest.raises(ValidationError, match="must be absolute"):
        DockerConfig(image="a", volumes=["/scratch:a"], check_paths="run_host")


@pytest.mark.parametrize(
    ("name", "value"),
    [("timeout", 5), ("env_vars", {"A": 1}), ("image", None), ("dockerfile", "Dockerfile"), ("cpu", 0)],
)
def test_a_refused_assignment_leaves_the_object_as_it_was(name: str, value: Any) -> None:
    config = DockerConfig(image="a", timeout=3600, env_vars={"A": "b"})
    before = copy.deepcopy(config)
    with pytest.raises(ValidationError):
        setattr(config, name, value)
    assert config == before
    assert config.model_fields_set == before.model_fields_set
    config.timeout = 7200
    assert (config.timeout, config.env_vars) == (7200, {"A": "b"})


def test_an_assignment_is_coerced_as_everything_is() -> None:
    config = LocalConfig()
    setattr(config, "timeout", "2h")  # noqa: B010  # a type checker would not have it
    assert config.timeout == 7200
    with pytest.raises((ValidationError, ValueError)):
        setattr(config, "timout", 60)  # noqa: B010


def test_validate_tells_whether_it_still_holds() -> None:
    config = LocalConfig(env_vars={"API_KEY": "x"}, command="run --password y")
    assert config.validate() is True
    config.env_vars["A B"] = "in place, past every check"
    assert config.validate() is False


CANARY = "canary-5417"


def test_no_secret_is_shown() -> None:
    config = DockerConfig(
        image="a",
        env_vars={"API_KEY": CANARY, "githubToken": CANARY, "PLAIN": "seen"},
        build_args={"DB_PASSWORD": CANARY},
        executable=f"fetch --token {CANARY} --depth 3",
        mpiexec=f"PASSWORD={CANARY} mpirun",
    )
    shown = [repr(config), str(config), f"{config}", str(config.model_dump()), config.model_dump_json()]
    shown += [str(config.model_dump(mode="json")), str([config])]
    for text in shown:
        assert CANARY not in text
        assert "seen" in text
    assert config.env_vars["API_KEY"] == CANARY
    assert copy.deepcopy(config).env_vars["API_KEY"] == CANARY
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    "fields",
    [
        {"env_vars": {"API_KEY": CANARY}, "timeout": 5},
        {"env_vars": {"API_KEY": CANARY}, "unknown": 1},
        {"env_vars": {"API_KEY": [CANARY]}},
        {"env_vars": {"API_KEY": f"{CANARY}\0"}},
        {"env_vars": [{"API_KEY": CANARY}]},
        {"command": [f"--password={CANARY}", 3]},
        {"API_KEY": CANARY},
    ],
)
def test_no_secret_is_in_an_error(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        LocalConfig(**fields)
    error = caught.value
    for text in (str(error), repr(error), str(error.errors()), error.json()):
        assert CANARY not in text


def test_a_number_as_a_secret_is_not_in_its_error_either() -> None:
    with pytest.raises(ValidationError) as caught:
        LocalConfig(env_vars={"API_KEY": 54170001})
    assert "54170001" not in str(caught.value.errors())
    assert "quote it" in str(caught.value)


def test_a_word_of_a_closed_list_is_no_secret() -> None:
    config = DockerConfig(image="a", secrets="file")
    assert config.model_dump()["secrets"] == "file"
    assert "secrets='file'" in repr(config)


def test_references_to_secrets_stay_readable() -> None:
    config = LocalConfig(env_vars={"API_KEY": "${secret:OCEAN_KEY}"})
    assert "${secret:OCEAN_KEY}" in repr(config)
    assert LocalConfig(**config.model_dump()) == config


@pytest.mark.parametrize("field", ["env_vars", "command"])
def test_a_dump_without_its_secrets_is_refused_when_it_comes_back(field: str) -> None:
    config = LocalConfig(env_vars={"API_KEY": CANARY}, command=f"get --token {CANARY}")
    dumped = config.model_dump()
    with pytest.raises(ValidationError, match="taken out"):
        LocalConfig(**{field: dumped[field]})


@pytest.mark.parametrize("kind", CLASSES)
def test_dumps_and_json_come_back(kind: str) -> None:
    config = make(kind, timeout=600, env_vars={"A": "b"})
    assert type(config)(**config.model_dump()) == config
    assert type(config).model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("kind", CLASSES)
def test_the_examples_of_a_schema_are_valid(kind: str) -> None:
    examples = CLASSES[kind].model_json_schema()["examples"]
    assert examples
    for example in examples:
        CLASSES[kind](**example)


def test_a_class_of_one_s_own_is_named_after_itself_where_nothing_registers_it() -> None:
    class MoonConfig(BaseBackendConfig):
        phase: str = "full"

    config = MoonConfig()
    assert config.type == "moon"
    assert MoonConfig(type="moon").validate()
    assert MoonConfig.model_json_schema()["properties"]["type"]["const"] == "moon"
    with pytest.raises(ValidationError, match="'moon'"):
        MoonConfig(type="sun")
    with pytest.raises(ValidationError, match="did you mean 'phase'"):
        MoonConfig(fase="new")  # type: ignore[call-arg]
