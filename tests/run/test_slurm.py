"""The Slurm executor on the real Slurm: the shared contract, and what only a batch job can do.

A job takes two seconds until it starts, so what can run side by side is submitted together (`together`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.errors import ConfigError, SiteError
from rompy_hydra.record.outcome import Outcome
from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import read_record
from rompy_hydra.run.base import Job, SuccessRules
from rompy_hydra.run.observe import observe
from rompy_hydra.run.slurm import SlurmExecutor, SlurmRun, cancel_run
from rompy_hydra.run.slurm_commands import Slurm
from rompy_hydra.run.slurm_script import Retry
from tests.run.contract import ExecutorContract, MakeJob, log, record_for, run, until
from tests.run.slurm_support import QUICK, maker, slurm

pytestmark = [pytest.mark.slurm]


@pytest.fixture
def executor() -> Iterator[SlurmExecutor]:
    with SlurmExecutor(pace=QUICK) as executor:
        yield executor


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    return maker(tmp_path)


class TestContract(ExecutorContract):
    pass


# ---- many jobs side by side: how they end

BYTES = bytes(n for n in range(1, 256)).decode("utf-8", "surrogateescape")
EAT = "x=x; while :; do x=$x$x; [ ${#x} -lt 100000000 ] || sleep 30; done"


def _made(directory: Path, secret: Path) -> dict[str, Job]:
    make = maker(directory)
    secret.write_text("s3cr€t 'quoted' $(no)\n\n")
    fake_module = directory / "init.sh"
    fake_module.write_text(
        f'module() {{ echo "module $*" >> "{directory}/said.$SLURM_JOB_ID"; [ "$2" != broken ]; }}\n'
    )
    loads = {"module_init": str(fake_module), "modules": ("ocean/1.2", "mpi")}
    return {
        "every byte": make(
            "printf %s \"$EVERY\" | od -An -v -tu1", name="bytes", environment={"EVERY": BYTES, "CRLF": "a\r\nb"}
        ),
        "crlf": make('printf %s "$CRLF" | od -An -tx1', name="crlf", environment={"CRLF": "a\r\nb\n\r"}),
        "seven": make("exit 7", name="seven"),
        "kill": make("kill -9 $$", name="kill"),
        "memory": make(EAT, name="memory", ask={"memory_bytes": 30 << 20}),
        "no directory": make("true", name="nowhere", directory=str(directory / "gone"), ask={"checks_paths": False}),
        "no program": make(name="program", argv=("/no/such/program", "x")),
        "not of the shell": make(name="own", argv=("echo", "from", "/bin/echo")),
        "setup": make("true", name="setup", ask={"setup": ("true # fine", "echo it is broken here; false")}),
        "setup exits": make("true", name="exits", ask={"setup": ("exit 0",)}),
        "setup exports": make("echo $GIVEN; umask", name="exports", ask={"setup": ("export GIVEN='a b'", "umask 027")}),
        "modules": make("true", name="modules", ask={**loads, "base": str(directory)}),
        "broken module": make("true", name="broken", ask={**loads, "modules": ("fine", "broken")}),
        "no module": make("true", name="nomodule", ask={"modules": ("ocean",)}),
        "secret": make("printf %s \"$TOLD\"", name="secret", environment={"TOLD": "<${secret:THE_KEY}>"},
                       ask={"secrets": (("THE_KEY", ("F:/no/file", f"F:{secret}")),)}),
        "no secret": make("true", name="nosecret", environment={"TOLD": "${secret:THE_KEY}"},
                          ask={"secrets": (("THE_KEY", ("F:/no/file",)),)}),
        "no python": make("for p in python python3; do command -v $p && exit 1; done; echo none", name="nopython",
                          environment={"PATH": "/usr/sbin:/sbin:/nowhere"}),
        "retried": make("echo x >> tries; [ $(wc -l < tries) -eq 3 ] || exit 5", name="retried",
                        ask={"retry": Retry(attempts=4, exit_codes=(5,), wait_s=0.1)}),
        "not retried": make("echo x >> tries; exit 6", name="notretried",
                            ask={"retry": Retry(attempts=4, exit_codes=(5,), wait_s=0.1)}),
        "rules": make("echo all is well; mkdir -p a/b; echo 1 > 'a/b/x 1.nc'", name="rules", success=SuccessRules(
            files=("a/*/x *.nc", "**/*.nc"), nonempty=("a/b/*.nc",), log_has=(r"all\s+is", r"(?i)ALL", "we(ll)?$"),
            log_lacks=(r"\bNaN\b", "(?s)x.y"), check=("/bin/sh", "-c", "echo checked; test -s 'a/b/x 1.nc'"))),
        "check": make("true", name="check", success=SuccessRules(check=("/bin/sh", "-c", "echo it is wet; exit 4"))),
        "slow check": make("true", name="slow", success=SuccessRules(check=("sleep", "60"), check_timeout_s=0.5)),
        "log_lacks": make("echo WARNING: NaN found", name="lacks", success=SuccessRules(log_lacks=(r"\bNaN\b",))),
        "background": make("sleep 300 & echo done", name="background"),
        "escapee": make("setsid sh -c 'trap \"\" TERM; exec sleep 321' & sleep 60", name="escapee", timeout_s=1),
        "bash": make("echo $BASH_VERSION; exit 3", name="bash", ask={"shell": "/bin/bash"}),
        "cpu": make("i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done", name="cpu"),
        "paste": make("echo $LOG_LEVEL", name="paste%j", environment={"LOG_LEVEL": "X"}),
    }  # fmt: skip


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[Job, Outcome]]]:
    """All jobs of this part, submitted at once; gives a job and its outcome by name."""
    directory = tmp_path_factory.mktemp("to gether")
    with SlurmExecutor(pace=QUICK) as executor:
        jobs = _made(directory, tmp_path_factory.mktemp("secrets") / "key")
        running = {name: executor.start(job, record_for(job)) for name, job in jobs.items()}
        ended: dict[str, Outcome] = {}

        def get(name: str) -> tuple[Job, Outcome]:
            if name not in ended:
                outcome = running[name].wait(100)
                assert outcome is not None, f"{name} has not ended"
                ended[name] = outcome
            return jobs[name], ended[name]

        yield get


Together = Callable[[str], tuple[Job, Outcome]]


@pytest.mark.xdist_group("slurm-together")
class TestHowJobsEnd:
    def test_every_byte_of_a_value_arrives(self, together: Together) -> None:
        job, outcome = together("every byte")
        assert outcome.succeeded
        assert list(map(int, log(job).split())) == list(range(1, 256))
        assert log(together("crlf")[0]).split() == [b"61", b"0d", b"0a", b"62", b"0a", b"0d"]

    def test_an_exit_code(self, together: Together) -> None:
        _, outcome = together("seven")
        assert (outcome.state, outcome.exit_code, outcome.signal) == (RunState.FAILED, 7, None)

    def test_a_kill_is_a_signal_and_not_a_lack_of_memory(self, together: Together) -> None:
        _, outcome = together("kill")
        assert (outcome.state, outcome.exit_code, outcome.signal) == (RunState.FAILED, None, "SIGKILL")

    def test_too_much_memory_is_told_without_accounting(self, together: Together) -> None:
        _, outcome = together("memory")
        assert outcome.state is RunState.OUT_OF_MEMORY
        assert "exceeded memory limit" in outcome.reason

    def test_a_directory_that_is_not_on_the_node_ends_the_job(self, together: Together) -> None:
        job, outcome = together("no directory")
        assert outcome.state is RunState.FAILED
        assert f"its directory {job.directory} cannot be entered on " in outcome.reason

    def test_a_program_that_is_not_on_the_node_is_127(self, together: Together) -> None:
        job, outcome = together("no program")
        assert (outcome.state, outcome.exit_code) == (RunState.FAILED, 127)
        assert b"/no/such/program" in log(job, "stderr")

    def test_a_command_is_a_program_and_no_word_of_the_shell(self, together: Together) -> None:
        job, outcome = together("not of the shell")
        assert outcome.succeeded
        assert log(job) == b"from /bin/echo\n"

    def test_a_set_up_line_that_fails_ends_the_job_with_its_words(self, together: Together) -> None:
        job, outcome = together("setup")
        assert outcome.state is RunState.FAILED
        assert outcome.reason.startswith("line 2 of site.setup failed on ")
        assert "it is broken here" in outcome.reason
        assert outcome.started_at is None
        assert not Path(job.run_dir, "out.txt").exists()

    def test_a_set_up_line_that_exits_is_no_success(self, together: Together) -> None:
        _, outcome = together("setup exits")
        assert outcome.state is RunState.FAILED
        assert "does a set-up line say `exit`?" in outcome.reason

    def test_what_set_up_lines_export_reaches_the_run(self, together: Together) -> None:
        assert log(together("setup exports")[0]) == b"a b\n0027\n"

    def test_modules_are_purged_and_loaded_in_order(self, together: Together) -> None:
        job, outcome = together("modules")
        assert outcome.succeeded, outcome.reason
        job_id = read_record(job.run_dir)["slurm"]["job_id"]
        said = Path(job.run_dir).parent / f"said.{job_id}"
        assert said.read_text() == "module purge\nmodule load ocean/1.2\nmodule load mpi\n"

    def test_a_module_that_cannot_be_loaded_is_named(self, together: Together) -> None:
        _, outcome = together("broken module")
        assert outcome.state is RunState.FAILED
        assert outcome.reason.startswith("the module broken could not be loaded on ")
        assert "the node has no `module` command" in together("no module")[1].reason

    def test_a_secret_is_found_on_the_node_and_written_nowhere(self, together: Together) -> None:
        job, outcome = together("secret")
        assert outcome.succeeded, outcome.reason
        assert log(job).decode() == "<s3cr€t 'quoted' $(no)\n>"
        kept = [p for p in Path(job.run_dir).rglob("*") if p.is_file() and p != Path(job.stdout or "")]
        assert not [path for path in kept if "s3cr€t" in path.read_text(errors="replace")]
        assert together("no secret")[1].reason.startswith("the secret THE_KEY was not found on the node on ")

    def test_a_node_without_python_will_do(self, together: Together) -> None:
        job, outcome = together("no python")
        assert outcome.succeeded, outcome.reason
        assert log(job) == b"none\n"

    def test_the_node_tries_again_by_itself(self, together: Together) -> None:
        job, outcome = together("retried")
        assert outcome.succeeded
        attempts = read_record(job.run_dir)["attempts"]
        assert [(a["state"], a["exit_code"]) for a in attempts] == [("failed", 5), ("failed", 5), ("succeeded", 0)]
        assert outcome.logs["stdout"].endswith("/stdout.3.log")
        job, outcome = together("not retried")
        assert outcome.exit_code == 6
        assert Path(job.run_dir, "tries").read_text() == "x\n"

    def test_rules_of_success_hold(self, together: Together) -> None:
        job, outcome = together("rules")
        assert outcome.succeeded, outcome.reason
        assert "files, nonempty, log_has, log_lacks, check" in outcome.reason
        assert Path(job.run_dir, "logs/check.log").read_text() == "checked\n"

    def test_rules_of_success_fail(self, together: Together) -> None:
        assert together("check")[1].reason == "success.check ended with exit code 4: “it is wet”"
        assert together("slow check")[1].reason == "success.check ran longer than 0.5 s"
        assert "success.log_lacks: '\\\\bNaN\\\\b' found in stdout.log" in together("log_lacks")[1].reason

    def test_what_is_left_in_the_background_ends_too(self, together: Together) -> None:
        _, outcome = together("background")
        assert outcome.succeeded
        assert "were ended" in outcome.notes[0]

    def test_a_timeout_ends_what_has_left_the_session(self, together: Together) -> None:
        assert together("escapee")[1].state is RunState.TIMED_OUT
        assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if _words(p) == b"sleep\x00321\x00"]

    def test_the_script_runs_in_another_shell(self, together: Together) -> None:
        assert together("bash")[1].exit_code == 3

    def test_time_and_memory_are_measured(self, together: Together) -> None:
        _, outcome = together("cpu")
        assert outcome.cpu_seconds is not None
        assert 0.05 < outcome.cpu_seconds < 20
        assert (outcome.wall_seconds or 0) >= outcome.cpu_seconds * 0.5
        assert (outcome.peak_memory_bytes or 0) > 100_000

    def test_the_record_tells_of_the_job(self, together: Together) -> None:
        job, _ = together("seven")
        record = read_record(job.run_dir)
        facts = record["slurm"]
        assert facts["job_id"] > 0
        assert facts["host"] == os.uname().nodename
        assert (facts["cpus"], facts["nodes"], facts["exclusive"]) == (1, 1, False)
        assert record["queue_seconds"] >= 0
        assert not list(Path(facts["batch"]).glob("claim.*"))  # given back

    def test_a_percent_in_a_path_is_no_pattern(self, together: Together) -> None:
        job, outcome = together("paste")
        assert outcome.succeeded
        assert log(job) == b"X\n"


def _words(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


# ---- from outside


def started(executor: SlurmExecutor, job: Job) -> SlurmRun:
    """A run that has begun."""
    running = executor.start(job, record_for(job))
    until(lambda: observe(job.run_dir)["state"] == "running", timeout_s=60)
    return running


def test_scancel_from_outside_is_told_as_such(executor: SlurmExecutor, make_job: MakeJob) -> None:
    running = started(executor, make_job("sleep 100"))
    slurm("scancel", str(running.job_id))
    outcome = running.wait(60)
    assert outcome is not None
    assert outcome.state is RunState.CANCELLED
    assert "by somebody else than us" in outcome.reason


def test_a_job_that_is_held_waits_and_can_be_cancelled(executor: SlurmExecutor, make_job: MakeJob) -> None:
    job = make_job("true", ask={"options": ("--hold",)})
    running = executor.start(job, record_for(job))
    assert running.wait(3) is None
    record = observe(job.run_dir)
    assert record["state"] == "waiting"
    assert "JobHeldUser: somebody holds it" in record["reason"]
    running.cancel("no longer needed")
    outcome = running.wait(30)
    assert outcome is not None
    assert (outcome.state, outcome.reason) == (RunState.CANCELLED, "no longer needed")
    assert outcome.started_at is None


def test_a_held_job_starts_when_it_is_released(executor: SlurmExecutor, make_job: MakeJob) -> None:
    job = make_job("echo ran", ask={"options": ("--hold",)})
    running = executor.start(job, record_for(job))
    slurm("scontrol", "release", str(running.job_id))
    outcome = running.wait(60)
    assert outcome is not None
    assert outcome.succeeded


def test_a_run_is_known_after_the_controller_has_forgotten_its_job(executor: SlurmExecutor, make_job: MakeJob) -> None:
    job = make_job("echo result > out.txt; exit 3")
    running = executor.start(job, record_for(job))  # nobody waits for it
    until(lambda: not Slurm().queue([running.job_id]), timeout_s=100)
    assert read_record(job.run_dir)["state"] == "waiting"
    record = observe(job.run_dir)
    assert (record["state"], record["exit_code"]) == ("failed", 3)
    assert [o["path"] for o in record["outputs"]] == ["out.txt"]
    assert read_record(job.run_dir) == record


def test_a_job_that_vanished_is_lost_after_the_grace_and_can_never_start(
    executor: SlurmExecutor, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job("echo ran", ask={"options": ("--begin=now+3600",)})
    running = executor.start(job, record_for(job))
    slurm("scancel", str(running.job_id))
    until(lambda: not Slurm().queue([running.job_id]), timeout_s=100)
    assert observe(job.run_dir)["state"] == "waiting"  # it may be heard of yet
    monkeypatch.setenv("ROMPY_HYDRA_SLURM_GRACE", "0.1")
    record = observe(job.run_dir)
    assert record["state"] == "lost"
    assert "is not in the queue any more" in record["reason"]
    slurm("sbatch", "--wait", "--begin=now", "--output=/dev/null", f"{record['slurm']['batch']}/job.sh")
    assert log(job) == b""  # the job that came back finds that it was given up


def test_the_same_script_again_runs_nothing_twice(executor: SlurmExecutor, make_job: MakeJob) -> None:
    job = make_job("echo ran >> out.txt")
    assert run(executor, job).succeeded
    batch = read_record(job.run_dir)["slurm"]["batch"]
    slurm("sbatch", "--wait", "--output=/dev/null", f"{batch}/job.sh")
    assert Path(job.run_dir, "out.txt").read_text() == "ran\n"


@pytest.mark.timeout(300)
def test_a_requeue_is_a_further_attempt(executor: SlurmExecutor, make_job: MakeJob) -> None:
    job = make_job("echo x >> tries; [ $(wc -l < tries) -eq 2 ] || sleep 100")
    running = started(executor, job)
    until(lambda: Path(job.run_dir, "tries").exists())
    slurm("scontrol", "requeue", str(running.job_id))
    until(lambda: running.look.task().is_done, timeout_s=60)
    until(lambda: Slurm().queue([running.job_id])[0].reason == "BeginTime", timeout_s=60)
    now = ["scontrol", "update", f"JobId={running.job_id}", "StartTime=now"]  # Slurm lets it wait for two minutes
    until(lambda: slurm(*now, check=False) is not None and running.look.task().restart == 1, timeout_s=200)
    outcome = running.wait(110)
    assert outcome is not None
    assert outcome.succeeded, outcome.reason
    record = read_record(job.run_dir)
    assert [a["state"] for a in record["attempts"]][-1] == "succeeded"
    assert len(record["attempts"]) == 2
    assert record["slurm"]["restarts"] == 1


def test_a_signal_before_the_end_reaches_the_run(executor: SlurmExecutor, make_job: MakeJob) -> None:
    script = "trap 'echo saving; exit 0' USR1; echo ready; while :; do sleep 0.1; done"
    job = make_job(script, ask={"signal": "USR1", "signal_before_s": 60, "time_limit_s": 3600})
    running = started(executor, job)
    until(lambda: log(job) == b"ready\n")
    slurm("scancel", "--batch", "--signal=USR1", str(running.job_id))  # as Slurm does it
    outcome = running.wait(60)
    assert outcome is not None
    assert outcome.succeeded
    assert log(job) == b"ready\nsaving\n"


def test_anybody_can_cancel_it_later(executor: SlurmExecutor, make_job: MakeJob) -> None:
    job = make_job("sleep 100")
    started(executor, job)
    record = cancel_run(job.run_dir, read_record(job.run_dir), "enough")
    assert (record["state"], record["reason"]) == ("cancelled", "enough")


def test_readers_need_no_write_permission(executor: SlurmExecutor, make_job: MakeJob) -> None:
    job = make_job("exit 3")
    running = executor.start(job, record_for(job))
    until(lambda: running.look.task().is_done, timeout_s=60)
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    Path(job.run_dir).chmod(0o555)
    assert observe(job.run_dir)["state"] == "failed"
    assert read_record(job.run_dir)["state"] == "waiting"


def test_what_slurm_refuses_is_told_in_its_words_and_recorded(executor: SlurmExecutor, make_job: MakeJob) -> None:
    job = make_job("true", ask={"partition": "no-such"})
    with pytest.raises(SiteError, match=r"(?s)invalid partition.*set backend.partition") as caught:
        executor.start(job, record_for(job))
    assert caught.value.exit_code == 4
    assert read_record(job.run_dir)["state"] == "failed"


def test_a_nul_character_is_refused_before_anything_is_written(executor: SlurmExecutor, make_job: MakeJob) -> None:
    job = make_job("true", environment={"A": "x\0y"})
    with pytest.raises(ConfigError, match="NUL"):
        executor.start(job, record_for(job))
    assert not Path(job.run_dir, "run.json").exists()


def test_a_job_of_another_backend_is_a_mistake_of_the_program(executor: SlurmExecutor, make_job: MakeJob) -> None:
    with pytest.raises(TypeError, match="SlurmSettings"):
        executor.start(replace(make_job("true"), settings=None), {})


def test_output_is_streamed_while_it_waits(make_job: MakeJob) -> None:
    got: list[tuple[str, bytes]] = []
    with SlurmExecutor(pace=QUICK, on_output=lambda name, chunk: got.append((name, chunk))) as executor:
        run(executor, make_job("echo one; echo two >&2"))
    assert (b"".join(c for n, c in got if n == "stdout"), b"".join(c for n, c in got if n == "stderr")) == (
        b"one\n",
        b"two\n",
    )


def test_what_becomes_of_a_job_is_told(make_job: MakeJob) -> None:
    told: list[str] = []
    with SlurmExecutor(pace=QUICK, tell=told.append) as executor:
        run(executor, make_job("sleep 1"))
    assert any(sentence.endswith(f"running on {os.uname().nodename}") for sentence in told), told


def test_waiting_asks_the_controller_politely(make_job: MakeJob) -> None:
    asked: list[float] = []

    class Counting(Slurm):
        def queue(self, job_ids: Any = None) -> Any:
            asked.append(time.monotonic())
            return super().queue(job_ids)

    with SlurmExecutor(slurm=Counting()) as executor:  # at the usual pace
        run(executor, make_job("sleep 4"))
    assert len(asked) <= 4
