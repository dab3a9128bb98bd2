"""The keeper among hostile children, dying drivers and signals: real processes, all of them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.errors import SiteError
from rompy_hydra.record.liveness import ProcessIdentity, read_proc, read_stat
from rompy_hydra.record.outcome import Outcome
from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import load_record, observe, read_record, write_record
from rompy_hydra.run.base import Job, SuccessRules
from rompy_hydra.run.keeping import KeeperProcess, KeptRun, wire_job
from rompy_hydra.run.local import LocalExecutor
from rompy_hydra.run.processes import all_pids, marked_with
from tests.run.contract import MakeJob, log, names, record_for, run, until

ROOT = Path(__file__).resolve().parents[2]
MARK = "ROMPY_HYDRA_TEST_MARK"

# A grandchild that is as hard to get hold of as can be: double-forked, a session of its own, deaf to everything.
ESCAPE = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        code = "import time; open('escaped', 'w'); time.sleep(300)"
        os.execve(sys.executable, [sys.executable, "-S", "-c", code], {})
    os._exit(0)
os.wait()
while not os.path.exists("escaped"):
    time.sleep(0.01)
"""


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


def started(executor: LocalExecutor, job: Job) -> KeptRun:
    return executor.start(job, record_for(job))


def ended(running: KeptRun) -> Outcome:
    outcome = running.wait(30)
    assert outcome is not None, "it has not ended in time"
    return outcome


def in_directory(directory: str) -> list[int]:
    """Living processes that stand in a run's directory: the only trace of one with an empty environment."""
    found = []
    for pid in all_pids():
        with contextlib.suppress(OSError):
            stat = read_stat(pid)
            if stat and not stat.is_dead and str(Path(f"/proc/{pid}/cwd").readlink()) == directory:
                found.append(pid)
    return found


# ---- ending a tree


@pytest.mark.parametrize("how", ["cancel", "timeout", "memory", "abort_on", "end"])
def test_escaped_grandchildren_are_ended(executor: LocalExecutor, make_job: MakeJob, how: str) -> None:
    code = ESCAPE
    if how == "memory":
        code += "x = bytearray(100_000_000)\n"
    if how == "abort_on":
        code += "print('diverged', flush=True)\n"
    if how != "end":
        code += "time.sleep(300)\n"
    job = make_job(
        argv=python(code),
        timeout_s=1.0 if how == "timeout" else None,
        memory_bytes=60_000_000 if how == "memory" else None,
        abort_on=("diverged",),
    )
    running = started(executor, job)
    if how == "cancel":
        until(lambda: Path(job.directory, "escaped").exists())
        running.cancel("enough")
    outcome = ended(running)
    expected = {"cancel": "cancelled", "timeout": "timed_out", "memory": "out_of_memory", "abort_on": "failed"}
    assert outcome.state == expected.get(how, "succeeded")
    assert in_directory(job.directory) == []
    told = " ".join([outcome.reason, *outcome.notes])
    assert "had to be killed" in told
    assert run(executor, make_job("true", name="next")).succeeded


def test_a_background_process_that_ends_in_a_moment_is_left_to_end(executor: LocalExecutor, make_job: MakeJob) -> None:
    outcome = run(executor, make_job("(sleep 0.05; echo late) & exit 0"))
    assert outcome.succeeded
    assert outcome.notes == []


def test_a_stopped_process_gets_its_term_too(executor: LocalExecutor, make_job: MakeJob) -> None:
    script = "trap 'echo bye; exit 0' TERM; kill -STOP $$; sleep 60"
    job = make_job(script, grace_s=20)
    running = started(executor, job)
    until(lambda: _state_of(running) == "T")
    running.cancel("enough")
    assert ended(running).state is RunState.CANCELLED
    assert log(job) == b"bye\n"


def _state_of(running: KeptRun) -> str:
    assert running.process is not None
    stat = read_stat(running.process.pid)
    return stat.state if stat else ""


def test_a_comet_that_forks_and_ends_all_the_time_is_caught(executor: LocalExecutor, make_job: MakeJob) -> None:
    code = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if os.fork() != 0:
            os._exit(0)
        open("comet", "w").close()
time.sleep(60)
"""
    job = make_job(argv=python(code), grace_s=0.1)
    running = started(executor, job)
    until(lambda: Path(job.directory, "comet").exists())
    running.cancel("enough")
    assert ended(running).state is RunState.CANCELLED
    assert in_directory(job.directory) == []


def test_a_small_fork_bomb_is_ended(executor: LocalExecutor, make_job: MakeJob) -> None:
    code = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(6):
    os.fork()
open("exploded", "w").close()
while True:
    time.sleep(0.01)
    if os.fork() == 0:
        os._exit(0)
    os.wait()
"""
    job = make_job(argv=python(code), grace_s=0.1)
    running = started(executor, job)
    until(lambda: Path(job.directory, "exploded").exists())
    running.cancel("enough")
    assert ended(running).state is RunState.CANCELLED
    assert in_directory(job.directory) == []


def test_a_process_whose_main_thread_has_ended_is_still_ended(executor: LocalExecutor, make_job: MakeJob) -> None:
    code = """
import ctypes, os, platform, signal, threading, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
threading.Thread(target=time.sleep, args=(300,)).start()
open("ready", "w").close()
number = {"x86_64": 60, "aarch64": 93}[platform.machine()]
ctypes.CDLL(None).syscall(number, 0)  # exit(2): of this thread only
"""
    job = make_job(argv=python(code), grace_s=0.1)
    running = started(executor, job)
    until(lambda: _state_of(running) == "Z")
    running.cancel("enough")
    assert ended(running).state is RunState.CANCELLED
    assert running.process is not None
    assert running.process.is_alive() is False


# ---- the keeper itself


def test_the_keeper_holds_neither_directory_nor_terminal(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job("sleep 60")
    running = started(executor, job)
    keeper = f"/proc/{running.keeper.pid}"
    assert Path(keeper, "cwd").readlink() == Path("/")
    held = {str(fd.readlink()).split(":")[0] for fd in Path(keeper, "fd").iterdir()}
    # the deleted file is where its last words go
    assert {target for target in held if not target.endswith("(deleted)")} == {"pipe", "/dev/null"}
    stat = read_stat(running.keeper.pid)
    assert stat is not None
    assert stat.session == running.keeper.pid
    running.cancel("enough")
    ended(running)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_keeper_cancels_the_run(
    executor: LocalExecutor, make_job: MakeJob, number: signal.Signals
) -> None:
    job = make_job("sleep 60")
    running = started(executor, job)
    os.kill(running.keeper.pid, number)
    outcome = ended(running)
    assert outcome.state is RunState.CANCELLED
    assert number.name in outcome.reason
    assert read_record(job.run_dir)["state"] == "cancelled"
    assert running.keeper.is_alive() is False
    assert run(executor, make_job("true", name="next")).succeeded


def test_a_hang_up_does_not_disturb_the_keeper(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job("while ! test -e go; do sleep 0.01; done")
    running = started(executor, job)
    for number in (signal.SIGHUP, signal.SIGPIPE):
        os.kill(running.keeper.pid, number)
    Path(job.directory, "go").touch()
    assert ended(running).succeeded


def test_half_a_line_starts_nothing(make_job: MakeJob) -> None:
    job = make_job("touch ran")
    keeper = KeeperProcess.start()
    line = _message(job, "token").encode()
    os.write(keeper._control_fd, line[: len(line) - 3])
    keeper.close()
    assert keeper.bury(20) == "ended with exit code 0"
    assert not Path(job.directory, "ran").exists()


def test_jobs_that_wait_in_the_pipe_are_run_in_order(make_job: MakeJob) -> None:
    jobs = [make_job(f"echo {n} >> ../order", name=str(n), record_start=False) for n in range(3)]
    keeper = KeeperProcess.start()
    for n, job in enumerate(jobs):
        keeper.send(json.loads(_message(job, str(n))))
    told: list[str] = []
    while len(told) < 3:
        assert keeper.receive(20)
        while keeper.events:
            event = keeper.events.popleft()
            assert event["event"] == "ended"
            told.append(event["token"])
    keeper.close()
    keeper.bury(20)
    assert told == ["0", "1", "2"]
    assert Path(jobs[0].directory, "../order").read_text() == "0\n1\n2\n"


def test_a_run_that_was_called_lost_before_its_start_is_not_started(make_job: MakeJob) -> None:
    job = make_job("touch ran")
    keeper = KeeperProcess.start()
    record = {"state": "lost", "job_token": "token", "reason": "its driver died"}
    write_record(job.run_dir, record)
    keeper.send(json.loads(_message(job, "token")))
    assert keeper.receive(20)
    event = keeper.events.popleft()
    assert (event["event"], event["kind"]) == ("refused", "claim")
    assert "lost" in event["message"]
    keeper.close()
    keeper.bury(20)
    assert load_record(job.run_dir)["state"] == "lost"
    assert not Path(job.directory, "ran").exists()


def _message(job: Job, token: str) -> str:
    message = {"do": "run", "token": token, "job": wire_job(job, job.argv[0]), "tell_start": False}
    return json.dumps({**message, "record": {"job_token": token}}) + "\n"


def test_killed_keeper_is_noticed_at_once_and_its_tree_ended(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job(argv=python(ESCAPE + "os.system('setsid sleep 300 & sleep 300')"))
    running = started(executor, job)
    until(lambda: len(in_directory(job.directory)) >= 4)
    clean = in_directory(job.directory)
    os.kill(running.keeper.pid, signal.SIGKILL)
    start = time.monotonic()
    outcome = ended(running)
    assert time.monotonic() - start < 10
    assert outcome.state is RunState.LOST
    assert "SIGKILL" in outcome.reason
    assert read_record(job.run_dir)["state"] == "lost"
    assert read_record(job.run_dir)["reason"] == outcome.reason
    # One with an empty environment that left the session cannot be told from a stranger once its keeper is dead.
    left = in_directory(job.directory)
    assert len(left) <= 1 < len(clean)
    for pid in left:
        assert read_proc(f"/proc/{pid}/environ") == b""
        os.kill(pid, signal.SIGKILL)


# ---- what the run left


def test_an_output_above_the_limit_has_no_sha256(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job("head -c 20000000 /dev/zero > big; echo x > small", sha256_max_bytes=10_000_000)
    assert run(executor, job).succeeded
    outputs = {entry["path"]: entry for entry in read_record(job.run_dir)["outputs"]}
    assert "sha256" not in outputs["big"]
    assert len(outputs["small"]["sha256"]) == 64


def test_big_outputs_are_hashed_after_the_outcome_is_safe(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job("head -c 20000000 /dev/zero > big; echo x > small")
    assert run(executor, job).succeeded
    assert all("sha256" in entry for entry in read_record(job.run_dir)["outputs"])
    assert [name for name in names(job.run_dir) if name.startswith(".")] == []


def test_earlier_attempts_stay_in_the_record(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job("exit 4")
    outcome = executor.start(job, {"run_id": "run", "attempts": [{"state": "failed", "exit_code": 3}]}).wait(20)
    assert outcome is not None
    attempts = read_record(job.run_dir)["attempts"]
    assert [attempt["exit_code"] for attempt in attempts] == [3, 4]
    assert attempts[1]["reason"] == outcome.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_the_end_of_a_run_that_filled_the_disk_is_recorded(
    executor: LocalExecutor, make_job: MakeJob, tmp_path: Path
) -> None:
    disk = tmp_path / "small disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode()}")
    try:
        job = make_job("head -c 9000000 /dev/zero > big || exit 5", name="small disk")
        outcome = run(executor, job)
        assert outcome.exit_code == 5
        assert [entry["path"] for entry in read_record(job.run_dir)["outputs"]] == ["big"]
        assert names(job.run_dir) == ["big", "logs", "run.json"]
        with contextlib.suppress(OSError):
            Path(disk, "rest").write_bytes(bytes(1 << 20))
        with pytest.raises(SiteError, match="No space left"):
            executor.start(make_job("true", name="small disk/next"), record_for(job))
    finally:
        subprocess.run(["umount", disk], check=True)


# ---- the model's own check


def test_a_check_that_holds_is_success(executor: LocalExecutor, make_job: MakeJob) -> None:
    rules = SuccessRules(check=("sh", "-c", "echo looking; test -s result && test $FLAVOUR = salt"))
    environment = {**make_job().environment, "FLAVOUR": "salt"}
    job = make_job("echo x > result", success=rules, environment=environment)
    assert run(executor, job).succeeded
    assert Path(job.run_dir, "logs/check.log").read_text() == "looking\n"


def test_a_check_that_fails_is_quoted(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job("true", success=SuccessRules(check=("sh", "-c", "echo 'NaN in temp(3, 4)' >&2; exit 2")))
    outcome = run(executor, job)
    assert (outcome.state, outcome.exit_code) == (RunState.FAILED, 0)
    assert outcome.reason == "success.check ended with exit code 2: “NaN in temp(3, 4)”"


def test_a_check_made_by_the_run_itself(executor: LocalExecutor, make_job: MakeJob) -> None:
    rules = SuccessRules(check=("./check",))
    assert run(executor, make_job("printf '#!/bin/sh\nexit 0' > check; chmod +x check", success=rules)).succeeded
    outcome = run(executor, make_job("true", name="other", success=rules))
    assert outcome.state is RunState.FAILED
    assert "success.check could not be started" in outcome.reason


def test_a_check_that_hangs_is_ended(executor: LocalExecutor, make_job: MakeJob) -> None:
    rules = SuccessRules(check=("sleep", "60"), check_timeout_s=0.2)
    outcome = run(executor, make_job("true", success=rules))
    assert outcome.state is RunState.FAILED
    assert "success.check ran longer than 0.2 s" in outcome.reason


def test_a_run_can_be_cancelled_while_it_is_checked(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job("true", success=SuccessRules(check=("sh", "-c", "touch checking; sleep 60")))
    running = started(executor, job)
    until(lambda: Path(job.directory, "checking").exists())
    record = read_record(job.run_dir)
    assert (record["state"], record["exit_code"]) == ("running", 0)
    running.cancel("enough")
    assert ended(running).state is RunState.CANCELLED


# ---- the driver dies


class Driver:
    """A driver that can be killed, and everything that it leaves: found by a mark in the environment."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.mark = os.urandom(8).hex()
        environment = {**os.environ, MARK: self.mark, "PYTHONPATH": str(ROOT)}
        job_data = {**asdict(job), "environment": {**job.environment, MARK: self.mark}}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/run/driver_program.py"), json.dumps(job_data)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )

    def wait_for(self, word: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.split() == [word.encode()]:
                return
        raise AssertionError(self.process.stderr and self.process.stderr.read())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def left(self) -> list[int]:
        word = f"{MARK}={self.mark}".encode()
        marked = [pid for pid in all_pids() if word in read_proc(f"/proc/{pid}/environ").split(b"\0")]
        return [pid for pid in marked if (stat := read_stat(pid)) is not None and not stat.is_dead]

    def wait_until_nothing_is_left(self) -> None:
        until(lambda: self.left() == [])


Drive = Callable[[Job], Driver]


@pytest.fixture
def drive() -> Iterator[Callable[[Job], Driver]]:
    drivers = []

    def start(job: Job) -> Driver:
        drivers.append(Driver(job))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.kill()


@pytest.fixture
def counting_job(make_job: MakeJob) -> Job:
    """A run that leaves one byte for each time that it was started."""
    return make_job("printf x >> ran; while test -e hold; do sleep 0.01; done; echo done > result")


def test_a_run_outlives_its_driver_and_its_end_is_recorded(drive: Drive, counting_job: Job) -> None:
    job = counting_job
    Path(job.directory, "hold").touch()
    driver = drive(job)
    driver.wait_for("started")
    driver.kill()
    record = observe(job.run_dir)
    assert record["state"] == "running"
    assert record["watcher"]["role"] == "keeper"
    for who in ("watcher", "process"):
        assert ProcessIdentity.from_dict(record[who]).is_alive()
    assert sorted(driver.left()) == sorted([record["watcher"]["pid"], *_tree(record["process"]["pid"])])
    Path(job.directory, "hold").unlink()
    driver.wait_until_nothing_is_left()
    record = observe(job.run_dir)
    assert (record["state"], record["exit_code"]) == ("succeeded", 0)
    assert [entry["path"] for entry in record["outputs"]] == ["ran", "result"]
    assert Path(job.directory, "ran").read_text() == "x"


def _tree(pid: int) -> list[int]:
    from rompy_hydra.run.processes import descendants

    return [pid, *descendants(pid)]


def test_sigterm_to_the_keeper_of_a_dead_driver_cancels_the_run(drive: Drive, counting_job: Job) -> None:
    Path(counting_job.directory, "hold").touch()
    driver = drive(counting_job)
    driver.wait_for("started")
    driver.kill()
    os.kill(observe(counting_job.run_dir)["watcher"]["pid"], signal.SIGTERM)
    driver.wait_until_nothing_is_left()
    assert observe(counting_job.run_dir)["state"] == "cancelled"


def test_driver_and_keeper_killed_leave_a_lost_run_and_no_process(drive: Drive, counting_job: Job) -> None:
    Path(counting_job.directory, "hold").touch()
    driver = drive(counting_job)
    driver.wait_for("started")
    driver.process.send_signal(signal.SIGSTOP)  # so that it cannot tidy up for its keeper
    until(lambda: Path(counting_job.directory, "ran").exists())
    record = read_record(counting_job.run_dir)
    os.kill(record["watcher"]["pid"], signal.SIGKILL)
    driver.kill()
    Path(counting_job.directory, "hold").unlink()
    driver.wait_until_nothing_is_left()
    record = observe(counting_job.run_dir)
    assert record["state"] == "lost"
    assert "its keeper" in record["reason"]
    assert not Path(counting_job.directory, "result").exists()


@pytest.mark.parametrize("delay_s", [0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08])
def test_whenever_the_driver_is_killed_the_record_tells_the_truth(
    drive: Drive, counting_job: Job, delay_s: float
) -> None:
    driver = drive(counting_job)
    driver.wait_for("ready")
    time.sleep(delay_s)
    driver.kill()
    _check_the_truth(driver, counting_job)


def _check_the_truth(driver: Driver, job: Job) -> str:
    """After everything has come to rest: the record, if any, says what happened, and it happened once at most."""
    driver.wait_until_nothing_is_left()
    runs = Path(job.directory, "ran").read_text() if Path(job.directory, "ran").exists() else ""
    if not Path(job.run_dir, "run.json").exists():
        assert runs == "" or not job.record_start  # the journal of its sweep knows that it was handed to a keeper
        return "none"
    # A process that is being killed has no environment any more a moment before it is dead.
    until(lambda: RunState(observe(job.run_dir)["state"]).is_final)
    record = observe(job.run_dir)
    state = str(record["state"])
    assert len(runs) <= 1
    if state == "succeeded":
        assert runs == "x"
        assert Path(job.directory, "result").exists()
    elif state == "lost":
        assert record["reason"]
    return state


class Chaos:
    """Kills a driver, a keeper or a child at a random moment and looks at what is left."""

    def __init__(self, make_job: MakeJob, source: random.Random) -> None:
        self._make_job = make_job
        self._random = source

    def trial(self, number: int) -> str:
        job = self._make_job(
            "printf x >> ran; setsid sleep 0.05 & sleep 0.05; echo done > result",
            name=f"trial{number}",
            record_start=self._random.random() < 0.7,
        )
        driver = Driver(job)
        driver.wait_for("ready")
        victims = self._random.choice(
            [("driver",), ("keeper",), ("child",), ("keeper", "driver"), ("driver", "keeper")]
        )
        try:
            for victim in victims:
                time.sleep(self._random.random() * 0.12)
                self._kill(driver, victim)
            if "driver" in victims:
                driver.kill()
            else:
                driver.process.communicate(timeout=30)
        finally:
            driver.process.kill()
        state = _check_the_truth(driver, job)
        shutil.rmtree(job.run_dir)
        return f"{'+'.join(victims)}: {state}"

    def _kill(self, driver: Driver, victim: str) -> None:
        if victim == "driver":
            driver.kill()
            return
        others = [pid for pid in driver.left() if pid != driver.process.pid]
        keepers = [pid for pid in others if _name(pid) in ("rompy-keeper", "python", "python3")]
        chosen = keepers if victim == "keeper" else [pid for pid in others if pid not in keepers]
        if chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._random.choice(chosen), signal.SIGKILL)


def _name(pid: int) -> str:
    return read_proc(f"/proc/{pid}/comm").decode().strip()


def test_random_kills_leave_the_truth(make_job: MakeJob) -> None:
    chaos = Chaos(make_job, random.Random(20261124))
    for number in range(12):
        chaos.trial(number)


@pytest.mark.soak
def test_random_kills_leave_the_truth_for_long(
    make_job: MakeJob, soak_random: random.Random, soak_seconds: float
) -> None:
    chaos = Chaos(make_job, soak_random)
    seen: dict[str, int] = {}
    deadline = time.monotonic() + soak_seconds
    while time.monotonic() < deadline:
        result = chaos.trial(sum(seen.values()))
        seen[result] = seen.get(result, 0) + 1
    print(dict(sorted(seen.items())))


@pytest.fixture(autouse=True)
def no_process_is_left_behind(tmp_path: Path) -> Iterator[None]:
    yield
    until(lambda: [pid for pid in all_pids() if _cwd(pid).startswith(f"{tmp_path}/")] == [])
    assert marked_with("token") == []


def _cwd(pid: int) -> str:
    with contextlib.suppress(OSError):
        stat = read_stat(pid)
        if stat and not stat.is_dead:
            return str(Path(f"/proc/{pid}/cwd").readlink())
    return ""


def test_record_data_is_what_the_driver_gave(executor: LocalExecutor, make_job: MakeJob) -> None:
    record: dict[str, Any] = {"run_id": "run", "overrides": ["a=é"], "config": {"x": [1.5, None, True]}}
    job = make_job("true")
    assert executor.start(job, record).wait(20)
    written = read_record(job.run_dir)
    assert {key: written[key] for key in record} == record
    assert "é" in Path(job.run_dir, "run.json").read_text(encoding="utf-8")
