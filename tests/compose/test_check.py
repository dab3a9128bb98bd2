"""`check`: every planted fault is found at its line and under its code, each once, and nothing else."""

from __future__ import annotations

import json
import random
import re
from itertools import permutations
from pathlib import Path

import pytest

from rompy_hydra.check.codes import CODES, selected, table
from rompy_hydra.check.faults import Report
from rompy_hydra.check.output import FORMATS
from rompy_hydra.cli import main
from rompy_hydra.compose.bridge import to_plan
from rompy_hydra.compose.check_combinations import QuickComposer, Unsure, all_combinations, pairwise
from rompy_hydra.compose.check_repository import Scope, check_repository
from rompy_hydra.compose.composer import Request
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.compose.sweep_plans import SweepPlanner
from rompy_hydra.errors import ConfigError, UsageError
from tests.compose.check_kit import FAULTS, UNMARKED, clean_repository, planted, write

ROOT = Path(__file__).resolve().parents[2]


def checked(*roots: Path, **more) -> Report:
    sources = find_sources([str(root) for root in roots], environ={}, cwd=Path("/nonexistent"))
    return check_repository(Scope(sources=sources, cwd=roots[0], environ={}, **more))


def found(report: Report, root: Path) -> set[tuple[str, int, str]]:
    """(file, line, code) of what is worth an exit code or a warning."""
    return {(f.path.relative_to(root).as_posix(), f.line, f.code) for f in report.faults if f.severity != "note"}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return clean_repository(tmp_path / "repo")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A smaller one."""
    return clean_repository(tmp_path / "repo", ("north", "south"))


def test_a_clean_repository_has_no_fault(whole: Path) -> None:
    report = checked(whole)
    assert found(report, whole) == set()
    assert (report.files, report.templates, report.sweeps, report.points) == (38, 8, 3, 14)
    assert report.strategy == "pairwise"
    assert {f.code for f in report.faults} <= {"RH602"}


def test_what_is_shipped_has_no_fault() -> None:
    report = checked(ROOT)
    assert report.faults == ()
    assert report.combinations > 500
    assert (report.strategy, report.sweeps, report.templates) == ("all", 5, 2)


def test_every_planted_fault_is_found_at_its_line_and_nothing_else(whole: Path) -> None:
    write(whole, FAULTS)
    report = checked(whole)
    assert found(report, whole) == planted(whole) | UNMARKED
    assert len([f for f in report.faults if f.severity != "note"]) == len(planted(whole) | UNMARKED)
    for fault in report.faults:
        assert "rompy-hydra-check" not in f"{fault.message} {fault.mend}", "a path of the temporary copy"
        assert "hunter2" not in f"{fault.message} {fault.mend}"


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_fault_alone_is_found_too(tmp_path: Path, name: str) -> None:
    """Without the others beside it: none is found because of another one."""
    repository = clean_repository(tmp_path, ("north", "south"))
    directory = name.split("/")[1] if name.startswith("templates/") else None
    with_it = {
        k: v for k, v in FAULTS.items() if k == name or (directory and f"/{directory}/" in k.replace(".yaml", "/"))
    }
    if name == "conf/env/old.yaml":
        with_it["conf/renamed_keys.yaml"] = FAULTS["conf/renamed_keys.yaml"]
    if name.startswith("conf/model/"):
        with_it |= {k: v for k, v in FAULTS.items() if f"templates/{Path(name).stem}/" in k}
    if name == "conf/experiment/together.yaml":
        with_it["conf/resources/threads.yaml"] = FAULTS["conf/resources/threads.yaml"]
    write(repository, with_it)
    expected = planted(repository) | {fault for fault in UNMARKED if fault[0] == name}
    assert found(checked(repository, bound=20), repository) == expected


def test_all_codes_are_planted_somewhere() -> None:
    codes = set(re.findall(r"<(RH\d{3})", " ".join(FAULTS.values()))) | {code for _, _, code in UNMARKED}
    elsewhere = {"RH004", "RH105", "RH602", "RH604", "RH802", "RH901"}
    assert set(CODES) - codes == elsewhere


def test_one_wrong_line_is_one_fault_however_many_combinations_meet_it(repository: Path) -> None:
    path = repository / "conf" / "resources" / "small.yaml"
    path.write_text("defaults: [/schema/resources, _self_]\ncpus: -1\nmemory: 1g\n")
    (fault,) = [f for f in checked(repository).faults if f.severity == "error"]
    assert (fault.path, fault.line, fault.code, fault.key) == (path, 2, "RH204", "resources.cpus")
    assert 5 < fault.hits <= fault.tried


def test_a_value_that_only_repeats_a_wrong_one_is_no_fault_of_its_own(repository: Path) -> None:
    write(
        repository,
        {
            "conf/backend/local.yaml": "defaults: [/packaged/backend/local, _self_]\n"
            "timeout: ${resources.time_limit}\n",
            "conf/env/test.yaml": "# @package _global_\nresources: {time_limit: 10 parsecs}\n",
        },
    )
    errors = [f for f in checked(repository).faults if f.severity == "error"]
    assert [(f.path.name, f.line, f.key) for f in errors] == [("test.yaml", 2, "resources.time_limit")]


def test_a_combination_that_fails_names_the_options_that_are_needed_for_it(repository: Path) -> None:
    write(repository, {k: FAULTS[k] for k in ("conf/experiment/together.yaml", "conf/resources/threads.yaml")})
    (fault,) = [f for f in checked(repository).faults if f.severity == "error"]
    assert fault.example == "experiment=together resources=threads"


def test_a_broken_root_hides_nothing_else(repository: Path) -> None:
    (repository / "conf" / "config.yaml").write_text("defaults: [\n")
    write(repository, {"conf/resources/negative.yaml": FAULTS["conf/resources/negative.yaml"]})
    codes = {(name, code) for name, _, code in found(checked(repository), repository)}
    assert {("conf/config.yaml", "RH001"), ("conf/resources/negative.yaml", "RH204")} <= codes


def test_links_that_lead_nowhere_are_faults(repository: Path) -> None:
    (repository / "conf" / "site" / "gone.yaml").symlink_to("nothing.yaml")
    (repository / "templates" / "north" / "workspace" / "data.nc").symlink_to("/nothing.nc")
    assert found(checked(repository), repository) == {
        ("conf/site/gone.yaml", 1, "RH004"),
        ("templates/north/workspace/data.nc", 1, "RH004"),
    }


def test_schemas_of_other_templates_are_told(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--write", str(repository)]) == 0
    assert found(checked(repository), repository) == set()
    path = repository / "templates" / "north" / "template.yaml"
    path.write_text(path.read_text().replace("default: 10", "default: 11"))
    assert {code for _, _, code in found(checked(repository), repository)} == {"RH901"}


def test_a_table_of_old_names_that_is_none_is_a_fault(repository: Path) -> None:
    (repository / "conf" / "renamed_keys.yaml").write_text("a.b: c.d\nx: [1]\n")
    assert found(checked(repository), repository) == {("conf/renamed_keys.yaml", 2, "RH802")}


def test_a_packaged_option_takes_part_if_it_is_chosen_and_its_fault_is_told_of_the_chooser(repository: Path) -> None:
    """Models without an image: nobody runs them in a container, unless somebody does."""
    assert found(checked(repository), repository) == set()
    path = repository / "conf" / "experiment" / "boxed.yaml"
    path.write_text("# @package _global_\ndefaults:\n  - override /backend: docker\n  - _self_\n")
    assert ("conf/experiment/boxed.yaml", 3, "RH204") in found(checked(repository), repository)


def two_repositories(root: Path) -> tuple[Path, Path]:
    write(
        root,
        {
            "mine/conf/site/office.yaml": "defaults: [/packaged/site/laptop, _self_]\nname: mine\n",
            "mine/conf/env/night.yaml": "# @package _global_\nenv_vars: {A: b}\n",
        },
    )
    return root / "mine", clean_repository(root / "theirs", ("north",))


def test_two_repositories_are_one_search_path(tmp_path: Path) -> None:
    mine, theirs = two_repositories(tmp_path)
    report = checked(mine, theirs)
    assert found(report, tmp_path) == set()
    hidden = {(f.path.relative_to(tmp_path).as_posix(), f.code) for f in report.faults if f.code == "RH604"}
    assert hidden == {("theirs/conf/site/office.yaml", "RH604"), ("theirs/conf/env/night.yaml", "RH604")}
    # `mine` alone has no root configuration: the packaged one answers
    assert found(checked(mine), tmp_path) == set()


def test_each_of_two_repositories_is_told_of_its_own_fault(tmp_path: Path) -> None:
    mine, theirs = two_repositories(tmp_path)
    write(
        mine,
        {
            "conf/site/office.yaml": "defaults: [/packaged/site/laptop, _self_]\nnme: mine\n",
            "conf/env/extra.yaml": "# @package _global_\ndefaults: [teste]\n",
        },
    )
    write(theirs, {"conf/resources/large.yaml": "defaults: [small, _self_]\ncpus: no\n"})
    assert found(checked(mine, theirs), tmp_path) == {
        ("mine/conf/site/office.yaml", 2, "RH201"),
        ("mine/conf/env/extra.yaml", 2, "RH101"),
        ("theirs/conf/resources/large.yaml", 2, "RH204"),
    }


# -- the quick way -----------------------------------------------------------------------------------------------------


def test_the_quick_way_finds_something_wrong_just_where_composing_does(repository: Path) -> None:
    """Of combinations of a repository full of faults; where both find nothing, both have the same tree."""
    write(
        repository,
        {
            k: v
            for k, v in FAULTS.items()
            if k.startswith(("conf/experiment", "conf/resources/n", "templates/names", "conf/model/n"))
        },
    )
    write(
        repository,
        {
            "conf/env/paths.yaml": "# @package _global_\n"
            'env_vars: {A: "${resources.cpus}/${..vars.label}", B: "${host.name:}"}\n',
        },
    )
    request = Request(overrides=(), sources=find_sources([str(repository)], environ={}), invocation="x", environ={})
    planner = SweepPlanner(request, cwd=repository)
    quick = QuickComposer(planner.loader, "config", planner.templates, repository)
    options = {
        "model": ["north", "south", "names"],
        "resources": ["small", "large", "negative"],
        "env": ["test", "night", "paths"],
        "experiment": ["typo", "parameter", "unread", "unpinned", "south_deep"],
        "backend": ["local", "docker", "slurm"],
        "site": ["office", "cluster"],
    }
    everything = list(all_combinations(options))
    sound = 0
    for combination in random.Random(1).sample(everything, 60):
        lines = tuple(f"{group}={option}" for group, option in combination.items())
        try:
            is_wrong = bool(quick.symptoms(lines))
        except Unsure:
            pytest.fail(f"composed whole: {lines}")
        try:
            plan = to_plan(planner.compose(lines, None), cwd=repository)
        except ConfigError:
            assert is_wrong, lines
        else:
            assert not is_wrong, lines
            sound += 1
            assert {**plan.config, "run_id": 0, "output_dir": 0} == {**quick.plain, "run_id": 0, "output_dir": 0}
    assert sound > 5


def test_in_pairwise_combinations_every_two_options_meet() -> None:
    groups: dict[str, list[str | None]] = {
        "a": ["1", "2", "3"],
        "b": ["x", None],
        "c": ["p", "q", "r", "s", "t"],
        "d": ["only"],
    }
    chosen = list(pairwise(groups))
    for (one, of_one), (other, of_other) in permutations(groups.items(), 2):
        met = {(c[one], c[other]) for c in chosen}
        assert met == {(x, y) for x in of_one for y in of_other}
    assert len(chosen) < 25 < len(list(all_combinations(groups)))


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_ends_with_one_where_there_are_errors(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    assert main(["check", "--bound", "20"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    write(repository, {"conf/experiment/unread.yaml": FAULTS["conf/experiment/unread.yaml"]})
    assert main(["check", "--bound", "20", "--strict"]) == 1
    write(repository, {"conf/resources/negative.yaml": FAULTS["conf/resources/negative.yaml"]})
    capsys.readouterr()
    assert main(["check", "--bound", "20", "."]) == 1
    out = capsys.readouterr().out
    assert "conf/resources/negative.yaml:2: RH204 error: resources.cpus = -1: " in out
    assert "conf/experiment/unread.yaml:3: RH202 warning: vars.nobody: " in out
    assert out.endswith("found 1 error and 1 warning; 4 notes: --notes\n")
    assert main(["check", "--bound", "20", "--ignore", "RH204"]) == 0


def test_codes_are_chosen_by_their_beginnings() -> None:
    assert selected([], []) == set(CODES)
    assert selected(["RH202", "rh3"], ["RH301"]) == {"RH202", "RH302", "RH303", "RH304"}
    assert selected([], ["RH"]) == set()


def test_the_forms_for_programs(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    write(repository, {"conf/resources/negative.yaml": FAULTS["conf/resources/negative.yaml"]})

    assert main(["check", "--bound", "20", "--ignore", "RH602", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    report = checked(repository, bound=20).only(selected([], ["RH602"]))

    def printed(form: str) -> str:
        return FORMATS[form](report, repository)

    assert json.loads(printed("json")) == told
    (finding,) = told["findings"]
    assert (finding["code"], finding["file"], finding["line"]) == ("RH204", "conf/resources/negative.yaml", 2)
    assert printed("github").startswith(
        "::error file=conf/resources/negative.yaml,line=2,title=RH204::resources.cpus = -1: Input should"
    )
    (entry,) = json.loads(printed("gitlab"))
    assert entry["location"] == {"path": "conf/resources/negative.yaml", "lines": {"begin": 2}}
    (run,) = json.loads(printed("sarif"))["runs"]
    assert run["results"][0]["locations"][0]["physicalLocation"]["region"] == {"startLine": 2}


def test_annotations_of_github_are_one_line_each_whatever_is_in_them(tmp_path: Path) -> None:
    from rompy_hydra.check.faults import Fault

    report = Report(faults=(Fault("RH204", tmp_path / "a,b:c.yaml", 3, "k", "50 % of\nit", "mend"),))
    assert FORMATS["github"](report, tmp_path) == (
        "::error file=a%2Cb%3Ac.yaml,line=3,title=RH204::k: 50 %25 of%0Ait%0Amend\n"
    )


def test_a_directory_that_is_none_and_a_code_that_is_none_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 2
    assert "is no config repository" in capsys.readouterr().err
    assert main(["check", "nothing"]) == 2
    with pytest.raises(UsageError, match="RH999"):
        selected(["RH999"], [])
    assert main(["check", "--bound", "0", str(ROOT)]) == 2


def test_nothing_is_left_behind_and_nothing_is_written(repository: Path, tmp_path: Path, monkeypatch) -> None:
    write(repository, FAULTS)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    before = {path: path.stat().st_mtime_ns for path in repository.rglob("*")}
    checked(repository)
    assert {path: path.stat().st_mtime_ns for path in repository.rglob("*")} == before
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_documents_have_the_table_of_codes() -> None:
    assert table() in (ROOT / "docs" / "repositories.md").read_text()
    assert len(set(CODES)) == len(CODES)
    assert all(re.fullmatch(r"RH\d{3}", name) for name in CODES)
