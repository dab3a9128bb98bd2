"""Plans that are kept: the same command gets the same plan without Hydra, and never a stale or a secret one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.compose import cache
from rompy_hydra.compose.bridge import to_plan
from rompy_hydra.compose.invocation import compose_command
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.errors import ConfigError
from rompy_hydra.plan.run_plan import RunPlan
from tests.backends import plugin_kit

COMMAND = ("model=command", "backend.command=true")


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache, "our_own_code", lambda: ["rompy_hydra", 1, 1, 1, 1])  # somebody may be editing it
    return tmp_path


def ask(*overrides: str, **more: Any) -> tuple[RunPlan, bool]:
    """The plan, and whether it was known."""
    plan, composition = cache.plan_of_command(
        overrides or COMMAND, find_sources(**more), "config", cwd=Path.cwd(), environ=os.environ
    )
    return plan, composition is None


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    time.sleep(0.06)  # files that have just changed are not trusted


def known_after(*overrides: str) -> bool:
    """Whether a command is known the second time."""
    ask(*overrides)
    return ask(*overrides)[1]


def files() -> list[Path]:
    return sorted((Path(os.environ["XDG_CACHE_HOME"]) / "rompy-hydra" / "plans").glob("*.json"))


def without_identity(plan: RunPlan) -> str:
    return plan.model_dump_json().replace(plan.run_id.partition("-")[2] or "no identity", "ID")


def test_the_same_command_is_known_and_gets_a_name_of_its_own() -> None:
    first, knew_first = ask()
    second, knew_second = ask()
    assert (knew_first, knew_second) == (False, True)
    assert first.run_id != second.run_id
    assert without_identity(first) == without_identity(second)
    identity = second.run_id.split("-", 1)[1]
    assert identity in second.hydra_files["config.yaml"]
    assert first.run_id.split("-", 1)[1] not in second.model_dump_json()


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model=veros_acc", "model.parameters.wind_stress=0.2", "experiment=strong_wind"),
        ("backend=slurm", "env=hpc", "backend.time_limit=2:00:00"),
        ("backend=docker", "resources.memory=2g", "backend.volumes=['/:/host:ro']"),
        ("period.start=2020-01-01", "period.duration=P1M", "vars={a: [1, 2.5, null, true]}"),
        ("resources.time_limit=36h", "resources.ranks=2", "env_vars.A='1.10'", "run_id=fixed"),
    ],
)
def test_what_is_recalled_equals_what_is_composed(overrides: tuple[str, ...]) -> None:
    assert known_after(*(overrides or COMMAND))
    plan, _ = ask(*(overrides or COMMAND))
    composed = to_plan(compose_command(overrides or COMMAND, find_sources()), cwd=Path.cwd())
    assert without_identity(plan) == without_identity(composed)
    assert plan.model_copy(update={"spec": None, "hydra_files": {}, "config": {}}) == composed.model_copy(
        update={"spec": None, "hydra_files": {}, "config": {}}
    )


def test_a_known_command_imports_neither_hydra_nor_omegaconf(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from rompy_hydra.compose import cache
from rompy_hydra.compose.cache import plan_of_command
from rompy_hydra.compose.sources import find_sources
cache.our_own_code = lambda: ["rompy_hydra", 1, 1, 1, 1]
plan, composition = plan_of_command({list(COMMAND)!r}, find_sources(), "config", cwd=Path.cwd())
print(composition is None, "hydra" in sys.modules or "omegaconf" in sys.modules)
"""
    answers = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)
    ]
    assert [answer.stdout.split() for answer in answers] == [["False", "True"], ["True", "False"]]


def test_another_command_another_directory_another_user_s_setting_is_another_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert known_after()
    assert not ask(*COMMAND, "vars.a=1")[1]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    plan, knew = ask()
    assert not knew
    assert plan.output_dir == tmp_path / "elsewhere" / "runs"
    monkeypatch.chdir(tmp_path)
    assert ask()[1]
    monkeypatch.setenv("ROMPY_ENV", "dev")
    assert not ask()[1]


def test_a_file_that_changes_makes_it_new(tmp_path: Path) -> None:
    option = tmp_path / "conf" / "backend" / "mine.yaml"
    write(option, "defaults: [/packaged/backend/local, _self_]\ntimeout: 600\n")
    words = ("model=command", "backend=mine", "backend.command=true")
    assert known_after(*words)
    write(option, "defaults: [/packaged/backend/local, _self_]\ntimeout: 700\n")
    plan, knew = ask(*words)
    assert not knew
    assert plan.spec.backend.timeout == 700
    assert ask(*words)[1]


def test_a_file_of_the_same_size_and_time_is_another_file(tmp_path: Path) -> None:
    option = tmp_path / "conf" / "backend" / "mine.yaml"
    write(option, "defaults: [/packaged/backend/local, _self_]\ntimeout: 600\n")
    words = ("model=command", "backend=mine", "backend.command=true")
    assert known_after(*words)
    before = option.stat()
    other = tmp_path / "other.yaml"
    other.write_text(option.read_text().replace("600", "700"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(option)
    time.sleep(0.06)
    plan, knew = ask(*words)
    assert (knew, plan.spec.backend.timeout) == (False, 700)


def test_an_option_that_appears_and_shadows_another_makes_it_new(tmp_path: Path) -> None:
    write(tmp_path / "conf" / "site" / "here.yaml", "defaults: [/schema/site, _self_]\n")
    assert known_after()
    write(tmp_path / "conf" / "backend" / "local.yaml", "defaults: [/packaged/backend/local, _self_]\ntimeout: 600\n")
    plan, knew = ask()
    assert (knew, plan.spec.backend.timeout) == (False, 600)


def test_a_repository_that_appears_makes_it_new(tmp_path: Path) -> None:
    assert known_after()
    write(tmp_path / "conf" / "backend" / "local.yaml", "defaults: [/packaged/backend/local, _self_]\ntimeout: 600\n")
    assert ask()[0].spec.backend.timeout == 600


def test_a_template_that_changes_makes_it_new(tmp_path: Path) -> None:
    template = tmp_path / "templates" / "tide" / "template.yaml"
    (tmp_path / "conf" / "model").mkdir(parents=True)
    write(tmp_path / "conf" / "model" / "tide.yaml", "defaults: [/template/tide, _self_]\n")
    write(template, "parameters: {depth: {type: float, default: 10}}\nmodel: {command: 'true'}\n")
    assert known_after("model=tide")
    write(template, "parameters: {depth: {type: float, default: 20}}\nmodel: {command: 'true'}\n")
    plan, knew = ask("model=tide")
    assert (knew, plan.parameters) == (False, {"depth": 20.0})


def test_a_variable_that_was_read_makes_it_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*COMMAND, "vars.a='${oc.env:OCEAN_DEPTH,10}'")
    assert known_after(*words)
    monkeypatch.setenv("OCEAN_COLOUR", "blue")
    assert ask(*words)[1]
    monkeypatch.setenv("OCEAN_DEPTH", "4000")
    plan, knew = ask(*words)
    assert (knew, str(plan.spec.vars["a"])) == (False, "4000")


def test_a_package_that_is_installed_makes_it_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    words = ("model=command", "backend=local", "backend.command=true")
    assert known_after(*words)
    plugin_kit.lay_out(
        site, "good", {"good.py": plugin_kit.GOOD}, {"rompy_hydra.run": {"local": "good:GoodRunBackend"}}
    )
    plan, knew = ask(*words)
    assert not knew
    assert plan.spec.backend.get_backend_class().__name__ == "GoodRunBackend"


def test_our_own_code_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert known_after()
    monkeypatch.setattr(cache, "our_own_code", lambda: ["rompy_hydra", 2, 2, 1, 1])
    assert not ask()[1]
    monkeypatch.undo()
    _, latest, _, size, count = cache.our_own_code()
    own = [p.relative_to(cache._PACKAGE) for p in Path(cache._PACKAGE).rglob("*.py")]
    assert count == len([p for p in own if p.parts[0] != "templates"])  # these are looked at when they are used
    assert int(size) > 100_000
    assert int(latest) > 1e18


def test_a_path_that_is_gone_is_told_as_ever(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    words = (*COMMAND, "backend.working_dir=data")
    assert known_after(*words)
    (tmp_path / "data").rmdir()
    with pytest.raises(ConfigError, match="Working directory does not exist"):
        ask(*words)


@pytest.mark.parametrize(
    "override",
    [
        "vars.a='${now:%S}'",
        "resources=host",
        "vars.a='${host.name:}'",
        "vars.a='${hydra:sweep.dir}'",
        "hydra.run.dir='runs/${now:%S}-${run_id}'",
        "+hydra.callbacks.mine._target_=hydra.experimental.callback.Callback",
        "hydra.job.env_copy=[PATH]",
        "env_vars.API_KEY=canary",
        "backend.command='get --token canary'",
    ],
)
def test_what_is_no_pure_function_or_holds_a_credential_is_not_kept(override: str) -> None:
    words = (*COMMAND, override)
    assert not known_after(*words)
    assert files() == []


def test_a_credential_of_the_environment_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("API_KEY", "canary-1")
    monkeypatch.setenv("ROMPY_HYDRA_TOKEN", "canary-2")
    assert not known_after(*COMMAND, "vars.a='${oc.env:API_KEY}'")
    write(tmp_path / "conf" / "site" / "here.yaml", "defaults: [/schema/site, _self_]\n")
    assert known_after()
    assert known_after(*COMMAND, "env_vars.API_KEY='${secret:OCEAN}'")
    assert not any("canary" in path.read_text() for path in files())


def test_files_that_have_just_changed_are_not_trusted(tmp_path: Path) -> None:
    write(tmp_path / "conf" / "site" / "here.yaml", "defaults: [/schema/site, _self_]\n")
    (tmp_path / "conf" / "site" / "there.yaml").write_text("defaults: [/schema/site, _self_]\n")
    ask()
    assert files() == []
    time.sleep(0.06)
    assert known_after()


def test_only_its_owner_can_read_or_change_an_entry() -> None:
    assert known_after()
    (path,) = files()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o666)
    assert not ask()[1]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": {}}', "null", "\xff"])
def test_a_spoiled_entry_is_made_again(text: str) -> None:
    ask()
    (path,) = files()
    path.write_text(text, encoding="latin-1")
    assert not ask()[1]
    assert ask()[1]


def test_it_can_be_switched_off_and_needs_no_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(cache.SWITCH_VARIABLE, "off")
    assert not known_after()
    monkeypatch.delenv(cache.SWITCH_VARIABLE)
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert not known_after()


def test_entries_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_KEPT_AT_MOST", 3)
    for number in range(5):
        ask(*COMMAND, f"vars.a={number}")
    assert len(files()) == 3


def test_an_identity_is_made_of_time_and_letters_that_can_be_read_aloud() -> None:
    made = {cache.mint() for _ in range(200)}
    assert len(made) > 190
    assert all(len(one) == 21 and not set(one.rsplit("-", 1)[1]) & set("01ilo") for one in made)
