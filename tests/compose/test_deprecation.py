"""A renamed key goes on working, everywhere the same as its new name, and is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from rompy_hydra.cli import main
from rompy_hydra.compose import deprecation
from rompy_hydra.compose.bridge import to_plan
from rompy_hydra.compose.composer import Request, compose
from rompy_hydra.compose.deprecation import RENAMED, Renamings, read_table
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.compose.sweep_plans import open_sweep
from rompy_hydra.errors import ConfigError
from rompy_hydra.plan.point import Point
from rompy_hydra.plan.spec import RunSpec

TABLE = {
    "resources.walltime": "resources.time_limit",
    "model.params": "model.parameters",
    "model.parameters.wind": "model.parameters.wind_stress",
    "limits.hours": "resources.time_limit",
    "vars.first": "vars.second",
    "vars.second": "vars.third",
}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    conf = tmp_path / "repo" / "conf"
    (conf / "env").mkdir(parents=True)
    (conf / "renamed_keys.yaml").write_text("".join(f"{old}: {new}\n" for old, new in TABLE.items()))
    return conf


def request(conf: Path, *overrides: str, config_name: str = "config") -> Request:
    sources = find_sources([str(conf)], environ={})
    return Request(overrides=overrides, sources=sources, invocation="x", environ={}, config_name=config_name)


def planned(conf: Path, *overrides: str):  # a plan without what was typed, and what is told
    composition = compose(request(conf, *overrides))
    plan = to_plan(composition, cwd=Path("/x"))
    return plan.model_copy(update={"overrides": (), "hydra_files": {}}), [str(f) for f in composition.renamed]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("resources.walltime=2h", "resources.time_limit=2h"),
        ("++resources.walltime=2h", "++resources.time_limit=2h"),
        ("model.params.wind_stress=0.3", "model.parameters.wind_stress=0.3"),
        ("model.parameters.wind=0.3", "model.parameters.wind_stress=0.3"),
        ("limits.hours=2h", "resources.time_limit=2h"),
        ("vars.first=1", "vars.third=1"),
        ("+vars.first=1", "+vars.third=1"),
        ("~resources.walltime", "~resources.time_limit"),
    ],
)
def test_an_old_name_on_the_command_line_is_the_new_one(conf: Path, old: str, new: str) -> None:
    plan, told = planned(conf, old)
    assert (plan, []) == planned(conf, new)
    was, is_now = (text.lstrip("+~").partition("=")[0] for text in (old, new))
    assert told == [f"{was}: is called {is_now} now\n    set by the override '{old}'\n    write {is_now}"]


OLD_FILE = """\
# @package _global_
resources:
  walltime: 90m
limits: {hours: 3h}
model:
  params:
    wind_stress: ${vars.a}
vars:
  a: 0.2
  limit: in ${resources.walltime} at most
  list: ["${..first}", x]
  first: one
"""
NEW_FILE = """\
# @package _global_
resources:
  time_limit: 90m
model:
  parameters:
    wind_stress: ${vars.a}
vars:
  a: 0.2
  limit: in ${resources.time_limit} at most
  list: ["${vars.third}", x]
  third: one
"""


def test_old_names_in_a_file_are_the_new_ones(conf: Path) -> None:
    (conf / "env" / "old.yaml").write_text(OLD_FILE)
    (conf / "env" / "new.yaml").write_text(NEW_FILE)
    old, told = planned(conf, "env=old")
    new, nothing = planned(conf, "env=new")
    assert old.spec.model_dump() | {"vars": {}} == new.spec.model_dump() | {"vars": {}}
    assert old.spec.vars == new.spec.vars
    assert old.parameters == new.parameters
    assert nothing == []
    places = [line.strip() for text in told for line in text.splitlines() if "set by" in line]
    file = conf / "env" / "old.yaml"
    assert sorted(places) == sorted(f"set by {file}:{n}" for n in (3, 4, 6, 12))


def test_the_layers_keep_their_order(conf: Path) -> None:
    """A later file wins, whatever name it says; in one file the new name wins."""
    (conf / "env" / "new.yaml").write_text("# @package _global_\nresources: {time_limit: 1h}\n")
    (conf / "env" / "old.yaml").write_text("# @package _global_\ndefaults: [new]\nresources: {walltime: 2h}\n")
    (conf / "env" / "newer.yaml").write_text("# @package _global_\ndefaults: [old]\nresources: {time_limit: 3h}\n")
    (conf / "env" / "both.yaml").write_text("# @package _global_\nresources: {walltime: 2h, time_limit: 4h}\n")
    hours = {
        name: planned(conf, f"env={name}")[0].spec.resources.time_limit / 3600 for name in ("old", "newer", "both")
    }
    assert hours == {"old": 2, "newer": 3, "both": 4}
    assert planned(conf, "env=newer", "resources.walltime=5h")[0].spec.resources.time_limit == 18000


def test_a_wrong_value_under_an_old_name_is_found_where_it_stands(conf: Path) -> None:
    (conf / "env" / "old.yaml").write_text("# @package _global_\nresources:\n  walltime: 2x\n")
    with pytest.raises(ConfigError) as caught:
        planned(conf, "env=old")
    (finding,) = caught.value.findings
    assert (finding.key, finding.where) == ("resources.time_limit", f"{conf}/env/old.yaml:3")


SWEEP = """\
defaults: [config, _self_]
sweep:
  design:
    - grid: {%(wind)s: [0.1, 0.2], resources.cpus: "1,2"}
    - zip: {%(limit)s: [1h, 2h], vars.a: [1, 2]}
    - table: {file: %(file)s}
  exclude: ["%(wind)s > 0.15 and resources.cpus == 2"]
"""


def test_a_sweep_by_old_names_is_the_same_sweep_all_of_it_on_the_fast_way(conf: Path) -> None:
    names = {
        "old": {"wind": "model.parameters.wind", "limit": "resources.walltime", "column": "vars.first"},
        "new": {"wind": "model.parameters.wind_stress", "limit": "resources.time_limit", "column": "vars.third"},
    }
    seen = {}
    for which, keys in names.items():
        table = conf.parent / f"{which}.csv"
        table.write_text(f"{keys['column']}\n7\n8\n")
        (conf / f"{which}.yaml").write_text(SWEEP % {**keys, "file": table})
        command = [f"{keys['wind']}=0.1,0.2", f"sweep.zip=[[{keys['wind']},vars.b]]", "vars.b=1,2"]
        sweep = open_sweep(request(conf, *command, config_name=which), cwd=Path("/x"))
        points = [p for p in sweep.points() if isinstance(p, Point)]
        seen[which] = [(p.name, p.swept, p.plan.spec.model_copy(update={"sweep": None}), p.overrides) for p in points]
        assert sweep.planner.counts.fallbacks == 0
        assert bool(sweep.composition.renamed) is (which == "old")
    assert len(seen["old"]) == 12
    assert seen["old"] == seen["new"]


def test_hydras_own_sweep_grammar_takes_old_names(conf: Path) -> None:
    sweep = open_sweep(request(conf, "resources.walltime=1h,2h"), cwd=Path("/here"))
    points = [[(o.key_or_group, o.value()) for o in draft.overrides] for draft in sweep.design]
    assert points == [[("resources.time_limit", "1h")], [("resources.time_limit", "2h")]]


def test_the_command_line_tells_the_old_name_each_time_it_is_used(
    conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (conf / "env" / "old.yaml").write_text("# @package _global_\nresources:\n  walltime: 10m\n")
    words = ["run", "--config-dir", str(conf), "env=old", "model=command", "backend.command=true"]
    line = f"rompy-hydra: warning: resources.walltime is called resources.time_limit now ({conf}/env/old.yaml:3)"
    for name in ("one", "two"):
        assert main([*words, f"run_id={name}"]) == 0
        assert line in capsys.readouterr().err
    for more in (["--cfg", "job"], ["--dry-run"], ["--dry-run", "-m", "vars.a=1,2"]):
        assert main([*words, *more]) == 0
        assert capsys.readouterr().err.count(line) == 1
    assert main([*words, "-m", "vars.a=1,2"]) == 0
    assert capsys.readouterr().err.count(line) == 1


def test_our_own_table_works_as_a_repositorys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deprecation, "RENAMED", {"resources.walltime": "resources.time_limit"})
    (tmp_path / "env").mkdir()
    plan, told = planned(tmp_path, "resources.walltime=2h")
    assert plan.spec.resources.time_limit == 7200
    assert len(told) == 1


def test_our_own_table_names_no_key_that_is_in_use_and_leads_to_keys_that_are() -> None:
    for old, new in Renamings(RENAMED).table.items():
        assert old.partition(".")[0] not in RunSpec.model_fields or "." in old
        assert new.partition(".")[0] in RunSpec.model_fields


def test_without_old_names_nothing_is_told(conf: Path) -> None:
    assert planned(conf)[1] == []


@pytest.mark.parametrize(
    ("text", "line", "rule"),
    [
        ("a.b: a.b\n", 1, "one of the two names holds the other"),
        ("x: y\na: a.b\n", 2, "one of the two names holds the other"),
        ("a: b\nb: a\n", 1, "leads back to itself"),
        ("a: [b]\n", 1, "an entry is"),
        ("'a b': c\n", 1, "an entry is"),
        ("- a\n", 1, "is a table"),
        ("a: {\n", 2, "not valid YAML"),
        ("a: b\na: c\n", 2, "found the key"),
    ],
)
def test_a_table_that_is_none_is_refused_with_its_line(conf: Path, text: str, line: int, rule: str) -> None:
    path = conf / "renamed_keys.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_table(path)
    assert (caught.value.findings[0].where or "").startswith(f"{path}:{line}")
    assert rule in caught.value.findings[0].rule
    with pytest.raises(ConfigError):
        planned(conf)
