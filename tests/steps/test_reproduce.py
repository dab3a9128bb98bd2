"""A run once more from its record alone: in a fresh clone, when its repository has changed or is gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra import ModelRun
from rompy_hydra.errors import ConfigError, RecordError

TEMPLATE = """
description: reads a depth and a forcing, and writes what it was told
parameters:
  viscosity: {type: float, default: 0.5, gt: 0}
model:
  command: sh run.sh
  parallel: hybrid
  inputs:
    depth: {source: "template:inputs/depth.asc"}
    forcing: {source: data/forcing.csv}
"""


def git(directory: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(
        ["git", "-C", str(directory), *identity, *words], check=True, capture_output=True, text=True
    ).stdout


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A config repository in git, with a model of its own, everything committed."""
    top = tmp_path / "origin"
    write(top / "conf/model/tank.yaml", "defaults: [/template/tank@_here_, _self_]\ncommand: sh run.sh\n")
    write(
        top / "conf/env/lab.yaml",
        "# @package _global_\nenv_vars: {WHO: '${oc.env:LAB_USER,nobody}'}\nvars: {depth: 10}\n",
    )
    write(top / "templates/tank/template.yaml", TEMPLATE)
    write(
        top / "templates/tank/workspace/run.sh",
        'cat params.txt depth.asc forcing.csv > result.txt; echo "$WHO" >> result.txt\n',
    )
    write(top / "templates/tank/workspace/params.txt.j2", "nu={{ parameters.viscosity }} depth={{ vars.depth }}\n")
    write(top / "templates/tank/inputs/depth.asc", "1 2 3\n")
    write(top / "data/forcing.csv", "t,u\n0,1\n")
    write(top / ".gitignore", "runs/\n")
    git(tmp_path, "init", "-q", str(top))
    git(top, "add", "-A")
    git(top, "commit", "-qm", "first")
    return top


def rompy(cwd: Path, *words: str, code: int | None = 0, env: dict[str, str] | None = None) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "rompy_hydra", *words],
        cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done


def record_of(run_dir: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((run_dir / "run.json").read_text())
    return data


@pytest.fixture
def first(repository: Path) -> Path:
    """A run that somebody made with it."""
    words = ("model=tank", "env=lab", "model.parameters.viscosity=0.25", "run_id=first")
    rompy(repository, "run", *words, env={"LAB_USER": "ann"})
    return repository / "runs/first"


@pytest.fixture
def clone(repository: Path, first: Path, tmp_path: Path) -> Path:
    """A fresh clone elsewhere; the original work tree is gone, the run lies in an archive."""
    shutil.copytree(first, tmp_path / "archive/first", symlinks=True)
    git(tmp_path, "clone", "-q", str(repository), "clone")
    shutil.rmtree(repository)
    return tmp_path / "clone"


def test_the_same_science_id_in_a_fresh_clone_when_the_original_is_gone(clone: Path, tmp_path: Path) -> None:
    done = rompy(clone, "run", "--from", str(tmp_path / "archive/first"), env={"LAB_USER": "bob"})
    before, now = record_of(tmp_path / "archive/first"), record_of(clone / "runs/first")
    assert now["science_id"] == before["science_id"]
    assert now["provenance"]["config_repositories"] == before["provenance"]["config_repositories"]
    assert now["reproduces"]["is_same"] is True
    assert (clone / "runs/first/result.txt").read_text() == "nu=0.25 depth=10\n1 2 3\nt,u\n0,1\nann\n"
    assert f"the same simulation: science_id {before['science_id']}" in done.stderr
    assert f"data/forcing.csv → {clone}/data/forcing.csv" in done.stderr


def test_later_edits_of_the_repository_change_nothing(first: Path, repository: Path) -> None:
    write(repository / "conf/model/tank.yaml", "defaults: [/template/tank@_here_, _self_]\ncommand: echo other\n")
    write(repository / "templates/tank/workspace/params.txt.j2", "other\n")
    shutil.rmtree(repository / "conf/env")
    done = rompy(repository, "run", "--from", "runs/first")
    assert record_of(repository / "runs/first-2")["science_id"] == record_of(first)["science_id"]
    assert "nu=0.25 depth=10" in (repository / "runs/first-2/result.txt").read_text()
    assert "with uncommitted changes (not looked at" in done.stderr


def test_a_reproduced_run_can_be_reproduced(clone: Path, tmp_path: Path) -> None:
    rompy(clone, "run", "--from", str(tmp_path / "archive/first"), "resources.threads=2")
    shutil.rmtree(tmp_path / "archive")
    rompy(clone, "run", "--from", "runs/first", "resources.threads=3")
    data = record_of(clone / "runs/first-2")
    assert data["science_id"] == record_of(clone / "runs/first")["science_id"]
    assert data["config"]["resources"]["threads"] == 3
    assert [o for o in data["overrides"] if "threads" in o] == ["resources.threads=3"]
    assert data["reproduces"]["overrides"] == ["resources.threads=3"]


def test_overrides_on_top_are_followed_by_what_points_to_them(first: Path, repository: Path) -> None:
    write(repository / "conf/env/lab.yaml", "not: [what it was")
    rompy(
        repository,
        "run",
        "--from",
        "runs/first",
        "vars.depth=20",
        "resources.ranks=2",
        "run_id=deeper",
        "output_dir=other",
    )
    data = record_of(repository / "other/deeper")
    assert data["config"]["vars"] == {"depth": 20}
    assert data["resources"]["ranks"] == 2
    assert data["config"]["env_vars"]["WHO"] == "ann", "what no override touches stays as recorded"
    assert data["reproduces"]["is_same"] is False
    assert "depth=20" in (repository / "other/deeper/result.txt").read_text()


def test_a_group_can_be_chosen_anew_from_the_snapshot(first: Path, repository: Path) -> None:
    shutil.rmtree(repository / "conf")
    rompy(repository, "run", "--from", "runs/first", "site=generic_slurm", "--dry-run")
    wrong = rompy(repository, "run", "--from", "runs/first", "resources=hots", "model.parameters.viscosty=1", code=2)
    assert "did you mean 'host'?" in wrong.stderr
    assert "did you mean 'model.parameters.viscosity'?" in wrong.stderr


def test_a_value_that_breaks_a_rule_is_told(first: Path, repository: Path) -> None:
    wrong = rompy(repository, "run", "--from", "runs/first", "model.parameters.viscosity=-1", code=2)
    assert "model.parameters.viscosity" in wrong.stderr
    assert "greater than 0" in wrong.stderr
    assert sorted(p.name for p in (repository / "runs").iterdir()) == ["first"]


def test_a_changed_input_is_named_with_both_hashes(clone: Path, tmp_path: Path) -> None:
    write(clone / "data/forcing.csv", "t,u\n0,2\n")
    wrong = rompy(clone, "run", "--from", str(tmp_path / "archive/first"), code=2)
    before = record_of(tmp_path / "archive/first")["inputs"]
    known = next(e for e in before if e["name"] == "forcing")["sample"]
    assert f"{clone}/data/forcing.csv" in wrong.stderr
    assert wrong.stderr.count("fast:") == 2
    assert known in wrong.stderr
    assert not (clone / "runs").exists()
    rompy(clone, "run", "--from", str(tmp_path / "archive/first"), "model.inputs.forcing.source=data/forcing.csv")


def test_a_missing_input_is_named_with_what_the_record_knows(clone: Path, tmp_path: Path) -> None:
    (clone / "data/forcing.csv").unlink()
    wrong = rompy(clone, "run", "--from", str(tmp_path / "archive/first"), code=2)
    assert "does not exist; the record knows it as" in wrong.stderr
    assert "fast:" in wrong.stderr


def test_without_a_snapshot_the_template_must_be_the_recorded_one(clone: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive/first"
    shutil.rmtree(archive / ".source")
    os.utime(clone / "templates/tank/inputs/depth.asc", ns=(1, 1))
    rompy(clone, "run", "--from", str(archive))
    assert record_of(clone / "runs/first")["science_id"] == record_of(archive)["science_id"]
    wrong = rompy(clone, "run", "--from", str(archive), "vars.depth=3", code=2)
    assert "there is no snapshot" in wrong.stderr
    write(clone / "templates/tank/workspace/params.txt.j2", "other\n")
    wrong = rompy(clone, "run", "--from", str(archive), code=2)
    assert "the template is gone" in wrong.stderr
    assert record_of(archive)["provenance"]["template"]["sha256"] in wrong.stderr


def test_a_dry_run_tells_and_writes_nothing(clone: Path, tmp_path: Path) -> None:
    done = rompy(clone, "run", "--from", str(tmp_path / "archive/first"), "--dry-run")
    assert "the same simulation" in done.stderr
    assert str(clone / "runs/first") in done.stdout
    assert not (clone / "runs").exists()


def test_what_differs_around_it_is_told_and_recorded(clone: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive/first"
    data = record_of(archive)
    data["provenance"]["packages"]["pydantic"] = "2.0.0"
    data["provenance"]["machine"]["host"] = "elsewhere"
    data["science_id"] = "0" * 16  # as it would be by that other program
    data["provenance"]["executable"]["identity"] = "f" * 64
    (archive / "run.json").write_text(json.dumps(data))
    git(clone, "commit", "-q", "--allow-empty", "-m", "second")
    done = rompy(clone, "run", "--from", str(archive))
    assert "differs: package pydantic: 2.0.0 → " in done.stderr
    assert "differs: host: elsewhere → " in done.stderr
    assert "differs: content of the executable: ffffffffffff → " in done.stderr
    assert f"differs: config repository {clone}/conf: " in done.stderr
    assert "another simulation: science_id" in done.stderr
    told = record_of(clone / "runs/first")["reproduces"]["differences"]
    assert {
        "what": "host",
        "then": "elsewhere",
        "now": record_of(clone / "runs/first")["provenance"]["machine"]["host"],
    } in told


def test_a_point_of_a_sweep_is_reproduced_from_the_sweep_s_snapshot(repository: Path, tmp_path: Path) -> None:
    words = ("model=tank", "env=lab", "model.parameters.viscosity=0.1,0.2", "hydra.sweep.dir=runs/scan")
    rompy(repository, "run", "-m", *words)
    shutil.copytree(repository / "runs", tmp_path / "archive", symlinks=True)
    git(tmp_path, "clone", "-q", str(repository), "clone")
    shutil.rmtree(repository)
    point = tmp_path / "archive/scan/1"
    rompy(tmp_path / "clone", "run", "--from", str(point))
    again = tmp_path / "clone/runs/scan-1"
    assert record_of(again)["science_id"] == record_of(point)["science_id"]
    assert "sweep" not in record_of(again)
    rompy(tmp_path / "clone", "run", "--from", str(point), "resources.threads=2", "run_id=two")
    assert record_of(tmp_path / "clone/runs/two")["resources"]["threads"] == 2
    shutil.rmtree(tmp_path / "archive")
    rompy(tmp_path / "clone", "run", "--from", "runs/scan-1")
    assert record_of(tmp_path / "clone/runs/scan-1-2")["reproduces"]["is_same"]


def test_a_sweep_is_no_run(repository: Path) -> None:
    rompy(repository, "run", "-m", "model=command", "model.command=true", "vars.n=1,2", "hydra.sweep.dir=scan")
    wrong = rompy(repository, "run", "--from", "scan", code=2)
    assert "name one of its points" in wrong.stderr
    moved = repository / "elsewhere"
    shutil.move(repository / "scan/0", moved)
    shutil.rmtree(repository / "scan")
    wrong = rompy(repository, "run", "--from", str(moved), code=2)
    assert "which is gone" in wrong.stderr


@pytest.mark.parametrize("words", [["-m"], ["--cfg", "job"], ["--info"], ["-cn", "other"], ["--rev", "HEAD"]])
def test_flags_that_speak_of_composing_are_refused(words: list[str], first: Path, repository: Path) -> None:
    assert "do not go together" in rompy(repository, "run", *words, "--from", "runs/first", code=2).stderr


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    assert "not the directory of a run" in rompy(tmp_path, "run", "--from", "nowhere", code=2).stderr


def test_a_credential_must_be_given_again_and_one_from_the_environment_need_not(repository: Path) -> None:
    write(repository / "conf/env/lab.yaml", "# @package _global_\nenv_vars: {API_KEY: '${oc.env:LAB_KEY}'}\n")
    rompy(repository, "run", "model=command", "model.command=true", "env=lab", "run_id=a", env={"LAB_KEY": "canary-1"})
    rompy(repository, "run", "model=command", "model.command=true", "env_vars.API_KEY=canary-2", "run_id=b")
    rompy(repository, "run", "--from", "runs/a", env={"LAB_KEY": "canary-3"})
    wrong = rompy(repository, "run", "--from", "runs/b", code=2)
    assert "the value of 'env_vars.API_KEY' was a credential" in wrong.stderr
    rompy(
        repository, "run", "--from", "runs/b", "env_vars.API_KEY=canary-4", "model.command='test $API_KEY = canary-4'"
    )
    rompy(repository, "run", "--from", "runs/b", "env_vars.API_KEY='${secret:MINE}'", env={"MINE": "canary-5"})
    assert "canary" not in "".join(everything_below(repository / "runs")).replace("= canary-4", "")


def everything_below(directory: Path) -> Iterator[str]:
    """All that was written, archives unpacked."""
    for path in directory.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            yield content.decode("latin-1")
            if path.name.endswith(".tar.gz"):
                yield subprocess.run(["tar", "xOzf", str(path)], check=True, capture_output=True).stdout.decode(
                    "latin-1"
                )


def test_the_account_is_that_of_whoever_runs_it_now(first: Path, repository: Path, tmp_path: Path) -> None:
    write(tmp_path / "home/rompy-hydra/personal.yaml", "account: mine\nmail: me@example.org\n")
    home = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
    rompy(repository, "run", "--from", "runs/first", env=home)
    site = record_of(repository / "runs/first-2")["config"]["site"]
    assert (site["account"], site["mail_user"]) == ("mine", "me@example.org")
    assert record_of(repository / "runs/first-2")["reproduces"]["is_same"]
    rompy(repository, "run", "--from", "runs/first-2", "site.account=other", env=home)
    assert record_of(repository / "runs/first-2-2")["config"]["site"]["account"] == "other"


def test_a_run_from_a_revision_keeps_what_that_revision_held(repository: Path, tmp_path: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD").strip()
    write(repository / "templates/tank/workspace/params.txt.j2", "other\n")
    write(repository / "conf/model/tank.yaml", "defaults: [/template/tank@_here_, _self_]\ncommand: echo other\n")
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    rompy(repository, "run", "--rev", commit, "model=tank", "env=lab", "run_id=old", env=cache)
    shutil.rmtree(tmp_path / "cache")
    done = rompy(repository, "run", "--from", "runs/old", "resources.threads=2", env=cache)
    assert record_of(repository / "runs/old-2")["reproduces"]["is_same"]
    assert commit[:12] in done.stderr
    assert not list((repository / "runs/old/.source").glob("*.diff"))


@pytest.mark.parametrize("kind", ["outside", "absolute", "link", "torn"])
def test_a_snapshot_that_was_tampered_with_is_not_unpacked(kind: str, first: Path, tmp_path: Path) -> None:
    snapshot = first / ".source/snapshot.tar.gz"
    if kind == "torn":
        snapshot.write_bytes(snapshot.read_bytes()[:500])
    else:
        entry = tarfile.TarInfo({"outside": "../../evil", "absolute": f"{tmp_path}/evil", "link": "0/conf/evil"}[kind])
        if kind == "link":
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
        with tarfile.open(snapshot, "w:gz") as archive:
            archive.addfile(entry)
    wrong = rompy(tmp_path, "run", "--from", str(first), code=2)
    assert str(snapshot) in wrong.stderr
    assert not list(tmp_path.rglob("evil"))
    assert not (tmp_path / "runs").exists()


def test_a_directory_that_holds_everything_is_looked_through_to_a_limit_only(tmp_path: Path) -> None:
    write(tmp_path / "all/model/mine.yaml", "defaults: [/packaged/model/command, _self_]\ncommand: 'true'\n")
    for folder in range(6):
        (tmp_path / f"all/z{folder}").mkdir()
        for number in range(1000):
            (tmp_path / f"all/z{folder}/{number}.txt").touch()
    rompy(tmp_path, "run", "--config-dir", "all", "model=mine", "run_id=a")
    assert "holds more than 5000 files" in (tmp_path / "runs/a/.source/not_kept.txt").read_text()
    assert "its snapshot is not whole" in rompy(tmp_path, "run", "--from", "runs/a").stderr


def test_a_record_with_old_names_of_keys_is_understood(first: Path, repository: Path) -> None:
    path = first / "run.json"
    data = record_of(first)
    del data["config"]["resources"]["time_limit"]
    data["config"]["resources"]["walltime"] = "1h"
    path.write_text(json.dumps(data))
    assert "walltime" in rompy(repository, "run", "--from", "runs/first", code=2).stderr
    write(repository / "conf/renamed_keys.yaml", "resources.walltime: resources.time_limit\n")
    rompy(repository, "run", "--from", "runs/first")
    rompy(repository, "run", "--from", "runs/first", "resources.threads=2")
    assert record_of(repository / "runs/first-3")["config"]["resources"]["time_limit"] == "1h"


def test_what_means_nothing_for_another_option_is_left_out_and_told(repository: Path) -> None:
    words = ("model=command", "model.command=true", "backend.stream_output=false", "run_id=a")
    rompy(repository, "run", *words)
    done = rompy(repository, "run", "--from", "runs/a", "backend=slurm", "--dry-run", "site.partition=debug", code=None)
    assert "left out, it means nothing with what was chosen: backend.stream_output=false" in done.stderr
    wrong = rompy(repository, "run", "--from", "runs/a", "backend=slurm", "backend.stream_output=true", code=2)
    assert "stream_output" in wrong.stderr


def test_blanks_and_quotes_in_names_are_no_matter(repository: Path) -> None:
    name = 'it\'s "a" b'
    rompy(repository, "run", "model=tank", "env=lab", "run_id='it\\'s \"a\" b'", "output_dir='my runs'")
    rompy(repository, "run", "--from", f"my runs/{name}")
    assert record_of(repository / f"my runs/{name}-2")["reproduces"]["is_same"]


# -- from Python ---------------------------------------------------------------------------------------------------


def test_the_same_from_python(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    run = ModelRun.from_record(tmp_path / "archive/first")
    assert run.run()
    assert run.record is not None
    assert run.record.data["science_id"] == record_of(tmp_path / "archive/first")["science_id"]
    assert run.record.run_dir == clone / "runs/first"
    other = ModelRun.from_record(tmp_path / "archive/first", ["vars.depth=7"], run_id="seven")
    assert other.run()
    assert "depth=7" in (clone / "runs/seven/result.txt").read_text()


def test_a_run_that_was_described_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = ModelRun(
        run_id="a", output_dir="out", model={"name": "x", "command": "echo $N > n.txt"}, env_vars={"N": "1"}
    )
    assert first.run()
    again = ModelRun.from_record("out/a")
    assert again.run()
    assert (tmp_path / "out/a-2/n.txt").read_text() == "1\n"
    assert ModelRun.from_record("out/a", ["env_vars.N='2'"]).run()
    assert (tmp_path / "out/a-3/n.txt").read_text() == "2\n"
    with pytest.raises(ConfigError, match="evn_vars"):
        ModelRun.from_record("out/a", ["evn_vars.N=2"])


def test_a_python_object_cannot_be_found_in_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        def run(self) -> None:
            """Do nothing, well."""

    monkeypatch.chdir(tmp_path)
    assert ModelRun(run_id="a", model=Model()).run()
    with pytest.raises(RecordError, match="Python"):
        ModelRun.from_record("runs/a")
