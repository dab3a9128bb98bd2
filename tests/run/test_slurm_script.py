"""The text of job scripts: golden files, and that no value can become anything else than a value."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rompy_hydra.errors import ConfigError
from rompy_hydra.run.base import SuccessRules
from rompy_hydra.run.slurm_patterns import shell_glob, shell_regex
from rompy_hydra.run.slurm_script import (
    Retry,
    RunLine,
    SlurmSettings,
    job_script,
    quoted_directive,
    sh,
    shim,
    task_line,
    value_text,
)

GOLDEN = Path(__file__).parent / "golden"
FULL = SlurmSettings(
    partition="compute",
    account="ocean",
    qos="normal",
    reservation="workshop",
    constraint="intel|amd",
    nodes=2,
    ntasks=8,
    ntasks_per_node=4,
    cpus_per_task=2,
    memory_bytes=8 << 30,
    gres="scratch:1",
    gpus=4,
    exclusive=True,
    time_limit_s=36 * 3600,
    signal="USR1",
    signal_before_s=300,
    mail_type="END,FAIL",
    mail_user="me@example.org",
    options=("--nice=5", "-x bad node", "--licenses=a b"),
    modules=("ocean/1.2", "mpi"),
    setup=("export OMP_PLACES=cores", "echo 'it''s ready'"),
    base="/home/me/my project",
    path=("/home/me/venv/bin",),
    secrets=(("API_KEY", ("E:/home/me/my project/.env",)),),
)
RUN = RunLine(
    number=0,
    run_dir="/scratch/my runs/r1",
    directory="/scratch/my runs/r1",
    argv=("srun", "-n", "8", "./model", "it's", "$(no)"),
    environment={"DEPTH": "a b", "TOKEN": "x${secret:API_KEY}y", "LINES": "one\ntwo\r\n"},
    stdout="/scratch/my runs/r1/logs/stdout.log",
    stderr="/scratch/my runs/r1/logs/stderr.log",
    timeout_s=7200,
    grace_s=30,
    success=SuccessRules(exit_codes=(0, 2), files=("*.nc",), log_has=("(?i)done",), check=("./check", "a b")),
    abort_on=(r"\bNaN\b",),
    retry=Retry(attempts=3, exit_codes=(75,)),
)


def without_shim(text: str) -> str:
    return text.replace(shim(), "[the shim]")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("single", job_script(FULL, directory="/scratch/my runs/r1/logs/job-1", token="1f", name="r1", inline=[RUN])),
        (
            "array",
            job_script(
                SlurmSettings(memory_bytes=100 << 20, time_limit_s=600, copies=4),
                directory="/scratch/s%1/jobs/2e",
                token="2e",
                name="sweep",
                tasks=100,
                throttle=10,
                time_limit_s=1200,
                slots=4,
                common={"A": "1"},
                note="100 tasks\n#SBATCH --no-directive",
            ),
        ),
        ("points", task_line([RUN, RunLine(number=7, run_dir="/p", directory="/p", argv=("./x",), stdout="/p/o.log",
                                           stderr="/p/o.log", environment={"A": "1"})], {"A": "1"}) + "\n"),
    ],
)  # fmt: skip
def test_a_script_is_as_in_the_golden_file(name: str, text: str) -> None:
    path = GOLDEN / f"slurm_{name}.sh"
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(without_shim(text))
    assert without_shim(text) == path.read_text(), f"if it is right: WRITE_GOLDEN=1 pytest {__file__}"


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_every_shell_can_read_a_script(shell: str, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(job_script(FULL, directory="/d", token="1f", inline=[RUN]))
    done = subprocess.run([*shell.split(), "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_shim_needs_no_python_and_no_words_of_bash() -> None:
    text = "\n".join(line.partition(" #")[0] for line in shim().splitlines() if not line.lstrip().startswith("#"))
    assert not re.search(r"python|perl|awk|\[\[ |\blocal\b|\bfunction\b|<\(|\$'|\bsource\b|&>|\bpgrep\b", text)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40) | st.binary(max_size=20).map(
    lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)


@settings(max_examples=40)
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_a_quoted_text_is_one_word_on_one_line(texts: list[str]) -> None:
    quoted = " ".join(map(sh, texts))
    assert not re.search(r"[\r\n]", quoted)
    script = f"rh_newline='\n' rh_return=$(printf '\\r'); printf '%s\\0' {quoted}"
    said = subprocess.run([b"dash", b"-c", os.fsencode(script)], capture_output=True, check=True).stdout
    assert said.split(b"\0")[:-1] == list(map(os.fsencode, texts))


def test_a_secret_is_a_variable_of_the_shim() -> None:
    assert value_text("a ${secret:KEY}'b") == "'a '\"$rh_secret_KEY\"''\"'\"'b'"
    assert value_text("${secret:KEY}") == '"$rh_secret_KEY"'
    assert value_text("") == "''"
    assert value_text("${other:KEY}") == "'${other:KEY}'"


@pytest.mark.parametrize(
    "field", ["partition", "account", "job_name", "output_file", "mail_user", "gres", "constraint"]
)
@pytest.mark.parametrize("value", ["x\n#SBATCH --uid=0", "x\r--wrap=y", "a\x1bb"])
def test_no_field_can_begin_a_line_of_its_own(field: str, value: str) -> None:
    changes: dict[str, Any] = {field: value, "mail_type": "END"}
    if field == "job_name":  # a name is cleaned: it is often that of a run
        text = job_script(SlurmSettings(**changes), directory="/d", token="1", inline=[RUN])
        assert "--uid=0\n" not in text.replace('--uid=0"\n', "")
        return
    with pytest.raises(ConfigError, match="control character"):
        job_script(SlurmSettings(**changes), directory="/d", token="1", inline=[RUN])


@pytest.mark.parametrize("option", ["--nice=5\n#SBATCH --uid=0", "nice", "--", "--a\tb", "-"])
def test_an_option_that_is_none_is_refused(option: str) -> None:
    with pytest.raises(ConfigError):
        SlurmSettings(options=(option,)).directives()


@pytest.mark.slurm
@pytest.mark.parametrize("value", ["a b", 'x"y', "it's", "c:\\d\\e", "# no comment", "ends\\", "  two  "])
def test_sbatch_reads_a_directive_as_it_was_meant(value: str, tmp_path: Path) -> None:
    script = (
        f"#!/bin/sh\n#SBATCH --comment={quoted_directive(value)}\n#SBATCH --hold\n#SBATCH --output=/dev/null\ntrue\n"
    )
    job = subprocess.run(["sbatch", "--parsable"], input=script, capture_output=True, text=True, check=True).stdout
    try:
        shown = subprocess.run(
            ["squeue", "--noheader", f"--jobs={job.strip()}", "--format=[%k]"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stdout.rstrip("\n").rstrip() == f"[{value}]"
    finally:
        subprocess.run(["scancel", job.strip()], check=True)


def test_settings_that_ask_for_the_same_are_equal_as_keys() -> None:
    one, two = SlurmSettings(ntasks=2, job_name="a"), SlurmSettings(ntasks=2, job_name="b")
    assert one.directives() == two.directives()
    assert hash(one) != hash(two)


def test_copies_side_by_side_ask_for_as_much_more() -> None:
    asked = SlurmSettings(ntasks=2, cpus_per_task=3, memory_bytes=1 << 30, gpus=1).replaced(copies=4)
    lines = ("--nodes=1", "--ntasks=8", "--cpus-per-task=3", "--mem=4096M", "--gpus=4")
    assert asked.directives() == lines


def test_memory_follows_the_nodes() -> None:
    assert "--mem=512M" in SlurmSettings(nodes=2, ntasks=2, memory_bytes=1 << 30).directives()
    assert "--mem-per-cpu=256M" in SlurmSettings(ntasks=4, memory_bytes=1 << 30).directives()


# ---- patterns


@pytest.mark.parametrize(
    ("pattern", "translated"),
    [
        (r"\bNaN\b", r"\bNaN\b"),
        (r"CFL\s*[><=]+\s*\d+\.\d", r"CFL[[:space:]]*[><=]+[[:space:]]*[0-9]+\.[0-9]"),
        ("(?:a|b)+c{2,3}$", "(a|b)+c{2,3}$"),
        ("^done", "^done"),
        (r"[\d_-]", "[0-9_-]"),
        ("(?s)a.b", None),
        ("a*?", None),
        ("a{,3}", None),
        ("x|", None),
        ("(?P<n>a)", None),
        ("(?=a)", None),
        (r"\Aa", None),
        ("[[:alpha:]]", None),
        ("größe", None),
        ("a^b", None),
        ("(a)\\1", None),
    ],
)
def test_a_regular_expression_is_translated_or_left_to_python(pattern: str, translated: str | None) -> None:
    found = shell_regex(pattern)
    assert (found.text if found else None) == translated


_ATOMS = st.sampled_from(
    [
        "a",
        "b",
        "1",
        " ",
        ".",
        r"\d",
        r"\w",
        r"\s",
        "[ab]",
        "[^a]",
        r"\.",
        "(a|b)",
        "(?:ab)",
        r"\bb",
        "x+",
        "b*",
        "1?",
        "a{2}",
    ]
)


@settings(max_examples=60)
@given(st.lists(_ATOMS, min_size=1, max_size=5).map("".join), st.text("ab1 .x-_", max_size=12))
def test_grep_and_python_agree(pattern: str, line: str) -> None:
    found = shell_regex(pattern)
    if found is None:
        return
    done = subprocess.run(["grep", "-Eq", "-e", found.text], input=line + "\n", text=True, check=False)
    assert (done.returncode == 0) == (re.search(pattern, line) is not None), (pattern, found.text, line)


def test_globs_of_more_than_one_level_are_left_to_python() -> None:
    assert shell_glob("a b/*.nc") == "a b/*.nc"
    assert shell_glob("**/x") is None
    assert shell_glob("a\\*") is None
