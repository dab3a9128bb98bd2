"""`--rev` and `git+…@REV`: a repository as it was, no work tree touched, safe for many at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rompy_hydra.cli import main
from rompy_hydra.compose.bridge import to_plan
from rompy_hydra.compose.invocation import compose_command
from rompy_hydra.compose.sources import Sources, find_sources
from rompy_hydra.errors import ConfigError, MissingToolError, SiteError
from rompy_hydra.record.provenance import git_state, git_toplevel
from tests.compose.git_kit import commit, git, ocean


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return ocean(tmp_path / "ocean")


def at(revision: str | None, repository: Path, *names: str) -> Sources:
    return find_sources(names, environ=os.environ, cwd=repository, revision=revision)


def plan(sources: Sources, *overrides: str):
    return to_plan(compose_command(overrides, sources, environ={}), cwd=Path("/x"))


def cache() -> Path:
    return Path(os.environ["XDG_CACHE_HOME"]) / "rompy-hydra" / "revisions"


def test_options_and_templates_come_from_the_revision(repository: Path) -> None:
    found = plan(at("v1.2", repository), "model=mine")
    assert found.spec.backend.timeout == 120
    assert (found.template_directory / "workspace" / "input.txt.j2").read_text() == "depth {{ parameters.depth }}\n"
    assert plan(at(None, repository), "model=mine").spec.backend.timeout == 240


def test_tags_branches_and_commits_are_revisions(repository: Path) -> None:
    full = git(repository, "rev-parse", "v1.2")
    git(repository, "branch", "old", "v1.2")
    for name in ("v1.2", "old", full, full[:9], "v1.3~1", "HEAD^"):
        (first, _) = at(name, repository).repositories
        assert first.revision is not None
        assert (first.revision.name, first.revision.commit) == (name, full)


def test_the_work_tree_and_its_index_are_not_touched(repository: Path) -> None:
    (repository / "conf" / "env" / "ops.yaml").write_text("# an edit\n")
    (repository / "conf" / "env" / "staged.yaml").write_text("{}\n")
    git(repository, "add", "conf/env/staged.yaml")
    before = (git(repository, "status", "--porcelain"), (repository / ".git" / "index").read_bytes())
    plan(at("v1.2", repository), "env=ops")
    assert (git(repository, "status", "--porcelain"), (repository / ".git" / "index").read_bytes()) == before


def test_a_repository_that_may_only_be_read_is_enough(repository: Path) -> None:
    git(repository, "gc", "-q")
    paths = sorted(repository.rglob("*"), reverse=True)
    modes = {path: path.stat().st_mode for path in paths}
    before = {path: path.stat().st_mtime_ns for path in paths}
    for path in paths:
        path.chmod(path.stat().st_mode & 0o555)
    try:
        assert plan(at("v1.2", repository), "model=mine").spec.backend.timeout == 120
        assert {path: path.stat().st_mtime_ns for path in sorted(repository.rglob("*"), reverse=True)} == before
    finally:
        for path in reversed(paths):
            path.chmod(modes[path])


def test_the_record_pins_the_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    assert main(["run", "--rev", "v1.2", "env=ops", "run_id=a", "output_dir=runs"]) == 0
    record = json.loads((repository / "runs" / "a" / "run.json").read_text())
    entry = record["provenance"]["config_repositories"][0]
    assert entry["commit"] == git(repository, "rev-parse", "v1.2")
    assert entry["dirty"] is False
    assert entry["repository"] == str(repository)
    assert (repository / "runs" / "a" / "logs" / "stdout.log").read_text() == "hello\n"


def test_a_sweep_is_of_one_revision(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    words = ["run", "-m", "--rev", "v1.2", "env=ops", "vars.n=1,2", "hydra.sweep.dir=sweep"]
    assert main(words) == 0
    records = [json.loads(path.read_text()) for path in sorted((repository / "sweep").glob("*/run.json"))]
    assert [r["provenance"]["config_repositories"][0]["commit"] for r in records] == [
        git(repository, "rev-parse", "v1.2")
    ] * 2


@pytest.mark.parametrize(
    "shown", [["--cfg", "job", "-p", "backend.timeout"], ["-m", "--cfg", "job", "-p", "backend.timeout"]]
)
def test_what_is_shown_is_of_the_revision(
    shown: list[str], repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    assert main(["run", *shown, "--rev", "v1.2", "model=command"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "120"


def test_what_is_laid_out_is_read_only_clean_and_no_work_tree(repository: Path) -> None:
    (first, _) = at("v1.2", repository).repositories
    assert not (first.conf / "env" / "ops.yaml").stat().st_mode & 0o222
    assert git_toplevel(first.conf) is None
    assert git_state(first.conf) == {
        "commit": git(repository, "rev-parse", "v1.2"),
        "dirty": False,
        "repository": str(repository),
    }


def test_it_is_laid_out_once_and_again_where_it_was_damaged(repository: Path) -> None:
    (first, _) = at("v1.2", repository).repositories
    inode = first.conf.stat().st_ino
    assert at("v1.2", repository).repositories[0].conf.stat().st_ino == inode
    victim = first.conf / "env" / "ops.yaml"
    victim.unlink()
    assert "hello" in (at("v1.2", repository).repositories[0].conf / "env" / "ops.yaml").read_text()
    victim.chmod(0o644)
    victim.write_text("vars: {greeting: edited}\n")
    assert "hello" in (at("v1.2", repository).repositories[0].conf / "env" / "ops.yaml").read_text()
    assert [path.name for path in cache().iterdir() if path.name.startswith(".")] == []


def test_two_at_once_get_the_same(repository: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from rompy_hydra.compose.sources import find_sources\n"
        "conf = find_sources(cwd=Path(sys.argv[1]), revision='v1.2').repositories[0].conf\n"
        "print((conf / 'env' / 'ops.yaml').read_text().count('hello'))"
    )

    def one(_: int) -> str:
        command = [sys.executable, "-c", script, str(repository)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(one, range(6))) == ["1\n"] * 6
    assert len(list(cache().iterdir())) == 1


def test_a_url_names_a_repository_and_its_revision(repository: Path, tmp_path: Path) -> None:
    found = plan(at(None, tmp_path, f"git+file://{repository}@v1.2"), "model=mine")
    assert found.spec.backend.timeout == 120
    assert plan(at(None, tmp_path, f"git+file://{repository}"), "model=mine").spec.backend.timeout == 240
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(bare))
    assert plan(at("v1.2", tmp_path, f"git+file://{bare}"), "model=mine").spec.backend.timeout == 120
    assert plan(at("v1.2", tmp_path, f"git+file://{bare}@v1.3"), "model=mine").spec.backend.timeout == 240


def test_urls_stand_in_the_variable_beside_directories(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "conf" / "env").mkdir(parents=True)
    names = f"{tmp_path}/mine:git+file://{repository}@v1.2"
    found = find_sources(environ={**os.environ, "ROMPY_HYDRA_CONFIG_PATH": names}, cwd=tmp_path)
    assert [r.revision and r.revision.name for r in found.repositories] == [None, "v1.2", None]


def test_a_repository_inside_of_another(repository: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    shutil.copytree(repository, outer / "sub dir" / "ocean", ignore=shutil.ignore_patterns(".git"))
    git(outer, "init", "-q")
    commit(outer, "v9")
    inner = outer / "sub dir" / "ocean"
    assert plan(at("v9", inner), "model=mine").spec.backend.timeout == 240
    url = f"git+file://{outer}@v9#subdirectory=sub dir/ocean"
    assert plan(at(None, tmp_path, url), "model=mine").spec.backend.timeout == 240


def test_a_hook_s_variables_do_not_lead_astray(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ocean(tmp_path / "other")
    commit(other, "v7")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    with pytest.raises(ConfigError, match="no revision 'v7'"):
        at("v7", repository)


def test_line_ends_and_attributes_are_those_of_a_checkout(repository: Path) -> None:
    (repository / ".gitattributes").write_text("conf/env/ops.yaml export-ignore\n*.j2 text eol=crlf\n")
    commit(repository, "v2")
    (first, _) = at("v2", repository).repositories
    assert (first.conf / "env" / "ops.yaml").is_file()
    assert b"\r\n" in (first.templates / "mine" / "workspace" / "input.txt.j2").read_bytes()


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        (None, "v1.4", "did you mean 'v1.3'"),
        (None, "--output=x", "no revision '--output=x'"),
        (None, "v1.2:conf", "no revision"),
        ("git+file:///not/there@v1", None, "is no git repository"),
        ("git+ftp://host/x@v1", None, r"git\+https://"),
        ("git+https://me:pass@host/x@v1", None, "leave it out"),
        ("git+file:///x@v1#branch=y", None, "#subdirectory=DIR"),
        ("git+file:///x@v1#subdirectory=../y", None, "#subdirectory=DIR"),
    ],
)
def test_what_is_no_revision_is_told_with_a_mend(
    name: str | None, revision: str | None, message: str, repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        at(revision, repository if name is None else tmp_path, *([name] if name else []))
    assert "me:pass" not in str(error.value)


def test_a_directory_outside_of_git_has_no_revisions(tmp_path: Path) -> None:
    (tmp_path / "conf" / "env").mkdir(parents=True)
    with pytest.raises(ConfigError, match="in no git repository"):
        at("v1", tmp_path)
    with pytest.raises(ConfigError, match="needs a repository"):
        at("v1", tmp_path / "conf" / "env")


def test_a_revision_without_options_says_so(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "young").mkdir()
    git(tmp_path / "young", "init", "-q")
    first = commit(tmp_path / "young")
    (tmp_path / "young" / "conf" / "env").mkdir(parents=True)
    with pytest.raises(ConfigError, match="had no options there"):
        at(first, tmp_path / "young")


def test_a_missing_git_and_an_unreachable_host_have_their_exit_codes(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SiteError, match="cannot be fetched"):
        at(None, tmp_path, "git+https://127.0.0.1:9/x@v1")
    environ = {**os.environ, "PATH": str(tmp_path)}
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="git"):
        find_sources(environ=environ, cwd=repository, revision="v1.2")


def test_a_cache_that_cannot_be_written_is_told(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SiteError, match="XDG_CACHE_HOME"):
        find_sources(environ={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file")}, cwd=repository, revision="v1.2")


def test_a_run_of_a_revision_can_be_run_again_without_its_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"git+file://{repository}@v1.2"
    assert main(["run", "--config-dir", url, "model=mine", "run_id=a"]) == 0
    shutil.rmtree(repository)
    shutil.rmtree(cache())
    assert main(["run", "--from", "runs/a", "run_id=b"]) == 0
    ids = [json.loads((tmp_path / "runs" / name / "run.json").read_text())["science_id"] for name in "ab"]
    assert ids[0] == ids[1]
