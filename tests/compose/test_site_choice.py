"""Which site is chosen, and what the personal file adds: the command line wins, the file is wrong with its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from rompy_hydra.compose.bridge import to_plan
from rompy_hydra.compose.cache import plan_of_command
from rompy_hydra.compose.invocation import compose_command
from rompy_hydra.compose.site_choice import personal_file, personal_lines, site_of_host, with_site
from rompy_hydra.compose.sources import Sources, find_sources
from rompy_hydra.errors import ConfigError
from rompy_hydra.plan.run_plan import RunPlan

CLUSTER = """\
defaults:
  - /schema/site
  - _self_
name: tin
hosts: ["login*.tin.org", tin-*]
scheduler: slurm
partition: main
partitions:
  main: {cpus: 48, memory: 96g, time_limit: 1d}
"""


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    (tmp_path / "conf/site").mkdir(parents=True)
    (tmp_path / "conf/site/tin.yaml").write_text(CLUSTER)
    return find_sources([str(tmp_path / "conf")], environ={})


def planned(sources: Sources, *overrides: str, **environ: str) -> RunPlan:
    command = ["model=command", "model.command=true", *overrides]
    return to_plan(compose_command(command, sources, environ=environ), cwd=Path("/"))


def personal(tmp_path: Path, text: str) -> dict[str, str]:
    file = tmp_path / "config/rompy-hydra/personal.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


def test_nothing_said_is_this_machine(sources: Sources) -> None:
    assert planned(sources).spec.site.name == "laptop"
    assert with_site(["a=1"], sources, {}) == ("a=1",)


def test_the_variable_chooses_and_the_command_line_wins(sources: Sources) -> None:
    assert planned(sources, ROMPY_HYDRA_SITE="tin").spec.site.name == "tin"
    assert planned(sources, "site=generic_slurm", ROMPY_HYDRA_SITE="tin").spec.site.name == "generic_slurm"
    assert planned(sources, "env=hpc", ROMPY_HYDRA_SITE="tin").spec.site.name == "tin"
    assert planned(sources, ROMPY_HYDRA_SITE="tin").choices["site"] == "tin"


def test_a_site_that_is_none_is_named(sources: Sources) -> None:
    with pytest.raises(ConfigError, match=r"(?s)no option 'tinn' in the group 'site'.*did you mean 'tin'"):
        planned(sources, ROMPY_HYDRA_SITE="tinn")


@pytest.mark.parametrize(
    ("host", "found"), [("login3.tin.org", "tin"), ("tin-7", "tin"), ("login.other.org", None), ("tin", None)]
)
def test_the_name_of_the_machine_chooses(sources: Sources, host: str, found: str | None) -> None:
    assert site_of_host(sources, host) == found


def test_the_personal_file_comes_before_the_command_line(sources: Sources, tmp_path: Path) -> None:
    environ = personal(tmp_path, "account: ocean\nmail: me@example.org\nscratch: /scratch/me\n")
    site = planned(sources, "site=tin", "backend=slurm", **environ).spec.site
    assert (site.mail_user, site.scratch) == ("me@example.org", "/scratch/me")
    assert planned(sources, "backend=slurm", "site.account=other", **environ).spec.site.account == "other"


def test_what_is_personal_is_no_part_of_the_science(sources: Sources, tmp_path: Path) -> None:
    from rompy_hydra.steps.prepare import prepare

    environ = personal(tmp_path, "account: ocean\n")
    with_it, without = planned(sources, "backend=slurm", **environ), planned(sources, "backend=slurm")
    assert with_it.spec.backend.model_dump()["account"] == "ocean"
    assert prepare(with_it).science_id == prepare(without).science_id


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("acount: x\n", r"acount: is no personal key[\s\S]*did you mean 'account'"),
        ("account: 12\n", "is not text; quote it"),
        ("- a\n", "is no map of keys"),
        ("account: [", "is no YAML"),
    ],
)
def test_a_personal_file_that_is_wrong_is_told_with_its_name(tmp_path: Path, text: str, words: str) -> None:
    environ = personal(tmp_path, text)
    with pytest.raises(ConfigError, match=words) as caught:
        personal_lines(environ)
    assert str(personal_file(environ)) in str(caught.value)


@pytest.mark.parametrize(
    "value", ["it's", "a b", "back\\slash", "ends\\", "x\\'y", "null", "12", "a=b,c", "größe", "#1"]
)
def test_every_personal_text_arrives(sources: Sources, tmp_path: Path, value: str) -> None:
    import yaml

    environ = personal(tmp_path, yaml.safe_dump({"scratch": value}, allow_unicode=True))
    assert planned(sources, **environ).spec.site.scratch == value


def test_a_command_is_not_recalled_for_another_site(sources: Sources, tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    command = ["model=command", "model.command=true"]
    for _ in range(2):
        plan, _ = plan_of_command(command, sources, "config", cwd=tmp_path, environ=environ)
        assert plan.spec.site.name == "laptop"
    more = {**environ, "ROMPY_HYDRA_SITE": "tin"}
    assert plan_of_command(command, sources, "config", cwd=tmp_path, environ=more)[0].spec.site.name == "tin"
    more = {**environ, **personal(tmp_path, "account: mine\n")}
    assert plan_of_command(command, sources, "config", cwd=tmp_path, environ=more)[0].spec.site.account == "mine"


def test_what_a_partition_cannot_give_is_found_before_anything_is_submitted(sources: Sources) -> None:
    from rompy_hydra.steps.prepare import prepare

    asked = ["site=tin", "backend=slurm", "resources.time_limit=2d", "resources.memory=200g", "resources.cpus=64"]
    with pytest.raises(ConfigError) as caught:
        prepare(planned(sources, *asked))
    assert [finding.key for finding in caught.value.findings] == [
        "resources.time_limit",
        "resources.cpus",
        "resources.memory",
    ]
    with pytest.raises(ConfigError, match="did you mean 'main'"):
        prepare(planned(sources, "site=tin", "backend=slurm", "backend.partition=mian"))
