"""Postprocessors by name, configuration, class and entry point; their failures are reported and spoil no run."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rompy_hydra import ModelRun
from rompy_hydra.backends import postprocessors
from rompy_hydra.cli import main
from rompy_hydra.errors import ConfigError
from rompy_hydra.postprocess import (
    AnalyzePostprocessorConfig,
    ArchivePostprocessorConfig,
    BasePostprocessorConfig,
    NoopPostprocessor,
    NoopPostprocessorConfig,
    get_processor,
    processor_names,
)
from tests.backends import plugin_kit

TIDE = {"name": "tide", "command": "mkdir out; echo 3.2 > out/tide.txt; ln -s out/tide.txt link"}


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(tmp_path: Path) -> ModelRun:
    run = ModelRun("tide", tmp_path / "runs", model=TIDE)
    assert run.run()
    return run


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    modules = {"good.py": plugin_kit.GOOD, "bad.py": plugin_kit.BROKEN}
    names = {"count": "good:Count", "broken": "bad:X"}
    plugin_kit.lay_out(site, "good", modules, {"rompy_hydra.postprocess": names})
    monkeypatch.syspath_prepend(str(site))


def record(run: ModelRun) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.run_dir / "run.json").read_text())
    return found


class Failing:
    def process(self, model_run: Any, **options: Any) -> dict[str, Any]:
        raise RuntimeError("the disk went to the moon")


def test_the_seed_s_names_are_there() -> None:
    assert processor_names() == ["analyze", "archive", "noop", "visualize"]
    assert postprocessors.NoopPostprocessor is NoopPostprocessor
    assert "ArchivePostprocessor" in dir(postprocessors)
    with pytest.raises(AttributeError):
        postprocessors.Nothing  # noqa: B018


def test_noop_says_where_the_outputs_lie(run: ModelRun) -> None:
    answer = run.postprocess()
    assert answer["success"] is True
    assert answer["output_dir"] == str(run.run_dir)
    checked = run.postprocess("noop", validate_outputs=True)
    assert (checked["validated"], checked["success"]) == (True, True)
    assert checked["file_count"] >= 3


def test_noop_fails_on_request_where_nothing_is(tmp_path: Path) -> None:
    run = ModelRun("never", tmp_path / "runs", model=TIDE)
    answer = run.postprocess(NoopPostprocessorConfig(validate_outputs=True))
    assert answer["success"] is False
    assert "not found" in answer["error"]


@pytest.mark.parametrize(
    "processor",
    ["noop", NoopPostprocessor, NoopPostprocessor(), NoopPostprocessorConfig(), NoopPostprocessorConfig],
    ids=["name", "class", "object", "configuration", "configuration class"],
)
def test_every_form_of_a_processor_is_taken(run: ModelRun, processor: Any) -> None:
    assert run.postprocess(processor=processor)["success"] is True


def test_the_archive_holds_outputs_logs_record_and_a_manifest(run: ModelRun) -> None:
    answer = run.postprocess(processor="archive")
    assert answer["success"] is True
    with tarfile.open(answer["archive"]) as archive:
        names = archive.getnames()
        wanted = {"link", "out", "out/tide.txt", "logs/stderr.log", "logs/stdout.log", "run.json"}
        assert {f"tide/{name}" for name in wanted} <= set(names)
        assert names[-1] == "tide/.archive-manifest.jsonl"
        assert archive.getmember("tide/link").linkname == "out/tide.txt"
        lines = archive.extractfile(names[-1]).read().splitlines()  # type: ignore[union-attr]
    manifest = {entry["path"]: entry for entry in map(json.loads, lines[1:-1])}
    tide = manifest["out/tide.txt"]
    assert (tide["bytes"], tide["sha256"]) == (4, hashlib.sha256(b"3.2\n").hexdigest())
    assert (run.run_dir / "out" / "tide.txt").exists()
    again = run.postprocess(processor="archive")
    assert again["files"] == answer["files"]


def test_the_archive_goes_where_it_is_told_and_leaves_no_half_file(run: ModelRun, tmp_path: Path) -> None:
    (tmp_path / "safe").mkdir()
    answer = run.postprocess(ArchivePostprocessorConfig(destination=tmp_path / "safe"))
    assert answer["archive"] == str(tmp_path / "safe" / "tide.tar.gz")
    missing = run.postprocess("archive", destination=str(tmp_path / "nowhere"))
    assert missing["success"] is False
    assert "nowhere" in missing["error"]
    assert [path.name for path in sorted((tmp_path / "safe").iterdir())] == [
        "tide.tar.gz",
        "tide.tar.gz.manifest.jsonl",
    ]


@pytest.mark.parametrize("name", ["analyze", "visualize"])
def test_a_run_without_result_files_says_what_it_holds(run: ModelRun, name: str) -> None:
    answer = run.postprocess(processor=name)
    assert answer["success"] is False
    assert "no result file (.nc, .nc4, .cdf, .netcdf, .sww)" in answer["error"]
    assert "it holds out/tide.txt" in answer["error"]


def test_options_are_typed_and_held_against_the_rules(run: ModelRun) -> None:
    assert (
        "no result file"
        in run.postprocess("analyze", output_format="netcdf", compress=True, analysis_type="spectral")["error"]
    )
    with pytest.raises(ConfigError) as caught:
        run.postprocess("analyze", output_fromat="netcdf", compress="maybe")
    assert {finding.key for finding in caught.value.findings} == {
        "postprocess.options.output_fromat",
        "postprocess.options.compress",
    }
    assert "did you mean 'output_format'" in str(caught.value)
    with pytest.raises(ValidationError):
        AnalyzePostprocessorConfig(analysis_type="magic")
    with pytest.raises(TypeError, match="abstract"):
        BasePostprocessorConfig()


def test_keywords_win_over_a_configuration(run: ModelRun) -> None:
    assert run.postprocess(NoopPostprocessorConfig(validate_outputs=False), validate_outputs=True)["validated"] is True


def test_a_processor_of_one_s_own_without_such_an_option_says_so(run: ModelRun) -> None:
    class Strict:
        def process(self, model_run: Any, depth: int = 1) -> dict[str, Any]:
            return {"success": True, "depth": depth}

    assert run.postprocess(Strict, depth=3) == {"success": True, "depth": 3}
    with pytest.raises(ConfigError, match="it takes depth"):
        run.postprocess(Strict, dept=3)


@pytest.mark.parametrize("answer", [None, True, {"done": True}, {"success": "yes"}])
def test_an_answer_that_is_none_is_a_failure(run: ModelRun, answer: Any) -> None:
    class Odd:
        def process(self, model_run: Any, **options: Any) -> Any:
            return answer

    told = run.postprocess(Odd)
    assert told["success"] is False
    assert "success: True or False" in told["error"]


def test_a_failure_is_an_answer(run: ModelRun) -> None:
    assert run.postprocess(Failing) == {"success": False, "error": "RuntimeError: the disk went to the moon"}


def test_what_is_no_postprocessor_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'archive'"):
        get_processor("archiv")
    with pytest.raises(ConfigError, match="no method process"):
        get_processor(object())
    with pytest.raises(ConfigError, match="cannot be imported"):
        get_processor("no_such_module:Class")


def test_plug_ins_are_had_by_name(plugin: None, run: ModelRun) -> None:
    assert run.postprocess("count", depth=2) == {"success": True, "files": 5, "depth": 2}
    with pytest.raises(ConfigError, match=r"good 1\.0 cannot be imported: ImportError: libmoon"):
        run.postprocess("broken")


def test_a_failed_postprocess_is_exit_code_1_and_spoils_no_run(plugin: None, tmp_path: Path) -> None:
    (tmp_path / "conf" / "postprocess").mkdir(parents=True)
    (tmp_path / "conf" / "postprocess" / "moon.yaml").write_text(
        f"defaults: [/schema/postprocess, _self_]\nprocessor: {Failing.__module__}:Failing\n"
    )
    words = ["run", "model=command", "backend.command=true", "postprocess=moon"]
    assert main([*words, "run_id=r"]) == 1
    told = json.loads((tmp_path / "runs" / "r" / "run.json").read_text())
    assert told["state"] == "succeeded"
    assert told["postprocess"]["success"] is False
    assert "went to the moon" in told["postprocess"]["error"]


def test_a_postprocessor_and_its_options_come_from_conf_and_the_command_line(plugin: None, tmp_path: Path) -> None:
    (tmp_path / "conf" / "postprocess").mkdir(parents=True)
    (tmp_path / "conf" / "postprocess" / "mine.yaml").write_text(
        "defaults: [/schema/postprocess, _self_]\nprocessor: count\noptions: {depth: 2}\n"
    )
    words = [
        "run",
        "model=command",
        "backend.command=true",
        "postprocess=mine",
        "postprocess.options.width=3",
        "run_id=r",
    ]
    assert main(words) == 0
    told = json.loads((tmp_path / "runs" / "r" / "run.json").read_text())["postprocess"]
    assert (told["processor"], told["depth"], told["width"]) == ("count", 2, 3)


@pytest.mark.parametrize("option", ["archive", "analyze", "visualize", "noop"])
def test_the_packaged_options_compose(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "model=command", f"postprocess={option}", "--cfg", "job", "-p", "postprocess"]) == 0
    assert f"processor: {option}" in capsys.readouterr().out


def test_wrong_options_are_found_before_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "model=command", "backend.command=true", "postprocess.processor=archive"]
    assert main([*words, "postprocess.options.fromat=zip", "run_id=r"]) == 2
    assert "did you mean 'format'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_postprocessing_runs_again_alone(run: ModelRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["postprocess", str(run.run_dir), "processor=archive"]) == 0
    assert (run.run_dir / "tide.tar.gz").exists()
    assert record(run)["postprocess"]["processor"] == "archive"
    assert main(["postprocess", str(run.run_dir), "processor=analyze", "compress=false"]) == 1
    assert "no result file" in capsys.readouterr().out
    assert record(run)["state"] == "succeeded"
    assert main(["postprocess", str(run.run_dir)]) == 0  # what its configuration says: noop
    assert record(run)["postprocess"]["processor"] == "noop"
    assert main(["postprocess", str(run.run_dir.parent), "processor=noop", "validate_outputs=true", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])[str(run.run_dir)]["validated"] is True


def test_wrong_requests_to_process_again_are_refused(
    run: ModelRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, says in (
        (["processor=noop"], "no run was named"),
        ([str(run.run_dir), "depth=3"], "need a processor"),
        ([str(run.run_dir), "processor=archiv"], "did you mean 'archive'"),
        ([str(run.run_dir), "processor=noop", "depth=3"], "no such field"),
        ([str(tmp_path / "nowhere")], "no record"),
    ):
        assert main(["postprocess", *words]) == 2
        assert says in capsys.readouterr().err
    assert record(run)["postprocess"]["processor"] == "noop"
