"""What the words of a shim, of Slurm and of the controller mean together: no cluster, only what they would say."""

from __future__ import annotations

from typing import Any

import pytest

from rompy_hydra.errors import SiteError
from rompy_hydra.record.states import RunState
from rompy_hydra.run.slurm_commands import (
    Answer,
    ControllerError,
    QueueEntry,
    QueueFullError,
    Slurm,
    parse_jobs,
    parse_queue,
)
from rompy_hydra.run.slurm_observe import ENDS, end_of_task, outcome_of, why_it_waits
from rompy_hydra.run.slurm_status import TaskStatus, parse_task

BEGUN = """\
@t task 0 job=5 array=- restart=0 pid=1 at=100.00 cpus=2 nodes=1 host=n1
@t ready
@t begin 0 attempt=1 at=101.00
"""


def entry(state: str, *, reason: str = "", nodes: str = "n1") -> QueueEntry:
    return QueueEntry(job_id=5, array_id=5, task=None, state=state, reason=reason, nodes=nodes)


# ---- a task that has not told its end


@pytest.mark.parametrize("state", ENDS)
def test_every_state_in_which_a_job_ends_has_a_meaning_and_a_sentence(state: str) -> None:
    ending = end_of_task(parse_task(BEGUN, "t"), entry(state), job_id=5, silent_s=1000)
    assert ending is not None
    assert ending.state is ENDS[state][0]
    assert ending.reason.startswith(ENDS[state][1])
    assert ending.state is not RunState.SUCCEEDED


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "CONFIGURING"])
def test_a_job_that_may_go_on_has_no_end(state: str) -> None:
    assert end_of_task(parse_task(BEGUN, "t"), entry(state), job_id=5, silent_s=1e6) is None


def test_a_job_that_nobody_knows_is_lost_after_the_grace_and_never_succeeded() -> None:
    task = parse_task(BEGUN, "t")
    assert end_of_task(task, None, job_id=5, silent_s=80) is None
    ending = end_of_task(task, None, job_id=5, silent_s=91)
    assert ending is not None
    assert ending.state is RunState.LOST
    assert "job 5 is not in the queue any more, and it was heard of last at 1970-01-01T00:01:41" in ending.reason


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("slurmstepd-n1: error: Job 5 exceeded memory limit (313 > 30), being killed", RunState.OUT_OF_MEMORY),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=5.batch", RunState.OUT_OF_MEMORY),
        (
            "slurmstepd: error: *** JOB 5 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***",
            RunState.TIMED_OUT,
        ),
        ("slurmstepd: error: *** JOB 5 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO PREEMPTION ***", RunState.LOST),
        ("slurmstepd: error: *** JOB 5 ON n1 CANCELLED AT 2026-01-01T00:00:00 ***", RunState.CANCELLED),
    ],
)
def test_what_slurm_has_written_tells_when_the_controller_has_forgotten(line: str, state: RunState) -> None:
    ending = end_of_task(parse_task(f"{BEGUN}{line}\n", "t"), None, job_id=5, silent_s=0)
    assert ending is not None
    assert ending.state is state


def test_a_job_that_never_started_is_over_at_once() -> None:
    ending = end_of_task(TaskStatus(), entry("CANCELLED", nodes=""), job_id=5, silent_s=0, cancelled="enough")
    assert ending is not None
    assert (ending.state, ending.reason) == (RunState.CANCELLED, "enough")


def test_an_end_that_the_node_wrote_last_may_take_a_moment() -> None:
    assert end_of_task(parse_task(BEGUN, "t"), entry("COMPLETED"), job_id=5, silent_s=30) is None
    assert end_of_task(parse_task(BEGUN, "t"), entry("NODE_FAIL"), job_id=5, silent_s=5) is None


# ---- the status file


def test_a_torn_line_and_the_words_of_others_do_no_harm() -> None:
    task = parse_task(f"{BEGUN}@x end 0 attempt=1 why=ok\nmodule: hello\n@t end 0 attempt=1 at=1", "t")
    run = task.last(0)
    assert run is not None
    assert run.why is None
    assert task.words == ["@x end 0 attempt=1 why=ok", "module: hello"]
    assert (task.job_id, task.host, task.cpus, task.seen_at) == (5, "n1", 2, 101.0)


def test_a_restart_cuts_off_what_was_running() -> None:
    again = BEGUN.replace("restart=0", "restart=1").replace("attempt=1", "attempt=2")
    task = parse_task(BEGUN + "slurmstepd: error: CANCELLED AT x DUE TO JOB REQUEUE ***\n" + again, "t")
    assert [(run.attempt, run.why) for run in task.runs[0]] == [(1, "restart"), (2, None)]
    assert task.words == []


def test_the_end_of_a_run_that_was_never_begun_is_told() -> None:
    run = parse_task("@t end 3 attempt=0 at=5.00 why=skipped last=1\n", "t").last(3)
    assert run is not None
    assert (run.attempt, run.why, run.is_last) == (0, "skipped", True)


def test_an_outcome_has_the_shim_s_figures() -> None:
    end = "@t mem 0 pages=100\n@t end 0 attempt=1 at=103.50 wall=2.50 exit=3 cpu=1.25 why=exit last=1\n"
    task = parse_task(BEGUN + end, "t")
    run = task.last(0)
    assert run is not None
    job: dict[str, Any] = {
        "stdout": None,
        "stderr": None,
        "run_dir": "/nowhere",
        "abort_on": [],
        "success": {"exit_codes": (0,)},
    }
    outcome = outcome_of(job, run, task)
    assert (outcome.state, outcome.exit_code, outcome.wall_seconds, outcome.cpu_seconds) == (
        RunState.FAILED,
        3,
        2.5,
        1.25,
    )
    assert outcome.started_at == "1970-01-01T00:01:41.000Z"
    assert outcome.peak_memory_bytes == 409600


def test_a_reason_to_wait_is_explained() -> None:
    sentence = why_it_waits(entry("PENDING", reason="PartitionTimeLimit", nodes=""), TaskStatus())
    assert "it will not start; cancel it and ask for less" in sentence


# ---- the commands


class Script:
    """Answers in order, the last one for ever; remembers what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []

    def __call__(self, argv: object, text: str | None) -> Answer:
        self.asked.append(list(argv))  # type: ignore[call-overload]
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


SILENT = Answer(1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
TIMED_OUT = Answer(1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")


def test_a_controller_that_does_not_answer_is_asked_again() -> None:
    pauses: list[float] = []
    runner = Script(SILENT, SILENT, Answer(0, "5|5|N/A|RUNNING|(null)|n1|None\n", ""))
    found = Slurm(runner, sleep=pauses.append).queue([5])
    assert [e.state for e in found] == ["RUNNING"]
    assert pauses == [0.5, 1.0]


def test_patience_ends() -> None:
    now = [0.0]
    slurm = Slurm(Script(SILENT), clock=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s), patience_s=20)
    with pytest.raises(ControllerError, match="has not answered for 20 s") as caught:
        slurm.queue([5])
    assert caught.value.exit_code == 4
    assert now[0] <= 20


def test_a_submission_without_an_answer_is_looked_for_before_it_is_sent_again() -> None:
    runner = Script(TIMED_OUT, Answer(0, "77|77|N/A|PENDING|rompy-hydra:t|(null)|Priority\n", ""))
    assert Slurm(runner, sleep=lambda _: None).submit("#!/bin/sh\n", comment="rompy-hydra:t") == 77
    assert [words[0] for words in runner.asked] == ["sbatch", "squeue"]


def test_a_full_queue_is_told_apart_from_a_refusal() -> None:
    why = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    full = Answer(
        1, "", f"sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: {why}"
    )
    with pytest.raises(QueueFullError):
        Slurm(Script(full)).submit("", comment="x")
    wrong = Answer(1, "", "sbatch: error: invalid account specified")
    with pytest.raises(SiteError, match=r"set backend\.account") as caught:
        Slurm(Script(wrong)).submit("", comment="x")
    assert not isinstance(caught.value, QueueFullError)


def test_a_forgotten_job_is_no_error() -> None:
    runner = Script(Answer(1, "", "slurm_load_jobs error: Invalid job id specified"))
    assert Slurm(runner).queue([5]) == []
    assert Slurm(runner).job(5) == []
    Slurm(runner).cancel([5])


def test_many_jobs_are_one_question() -> None:
    runner = Script(Answer(0, "", ""))
    Slurm(runner).queue(list(range(400)))
    assert len(runner.asked) == 1


def test_a_queue_is_read() -> None:
    text = "12|10|3|PENDING|rompy-hydra:t||ReqNodeNotAvail, UnavailableNodes:n1\nnonsense\n"
    (found,) = parse_queue(text)
    assert (found.job_id, found.array_id, found.task, found.comment) == (12, 10, 3, "rompy-hydra:t")
    assert found.reason == "ReqNodeNotAvail, UnavailableNodes:n1"


def test_a_name_cannot_pretend_to_be_a_state() -> None:
    text = (
        "JobId=7 JobName=x JobState=COMPLETED ExitCode=0:0\n   UserId=me(1) GroupId=me(1)\n"
        "   JobState=FAILED Reason=NonZeroExitCode Dependency=(null)\n"
        "   Requeue=1 Restarts=2 BatchFlag=1 ExitCode=3:0\n"
        "   NumNodes=1 NumCPUs=4 NumTasks=1\n   OverSubscribe=NO Contiguous=0\n"
    )
    (job,) = parse_jobs(text)
    assert (job.state, job.exit_code, job.restarts, job.cpus, job.exclusive) == ("FAILED", 3, 2, 4, True)
