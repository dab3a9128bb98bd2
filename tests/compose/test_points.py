"""`-m --cfg`: every design's points are shown, Hydra's grammar as its own sweeper has them, with all that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from rompy_hydra.compose.invocation import command_request
from rompy_hydra.compose.loader import Loader
from rompy_hydra.compose.points import preview
from rompy_hydra.compose.search_path import build_search_path
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.compose.sweep_plans import open_sweep
from rompy_hydra.errors import ConfigError, Finding

HERE = Path("/here")


def request(*overrides: str, conf: Path | None = None, environ: dict[str, str] | None = None):
    return command_request(
        ["model=command", *overrides], find_sources([str(conf)] if conf else [], environ={}), environ=environ or {}
    )


def shown(*overrides: str, package: str | None = None, conf: Path | None = None) -> tuple[str, list[Finding]]:
    text: list[str] = []
    try:
        text.extend(preview(request(*overrides, conf=conf), "job", package=package, cwd=HERE))
    except ConfigError as error:
        return "".join(text), list(error.findings)
    return "".join(text), []


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["vars.a=1,2", "env=dev,hpc", "vars.b=x"],
        ["vars.a=range(1,9,3)", "vars.b=range(0,1,0.25)"],
        ["env=glob(*)"],
        ["env=glob([d*,h*],exclude=dev)"],
        ["vars.a=choice(a,b)", "vars.b=sort(3,20,100)", "vars.c=sort(3,20,100,reverse=true)"],
        ["vars.a=int(3.2),4", "+vars.b='a,b',c", "++vars.c=[1,2],[3]", "vars.d={x:1},{y:2}"],
        ["vars.a=1,2", "vars.b=3", "vars.a=5"],
        ["vars.a=tag(t,choice(1,2))", "~env_vars.LOG_LEVEL", "hydra.job.name=n"],
        ["vars.a=\\${vars.b},null", "vars.b=true,1e3"],
    ],
)
def test_the_points_are_those_of_hydra_s_sweeper(overrides: list[str]) -> None:
    asked = request(*overrides)
    loader = Loader(build_search_path(asked.sources))
    ours = open_sweep(asked, cwd=HERE).design
    task = [o for o in asked.overrides if not o.startswith("hydra.")]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(task)
    (theirs,) = BasicSweeper.split_arguments(parsed, None)
    assert ours.count() == len(theirs)
    parser = OverridesParser.create()
    for one, other in zip(ours, theirs, strict=True):
        said = [(o.get_key_element(), o.value()) for o in parser.parse_overrides(list(other))]
        task = [o for o in one.overrides if not o.is_hydra_override()]
        assert sorted((o.get_key_element(), o.value()) for o in task) == sorted(said)


def test_points_of_text_are_what_was_typed() -> None:
    text, wrong = shown("env_vars.A=001,1.10,'a, b',true", package="env_vars.A")
    assert wrong == []
    assert [line for line in text.splitlines() if line[0] not in "-#"] == ["001", "1.10", "a, b", "true"]


def test_points_stream() -> None:
    stream = preview(request("vars.a=range(1,1000000)", "vars.b=range(1,1000)"), "job", package="vars", cwd=HERE)
    first = [next(stream) for _ in range(4)]
    assert first[0].startswith("---\n# point 0 (of 998999001): ")
    assert first[3] == "# @package vars\na: 1\nb: 2\n"


def test_each_point_is_a_document_under_its_number_and_overrides() -> None:
    text, wrong = shown("vars.a=1,2", "vars.API_KEY=canary")
    assert wrong == []
    documents = list(yaml.safe_load_all(text))
    assert [d["vars"]["a"] for d in documents] == [1, 2]
    assert "# point 1 (of 2): model=command vars.a=2 vars.API_KEY=***\n" in text
    assert "canary" not in text


def test_a_point_knows_its_number() -> None:
    text, _ = shown("vars.a=5,6", "vars.seed=${hydra:job.num}", package="vars")
    assert "${hydra:job.num}" in text
    resolved = "".join(preview(request("vars.a=5,6", "vars.seed=${hydra:job.num}"), "job", package="vars.seed",
                               resolve=True, cwd=HERE))  # fmt: skip
    assert [line for line in resolved.splitlines() if line[0] not in "-#"] == ["0", "1"]


def test_all_that_is_wrong_with_any_point_is_told_once_with_its_points(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "vars:\n  here: ${oc.env:NOT_THERE}\n  there: ${oc.env:NOR_THERE}\nbackend:\n  command: ???\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}")
    text, wrong = shown(
        "experiment=mine,null", "backend.timeout=5,60,90", "bakend=x", "hydra.launcher.x=1", conf=tmp_path
    )
    assert text.count("# point ") == 6
    file = tmp_path / "experiment" / "mine.yaml"
    found = {(f.key, f.rule.partition(" (point")[2], (f.where or "")) for f in wrong}
    everywhere = {(f.key, f.where) for f in wrong if "(point" not in f.rule}
    assert everywhere == {
        ("bakend", "the override 'bakend=x'"),
        ("hydra.launcher.x", "the override 'hydra.launcher.x=1'"),
    }
    assert ("vars.here", "s 0, 1, 2)", f"{file}:3") in found
    assert ("vars.there", "s 0, 1, 2)", f"{file}:4") in found
    assert ("backend.command", "s 0, 1, 2)", f"{file}:6") in found
    assert ("backend.timeout", "s 0, 3)", "the override 'backend.timeout=5'") in found


@pytest.mark.parametrize(
    ("override", "mend"),
    [
        ("vars.a=interval(0,1)", "sweep.samples.n"),
        ("env=glob(prd*)", "known: dev"),
        ("vars.a=glob(*)", "config groups"),
        ("vars.a=range(5,1)", None),
        ("vars.a=range(0,5,0)", None),
        ("hydra.job.name=a,b", "vars"),
    ],
)
def test_an_axis_that_is_no_list_is_told_at_once(override: str, mend: str | None) -> None:
    text, (finding,) = shown("vars.x=1,2", override, package="vars.x")
    assert finding.where == f"the override '{override}'"
    assert (mend or "") in (finding.mend or "")
    assert text == ""


@pytest.mark.parametrize(
    ("overrides", "points"),
    [
        (["vars.a=1,2", "vars.b=3,4", "sweep.zip=[[vars.a,vars.b]]"], [(1, 3), (2, 4)]),
        (["vars.a=1,2", "vars.b=3", "sweep.repeats=2"], [(1, 3), (2, 3), (1, 3), (2, 3)]),
        (["vars.a=1,2", "vars.b=3,4", "sweep.exclude=['vars.a==1 and vars.b==4']"], [(1, 3), (2, 3), (2, 4)]),
        (["sweep.table=points.csv"], [(1, 3), (5, 6)]),
        (["vars.b=9", "sweep.samples.n=2", "sweep.samples.over.vars.a={choices:[7]}"], [(7, 9), (7, 9)]),
    ],
)
def test_the_points_of_every_design_are_shown(
    overrides: list[str], points: list[tuple[int, int]], tmp_path: Path
) -> None:
    (tmp_path / "points.csv").write_text("vars.a,vars.b\n1,3\n5,6\n")
    text = "".join(preview(request(*overrides), "job", package="vars", cwd=tmp_path))
    documents = list(yaml.safe_load_all(text))
    assert [(d["a"], d["b"]) for d in documents] == points
    assert [line.split(" ")[2] for line in text.splitlines() if line.startswith("# point")] == list(
        map(str, range(len(points)))
    )


def test_what_is_wrong_with_a_row_of_a_table_is_told_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("vars.a,backend.timeout\n1,60\n2,abc\n")
    with pytest.raises(ConfigError) as error:
        list(preview(request("sweep.table=points.csv"), "job", cwd=tmp_path))
    (finding,) = error.value.findings
    assert finding.key == "backend.timeout"
    assert "points.csv:3" in (finding.where or "")


def test_what_is_no_override_is_told_once() -> None:
    _, (finding,) = shown("vars.x=1,2", "a=[1")
    assert finding.where == "the override 'a=[1'"


def test_rompy_env_picks_the_environment_of_every_point_that_names_none() -> None:
    asked = request("vars.a=1,2", environ={"ROMPY_ENV": "hpc"})
    text = "".join(preview(asked, "job", package="resources.time_limit", cwd=HERE))
    assert [line for line in text.splitlines() if line[0] not in "-#"] == ["12h", "12h"]
