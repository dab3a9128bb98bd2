"""The thin layer over Slurm's commands: sbatch, squeue, scontrol, scancel.  Text in, data out; nobody else calls them.

    script → submit → job id        ids → queue (one squeue for all) → entries        id → job (scontrol) → how it ended

Nothing here needs an accounting database.  A controller that does not answer is asked again, for a bounded time; what
it refuses for good is told at once, in Slurm's own words.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rompy_hydra.errors import MissingToolError, SiteError

COMMENT_PREFIX = "rompy-hydra:"
"""How the comment of a job of ours begins; the token of its batch follows."""
PATIENCE_S = 120.0
"""How long a controller may be silent before we give up; restarting one takes less."""
_COMMAND_TIMEOUT_S = 60.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0
_IDS_AT_ONCE = 500
_PASSED_ON = frozenset(
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "SLURM_CONF", "KRB5CCNAME"]
)
# What the commands say when the controller could not be reached, or had no time.  Anything else is an answer.
_NO_ANSWER = re.compile(
    r"unable to contact slurm controller|socket timed out|connection refused|connection reset|connection timed out"
    r"|zero bytes were transmitted|transport endpoint is not connected|communications? (?:connection )?failure"
    r"|controller.*(?:not responding|in standby)|unable to establish (?:control|controller)|no route to host"
    r"|(?:i/o|io) error on|authentication.*(?:munge|socket)|munge.*(?:not running|socket)|temporarily unable to accept",
    re.IGNORECASE,
)
_QUEUE_IS_FULL = re.compile(
    r"maxsubmit\w*limit|job submit limit|resource temporarily unavailable|too many jobs|maxjobcount|max\w*submitjob",
    re.IGNORECASE,
)
_UNKNOWN_JOB = re.compile(r"invalid job id|invalid job array id|doesn't exist", re.IGNORECASE)
_ALREADY_OVER = re.compile(r"already completing or completed|invalid job id|job/step already", re.IGNORECASE)
_QUEUE_FORMAT = "%A|%F|%K|%T|%k|%N|%r"
_FIELD = re.compile(r"(\w+(?:/\w+)?)=(\S*)")


class ControllerError(SiteError):
    """The controller did not answer for as long as we are patient."""


class QueueFullError(SiteError):
    """The site takes no more jobs of ours now; later it will."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str


Runner = Callable[[Sequence[str], str | None], Answer]
"""Runs a command with a text on its stdin.  The test seam."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueEntry:
    """A job, or one task of an array, as the queue shows it (also one that has ended, while it is remembered).

    `job_id` is its own number; `array_id` that of its array (or the same), `task` its number in there (None: no array).
    """

    job_id: int
    array_id: int
    task: int | None
    state: str
    reason: str = ""
    comment: str = ""
    nodes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """What the controller still knows of a job: its state, exit code and signal, what it was given."""

    job_id: int
    array_id: int
    task: int | None
    state: str
    reason: str = ""
    exit_code: int = 0
    signal: int = 0
    restarts: int = 0
    cpus: int | None = None
    nodes: str = ""
    exclusive: bool | None = None
    run_time: str = ""


def run_command(argv: Sequence[str], text: str | None) -> Answer:
    """Run a command of Slurm's in an environment that says nothing of a surrounding job and of our secrets.

    SBATCH_* would be stronger than the script; and what sbatch sees may reach the job, also with --export=NONE.
    """
    env = {name: value for name, value in os.environ.items() if name in _PASSED_ON}
    try:
        done = subprocess.run(
            list(argv),
            input=None if text is None else text.encode("utf-8", "surrogateescape"),
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            timeout=_COMMAND_TIMEOUT_S,
            env={**env, "LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError as error:
        raise MissingToolError(
            f"'{argv[0]}' is not installed here: run this on a machine of the cluster where jobs are submitted"
        ) from error
    except subprocess.TimeoutExpired:
        return Answer(1, "", f"{argv[0]}: socket timed out: no answer within {_COMMAND_TIMEOUT_S:g} s")
    return Answer(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


class Slurm:
    """A cluster, spoken to by its own commands; one object for a whole invocation."""

    def __init__(
        self,
        run: Runner = run_command,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        patience_s: float = PATIENCE_S,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._run = run
        self._sleep = sleep
        self._clock = clock
        self._patience_s = patience_s
        self._tell = tell

    # ---- jobs

    def submit(self, script: str, *, comment: str) -> int:
        """Put a script into the queue; the number of the job (of the array).

        `comment` is the script's own, new for each submission: where the controller was silent, the job that has it is
        looked for before anything is sent again, so that nothing runs twice.

        Raises:
            QueueFullError: the site takes no more jobs of ours now.
            ControllerError: it did not answer for long; whether the job is in the queue is not known.
            SiteError: it was refused, in Slurm's words.
        """
        deadline: float | None = None
        pause_s = _FIRST_PAUSE_S
        while True:
            answer = self._run(["sbatch", "--parsable"], script)
            if answer.code == 0 and (found := re.match(r"\s*(\d+)", answer.out.strip().splitlines()[-1:][0])):
                return int(found[1])
            words = last_words(answer)
            if not _NO_ANSWER.search(words):
                if _QUEUE_IS_FULL.search(words):
                    raise QueueFullError(f"the queue takes no more jobs of yours now: {words}")
                raise SiteError(f"Slurm refused the job: {words}{_mend(words)}")
            deadline = deadline or self._clock() + self._patience_s
            pause_s = self._pause(deadline, pause_s, words)
            if found_jobs := self.find(comment):
                return found_jobs[0].array_id

    def queue(self, job_ids: Sequence[int] | None = None) -> list[QueueEntry]:
        """All jobs of these numbers (of arrays: each task), or all of ours; what is not known any more is not there."""
        if job_ids is None:
            return self._queue(["--me"])
        ids = sorted(set(job_ids))
        parts = [ids[at : at + _IDS_AT_ONCE] for at in range(0, len(ids), _IDS_AT_ONCE)]
        return [entry for part in parts for entry in self._queue([f"--jobs={','.join(map(str, part))}"])]

    def find(self, comment: str) -> list[QueueEntry]:
        """The jobs of ours with this comment."""
        return [entry for entry in self._queue(["--me"]) if entry.comment == comment]

    def job(self, job_id: int) -> list[JobEnd]:
        """What the controller still knows of a job and the tasks of its array; empty once it has forgotten them."""
        answer = self._ask(["scontrol", "show", "job", str(job_id)], unknown=_UNKNOWN_JOB)
        return parse_jobs(answer.out) if answer.code == 0 else []

    def cancel(self, jobs: Sequence[str | int], *, signal: str | None = None) -> None:
        """End these jobs and tasks (`12`, `13_4`, `13_[0-9]`), and no others; such as have ended are no error.

        With `signal` their scripts get that and may go on.
        """
        words = ["--batch", f"--signal={signal}"] if signal else []
        for at in range(0, len(jobs), _IDS_AT_ONCE):
            part = list(map(str, jobs[at : at + _IDS_AT_ONCE]))
            answer = self._ask(["scancel", *words, *part], unknown=_ALREADY_OVER)
            del answer

    def release(self, job_id: int) -> None:
        """Let a job that was submitted held start."""
        self._ask(["scontrol", "release", str(job_id)])

    # ---- the site

    @cached_property
    def config(self) -> Mapping[str, str]:
        """The controller's configuration (`scontrol show config`)."""
        out = self._ask(["scontrol", "show", "config"]).out
        return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in out.splitlines())}

    @property
    def max_array_size(self) -> int:
        """`MaxArraySize`: an array may have that many tasks at most, numbered from 0."""
        return _number(self.config.get("MaxArraySize"), 1001)

    @property
    def max_job_count(self) -> int:
        """`MaxJobCount`: the jobs of all users together."""
        return _number(self.config.get("MaxJobCount"), 10_000)

    @property
    def cluster(self) -> str:
        """`ClusterName`."""
        return self.config.get("ClusterName", "")

    # ---- asking

    def _queue(self, which: list[str]) -> list[QueueEntry]:
        words = ["squeue", "--noheader", "--array", "--states=all", f"--format={_QUEUE_FORMAT}", *which]
        answer = self._ask(words, unknown=_UNKNOWN_JOB)
        return parse_queue(answer.out) if answer.code == 0 else []

    def _ask(self, argv: list[str], unknown: re.Pattern[str] | None = None) -> Answer:
        """Ask until there is an answer; an error that `unknown` matches is one."""
        deadline: float | None = None
        pause_s = _FIRST_PAUSE_S
        while True:
            answer = self._run(argv, None)
            if answer.code == 0:
                return answer
            words = last_words(answer)
            if not _NO_ANSWER.search(words):
                if unknown is not None and unknown.search(answer.err):
                    return answer
                raise SiteError(f"`{' '.join(argv[:3])}` failed: {words}")
            deadline = deadline or self._clock() + self._patience_s
            pause_s = self._pause(deadline, pause_s, words)

    def _pause(self, deadline: float, pause_s: float, words: str) -> float:
        if self._clock() + pause_s > deadline:
            raise ControllerError(
                f"the Slurm controller has not answered for {self._patience_s:.0f} s ({words}); the jobs in its queue "
                "go on without us: ask again later (rompy-hydra status)"
            )
        if pause_s == _FIRST_PAUSE_S:
            self._tell(f"the Slurm controller does not answer ({words}); asking again")
        self._sleep(pause_s)
        return min(pause_s * 2, _LONGEST_PAUSE_S)


def is_installed() -> bool:
    """Whether there are commands of Slurm's here."""
    return shutil.which("sbatch") is not None


def parse_queue(text: str) -> list[QueueEntry]:
    """The lines of `squeue --format=%A|%F|%K|%T|%k|%N|%r`."""
    found = []
    for line in text.splitlines():
        words = line.strip().split("|", 6)
        if len(words) == 7 and words[0].isdigit():
            job, array, task, state, comment, nodes, reason = words
            found.append(
                QueueEntry(
                    job_id=int(job),
                    array_id=int(array) if array.isdigit() else int(job),
                    task=int(task) if task.isdigit() else None,
                    state=state,
                    reason="" if reason == "None" else reason,
                    comment="" if comment == "(null)" else comment,
                    nodes="" if nodes == "(null)" else nodes,
                )
            )
    return found


def parse_jobs(text: str) -> list[JobEnd]:
    """The blocks of `scontrol show job`."""
    return [end for block in re.split(r"\n(?=JobId=)", text) if (end := _parse_job(block)) is not None]


def _parse_job(block: str) -> JobEnd | None:
    first, *rest = block.splitlines() or [""]
    if not (head := re.match(r"JobId=(\d+)(?: ArrayJobId=(\d+) ArrayTaskId=(\S+))?", first)):
        return None
    fields: dict[str, str] = {}
    for line in rest:
        # A line that may hold the user's own words comes after those that we read; the first one says it.
        for name, value in _FIELD.findall(line):
            fields.setdefault(name, value)
    code, _, number = fields.get("ExitCode", "0:0").partition(":")
    shares = fields.get("OverSubscribe", "")
    task = head[3] or ""
    return JobEnd(
        job_id=int(head[1]),
        array_id=int(head[2] or head[1]),
        task=int(task) if task.isdigit() else None,
        state=fields.get("JobState", "UNKNOWN"),
        reason="" if fields.get("Reason") in (None, "None") else fields["Reason"],
        exit_code=_number(code, 0),
        signal=_number(number, 0),
        restarts=_number(fields.get("Restarts"), 0),
        cpus=_number(fields.get("NumCPUs"), 0) or None,
        nodes="" if fields.get("NodeList") in (None, "(null)") else fields["NodeList"],
        exclusive={"NO": True, "EXCLUSIVE": True, "OK": False, "YES": False}.get(shares),
        run_time=fields.get("RunTime", ""),
    )


def last_words(answer: Answer) -> str:
    """The line of an answer that says what is wrong, without the program's name."""
    lines = [line.strip() for line in (answer.err or answer.out).splitlines() if line.strip()]
    if not lines:
        return f"exit code {answer.code}"
    telling = [line for line in lines if "error:" in line] or lines
    return re.sub(r"^\w+: (?:error: )?", "", "; ".join(dict.fromkeys(telling[-2:])))


_MENDS = {
    r"invalid account|account/partition combination": "set backend.account to one of yours (sacctmgr show assoc)",
    r"invalid partition|no partition specified": "set backend.partition to one of: sinfo --format=%P",
    r"qos": "set backend.qos to one that your account has",
    r"time limit": "set resources.time_limit to what the partition allows: sinfo --format='%P %l'",
    r"node configuration|cpu count|memory specification|more processors": (
        "ask for less (resources.cpus, ranks, threads, memory), or choose another partition: sinfo --format='%P %c %m'"
    ),
    r"gres|generic resource": "set backend.gres to what the nodes have: sinfo --format='%P %G'",
    r"feature": "set backend.constraint to what the nodes have: sinfo --format='%P %f'",
    r"reservation": "set backend.reservation to one of: scontrol show reservation",
}


def _mend(words: str) -> str:
    found = next((mend for pattern, mend in _MENDS.items() if re.search(pattern, words, re.IGNORECASE)), None)
    return f"\n    {found}" if found else ""


def _number(text: str | None, default: int) -> int:
    found = re.match(r"\d+", text or "")
    return int(found[0]) if found else default
