"""Somebody else looks at runs and sweeps that they may read and not write: another uid, dropped for real.

The interpreter itself may lie where only its owner may read, so the process looks once at a copy of its own, with its
first identity (what is imported late is in memory then), and becomes nobody before it looks at what counts.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody who may not write there")

NO_HOME = {"HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent/config"}
LOOK = """
import contextlib, io, json, os, pwd, sys
from rompy_hydra.cli import main

warm, cold, *commands = sys.argv[1:]
commands = [json.loads(text) for text in commands]

def look(top):
    os.chdir(top)
    said = []
    for words in commands:
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
        said.append([code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()])
    return said

look(warm)
nobody = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(nobody.pw_gid)
os.setuid(nobody.pw_uid)
for path in (cold, f"{cold}/new"):
    try:
        os.mkdir(path if path != cold else f"{cold}/runs/new")
        sys.exit(f"{path} can be written")
    except PermissionError:
        pass
print(json.dumps(look(cold)))
"""


def rompy(cwd: Path, *words: str, code: int = 0) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rompy_hydra", *words],
        cwd=cwd, env=dict(os.environ), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody can reach (pytest's own lie where only their owner may)."""
    top = Path(tempfile.mkdtemp(prefix="rompy-hydra-test-"))
    top.chmod(0o755)
    yield top
    shutil.rmtree(top)


@pytest.fixture
def lab(public: Path) -> Path:
    """A run that succeeded, one whose keeper was killed, and a sweep whose driver and keepers were."""
    top = public / "lab"
    top.mkdir()
    rompy(top, "run", "model=command", "model.command='echo hello; echo x > out.txt'", "run_id=good")
    rompy(top, "run", "model=command", "model.command=true", "run_id=killed")
    path = top / "runs/killed/run.json"
    data = json.loads(path.read_text())
    data |= {"state": "running", "watcher": {**data["watcher"], "pid": 2**22 + 1}}
    path.write_text(json.dumps({key: value for key, value in data.items() if key != "process"}))
    command = "model.command='test ${vars.n} = 1 || exec sleep 600'"
    words = ["run", "-m", "model=command", command, "vars.n=1,2,3", "sweep.jobs=2", "hydra.sweep.dir=runs/scan"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "rompy_hydra", *words], cwd=top, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while sum(event["e"] == "start" for event in events(top / "runs/scan")) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    keepers = {event["by"]["pid"] for event in events(top / "runs/scan") if event["e"] == "start"}
    driver.kill()
    driver.wait()
    for pid in keepers:
        os.kill(pid, signal.SIGKILL)  # what they watch dies with them
    return top


def events(sweep: Path) -> list[dict[str, Any]]:
    path = sweep / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def frozen(top: Path) -> dict[str, tuple[int, int]]:
    """Make it unwritable for all but root; what lies in it, to be compared with afterwards."""
    for path in (top, *top.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)
    return state_of(top)


def state_of(top: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(top)): (p.lstat().st_size, p.lstat().st_mtime_ns) for p in top.rglob("*")}


def looked(lab: Path, *commands: list[str]) -> list[tuple[int, str, str]]:
    warm = lab.with_name("warm")
    shutil.copytree(lab, warm, symlinks=True)
    before = frozen(lab)
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(warm), str(lab), *map(json.dumps, commands)],
        env={**os.environ, **NO_HOME}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert state_of(lab) == before, "who only looks changes nothing"
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


def test_a_run_and_a_sweep_are_told_of_to_whoever_may_read_them(lab: Path) -> None:
    good, killed, sweep, logs, everything = looked(
        lab,
        ["status", "runs/good"],
        ["status", "runs/killed"],
        ["status", "runs/scan"],
        ["logs", "runs/good"],
        ["status", "runs"],
    )
    assert (good[0], good[2]) == (0, "")
    assert "succeeded" in good[1]
    assert "lost" in killed[1]
    assert "is gone" in sweep[1]
    assert "1 succeeded, 2 lost" in sweep[1]
    assert logs[0] == 0
    assert "killed" in everything[1]


def test_runs_as_a_collection_and_verification_need_no_writing(lab: Path) -> None:
    rows, points, verified, sweep = looked(
        lab,
        ["status", "runs", "--where", "state in ['succeeded', 'lost']", "--sort=run", "--columns=run,state", "--json"],
        ["status", "runs/scan", "--csv", "--columns", "run,state"],
        ["status", "--verify", "runs/good"],
        ["status", "--verify", "runs/scan"],
    )
    assert json.loads(rows[1]) == [
        {"run": "good", "state": "succeeded"},
        {"run": "killed", "state": "lost"},
        {"run": "scan/0", "state": "succeeded"},
        {"run": "scan/1", "state": "lost"},
        {"run": "scan/2", "state": "lost"},
    ]
    assert points[1] == "run,state\n0,succeeded\n1,lost\n2,lost\n"
    assert verified[:2] == (0, "1 same\n")
    assert (sweep[0], sweep[2]) == (0, "")


def test_a_run_of_somebody_else_is_reproduced_in_a_place_of_one_s_own(lab: Path, public: Path) -> None:
    mine = public / "mine"
    mine.mkdir()
    mine.chmod(0o777)
    (out,) = looked(lab, ["run", "--from", "runs/good", "--dry-run", f"output_dir={mine}"])
    assert out[0] == 0, out
    assert "the same simulation" in out[2]


def test_what_may_not_even_be_read_is_said(lab: Path) -> None:
    (lab / "runs/scan").chmod(0o700)
    warm = lab.with_name("warm")
    shutil.copytree(lab, warm, symlinks=True)
    (lab / "runs/good/run.json").chmod(0o600)
    for path in (lab, lab / "runs"):
        path.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(warm), str(lab), json.dumps(["status", "runs", "--csv", "--columns", "run"])],
        env={**os.environ, **NO_HOME}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    ((code, out, err),) = json.loads(done.stdout)
    assert (code, out) == (0, "run\nkilled\n")
    assert "runs/good/run.json cannot be read: Permission denied" in err
    assert "runs/scan cannot be looked into: Permission denied" in err


START = """
import os, pwd, sys
from pathlib import Path
from rompy_hydra import workflow
from rompy_hydra.compose.cache import plan_of_command
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.errors import SiteError
from rompy_hydra.steps.prepare import prepare

class Executor:
    def start(self, job, record):
        sys.exit("it was started")

words = ["model=command", "model.command=true", f"output_dir={sys.argv[1]}/out", "run_id=a"]
plan, _ = plan_of_command(words, find_sources(), "config", cwd=Path.cwd())
prepare(plan)
nobody = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(nobody.pw_gid)
os.setuid(nobody.pw_uid)
try:
    workflow.run(plan, Executor())
except SiteError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_run_where_one_may_not_write_is_the_site_s_refusal(public: Path) -> None:
    closed = public / "closed"
    closed.mkdir(mode=0o755)
    done = subprocess.run(
        [sys.executable, "-c", START, str(closed)], cwd=public, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (4, "")
    assert f"{closed}/out" in done.stdout
    assert "Permission denied" in done.stdout
    assert list(closed.iterdir()) == []
