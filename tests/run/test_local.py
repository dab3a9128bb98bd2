from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.errors import ConfigError, MissingToolError, SiteError
from rompy_hydra.record.liveness import read_stat
from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import read_record
from rompy_hydra.run.base import SuccessRules
from rompy_hydra.run.keeping import KeeperProcess, wait_any
from rompy_hydra.run.local import LocalExecutor
from rompy_hydra.run.processes import all_pids, marked_with
from tests.run.contract import ExecutorContract, MakeJob, log, names, record_for, run, until


class TestContract(ExecutorContract):
    pass


class TestContractWithTheRecordAtTheEndOnly(ExecutorContract):
    """The quick way to start (posix_spawn, no first record) keeps the same promises."""

    @pytest.fixture
    def make_job(self, make_job: MakeJob) -> MakeJob:
        return lambda *args, **changes: make_job(*args, **{"record_start": False, **changes})


# ---- what cannot be started


def test_missing_command_is_named_before_anything_is_written(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job(argv=("no-such-model", "--fast"))
    with pytest.raises(MissingToolError, match="'no-such-model' does not exist on its PATH"):
        executor.start(job, record_for(job))
    assert names(job.run_dir) == ["logs"]


def test_the_path_of_the_job_counts_not_ours(executor: LocalExecutor, make_job: MakeJob, tmp_path: Path) -> None:
    tool = tmp_path / "bin/model"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho mine\n")
    tool.chmod(0o755)
    job = make_job(argv=("model",), environment={"PATH": str(tool.parent)})
    assert run(executor, job).succeeded
    assert log(job) == b"mine\n"
    with pytest.raises(MissingToolError):
        executor.start(make_job(argv=("sh",), environment={"PATH": str(tool.parent)}), {})


def test_a_relative_command_is_looked_up_in_the_directory_of_the_run(
    executor: LocalExecutor, make_job: MakeJob
) -> None:
    job = make_job(argv=("./model",))
    model = Path(job.directory, "model")
    model.write_text("#!/bin/sh\necho here\n")
    model.chmod(0o755)
    assert run(executor, job).succeeded
    model.chmod(0o644)
    with pytest.raises(ConfigError, match="Permission denied"):
        executor.start(job, record_for(job))


@pytest.mark.parametrize("record_start", [True, False])
@pytest.mark.parametrize(
    ("first_line", "error", "word"),
    [("#!/no/such/interpreter\n", MissingToolError, "interpreter"), ("just words\n", ConfigError, "#!")],
)
def test_a_script_that_cannot_be_executed_is_an_error_and_recorded(
    executor: LocalExecutor, make_job: MakeJob, first_line: str, error: type[Exception], word: str, record_start: bool
) -> None:
    job = make_job(argv=("./model",), record_start=record_start)
    model = Path(job.directory, "model")
    model.write_text(first_line)
    model.chmod(0o755)
    with pytest.raises(error, match=word):
        executor.start(job, record_for(job))
    record = read_record(job.run_dir)
    assert record["state"] == "failed"
    assert word in record["reason"]
    assert run(executor, make_job("true", name="next")).succeeded


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"argv": ()}, "no command"),
        ({"directory": "/no/such/place"}, "is no directory"),
        ({"abort_on": ("(",)}, "abort_on"),
        ({"success": SuccessRules(log_has=("[",))}, "success.log_has"),
        ({"success": SuccessRules(log_has=("x",)), "stdout": None, "stderr": None}, "not kept"),
        ({"cpu_affinity": (100_000,)}, "bound to processors 100000"),
        ({"cpu_affinity": ()}, "bound to processors"),
    ],
)
def test_an_impossible_request_is_refused_before_anything_is_written(
    executor: LocalExecutor, make_job: MakeJob, changes: dict[str, Any], words: str
) -> None:
    job = make_job("true", **changes)
    with pytest.raises(ConfigError, match=words):
        executor.start(job, record_for(job))
    assert not Path(job.run_dir, "run.json").exists()


def test_a_missing_check_command_is_found_before_the_start(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job("true", success=SuccessRules(check=("no-such-check",)))
    with pytest.raises(MissingToolError, match=r"success\.check 'no-such-check'"):
        executor.start(job, record_for(job))


def test_a_log_that_cannot_be_written_is_the_sites_fault(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job("true", stdout="/proc/nowhere/stdout.log")
    with pytest.raises(SiteError, match=r"stdout\.log cannot be written"):
        executor.start(job, record_for(job))
    assert read_record(job.run_dir)["state"] == "failed"


def test_a_nul_byte_in_an_argument_is_refused(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job(argv=("/bin/echo", "a\0b"))
    with pytest.raises(Exception, match=r"cannot be (started|executed)"):
        executor.start(job, record_for(job))


# ---- what is measured


def test_cpu_seconds_count_the_whole_tree(executor: LocalExecutor, make_job: MakeJob) -> None:
    busy = f"{sys.executable} -c 'import time; t = time.process_time()\nwhile time.process_time() - t < 0.2: pass'"
    outcome = run(executor, make_job(f"({busy} &) ; {busy}; while pgrep -s 0 python > /dev/null; do sleep 0.01; done"))
    assert outcome.succeeded, outcome
    assert outcome.cpu_seconds is not None
    assert 0.4 <= outcome.cpu_seconds < 3


def test_peak_memory_is_that_of_the_tree(executor: LocalExecutor, make_job: MakeJob) -> None:
    code = """
import os, sys, time
x = bytearray(60_000_000)
open(sys.argv[1], "w").close()
while not os.path.exists("seen"):
    time.sleep(0.01)
"""
    Path(make_job().directory, "hold.py").write_text(code)
    hold = f"{sys.executable} -S hold.py"
    until_both = "until test -e a && test -e b; do sleep 0.01; done; sleep 0.6; touch seen"
    outcome = run(executor, make_job(f"{hold} a & {hold} b & {until_both}; wait"))
    assert outcome.peak_memory_bytes is not None
    assert 115_000_000 < outcome.peak_memory_bytes < 180_000_000
    assert outcome.memory_measured_by is not None
    assert "tree" in outcome.memory_measured_by


def test_a_short_peak_is_not_missed(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job(argv=(sys.executable, "-S", "-c", "x = bytearray(80_000_000)"))
    outcome = run(executor, job)
    assert outcome.peak_memory_bytes is not None
    assert 80_000_000 < outcome.peak_memory_bytes < 120_000_000


def test_memory_above_the_limit_ends_the_run(executor: LocalExecutor, make_job: MakeJob) -> None:
    script = "import time\nx = []\nwhile True: x.append(bytearray(5_000_000)); time.sleep(0.01)"
    job = make_job(argv=(sys.executable, "-S", "-c", script), memory_bytes=60_000_000)
    outcome = run(executor, job)
    assert outcome.state is RunState.OUT_OF_MEMORY
    assert "57.2 MiB it was given" in outcome.reason


def test_the_tree_is_bound_to_the_processors_given(executor: LocalExecutor, make_job: MakeJob) -> None:
    cpu = max(os.sched_getaffinity(0))
    job = make_job("sh -c 'grep Cpus_allowed_list /proc/self/status'", cpu_affinity=(cpu,))
    assert run(executor, job).succeeded
    assert log(job).split()[-1] == str(cpu).encode()


def test_hundred_megabytes_of_output_cost_no_memory(make_job: MakeJob) -> None:
    passed = 0

    def count(name: str, chunk: bytes) -> None:
        nonlocal passed
        passed += len(chunk)

    with LocalExecutor(on_output=count) as executor:
        run(executor, make_job("true", name="warm-up"))
        before = _rss(os.getpid())
        job = make_job("head -c 100000000 /dev/zero; head -c 1000 /dev/zero >&2")
        running = executor.start(job, record_for(job))
        peak = keeper_peak = 0
        keeper_before = _rss(running.keeper.pid)
        while (outcome := running.wait(0.02)) is None:
            peak = max(peak, _rss(os.getpid()))
            keeper_peak = max(keeper_peak, _rss(running.keeper.pid))
        assert outcome.succeeded
        peak = max(peak, _rss(os.getpid()))
        keeper_peak = max(keeper_peak, _rss(running.keeper.pid))
    assert Path(job.stdout or "").stat().st_size == 100_000_000
    assert passed == 100_001_000
    assert (peak - before) + (keeper_peak - keeper_before) < 20_000_000


def _rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ---- what the run sees


def test_the_command_gets_a_clean_process(executor: LocalExecutor, make_job: MakeJob) -> None:
    script = """
import json, os, signal
json.dump({
    "fds": sorted(os.listdir("/proc/self/fd"))[:-1],
    "ignored": [s.name for s in signal.valid_signals() if isinstance(s, signal.Signals) and
                signal.getsignal(s) is signal.SIG_IGN],
    "blocked": [s.name for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    "leader": os.getsid(0) == os.getpid(),
    "cwd": os.getcwd(),
}, open("seen.json", "w"))
"""
    job = make_job(argv=(sys.executable, "-c", script))
    with _held_descriptors():
        assert run(executor, job).succeeded
    seen = json.loads(Path(job.run_dir, "seen.json").read_text())
    assert seen["fds"] == ["0", "1", "2"]
    assert seen["ignored"] == ["SIGPIPE", "SIGXFSZ"]  # Python's own start does that
    assert seen["blocked"] == []
    assert seen["leader"]
    assert seen["cwd"] == job.directory


@contextlib.contextmanager
def _held_descriptors() -> Iterator[None]:
    """Descriptors that a careless library left inheritable."""
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    for fd in fds:
        os.set_inheritable(fd, True)
    yield
    for fd in fds:
        os.close(fd)


def test_stdout_and_stderr_may_share_one_file(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job("echo one; echo two >&2; echo three")
    job = make_job(job.argv[-1], stderr=job.stdout)
    assert run(executor, job).succeeded
    assert log(job) == b"one\ntwo\nthree\n"


def test_without_logs_the_output_goes_to_our_own_terminal(make_job: MakeJob, tmp_path: Path) -> None:
    make_job("")
    code = f"""
import os, sys
from rompy_hydra.run.base import Job
from rompy_hydra.run.local import LocalExecutor
print("before")
with LocalExecutor() as executor:
    job = Job(run_id="r", run_dir={str(tmp_path / "run")!r}, directory="/", environment=dict(os.environ),
              argv=("sh", "-c", "echo out; echo err >&2"))
    print(executor.start(job, {{}}).wait().state)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_ROOT)
    assert done.stdout == "before\nout\nsucceeded\n"
    assert done.stderr == "err\n"


_ROOT = Path(__file__).resolve().parents[2]


def test_streamed_output_arrives_while_the_run_goes_on(make_job: MakeJob) -> None:
    heard: list[tuple[str, bytes]] = []
    with LocalExecutor(on_output=lambda name, chunk: heard.append((name, chunk))) as executor:
        job = make_job(r"printf 'half \377'; while ! test -e go; do sleep 0.01; done; echo ' rest'; echo e >&2")
        running = executor.start(job, record_for(job))
        until(lambda: running.wait(0.01) is None and bool(heard))
        assert heard == [("stdout", b"half \xff")]
        Path(job.directory, "go").touch()
        assert running.wait(20)
    assert sorted(heard[1:]) == [("stderr", b"e\n"), ("stdout", b" rest\n")]


def test_streaming_stops_quietly_when_nobody_listens(make_job: MakeJob) -> None:
    def closed(name: str, chunk: bytes) -> None:
        raise BrokenPipeError(errno.EPIPE, "nobody listens")

    with LocalExecutor(on_output=closed) as executor:
        assert run(executor, make_job("echo a; sleep 0.1; echo b")).succeeded


# ---- Python callables


def test_a_callable_runs_in_a_process_of_its_own(executor: LocalExecutor, make_job: MakeJob) -> None:
    def simulate() -> bool:
        print("simulating in", Path.cwd(), os.environ["FLAVOUR"])
        sys.stderr.write("a warning\n")
        os.system("echo from a child")
        Path("pid.txt").write_text(str(os.getpid()))
        return True

    job = make_job(target=simulate, argv=(), environment={"FLAVOUR": "salt", "PATH": os.environ["PATH"]})
    outcome = run(executor, job)
    assert outcome.succeeded, outcome
    assert log(job) == f"simulating in {job.directory} salt\nfrom a child\n".encode()
    assert log(job, "stderr") == b"a warning\n"
    assert int(Path(job.directory, "pid.txt").read_text()) != os.getpid()
    assert "FLAVOUR" not in os.environ


def _false() -> bool:
    return False


def _raises() -> None:
    raise ValueError("the bathymetry is upside down")


def _leaves() -> None:
    sys.exit(7)


def _nothing() -> None:
    return None


def _kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("target", "state", "exit_code", "words"),
    [
        (_nothing, "succeeded", 0, ""),
        (_false, "failed", 1, "_false returned False"),
        (_raises, "failed", 1, "ValueError: the bathymetry is upside down"),
        (_leaves, "failed", 7, "exit code 7"),
        (_kills_itself, "failed", None, "SIGKILL"),
    ],
)
def test_what_a_callable_gives_back_decides(
    executor: LocalExecutor,
    make_job: MakeJob,
    target: Callable[[], object],
    state: str,
    exit_code: int | None,
    words: str,
) -> None:
    job = make_job(target=target, argv=())
    outcome = run(executor, job)
    assert (outcome.state, outcome.exit_code) == (state, exit_code)
    assert words in outcome.reason
    if target is _raises:
        assert b'raise ValueError("the bathymetry is upside down")' in log(job, "stderr")


def test_a_callable_obeys_the_same_limits(executor: LocalExecutor, make_job: MakeJob) -> None:
    def sleeps() -> None:
        subprocess.Popen(["sleep", "60"], start_new_session=True)
        time.sleep(60)

    job = make_job(target=sleeps, argv=(), timeout_s=0.3)
    running = executor.start(job, record_for(job))
    outcome = running.wait(20)
    assert outcome is not None
    assert outcome.state is RunState.TIMED_OUT
    assert marked_with(read_record(job.run_dir)["job_token"]) == []


def test_a_callable_does_not_print_what_we_had_not_printed_yet(make_job: MakeJob, tmp_path: Path) -> None:
    make_job("")
    code = f"""
import atexit, os, sys
from rompy_hydra.run.base import Job
from rompy_hydra.run.local import LocalExecutor
atexit.register(print, "our own end")
def target():
    print("in the run")
    atexit.register(print, "the end of the run")
with LocalExecutor() as executor:
    sys.stdout.write("unwritten;")
    job = Job(run_id="r", run_dir={str(tmp_path / "run")!r}, directory="/", target=target,
              stdout={str(tmp_path / "out.log")!r}, stderr={str(tmp_path / "err.log")!r})
    print(executor.start(job, {{}}).wait().state)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_ROOT)
    assert done.stdout == "unwritten;succeeded\nour own end\n"
    assert done.stderr == ""
    assert (tmp_path / "out.log").read_text() == "in the run\nthe end of the run\n"


def test_a_callable_does_not_answer_for_the_memory_of_its_driver(executor: LocalExecutor, make_job: MakeJob) -> None:
    ballast = b"x" * 200_000_000
    ours = read_stat(os.getpid())
    assert ours is not None

    def simulate() -> None:
        held = b"y" * 60_000_000
        time.sleep(0.3)
        del held

    limit = 60_000_000 + int(0.75 * ours.rss_bytes)  # it shares our pages with us and its keeper: a third is its own
    outcome = run(executor, make_job(target=simulate, argv=(), memory_bytes=limit))
    del ballast
    assert outcome.succeeded, outcome
    assert outcome.peak_memory_bytes is not None
    assert 60_000_000 < outcome.peak_memory_bytes < limit


def test_the_peak_of_a_short_run_is_its_own_and_not_that_of_a_large_driver(make_job: MakeJob) -> None:
    ballast = b"x" * 200_000_000
    with LocalExecutor() as fresh:  # its keeper is started by a process that large
        outcome = run(fresh, make_job(argv=(sys.executable, "-S", "-c", "x = bytearray(80_000_000)")))
    del ballast
    assert outcome.peak_memory_bytes is not None
    assert 80_000_000 < outcome.peak_memory_bytes < 120_000_000


# ---- the driver's side


def test_an_interrupted_wait_leaves_the_handle_usable(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job("sleep 60")
    running = executor.start(job, record_for(job))
    timer = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        running.wait()
    timer.join()
    running.cancel("interrupted")
    outcome = running.wait(20)
    assert outcome is not None
    assert outcome.state is RunState.CANCELLED


def test_a_second_cancel_cuts_the_grace_short(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job("trap '' TERM; echo ready; while :; do sleep 0.1; done", grace_s=60)
    running = executor.start(job, record_for(job))
    until(lambda: b"ready" in log(job))
    running.cancel("once")
    assert running.wait(0.2) is None
    running.cancel("twice")
    outcome = running.wait(20)
    assert outcome is not None
    assert outcome.reason.startswith("once")


def test_a_cancel_right_behind_its_job_is_heard(executor: LocalExecutor, make_job: MakeJob) -> None:
    for number in range(10):
        running = executor.submit(make_job("sleep 60", name=f"n{number}"), {"run_id": "r"})
        running.cancel("at once")
        outcome = running.wait(20)
        assert outcome is not None
        assert (outcome.state, outcome.reason.startswith("at once")) == (RunState.CANCELLED, True)


def test_keepers_are_used_again(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job("true")
    first = executor.start(job, record_for(job))
    first.wait(20)
    job = make_job("true", name="second")
    second = executor.start(job, record_for(job))
    second.wait(20)
    assert first.keeper == second.keeper


def test_an_idle_keeper_that_died_is_replaced(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job("true")
    first = executor.start(job, record_for(job))
    first.wait(20)
    os.kill(first.keeper.pid, signal.SIGKILL)
    until(lambda: first.keeper.is_alive() is False)
    assert run(executor, make_job("true", name="second")).succeeded


def test_many_jobs_side_by_side(executor: LocalExecutor, make_job: MakeJob) -> None:
    jobs = [make_job(f"exit {n}", name=f"run{n}", record_start=False) for n in range(6)]
    waiting = [executor.submit(job, record_for(job)) for job in jobs]
    codes = {}
    while waiting:
        for handle in wait_any(waiting, 20):
            outcome = handle.wait()
            assert outcome is not None
            codes[handle.job.run_id] = outcome.exit_code
            waiting.remove(handle)
    assert codes == {f"run{n}": n for n in range(6)}


def test_closing_ends_idle_keepers_and_leaves_a_run_alone(make_job: MakeJob) -> None:
    with LocalExecutor() as executor:
        run(executor, make_job("true", name="first"))
        job = make_job("while ! test -e go; do sleep 0.01; done; echo done > result")
        running = executor.start(job, record_for(job))
    Path(job.directory, "go").touch()
    outcome = running.wait(20)
    assert outcome is not None
    assert outcome.succeeded
    until(lambda: running.keeper.is_alive() is False)


def test_an_executor_that_nobody_closed_leaves_no_keeper(make_job: MakeJob) -> None:
    executor = LocalExecutor()
    job = make_job("true")
    running = executor.start(job, record_for(job))
    running.wait(20)
    keeper = running.keeper
    del executor, running
    until(lambda: keeper.is_alive() is False)


def test_jobs_leave_no_descriptor_behind(executor: LocalExecutor, make_job: MakeJob) -> None:
    counts = []
    for attempt in range(4):
        for record_start in (True, False):
            job = make_job("true", name=f"{attempt}{record_start}", record_start=record_start)
            running = executor.submit(job, {})
            running.wait(20)
        counts.append((len(names("/proc/self/fd")), len(names(f"/proc/{running.keeper.pid}/fd"))))
    assert counts[1:] == [counts[1]] * 3


def test_a_handle_that_is_dropped_holds_nothing(executor: LocalExecutor, make_job: MakeJob) -> None:
    before = len(names("/proc/self/fd"))
    keeper = executor.submit(make_job("true"), {}).keeper
    until(lambda: keeper.is_alive() is False)
    assert len(names("/proc/self/fd")) == before


def test_a_big_record_arrives_whole(executor: LocalExecutor, make_job: MakeJob) -> None:
    record = {"run_id": "run", "config": {"table": ["x" * 1000] * 3000}}
    job = make_job("true")
    outcome = executor.start(job, record).wait(20)
    assert outcome is not None
    assert outcome.succeeded
    assert read_record(job.run_dir)["config"] == record["config"]


def test_a_run_that_removes_its_own_directory_has_an_outcome(executor: LocalExecutor, make_job: MakeJob) -> None:
    job = make_job('rm -r "$PWD"; exit 3')
    running = executor.start(job, record_for(job))
    outcome = running.wait(20)
    assert outcome is not None
    assert outcome.exit_code == 3
    assert running.record_error is not None
    assert "run.json: No such file or directory" in running.record_error


def test_keepers_start_fast_and_light(executor: LocalExecutor) -> None:
    code = "import sys; sys.path.append(sys.argv[1]); import rompy_hydra.run.keeper; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(_ROOT)], capture_output=True, text=True, check=True
    )
    heavy = {"dataclasses", "inspect", "pathlib", "subprocess", "socket", "logging", "hydra", "pydantic", "hashlib"}
    assert heavy.isdisjoint(done.stdout.split())


def test_a_keeper_that_cannot_start_tells_why(monkeypatch: pytest.MonkeyPatch, make_job: MakeJob) -> None:
    monkeypatch.setattr("rompy_hydra.run.keeping.KEEPER_CODE", "raise SystemExit('broken installation')")
    with LocalExecutor() as executor:
        job = make_job("true")
        with pytest.raises(SiteError, match="broken installation"):
            executor.start(job, record_for(job))
    assert read_record(job.run_dir)["state"] in ("failed", "lost")  # it died before or after it could get the job


def test_no_keeper_of_ours_is_left_over() -> None:
    """Runs last in this file: whatever the tests above did, this process has no keeper any more."""
    until(lambda: [pid for pid in all_pids() if _is_our_keeper(pid)] == [])


def _is_our_keeper(pid: int) -> bool:
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        return status.startswith("Name:\trompy-keeper") and f"PPid:\t{os.getpid()}\n" in status
    return False


def test_keeper_process_refuses_after_it_was_let_go() -> None:
    keeper = KeeperProcess.start()
    keeper.close()
    assert "exit code 0" in keeper.bury(10)
    with pytest.raises(BrokenPipeError):
        keeper.send({})
