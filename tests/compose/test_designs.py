"""Which points a sweep has, in which order, with which values and names, and what is said of a design that is wrong."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hypothesis import given, settings

from rompy_hydra.compose.composer import Request
from rompy_hydra.compose.design_samples import scaled
from rompy_hydra.compose.design_table import cell_value
from rompy_hydra.compose.designs import Draft, NoOverrideError, setting
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.compose.sweep_plans import Sweep, open_sweep
from rompy_hydra.errors import ConfigError, Finding, MissingToolError
from rompy_hydra.plan.point import InvalidPoint, Point
from rompy_hydra.plan.sweep_spec import Dimension

PARSER = OverridesParser.create()
COMMAND = "model=command"


def sweep(*overrides: str, cwd: Path = Path("/work-dir"), conf: Sequence[str] = ()) -> Sweep:
    request = Request(
        overrides=overrides,
        sources=find_sources(conf, environ={}),
        invocation="20260101T000000Z-test",
        environ={},
    )
    return open_sweep(request, cwd=cwd)


def drafts(*overrides: str, **options: Any) -> list[Draft]:
    return list(sweep(*overrides, **options).design)


def lines(*overrides: str, **options: Any) -> list[list[str]]:
    return [[o.input_line or "" for o in draft.overrides] for draft in drafts(*overrides, **options)]


def swept(*overrides: str, **options: Any) -> list[dict[str, Any]]:
    return [dict(draft.swept) for draft in drafts(*overrides, **options)]


def points(*overrides: str, **options: Any) -> list[Point | InvalidPoint]:
    return list(sweep(*overrides, **options).points())


def findings(*overrides: str, **options: Any) -> list[Finding]:
    with pytest.raises(ConfigError) as caught:
        list(sweep(*overrides, **options).design)
    return list(caught.value.findings)


def config(tmp_path: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path / "conf")


# -- Hydra's grammar --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["vars.a=1,2", "vars.b=x,y", "vars.c=3"],
        ["vars.c=3", "vars.b=x,y", "vars.a=range(1,4)"],
        ["vars.a=range(0,1,0.25)", "vars.b=choice(1,2)"],
        ["vars.a=range(5,1,-2)", "+vars.b=1,2"],
        ["vars.a=sort(3,1,2)", "vars.b=sort(b,a,reverse=true)"],
        ["vars.a=int(1.5,2.5)", "vars.b=str(1,2)", "vars.d=float(range(1,3))"],
        ["vars.a=[1,2],[3]", "vars.b={x:1},{x:2}", "vars.c='a,b','c'"],
        ["vars.a=1,2", "vars.a=3,4", "vars.b=5"],
        ["backend=glob(*)", "env=glob([d*,h*],exclude=development)"],
        ["vars.a=null,true,1e3", "~env_vars.LOG_LEVEL", "vars.c='${model.name}',x"],
    ],
)
def test_points_come_in_the_order_of_hydra_s_own_sweeper(arguments: list[str]) -> None:
    found = sweep(COMMAND, *arguments)
    parsed = OverridesParser.create(config_loader=found.planner.loader).parse_overrides([COMMAND, *arguments])
    (wanted,) = BasicSweeper.split_arguments(parsed, None)
    meanings = [[(o.get_key_element(), o.value()) for o in draft.overrides] for draft in found.design]
    assert meanings == [
        [(o.get_key_element(), o.value()) for o in map(PARSER.parse_override, point)] for point in wanted
    ]
    assert found.design.count() == len(wanted)


def test_what_is_shuffled_is_shuffled_once() -> None:
    design = sweep(COMMAND, "vars.a=shuffle(range(0,50))", "vars.b=1,2").design
    order = [draft.swept["vars.a"] for draft in design]
    assert sorted(order) == sorted([*range(50), *range(50)])
    assert order == [draft.swept["vars.a"] for draft in design]
    assert order[::2] != list(range(50))


def test_the_characters_that_were_typed_reach_a_text_field_of_every_point() -> None:
    found = points(COMMAND, "env_vars.V=1.10,1_000,true,0x1", "run_id=001,1e3")
    values = [(p.plan.spec.env_vars["V"], p.plan.run_id) for p in found if isinstance(p, Point)]
    assert values == list(itertools.product(["1.10", "1_000", "true", "0x1"], ["001", "1e3"]))


def test_a_product_of_a_million_points_is_a_stream() -> None:
    tracemalloc.start()
    try:
        design = sweep(COMMAND, "vars.a=range(0,1000)", "vars.b=range(0,1000)").design
        before, _ = tracemalloc.get_traced_memory()
        last = None
        for draft in itertools.islice(design, 3000):
            last = draft
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert design.count() == 1_000_000
    assert last is not None
    assert last.swept == {"vars.a": 2, "vars.b": 999}
    assert after - before < 100_000


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("vars.a=range(1,1)", "names no value at all"),
        ("backend=glob(x*)", "names no value at all"),
        ("vars.a=interval(0,1)", "an interval is no list of points"),
        ("hydra.job.name=a,b", "cannot be swept"),
        ("vars.a=range(1,2,0)", "cannot be listed"),
    ],
)
def test_an_axis_that_cannot_be_listed_is_told(override: str, rule: str) -> None:
    (finding,) = findings(COMMAND, override)
    assert rule in finding.rule
    assert override in (finding.where or "")


def test_all_that_is_wrong_with_a_design_is_told_at_once() -> None:
    found = findings(COMMAND, "vars.a=range(1,1)", "backend=glob(x*)", "vars.c=1,2", "sweep.zip=[vars.c,vars.d]")
    assert len(found) == 3


def test_values_to_sweep_may_stand_in_a_file_as_hydra_s_sweeper_has_them(tmp_path: Path) -> None:
    conf = config(
        tmp_path, {"experiment/e.yaml": "# @package _global_\nhydra:\n  sweeper:\n    params:\n      vars.a: 1,2\n"}
    )
    assert swept(COMMAND, "experiment=e", "vars.b=3,4", conf=[conf])[0] == {"vars.a": 1, "vars.b": 3}
    assert swept(COMMAND, "experiment=e", "vars.a=7,8", conf=[conf]) == [{"vars.a": 7}, {"vars.a": 8}]


# -- zip --------------------------------------------------------------------------------------------------------------


def test_zipped_keys_vary_together() -> None:
    found = swept(COMMAND, "vars.a=1,2", "vars.b=x,y", "vars.c=5,6", "sweep.zip=[vars.a,vars.c]")
    assert found == [
        {"vars.a": 1, "vars.c": 5, "vars.b": "x"},
        {"vars.a": 1, "vars.c": 5, "vars.b": "y"},
        {"vars.a": 2, "vars.c": 6, "vars.b": "x"},
        {"vars.a": 2, "vars.c": 6, "vars.b": "y"},
    ]


def test_two_groups_of_keys_can_be_zipped() -> None:
    found = swept(COMMAND, *(f"vars.{k}=1,2" for k in "abcd"), "sweep.zip=[[vars.a,vars.b],[vars.c,vars.d]]")
    assert len(found) == 4
    assert all(p["vars.a"] == p["vars.b"] and p["vars.c"] == p["vars.d"] for p in found)


def test_a_range_and_a_list_of_one_length_can_be_zipped() -> None:
    assert len(swept(COMMAND, "vars.a=range(0,3)", "vars.b=x,y,z", "sweep.zip=[vars.a,vars.b]")) == 3


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (["vars.a=1,2", "vars.b=1,2,3", "sweep.zip=[vars.a,vars.b]"], "vars.a has 2, vars.b has 3"),
        (["vars.a=1,2", "sweep.zip=[vars.a,vars.bb]"], "is not swept"),
        (["vars.a=1,2", "vars.b=1", "sweep.zip=[vars.a,vars.b]"], "has one value only"),
        (["vars.a=1,2", "vars.b=1,2", "sweep.zip=[[vars.a,vars.b],[vars.a]]"], "stands in it twice"),
    ],
)
def test_keys_that_cannot_be_zipped_are_told(overrides: list[str], rule: str) -> None:
    (finding,) = findings(COMMAND, *overrides)
    assert rule in finding.rule


# -- tables -----------------------------------------------------------------------------------------------------------


def table(tmp_path: Path, text: str, name: str = "points.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


AWKWARD = ["12e5", "1997_10", "20110202.00", "NaN", "a,b.nc", "Yasi (2011)", "007", "true", "null", "1.50", "x: y"]
AWKWARD += [
    "[1,2]",
    "{a:1}",
    "${nowhere}",
    "\\${nowhere}",
    "it's",
    'say "so"',
    "a\\",
    "é ☂",
    "=",
    "#1",
    " padded ",
    "~",
    "1,5",
]


def test_awkward_cells_arrive_in_a_text_field_as_they_are_written(tmp_path: Path) -> None:
    rows = "\n".join('"' + cell.replace('"', '""') + '"' for cell in AWKWARD)
    table(tmp_path, f"env_vars.CELL\n{rows}\n")
    found = points(COMMAND, "sweep.table=points.csv", cwd=tmp_path)
    assert [p.plan.spec.env_vars["CELL"] for p in found if isinstance(p, Point)] == AWKWARD
    again = [points(*p.overrides)[0] for p in found]  # the recorded overrides mean the same when they are typed
    assert [p.plan.spec.env_vars["CELL"] for p in again if isinstance(p, Point)] == AWKWARD


@pytest.mark.parametrize(
    ("cell", "value"),
    [("12e5", 1_200_000.0), ("0.5", 0.5), ("3", 3), ("007", 7), ("-1.", -1.0), (".5", 0.5), ("10d", "10d"), (" 4 ", 4)],
)
def test_a_cell_for_a_number_is_one_in_any_notation(cell: str, value: object) -> None:
    found = cell_value(cell, [float])
    assert found == value
    assert type(found) is type(value)


def test_a_cell_that_only_python_reads_as_a_number_is_refused() -> None:
    with pytest.raises(NoOverrideError):
        cell_value("1997_10", [int])


@pytest.mark.parametrize("cell", ["TRUE", "True", "true"])
def test_a_cell_for_a_boolean_is_one(cell: str) -> None:
    assert cell_value(cell, [bool]) is True


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("5", 5),
        ("-3", -3),
        ("0.1", 0.1),
        ("1e-05", 1e-05),
        ("true", True),
        ("False", "False"),
        ("1.50", "1.50"),
        ("+5", "+5"),
        ("007", "007"),
        ("20110202.00", "20110202.00"),
        ("NaN", "NaN"),
        ("nan", "nan"),
        ("12e5", "12e5"),
        ("null", "null"),
    ],
)
def test_where_the_schema_does_not_say_a_cell_is_a_number_only_if_it_is_written_as_one(
    cell: str, value: object
) -> None:
    found = cell_value(cell, [])
    assert found == value
    assert type(found) is type(value)


def test_a_blank_cell_keeps_the_default(tmp_path: Path) -> None:
    table(tmp_path, "vars.a,run_id\n1,x\n , y\n,\n2,\n")
    assert swept(COMMAND, "sweep.table=points.csv", cwd=tmp_path) == [
        {"vars.a": 1, "run_id": "x"},
        {"run_id": "y"},
        {"vars.a": 2},
    ]


def test_a_name_column_names_the_points(tmp_path: Path) -> None:
    table(tmp_path, "name,vars.a\nYasi (2011),1\nb,2\n,3\n")
    assert [p.name for p in points(COMMAND, "sweep.table=points.csv", cwd=tmp_path)] == ["Yasi (2011)", "b", "2"]
    crossed = points(COMMAND, "sweep.table=points.csv", "vars.b=1,2", cwd=tmp_path)
    assert [p.name for p in crossed] == ["Yasi (2011)-0", "Yasi (2011)-1", "b-2", "b-3", "4", "5"]
    assert len({p.name for p in points(COMMAND, "sweep.table=points.csv", "sweep.repeats=3", cwd=tmp_path)}) == 9


def test_rows_come_before_the_axes_of_the_command_line(tmp_path: Path) -> None:
    table(tmp_path, "vars.a\n1\n2\n")
    found = swept(COMMAND, "vars.b=x,y", "sweep.table=points.csv", cwd=tmp_path)
    assert found == [{"vars.a": a, "vars.b": b} for a in (1, 2) for b in "xy"]


def test_a_key_of_the_command_line_wins_over_its_column(tmp_path: Path) -> None:
    table(tmp_path, "vars.a,vars.b\n1,2\n3,4\n")
    assert swept(COMMAND, "vars.a=9", "sweep.table=points.csv", cwd=tmp_path) == [{"vars.b": 2}, {"vars.b": 4}]


def test_a_column_may_choose_a_group(tmp_path: Path) -> None:
    table(tmp_path, "backend,backend.cpu,backend.partition\nlocal,,\ndocker,2,\nslurm,,007\n")
    found = [
        p.plan.spec.backend for p in points(COMMAND, "sweep.table=points.csv", cwd=tmp_path) if isinstance(p, Point)
    ]
    assert [b.type for b in found] == ["local", "docker", "slurm"]
    assert getattr(found[1], "cpu", None) == 2
    assert getattr(found[2], "partition", None) == "007"


def test_columns_can_be_renamed_and_left_out(tmp_path: Path) -> None:
    table(tmp_path, "storm\ttau\tsource\nYasi\t1\tsomewhere\n", "points.tsv")
    spec = "sweep.table={file: points.tsv, columns: {tau: vars.tau}, ignore: [source], name: storm}"
    (found,) = points(COMMAND, spec, cwd=tmp_path)
    assert (found.name, dict(found.swept)) == ("Yasi", {"vars.tau": 1})


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("modle.name,vars.a\nx,1\n", [("modle.name", ":1, column 1", "did you mean 'model.name'?")]),
        (
            "backend.tmeout,bakend\n1,2\n",
            [("backend.tmeout", ":1, column 1", "backend.timeout"), ("bakend", ":1, column 2", "backend")],
        ),
        ("vars.a,vars.a\n1,2\n", [("vars.a", ":1, column 2", "")]),
        ("vars.a,\n1,2\n", [("sweep.table", ":1, column 2", "")]),
        ("hydra.job.name\nx\n", [("hydra.job.name", ":1, column 1", "")]),
        ("", [("sweep.table", "", "")]),
    ],
)
def test_a_wrong_column_is_told_once_with_its_place(
    tmp_path: Path, text: str, places: list[tuple[str, str, str]]
) -> None:
    path = table(tmp_path, text)
    found = findings(COMMAND, "sweep.table=points.csv", cwd=tmp_path)
    assert [(f.key, f.where or "") for f in found] == [
        (key, f"{path}{where}" if where else "") for key, where, _ in places
    ]
    for finding, (_, _, mend) in zip(found, places, strict=True):
        assert mend in (finding.mend or "")


def test_a_missing_table_names_its_neighbours(tmp_path: Path) -> None:
    table(tmp_path, "vars.a\n1\n")
    (finding,) = findings(COMMAND, "sweep.table=point.csv", cwd=tmp_path)
    assert "points.csv" in (finding.mend or "")


@pytest.mark.parametrize(
    ("row", "rule", "where"),
    [
        ("1,2,3", "has 3 cells, and the header has 2", ":3"),
        ("1", "has 1 cells, and the header has 2", ":3"),
        ("resources,1997_10", "'_' groups digits", ":3, column 'resources.threads'"),
        ("a,???", "means that a value is missing", ":3, column 'resources.threads'"),
        ("a,many", "valid integer", ":3 (the override"),
    ],
)
def test_a_wrong_cell_is_told_with_its_row_and_spoils_no_other_point(
    tmp_path: Path, row: str, rule: str, where: str
) -> None:
    path = table(tmp_path, f"vars.a,resources.threads\n1,1\n{row}\n1,1\n")
    first, second, third = points(COMMAND, "sweep.table=points.csv", cwd=tmp_path)
    assert isinstance(first, Point)
    assert isinstance(third, Point)
    assert isinstance(second, InvalidPoint)
    (finding,) = second.error.findings
    assert rule in finding.rule
    assert (finding.where or "").startswith(f"{path}{where}")


def test_a_name_that_stands_twice_or_cannot_be_a_directory_is_told(tmp_path: Path) -> None:
    path = table(tmp_path, "name,vars.a\na,1\na,2\nb/c,3\n")
    _, second, third = points(COMMAND, "sweep.table=points.csv", cwd=tmp_path)
    assert isinstance(second, InvalidPoint)
    assert f"{path}:2" in second.error.findings[0].rule
    assert isinstance(third, InvalidPoint)
    assert "names one directory" in third.error.findings[0].rule


def test_a_cell_with_line_ends_does_not_move_the_rows(tmp_path: Path) -> None:
    path = table(tmp_path, 'vars.a,vars.b\n"one\ntwo",1\n\n3,x\n')
    assert [d.where for d in drafts(COMMAND, "sweep.table=points.csv", cwd=tmp_path)] == [f"{path}:2", f"{path}:5"]


def test_a_table_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_bytes(b"vars.a\n\xff\xfe\n")
    (finding,) = findings(COMMAND, "sweep.table=points.csv", cwd=tmp_path)
    assert "decode" in finding.rule


def test_a_large_table_is_a_stream(tmp_path: Path) -> None:
    table(tmp_path, "vars.a\n" + "".join(f"{n}\n" for n in range(50_000)))
    design = sweep(COMMAND, "sweep.table=points.csv", cwd=tmp_path).design
    tracemalloc.start()
    try:
        assert sum(1 for _ in itertools.islice(design, 20_000)) == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
    assert design.count() == 50_000


def test_parquet_has_types_of_its_own(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pip install 'rompy-hydra[tables]'")
    from pyarrow import parquet

    columns = {
        "name": ["a", None],
        "vars.a": [1, None],
        "vars.b": [0.5, 2.0],
        "env_vars.V": [7, 8],
        "vars.c": ["1", "007"],
    }
    parquet.write_table(arrow.table(columns), tmp_path / "points.parquet")
    found = points(COMMAND, "sweep.table=points.parquet", cwd=tmp_path)
    assert [p.name for p in found] == ["a", "1"]
    assert [dict(p.swept) for p in found] == [
        {"vars.a": 1, "vars.b": 0.5, "env_vars.V": "7", "vars.c": "1"},
        {"vars.b": 2.0, "env_vars.V": "8", "vars.c": "007"},
    ]


def test_parquet_without_its_reader_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "points.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingToolError, match=r"rompy-hydra\[tables\]"):
        sweep(COMMAND, "sweep.table=points.parquet", cwd=tmp_path)


# -- samples ----------------------------------------------------------------------------------------------------------

SPACE = "over: {model.parameters.wind_stress: [0.05, 0.2], vars.n: [1, 8]}"


@pytest.mark.parametrize("method", ["lhs", "sobol", "random"])
def test_the_same_seed_gives_the_same_points(method: str) -> None:
    one = swept(f"sweep.samples={{method: {method}, n: 20, seed: 1, {SPACE}}}")
    again = swept(f"sweep.samples={{method: {method}, n: 20, seed: 1, {SPACE}}}")
    other = swept(f"sweep.samples={{method: {method}, n: 20, seed: 2, {SPACE}}}")
    assert one == again != other
    assert len(one) == 20
    assert all(0.05 <= p["model.parameters.wind_stress"] <= 0.2 for p in one)
    assert {type(p["vars.n"]) for p in one} == {int}
    assert {p["vars.n"] for p in one} <= set(range(1, 9))


def test_a_latin_hypercube_has_one_point_in_every_stratum() -> None:
    found = swept("sweep.samples={n: 20, over: {vars.x: [0.0, 20.0]}}")
    assert sorted(int(p["vars.x"]) for p in found) == list(range(20))


def test_a_sobol_sequence_is_balanced() -> None:
    found = swept("sweep.samples={method: sobol, n: 64, over: {vars.x: [0.0, 8.0], vars.y: [0.0, 8.0]}}")
    assert sorted({(int(p["vars.x"]), int(p["vars.y"])) for p in found}) == sorted(
        itertools.product(range(8), range(8))
    )


def test_an_interval_of_the_command_line_is_drawn_from() -> None:
    found = swept(
        COMMAND, "vars.x=interval(0,1)", "vars.y=tag(log,interval(1,1000))", "vars.z=1,2", "sweep.samples.n=3"
    )
    assert len(found) == 6
    assert all(0 <= p["vars.x"] <= 1 <= p["vars.y"] <= 1000 for p in found)


def test_keys_of_a_space_may_be_given_one_by_one() -> None:
    found = swept(
        COMMAND, "sweep.samples.n=4", "sweep.samples.over.vars.x=[0.0,1.0]", "sweep.samples.over.vars.y.choices=[a,b]"
    )
    assert {frozenset(p) for p in found} == {frozenset({"vars.x", "vars.y"})}


def test_a_sample_without_a_space_is_told() -> None:
    (finding,) = findings(COMMAND, "sweep.samples.n=3")
    assert "interval" in (finding.mend or "")


@pytest.mark.parametrize(
    ("dimension", "low", "high", "middle"),
    [
        (Dimension(low=0, high=10), 0.0, 10.0, 5.0),
        (Dimension(low=1, high=4, type="int"), 1, 4, 3),
        (Dimension(low=1, high=100, scale="log"), 1.0, 100.0, 10.0),
        (Dimension(low=1, high=64, type="int", scale="log"), 1, 64, 6),
        (Dimension(choices=["a", "b", "c"]), "a", "c", "b"),
    ],
)
def test_a_dimension_reaches_from_end_to_end(dimension: Dimension, low: Any, high: Any, middle: Any) -> None:
    assert scaled(0.0, dimension) == low
    assert scaled(0.999999999999, dimension) == pytest.approx(high)
    assert scaled(0.5, dimension) == pytest.approx(middle)


def test_without_scipy_random_numbers_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.stats", None)
    assert len(swept("sweep.samples={method: random, n: 3, over: {vars.x: [0.0, 1.0]}}")) == 3
    with pytest.raises(MissingToolError, match="method=random"):
        sweep("sweep.samples={n: 3, over: {vars.x: [0.0, 1.0]}}")


# -- repeats, exclusion, files ----------------------------------------------------------------------------------------


def test_repeats_run_the_whole_design_again() -> None:
    found = points(COMMAND, "vars.a=1,2", "sweep.repeats=2")
    assert [(p.number, p.repeat, p.swept["vars.a"]) for p in found] == [(0, 0, 1), (1, 0, 2), (2, 1, 1), (3, 1, 2)]


def test_points_for_which_a_condition_holds_are_left_out_and_have_no_number() -> None:
    found = points(
        "model=anuga_dambreak",
        "backend=local,docker",
        "resources.ranks=1,2,4",
        "sweep.exclude='resources.ranks > 1 and backend == \"docker\"'",
    )
    assert [(p.number, p.swept["backend"], p.swept["resources.ranks"]) for p in found] == [
        (0, "local", 1),
        (1, "local", 2),
        (2, "local", 4),
        (3, "docker", 1),
    ]


def test_an_invalid_point_can_be_left_out() -> None:
    found = points(COMMAND, "resources.threads=1,0", 'sweep.exclude=["resources.threads < 1"]')
    assert [type(p) for p in found] == [Point]


def test_a_condition_that_speaks_of_nothing_is_told() -> None:
    (found,) = points(COMMAND, "vars.a=1", "sweep.exclude='nowhere.at_all > 1'")
    assert isinstance(found, InvalidPoint)
    assert "nowhere.at_all" in found.error.findings[0].rule


DESIGN = """\
# @package _global_
sweep:
  repeats: 1
  on_failure: fail_fast
  design:
    - grid:
        resources.memory: [1g, 2g]
        vars.label: ["001", 1.5]
    - zip: {vars.a: [1, 2], vars.b: "x,y"}
    - union:
        - [{grid: {vars.kind: [one]}}]
        - [{grid: {vars.kind: [two]}}, {grid: {vars.only: "range(0,2)"}}]
"""


def test_a_design_may_stand_in_a_file(tmp_path: Path) -> None:
    conf = config(tmp_path, {"experiment/study.yaml": DESIGN})
    found = sweep(COMMAND, "experiment=study", conf=[conf])
    assert found.spec.failures_allowed == 1
    every = list(found.design)
    assert len(every) == found.design.count() == 2 * 2 * 2 * 3
    assert every[0].swept == {
        "resources.memory": "1g",
        "vars.label": "001",
        "vars.a": 1,
        "vars.b": "x",
        "vars.kind": "one",
    }
    assert every[-1].swept["vars.only"] == 1
    planned = list(found.points())
    assert all(isinstance(p, Point) for p in planned)
    assert not found.planner.counts.aside


def test_the_command_line_wins_over_a_design_in_a_file(tmp_path: Path) -> None:
    conf = config(tmp_path, {"experiment/study.yaml": DESIGN})
    found = swept(COMMAND, "experiment=study", "resources.memory=4g", "vars.a=7,8,9", conf=[conf])
    assert len(found) == 2 * 2 * 3 * 3
    assert {p["vars.b"] for p in found} == {"x", "y"}
    assert {p["vars.a"] for p in found} == {7, 8, 9}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("design: [{grid: {}, zip: {}}]", "sweep.design.0"),
        ("design: [{gird: {vars.a: [1]}}]", "sweep.design.0.gird"),
        ("design: [{zip: {vars.a: [1], vars.b: [1, 2]}}]", "sweep.design.0.zip"),
        ("design: [{grid: {vars.a: []}}]", "sweep.design.0.grid.vars.a"),
        ("samples: {n: 0}", "sweep.samples.n"),
        ("samples: {n: 2, over: {vars.a: [2, 1]}}", "sweep.samples.over.vars.a"),
        ("exclude: ['resources.threads >']", "sweep.exclude.0"),
        ("repeats: 0", "sweep.repeats"),
    ],
)
def test_a_wrong_design_in_a_file_is_told_with_its_key(tmp_path: Path, text: str, key: str) -> None:
    conf = config(tmp_path, {"experiment/bad.yaml": f"# @package _global_\nsweep:\n  {text}\n"})
    (finding,) = findings(COMMAND, "experiment=bad", conf=[conf])
    assert finding.key == key


def test_what_belongs_to_the_sweep_is_no_override_of_a_point() -> None:
    assert lines(COMMAND, "vars.a=1,2", "sweep.jobs=2") == [[COMMAND, "vars.a=1"], [COMMAND, "vars.a=2"]]


def test_a_misspelt_key_of_the_sweep_is_told() -> None:
    (finding,) = findings(COMMAND, "sweep.jobz=2")
    assert finding.mend == "did you mean 'sweep.jobs'?"


# -- data as overrides ------------------------------------------------------------------------------------------------

DATA = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**12), 10**12),
        st.floats(allow_nan=False),
        st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"])).filter(lambda t: t != "???"),
        st.sampled_from(AWKWARD),
    ),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=150)
@given(DATA)
def test_the_text_of_a_setting_means_its_value_to_hydra(value: Any) -> None:
    made = setting("vars.a", value, PARSER.parse_override)
    assert made.input_line is not None
    read = PARSER.parse_override(made.input_line)
    assert repr(read.value()) == repr(made.value())
    assert replace_position(read) == replace_position(made)


def replace_position(override: Override) -> Any:
    return override.type, override.key_or_group, override.value_type, override.package


@settings(max_examples=20)
@given(st.lists(st.sampled_from(AWKWARD), min_size=1, max_size=3))
def test_a_text_comes_back_from_a_composed_point(texts: list[str]) -> None:
    found = sweep(COMMAND)
    for text in texts:
        point = found.planner.composed(
            [PARSER.parse_override(COMMAND), setting("vars.a", text, PARSER.parse_override)], 0
        )
        assert point.config["vars"]["a"] == text


def shuffled(items: Sequence[Any], seed: int) -> Iterator[Any]:
    order = list(items)
    random.Random(seed).shuffle(order)
    yield from order


def test_a_design_can_be_gone_through_again_and_gives_the_same(tmp_path: Path) -> None:
    table(tmp_path, "vars.t\n" + "\n".join(map(str, shuffled(range(10), 3))) + "\n")
    samples = "sweep.samples={n: 4, over: {vars.s: [0.0, 1.0]}}"
    design = sweep(COMMAND, "vars.a=range(0,3)", "vars.b=x,y", samples, "sweep.table=points.csv", cwd=tmp_path).design
    assert list(design) == list(design)
    assert design.count() == len(list(design)) == 3 * 2 * 4 * 10
    assert replace(design, repeats=2).count() == 2 * design.count()
