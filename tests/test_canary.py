"""Canaries: secrets planted wherever a user may keep one are in nothing that we write or print."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SECRETS = [f"canary-{n:02d}" for n in range(12)]


def git(directory: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(directory), *identity, *words], check=True, capture_output=True)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A dirty repository with secrets in it, a `.env` file, and settings that name others."""
    top = tmp_path / "lab"
    write(top / "conf/env/lab.yaml", f"# @package _global_\nenv_vars:\n  DB_PASSWORD: {SECRETS[0]}\n")
    write(top / "conf/site/own.yaml", f"name: own  # token: {SECRETS[1]}\n")
    write(top / "templates/t/template.yaml", f"model: {{command: sh run.sh, env_vars: {{API_TOKEN: {SECRETS[2]}}}}}\n")
    names = ("DB_PASSWORD", "API_TOKEN", "NAMED", "TYPED_API_KEY", "FROM_ENV")
    check = "".join(f'test -n "${name}" && ' for name in names)
    write(top / "templates/t/workspace/run.sh", f"{check}echo done > result.txt\n")
    write(top / "conf/model/t.yaml", "defaults: [/template/t@_here_]\n")
    write(top / ".gitignore", "runs/\n")
    git(tmp_path, "init", "-q", str(top))
    git(top, "add", "-A")
    git(top, "commit", "-qm", "first")
    text = f"# @package _global_\nenv_vars:\n  DB_PASSWORD: {SECRETS[3]}\n"
    write(top / "conf/env/lab.yaml", f"{text}vars:\n  private_key: |\n    {SECRETS[4]}\n    x\n")
    write(top / "conf/experiment/new.yaml", f"# @package _global_\nvars: {{auth: ['{SECRETS[5]}']}}\n")
    write(top / ".env", f"NAMED_SECRET={SECRETS[6]}\n")
    write(top / "conf/.env", f"OTHER={SECRETS[7]}\n")
    git(top, "add", "conf/.env")
    return top


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


WORDS = (
    *("model=t", "env=lab", "site=own", "experiment=new", "env_vars.NAMED='${secret:NAMED_SECRET}'"),
    *(f"env_vars.TYPED_API_KEY={SECRETS[8]}", "env_vars.FROM_ENV='${secret:OF_THE_SHELL}'"),
)


def rompy(cwd: Path, *words: str, code: int | None = 0) -> str:
    own = {"OF_THE_SHELL": SECRETS[9], "LAB_TOKEN": SECRETS[10], "XDG_CACHE_HOME": f"{cwd}/.cache"}
    environment = {**os.environ, **own}
    done = subprocess.run(
        [sys.executable, "-m", "rompy_hydra", *words],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def contents(top: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below, and what is packed in it."""
    for path in top.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        yield str(path), content
        if content[:2] == b"\x1f\x8b":
            yield str(path), gzip.decompress(content)
            with tarfile.open(path) as archive:
                yield str(path), " ".join(archive.getnames()).encode()


def assert_clean(printed: str, *places: Path) -> None:
    for secret in SECRETS:
        assert secret not in printed
    found = {
        (name, secret)
        for place in places
        for name, text in contents(place)
        for secret in SECRETS
        if secret.encode() in text
    }
    assert not found


def test_a_run_and_its_reproduction(lab: Path) -> None:
    printed = rompy(lab, "run", *WORDS, "run_id=a")
    assert (lab / "runs/a/result.txt").exists()
    assert (lab / "runs/a/.source/0.diff").stat().st_size > 100
    printed += rompy(lab, "run", "--from", "runs/a", code=2)
    again = [f"env_vars.TYPED_API_KEY={SECRETS[8]}", f"env_vars.DB_PASSWORD={SECRETS[3]}"]
    again += [f"vars.private_key={SECRETS[4]}", f"vars.auth=[{SECRETS[5]}]", f"model.env_vars.API_TOKEN={SECRETS[2]}"]
    printed += rompy(lab, "run", "--from", "runs/a", *again)
    assert (lab / "runs/a-2/result.txt").exists()
    printed += rompy(lab, "run", "--from", "runs/a-2", "model.comand=x", *again, code=2)
    assert_clean(printed, lab / "runs", lab / ".cache")


def test_a_sweep_its_resumption_and_a_point_once_more(lab: Path) -> None:
    words = ("hydra.sweep.dir=runs/scan", "vars.n=1,2", "sweep.jobs=1")
    printed = rompy(lab, "run", "-m", *WORDS, *words)
    assert (lab / "runs/scan/snapshot/0.diff").stat().st_size > 100
    printed += rompy(lab, "resume", "runs/scan") + rompy(lab, "resume", "--update", "runs/scan", code=None)
    printed += rompy(lab, "run", "--from", "runs/scan/1", code=2)
    assert_clean(printed, lab / "runs", lab / ".cache")


def test_whatever_looks_at_them(lab: Path) -> None:
    rompy(lab, "run", *WORDS, "run_id=a")
    printed = rompy(lab, "status", "runs/a", "--json") + rompy(lab, "status", "runs", "--csv")
    printed += rompy(lab, "status", "runs", "--where", "env_vars.DB_PASSWORD == '***'", "--json")
    printed += rompy(lab, "status", "--verify", "--json", "runs/a")
    assert '"succeeded"' in printed
    assert_clean(printed, lab / "runs")


def test_a_sweep_whose_options_held_a_credential_is_not_resumed_without_it(lab: Path) -> None:
    words = ("model=command", "model.command=false", "vars.n=1,2")
    rompy(lab, "run", "-m", *words, "env=lab", "hydra.sweep.dir=runs/one", code=1)
    assert "the value of DB_PASSWORD was taken out" in rompy(lab, "resume", "--retry-failed", "runs/one", code=None)
    rompy(lab, "run", "-m", *words, "experiment=new", "hydra.sweep.dir=runs/two", code=1)
    told = rompy(lab, "resume", "--retry-failed", "runs/two", code=None)
    assert "the value of 'vars.auth' was a credential" in told
