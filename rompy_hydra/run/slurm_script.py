"""Pure text: from what a job asks for, and the runs in it, to the script that `sbatch` gets.

    SlurmSettings + RunLine (one, or many for each task of an array)  →  directives, set-up, shim, runs  →  job_script

No clock, no disk (but our own shim), no cluster is asked in here: golden files show all of it, and so does a dry run.
Every value is quoted; nothing of it can become a directive, a command or a line of its own.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from rompy_hydra.errors import ConfigError, Finding
from rompy_hydra.run.base import Job, SuccessRules
from rompy_hydra.run.slurm_commands import COMMENT_PREFIX
from rompy_hydra.run.slurm_patterns import shell_glob, shell_regex
from rompy_hydra.units.durations import format_slurm_time

_SECRET = re.compile(r"\$\{secret:([A-Za-z_][A-Za-z0-9_]*)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSettings:
    """What a run asks of Slurm, and how a node is made ready for it; hashable, so that like ones can go together.

    `memory_bytes` and `cpus` are those of one run; `copies` is how many of them run side by side in one job (on one
    node, each gets its part).  `secrets` are names with the places where a node finds them (`F:` a file that holds one,
    `E:` a .env file).  `path` are directories that are added behind the node's own PATH.  `setup` are lines of shell.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    constraint: str | None = None
    nodes: int | None = None
    ntasks: int = 1
    ntasks_per_node: int | None = None
    cpus_per_task: int = 1
    memory_bytes: int | None = None
    gres: str | None = None
    gpus: int | None = None
    exclusive: bool = False
    time_limit_s: float | None = None
    signal: str | None = None
    signal_before_s: int = field(default=60, repr=False)
    mail_type: str | None = None
    mail_user: str | None = None
    options: tuple[str, ...] = ()
    job_name: str | None = None
    output_file: str | None = None
    error_file: str | None = None
    shell: str = field(default="/bin/sh", repr=False)
    purge: bool = field(default=True, repr=False)
    modules: tuple[str, ...] = ()
    module_init: str | None = None
    setup: tuple[str, ...] = ()
    base: str = field(default="/", repr=False)
    path: tuple[str, ...] = field(default=(), repr=False)
    secrets: tuple[tuple[str, tuple[str, ...]], ...] = field(default=(), repr=False)
    site: str = ""
    charge_rate: float | None = field(default=None, repr=False)
    retry: Retry | None = field(default=None, repr=False)
    copies: int = field(default=1, repr=False)
    checks_paths: bool = field(default=True, repr=False)

    @property
    def cpus(self) -> int:
        """The CPUs of one run."""
        return self.ntasks * self.cpus_per_task

    def replaced(
        self,
        *,
        time_limit_s: float | None = None,
        memory_bytes: int | None = None,
        copies: int | None = None,
    ) -> SlurmSettings:
        """The same with another time limit or memory, or for so many runs side by side."""
        changes: dict[str, Any] = {"time_limit_s": time_limit_s, "memory_bytes": memory_bytes, "copies": copies}
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def directives(self) -> tuple[str, ...]:
        """The `#SBATCH` lines, without name, comment, time, array and output: what jobs must share to be one array."""
        many = self.copies
        words: list[tuple[str, object]] = [
            ("partition", self.partition),
            ("account", self.account),
            ("qos", self.qos),
            ("reservation", self.reservation),
            ("constraint", self.constraint),
            ("nodes", 1 if many > 1 else self.nodes),
            ("ntasks", self.ntasks * many),
            ("ntasks-per-node", self.ntasks_per_node if many == 1 else None),
            ("cpus-per-task", self.cpus_per_task),
            *self._memory(),
            ("gres", self.gres),
            ("gpus", None if self.gpus is None else self.gpus * many),
        ]
        lines = [f"--{name}={quoted_directive(str(value))}" for name, value in words if value is not None]
        if self.exclusive:
            lines.append("--exclusive")
        if self.signal is not None:
            lines.append(f"--signal=B:USR1@{self.signal_before_s}")
        for name, text in (("mail-type", self.mail_type), ("mail-user", self.mail_user)):
            if text is not None:
                lines.append(f"--{name}={quoted_directive(text)}")
        return (*lines, *map(_option, self.options))

    def _memory(self) -> list[tuple[str, object]]:
        if self.memory_bytes is None:
            return []
        if self.copies > 1:
            return [("mem", f"{_mib(self.memory_bytes * self.copies)}M")]
        if self.nodes is None:  # nobody says on how many nodes it will lie
            return [("mem-per-cpu", f"{_mib(self.memory_bytes / self.cpus)}M")]
        return [("mem", f"{_mib(self.memory_bytes / self.nodes)}M")]

    def placed(
        self, *, run_dir: Path, directory: Path, links: Sequence[str] = (), labels: Mapping[str, str] | None = None
    ) -> SlurmSettings:
        """For one run: its name in the queue is that of the run, unless one was given."""
        del directory, links
        name = self.job_name or (labels or {}).get("rompy-hydra.run_id") or run_dir.name
        return replace(self, job_name=name)

    def provenance(self) -> dict[str, Any]:
        """What the record keeps: the site and what was made ready on the node."""
        found: dict[str, Any] = {"site": self.site}
        if self.modules:
            found["modules"] = list(self.modules)
        if self.setup:
            found["setup"] = list(self.setup)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What the shim tries again by itself: a run that ended in these states, with these exit codes (none: all)."""

    attempts: int = 1
    states: tuple[str, ...] = ("failed",)
    exit_codes: tuple[int, ...] = ()
    wait_s: float = 10.0
    max_wait_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One run as the shim gets it: its number in the batch, and everything of a `Job` that matters on the node."""

    number: int
    run_dir: str
    directory: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stdout: str
    stderr: str
    timeout_s: float | None = None
    grace_s: float = 10.0
    success: SuccessRules = field(default_factory=SuccessRules)
    check_log: str | None = None
    abort_on: tuple[str, ...] = ()
    retry: Retry | None = None

    @classmethod
    def of(cls, job: Job, number: int = 0, retry: Retry | None = None) -> RunLine:
        """From the job that the path of a run makes.  ConfigError for one that has no command or no logs."""
        if job.target is not None or not job.argv:
            raise ConfigError(f"run {job.run_id}: there is no command to run in a batch job")
        if job.stdout is None or job.stderr is None:
            raise ConfigError(f"run {job.run_id}: the output of a batch job goes to log files")
        return cls(
            number=number,
            run_dir=job.run_dir,
            directory=job.directory,
            argv=tuple(job.argv),
            environment=job.environment,
            stdout=job.stdout,
            stderr=job.stderr,
            timeout_s=job.timeout_s,
            grace_s=job.grace_s,
            success=job.success,
            check_log=job.check_log,
            abort_on=tuple(job.abort_on),
            retry=retry,
        )

    @property
    def is_judged_there(self) -> bool:
        """Whether the shim can check every rule; what it cannot, whoever reads the end checks."""
        rules = self.success
        globs = (*rules.files, *rules.nonempty)
        patterns = (*rules.log_has, *rules.log_lacks, *self.abort_on)
        return all(shell_glob(glob) is not None for glob in globs) and all(map(shell_regex, patterns))


def job_script(
    settings: SlurmSettings,
    *,
    directory: str,
    token: str,
    name: str | None = None,
    inline: Sequence[RunLine] | None = None,
    tasks: int = 1,
    throttle: int | None = None,
    time_limit_s: float | None = None,
    slots: int = 1,
    common: Mapping[str, str] | None = None,
    note: str = "",
) -> str:
    """The script of a job, or of an array whose task K reads line K+1 of `directory`/points.

    `directory` is the batch's own, `token` its mark in the queue and in what it tells.  `inline` runs are in the script
    itself.  `slots`: how many runs of a task go on side by side.  `common` are variables of all runs (those of a line
    come on top).  `time_limit_s` is that of the job, where it is not the settings' own (several runs in one).
    """
    limit_s = time_limit_s if time_limit_s is not None else settings.time_limit_s
    lines = [f"#!{settings.shell}"]
    own = _own_directives(settings, name, token, status_pattern(directory, is_array=inline is None))
    lines += [f"#SBATCH {line}" for line in own]
    if limit_s is not None:
        lines.append(f"#SBATCH --time={format_slurm_time(limit_s)}")
    if inline is None:
        several = f"%{throttle}" if throttle is not None and throttle < tasks else ""
        lines.append(f"#SBATCH --array=0-{tasks - 1}{several}")
    lines += [f"#SBATCH {line}" for line in settings.directives()]
    if note:
        lines += [f"# {_CONTROL.sub('?', line)}" for line in note.splitlines()]
    lines += ["", *_head(settings, directory, token, slots), "", shim(), ""]
    lines += ["rh_open", *_made_ready(settings), "rh_ready"]
    lines += ["rh_environment() {", *_environment(settings, common or {}), "    :", "}"]
    if inline is None:
        lines.append('eval "$(sed -n "$((rh_task + 1))p" "$rh_dir/points")"')
    else:
        lines += _directories(inline)
        lines += [line for run in inline for line in [_point(run, common or {})]]
    lines += ["rh_close", ""]
    return "\n".join(lines)


def task_line(runs: Sequence[RunLine], common: Mapping[str, str] | None = None) -> str:
    """The runs of one task of an array, as one line of shell; `common` variables are in the script and not repeated."""
    return "; ".join(_point(run, common or {}) for run in runs)


@lru_cache(maxsize=1)
def shim() -> str:
    """The text of the shim, which is part of every script."""
    return resources.files("rompy_hydra.run").joinpath("slurm_shim.sh").read_text(encoding="utf-8").rstrip("\n")


# ---- directives


def quoted_directive(value: str) -> str:
    """A value of a directive as sbatch reads it back; ConfigError for what could end the line."""
    if _CONTROL.search(value):
        raise ConfigError(
            "the job script cannot be written",
            [Finding(key="backend", rule="a value of a directive holds a control character", value=repr(value))],
        )
    if re.fullmatch(r"[\w.,:/@%+=\[\]&|()*!-]*", value, re.ASCII):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_OPTION = re.compile(r"(?P<long>--[A-Za-z][\w-]*)(?:[= ](?P<is>.*))?|(?P<short>-[A-Za-z])[= ]?(?P<has>.*)", re.ASCII)


def _option(option: str) -> str:
    """One further option of sbatch; whatever follows its name is its value, and cannot be another option."""
    found = _OPTION.fullmatch(option)
    if found is None:
        finding = Finding("backend.additional_options", "is no option of sbatch", value=option, mend="as `--nice=5`")
        raise ConfigError("the job script cannot be written", [finding])
    if found["long"] is not None:
        return found["long"] if found["is"] is None else f"{found['long']}={quoted_directive(found['is'])}"
    return f"{found['short']} {quoted_directive(found['has'])}" if found["has"] else found["short"]


def _own_directives(settings: SlurmSettings, name: str | None, token: str, output: str) -> list[str]:
    lines = [
        f"--job-name={quoted_directive(_job_name(name or settings.job_name or 'rompy-hydra'))}",
        f"--comment={COMMENT_PREFIX}{token}",
        "--export=NONE",
        "--open-mode=append",
        f"--output={quoted_directive(settings.output_file or output)}",
    ]
    if settings.error_file is not None:
        lines.append(f"--error={quoted_directive(settings.error_file)}")
    return lines


def status_pattern(directory: str, *, is_array: bool = True) -> str:
    """Where a job's own words go: the status file of its task, so that Slurm's (killed for its memory) stand there too.

    A directory whose name sbatch cannot read in a script gives up these words, and nothing else.
    """
    if _CONTROL.search(directory) or "\\" in directory:
        return "/dev/null"
    return f"{directory.replace('%', '%%')}/task.{'%a' if is_array else '0'}"


def _job_name(name: str) -> str:
    return (_CONTROL.sub("?", name).strip() or "rompy-hydra")[:200]


# ---- the parts of the script


def _head(settings: SlurmSettings, directory: str, token: str, slots: int) -> list[str]:
    early = settings.signal or "TERM"
    return [
        "rh_newline='",
        "' rh_return=$(printf '\\r')",
        f"rh_token={token}",
        f"rh_dir={sh(directory)}",
        f"rh_slots={slots}",
        f"rh_early={early}",
        f"rh_module_init={sh(settings.module_init or '')}",
    ]


def _made_ready(settings: SlurmSettings) -> list[str]:
    lines = []
    if settings.setup or settings.modules:
        lines.append(f"cd -- {sh(settings.base)} || rh_fail base")
    if settings.modules:
        lines.append("rh_module_command")
        if settings.purge:
            lines.append("module purge || rh_fail purge")
        lines += [f"module load {sh(name)} || rh_fail {sh(f'module:{name}')}" for name in settings.modules]
    # eval: a line with a comment or several commands stays one line; its exit code is that of its last command.
    lines += [f"eval {sh(line)} || rh_fail setup:{number}" for number, line in enumerate(settings.setup, 1)]
    for name, places in settings.secrets:
        words = " ".join(map(sh, places))
        lines.append(f"rh_secret {name} {words}; rh_secret_{name}=$rh_value")
    if settings.secrets:
        lines.append("unset rh_value")
    return lines


def _environment(settings: SlurmSettings, common: Mapping[str, str]) -> list[str]:
    lines = [f'    export PATH="${{PATH:+$PATH:}}"{sh(path)}' for path in settings.path]
    return lines + [f"    export {name}={value_text(text)}" for name, text in common.items()]


def _directories(runs: Sequence[RunLine]) -> list[str]:
    """A script that is handed to sbatch by hand makes what else the submission has made."""
    paths = dict.fromkeys(p for run in runs for p in (run.run_dir, str(Path(run.stdout).parent)))
    return [f"mkdir -p -- {' '.join(map(sh, paths))} || rh_fail mkdir"]


def _point(run: RunLine, common: Mapping[str, str]) -> str:
    """The call of the shim that is one run."""
    rules = run.success
    words = [f"rh_point {run.number}", _word("d", run.run_dir), _word("w", run.directory)]
    words += [_word("o", run.stdout), _word("e", run.stderr)]
    for name, text in run.environment.items():
        if common.get(name) != text:
            words.append(f"E={name}={value_text(text)}")
    if run.timeout_s is not None:
        words.append(f"t={max(1, math.ceil(run.timeout_s * 100))}")
    if run.grace_s != 10:
        words.append(f"g={math.ceil(run.grace_s * 100)}")
    words.append(_word("x", " ".join(map(str, rules.exit_codes))))
    unchecked = not run.is_judged_there
    for key, globs in (("f", rules.files), ("n", rules.nonempty)):
        words += [_word(key, glob) for text in globs if (glob := shell_glob(text)) is not None]
    for key, patterns in (("h", rules.log_has), ("l", rules.log_lacks), ("a", run.abort_on)):
        for text in patterns:
            if (regex := shell_regex(text)) is not None:
                words.append(_word(key.upper() if regex.ignores_case else key, regex.text))
    if unchecked:
        words.append("u=1")
    if rules.check:
        log = run.check_log or f"{run.run_dir}/logs/check.log"
        words += [_word("c", shlex.join(rules.check)), _word("k", log), f"T={math.ceil(rules.check_timeout_s * 100)}"]
    if run.retry is not None and run.retry.attempts > 1:
        words += _retry(run.retry)
    return " ".join([*words, "--", *map(sh, run.argv)])


def _retry(retry: Retry) -> list[str]:
    words = [f"r={retry.attempts}", _word("S", " ".join(retry.states))]
    if retry.exit_codes:
        words.append(_word("R", " ".join(map(str, retry.exit_codes))))
    return [*words, f"p={math.ceil(retry.wait_s * 100)}", f"P={math.ceil(retry.max_wait_s * 100)}"]


def _word(key: str, value: str) -> str:
    return f"{key}={sh(value)}"


# ---- quoting


def sh(text: str) -> str:
    """A text as one word of a POSIX shell, on one line; line ends are variables of the shim (sbatch refuses CR LF)."""
    if re.fullmatch(r"[\w.,:/@%+=-]+", text, re.ASCII):
        return text
    quoted = "'" + text.replace("'", "'\"'\"'") + "'"
    return quoted.replace("\n", "'\"$rh_newline\"'").replace("\r", "'\"$rh_return\"'")


def value_text(text: str) -> str:
    """The value of a variable as a word: every `${secret:NAME}` in it is what the node has found."""
    at, words = 0, []
    for found in _SECRET.finditer(text):
        if text[at : found.start()]:
            words.append(sh(text[at : found.start()]))
        words.append(f'"$rh_secret_{found[1]}"')
        at = found.end()
    if text[at:] or not words:
        words.append(sh(text[at:]))
    return "".join(words)


def secret_names(variables: Mapping[str, str]) -> list[str]:
    """The names of the secrets that these variables refer to."""
    return sorted({name for text in variables.values() for name in _SECRET.findall(text)})


def _mib(size: float) -> int:
    return max(1, math.ceil(size / _MIB))
