"""The street door as a person uses it: a real process, what it prints, how it exits, what it leaves."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "rompy_hydra"]


def rompy(*words: str, cwd: Path, env: dict[str, str] | None = None, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **options,
    )


def run_command(
    command: str, cwd: Path, *more: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return rompy(
        "run", "model=command", f"backend.command={command}", "output_dir=out", "run_id=r", *more, cwd=cwd, env=env
    )


def record_of(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / "run.json").read_text()))


def is_clean(cwd: Path) -> bool:
    return not any(cwd.iterdir())


def assert_refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


# -- the good case -----------------------------------------------------------------------------------------------


def test_a_command_runs_and_the_summary_tells_what_where_and_how(tmp_path: Path) -> None:
    done = run_command("'echo hello; echo bye >&2; echo data > result.txt'", tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "out" / "r"
    for text in ("command", "backend local", "succeeded", "took", "peak", str(run), "stdout.log", "result.txt"):
        assert text in done.stdout
    assert (run / "logs" / "stdout.log").read_text() == "hello\n"
    assert (run / "logs" / "stderr.log").read_text() == "bye\n"
    assert {"config.yaml", "overrides.yaml", "hydra.yaml"} == {p.name for p in (run / ".hydra").iterdir()}


def test_the_record_holds_what_the_issue_lists(tmp_path: Path) -> None:
    run_command("'echo data > result.txt'", tmp_path, "env_vars.A=001")
    record = record_of(tmp_path / "out" / "r")
    assert record["schema_version"] == 1
    assert (record["run_id"], record["state"], record["exit_code"], record["signal"]) == ("r", "succeeded", 0, None)
    assert record["reason"]
    assert record["started_at"].endswith("Z")
    assert record["started_at"] <= record["ended_at"]
    assert record["cpu_seconds"] >= 0
    assert record["peak_memory_bytes"] > 0
    assert record["memory_measured_by"]
    assert len(record["science_id"]) == 16
    assert record["overrides"][0] == "model=command"
    assert record["config"]["env_vars"]["A"] == "001"
    (output,) = record["outputs"]
    assert (output["path"], output["bytes"]) == ("result.txt", 5)
    assert len(output["sha256"]) == 64
    provenance = record["provenance"]
    assert provenance["packages"]["hydra-core"].startswith("1.3")
    assert provenance["machine"]["cpu_model"]
    assert provenance["argv"][1] == "run"
    assert len(provenance["executable"]["sha256"]) == 64
    assert provenance["config_repositories"][0].keys() >= {"path", "commit", "dirty"}


def test_the_same_command_twice_just_works(tmp_path: Path) -> None:
    for _ in range(2):
        done = rompy("run", "model=command", "backend.command=true", "output_dir=out", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_failed_simulation_exits_with_1_and_says_why(tmp_path: Path) -> None:
    done = run_command("'exit 7'", tmp_path)
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "7" in done.stdout
    assert record_of(tmp_path / "out" / "r")["exit_code"] == 7


def test_a_signal_is_no_exit_code(tmp_path: Path) -> None:
    run_command("'kill -SEGV $$'", tmp_path)
    record = record_of(tmp_path / "out" / "r")
    assert (record["state"], record["exit_code"], record["signal"]) == ("failed", None, "SIGSEGV")


def test_an_exit_code_of_0_is_not_success_when_a_rule_is_unmet(tmp_path: Path) -> None:
    done = run_command("'echo WARNING: blew up'", tmp_path, "model.success.log_lacks=['blew up']")
    assert done.returncode == 1
    assert "log_lacks" in done.stdout
    assert "WARNING: blew up" in done.stdout


def test_abort_on_ends_a_run_that_prints_it(tmp_path: Path) -> None:
    started = time.monotonic()
    done = run_command("'echo diverged; sleep 60'", tmp_path, "model.abort_on=[diverged]")
    assert done.returncode == 1
    assert time.monotonic() - started < 30
    assert "diverged" in record_of(tmp_path / "out" / "r")["reason"]


def test_a_list_is_executed_as_it_is(tmp_path: Path) -> None:
    run_command("[printf,'%s|','a b','$HOME']", tmp_path)
    assert (tmp_path / "out" / "r" / "logs" / "stdout.log").read_text() == "a b|$HOME|"


def test_without_a_shell_text_is_split_into_words(tmp_path: Path) -> None:
    run_command("'echo $HOME *'", tmp_path, "backend.shell=false")
    assert (tmp_path / "out" / "r" / "logs" / "stdout.log").read_text() == "$HOME *\n"


def test_output_that_is_not_captured_goes_to_the_terminal(tmp_path: Path) -> None:
    done = run_command("'echo here'", tmp_path, "backend.capture_output=false")
    assert "here\n" in done.stdout
    assert record_of(tmp_path / "out" / "r")["logs"] == {}


def test_output_can_be_streamed_and_kept(tmp_path: Path) -> None:
    done = run_command("'echo here'", tmp_path, "backend.stream_output=true")
    assert "here\n" in done.stdout
    assert (tmp_path / "out" / "r" / "logs" / "stdout.log").read_text() == "here\n"


def test_working_dir_and_env_vars_reach_the_run(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    run_command("'pwd; echo $X'", tmp_path, f"backend.working_dir={tmp_path}/a b", "backend.env_vars.X='$(id) \"q\"'")
    assert (tmp_path / "out" / "r" / "logs" / "stdout.log").read_text() == f'{tmp_path}/a b\n$(id) "q"\n'


def test_cfg_prints_the_configuration_and_runs_nothing(tmp_path: Path) -> None:
    done = rompy("run", "model=command", "--cfg", "job", "--resolve", cwd=tmp_path)
    assert done.returncode == 0
    assert "type: local" in done.stdout
    assert is_clean(tmp_path)


# -- what exists already -----------------------------------------------------------------------------------------


def test_an_existing_run_is_never_overwritten_by_default(tmp_path: Path) -> None:
    run_command("'echo 1'", tmp_path)
    done = run_command("'echo 2'", tmp_path)
    assert_refused(done, 2, "exists already", "on_existing=new", "on_existing=replace", "on_existing=skip")
    assert (tmp_path / "out" / "r" / "logs" / "stdout.log").read_text() == "1\n"


def test_on_existing_new_takes_the_next_free_name(tmp_path: Path) -> None:
    for _ in range(3):
        assert run_command("true", tmp_path, "on_existing=new").returncode == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["r", "r-2", "r-3"]
    assert record_of(tmp_path / "out" / "r-3")["run_id"] == "r-3"


def test_on_existing_replace_removes_the_old_run_and_nothing_else(tmp_path: Path) -> None:
    run_command("'echo 1 > old'", tmp_path)
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "out" / "r" / "link").symlink_to(tmp_path)
    assert run_command("'echo 2 > new'", tmp_path, "on_existing=replace").returncode == 0
    assert (tmp_path / "precious").read_text() == "keep"
    assert {p.name for p in (tmp_path / "out" / "r").iterdir()} == {"new", "logs", "run.json", ".hydra", ".source"}
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["r"]


def test_on_existing_skip_has_nothing_to_do_for_a_run_that_succeeded(tmp_path: Path) -> None:
    run_command("'echo 1'", tmp_path)
    before = record_of(tmp_path / "out" / "r")
    done = run_command("'echo 1'", tmp_path, "on_existing=skip")
    assert done.returncode == 0
    assert "skipped" in done.stdout
    assert record_of(tmp_path / "out" / "r") == before


def test_on_existing_skip_refuses_another_simulation_under_the_same_name(tmp_path: Path) -> None:
    run_command("'echo 1'", tmp_path)
    assert_refused(run_command("'echo 2'", tmp_path, "on_existing=skip"), 2, "another simulation")


def test_limits_and_logging_do_not_change_the_science_id(tmp_path: Path) -> None:
    ids = set()
    for n, more in enumerate(
        [(), ("resources.time_limit=2h",), ("backend.stream_output=true",), ("env=staging", "backend=local")]
    ):
        rompy("run", "model=command", "backend.command='echo 1'", "output_dir=out", f"run_id=r{n}", *more, cwd=tmp_path)
        ids.add(record_of(tmp_path / "out" / f"r{n}")["science_id"])
    assert len(ids) == 1


def test_a_directory_that_is_no_run_of_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out" / "r").mkdir(parents=True)
    (tmp_path / "out" / "r" / "thesis.tex").write_text("x")
    for how in ("error", "replace", "skip"):
        assert_refused(run_command("true", tmp_path, f"on_existing={how}"), 2, "no run of ours")
    assert [p.name for p in (tmp_path / "out" / "r").iterdir()] == ["thesis.tex"]


# -- paths that leave --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_id", ["..", ".", "a/b", "/abs", "../x", ".hidden", "-rf", "'a\\\\b'"])
def test_a_run_id_that_leaves_the_output_directory_is_refused(tmp_path: Path, run_id: str) -> None:
    done = rompy("run", "model=command", "backend.command=true", "output_dir=out", f"run_id={run_id}", cwd=tmp_path)
    assert_refused(done, 2, "run_id")
    assert is_clean(tmp_path)


def test_a_run_directory_behind_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "r").symlink_to(tmp_path / "elsewhere")
    for how in ("error", "replace", "new", "skip"):
        assert_refused(run_command("true", tmp_path, f"on_existing={how}"), 4, "symbolic link")
    assert is_clean(tmp_path / "elsewhere")


# -- bad input: one clear message, the right exit code, nothing half-made -----------------------------------------


def test_five_mistakes_are_five_findings(tmp_path: Path) -> None:
    done = rompy(
        "run", "model=command", "bakend=docker", "env=prodution", "backend.tmeout=60", "backend.timeout=5",
        "resources.memory=plenty", cwd=tmp_path,
    )  # fmt: skip
    assert_refused(done, 2, "5 places", "'backend'", "'production'", "'backend.timeout'", "'plenty'")
    assert is_clean(tmp_path)


@pytest.mark.parametrize(
    ("override", "word"), [("model=swam", "model"), ("backend=dokcer", "docker"), ("env=prod", "production")]
)
def test_an_unknown_option_lists_or_suggests(tmp_path: Path, override: str, word: str) -> None:
    assert_refused(rompy("run", override, cwd=tmp_path), 2, word)
    assert is_clean(tmp_path)


def test_a_malformed_file_names_file_line_and_column(tmp_path: Path) -> None:
    conf = tmp_path / "conf" / "backend"
    conf.mkdir(parents=True)
    (conf / "local.yaml").write_text("timeout: 60\ncommand: [a\n")
    assert_refused(rompy("run", "model=command", cwd=tmp_path), 2, f"{conf}/local.yaml:3:1")
    assert [p.name for p in tmp_path.iterdir()] == ["conf"]


def test_a_command_that_does_not_exist_is_a_missing_tool(tmp_path: Path) -> None:
    assert_refused(run_command("no-such-program-here", tmp_path), 3, "no-such-program-here")
    assert is_clean(tmp_path)


def test_a_command_list_that_does_not_exist_is_a_missing_tool(tmp_path: Path) -> None:
    assert_refused(run_command("[./no-such-program-here]", tmp_path), 3, "no-such-program-here")
    assert is_clean(tmp_path)


def test_a_missing_model_says_what_to_pip_install(tmp_path: Path) -> None:
    conf = tmp_path / "conf" / "model"
    conf.mkdir(parents=True)
    (conf / "mine.yaml").write_text(
        "defaults: [/schema/model, _self_]\nname: mine\ncommand: [no-such-model]\n"
        "requires:\n  install: pip install 'rompy-hydra[mine]'\n"
    )
    assert_refused(rompy("run", "model=mine", cwd=tmp_path), 3, "pip install 'rompy-hydra[mine]'")
    assert [p.name for p in tmp_path.iterdir()] == ["conf"]


def test_nothing_to_run_says_how_to_give_a_command(tmp_path: Path) -> None:
    assert_refused(rompy("run", "model=command", cwd=tmp_path), 2, "backend.command=")
    assert is_clean(tmp_path)


def test_a_missing_template_variable_names_template_file_and_line(tmp_path: Path) -> None:
    template = tmp_path / "templates" / "mine" / "workspace"
    template.mkdir(parents=True)
    (template.parent / "template.yaml").write_text(
        "parameters: {depth: {type: float, default: 1}}\nmodel: {command: [cat]}\n"
    )
    (template / "in.txt.j2").write_text("depth\n{{ parameters.dpeth }}\n")
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text("defaults: [/template/mine, _self_]\n")
    assert_refused(rompy("run", "model=mine", cwd=tmp_path), 2, "in.txt.j2:2", "depth")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["conf", "templates"]


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "frozen", "size=64k") as mount:
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        yield mount


def test_a_read_only_file_system_is_the_site_s_refusal(read_only_disk: Path) -> None:
    done = rompy("run", "model=command", "backend.command=true", f"output_dir={read_only_disk}/out", cwd=Path("/"))
    assert_refused(done, 4, f"{read_only_disk}/out", "Read-only file system", "output_dir")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody who may not write there")
def test_a_directory_that_cannot_be_written_is_the_site_s_refusal(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    script = (
        f"import os; os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid}); "
        "from rompy_hydra.cli import main; raise SystemExit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "model=command", "backend.command=true", f"output_dir={closed}/out"],
        capture_output=True, text=True, timeout=60, cwd="/", check=False,
    )  # fmt: skip
    if "No module named" in done.stderr or "Permission denied: '/root" in done.stderr:
        pytest.skip("this Python cannot be read by nobody")
    assert_refused(done, 4, str(closed), "Permission denied")
    assert is_clean(closed)


def test_an_output_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    assert_refused(run_command("true", tmp_path), 4, "out")
    assert (tmp_path / "out").read_text() == "x"


@contextmanager
def mounted(mount: Path, options: str) -> Iterator[Path]:
    """A real file system in memory, made by root only."""
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mount)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {made.stderr.strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB with no room left."""
    with mounted(tmp_path / "small", "size=64k") as mount:
        with (mount / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(b"x" * 4096):
                pass
        yield mount


def test_a_full_disk_is_the_site_s_refusal_and_nothing_is_left(full_disk: Path) -> None:
    done = rompy(
        "run", "model=command", "backend.command=true", f"output_dir={full_disk}/out", "run_id=r", cwd=Path("/")
    )
    assert_refused(done, 4, "No space left")
    assert [p.name for p in full_disk.iterdir()] == ["filler"]


def test_a_backend_that_this_version_cannot_run_says_so(tmp_path: Path) -> None:
    assert_refused(run_command("null", tmp_path, "backend=docker", "~backend.command"), 2, "command")
    done = rompy("run", "model=command", "backend=docker", "backend.executable=true", cwd=tmp_path)
    assert done.returncode == 4
    assert "docker" in done.stderr
    assert is_clean(tmp_path)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["rnu"], "run"),
        (["run", "--nope"], "--nope"),
        (["model=command"], "run"),
        (["run", "--cfg", "jobs"], "job"),
        (["status", "--jsno"], "--jsno"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_a_hint(tmp_path: Path, words: list[str], hint: str) -> None:
    assert_refused(rompy(*words, cwd=tmp_path), 2, hint)


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["status", "--help"], ["--version"]])
def test_help_and_version_go_to_stdout(tmp_path: Path, words: list[str]) -> None:
    done = rompy(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "rompy-hydra" in done.stdout


# -- secrets -----------------------------------------------------------------------------------------------------


def test_a_credential_reaches_the_run_and_no_file_of_ours(tmp_path: Path) -> None:
    (tmp_path / "expected").write_text("canary-17 canary-18\n")
    done = run_command(
        "'echo \"$API_KEY $DB_PASSWORD\" | cmp - ../../expected'", tmp_path,
        "backend.env_vars.API_KEY=${secret:MY_SECRET}", "env_vars.DB_PASSWORD=canary-18",
        env={"MY_SECRET": "canary-17"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    written = "".join(p.read_text("latin-1") for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert "canary" not in written + done.stdout + done.stderr
    assert "API_KEY=${secret:MY_SECRET}" in written


def test_missing_secrets_are_named_all_at_once_before_anything_starts(tmp_path: Path) -> None:
    done = run_command("true", tmp_path, "env_vars.A=${secret:FIRST}", "env_vars.B=${secret:SECOND}")
    assert_refused(done, 2, "FIRST", "SECOND")
    assert is_clean(tmp_path)


def test_a_secret_may_come_from_a_file_or_from_an_untracked_env_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("canary-1\n")
    (tmp_path / ".env").write_text("OTHER='canary 2'\n")
    (tmp_path / "expected").write_text("canary-1 canary 2\n")
    done = run_command(
        "'echo \"$A $B\" | cmp - ../../expected'", tmp_path, "env_vars.A=${secret:TOKEN}", "env_vars.B=${secret:OTHER}",
        env={"TOKEN_FILE": str(tmp_path / "token")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "canary" not in "".join(p.read_text("latin-1") for p in (tmp_path / "out").rglob("*") if p.is_file())


def test_an_env_file_that_git_tracks_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TOKEN=canary\n")
    for words in (["init", "-q"], ["add", "-f", ".env"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    done = run_command("true", tmp_path, "env_vars.A=${secret:TOKEN}")
    assert_refused(done, 2, ".env", "git tracks it")
    assert "canary" not in done.stderr


# -- signals and the driver's death ------------------------------------------------------------------------------


def start(command: str, cwd: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*COMMAND, "run", "model=command", f"backend.command={command}", "output_dir=out", "run_id=r"],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509  # the tests may run under nohup
    )  # fmt: skip
    wait_until(lambda: state_of(cwd) == "running")
    return process


def state_of(cwd: Path) -> str | None:
    try:
        return str(record_of(cwd / "out" / "r")["state"])
    except (OSError, ValueError):
        return None


def wait_until(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_ends_the_whole_tree_and_says_cancelled(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start("'sleep 300 & sleep 300'", tmp_path)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, out + err
    assert "Traceback" not in err
    assert record_of(tmp_path / "out" / "r")["state"] == "cancelled"
    assert subprocess.run(["pgrep", "-f", "^sleep 300$"], capture_output=True, check=False).returncode == 1


def test_a_run_outlives_its_killed_driver_and_status_tells_the_truth(tmp_path: Path) -> None:
    process = start("'while ! test -e go; do sleep 0.05; done; exit 3'", tmp_path)
    process.kill()
    process.communicate()
    status = rompy("status", "out/r", "--json", cwd=tmp_path)
    told = json.loads(status.stdout)
    assert told["state"] == "running"
    assert Path(f"/proc/{told['process']['pid']}").exists()
    (tmp_path / "out" / "r" / "go").touch()
    wait_until(lambda: state_of(tmp_path) == "failed")
    told = json.loads(rompy("status", "out/r", "--json", cwd=tmp_path).stdout)
    assert (told["state"], told["exit_code"]) == ("failed", 3)


def test_a_lost_terminal_leaves_the_run_to_its_keeper(tmp_path: Path) -> None:
    process = start("'while ! test -e go; do sleep 0.05; done'", tmp_path)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=30)
    assert state_of(tmp_path) == "running"
    (tmp_path / "out" / "r" / "go").touch()
    wait_until(lambda: state_of(tmp_path) == "succeeded")


# -- status ------------------------------------------------------------------------------------------------------


def test_status_of_a_directory_of_runs_lists_failures_first(tmp_path: Path) -> None:
    rompy("run", "model=command", "backend.command=true", "output_dir=out", "run_id=a", cwd=tmp_path)
    rompy("run", "model=command", "backend.command=false", "output_dir=out", "run_id=b", cwd=tmp_path)
    lines = rompy("status", "out", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["failed", "b"], ["succeeded", "a"]]
    assert [r["run_id"] for r in json.loads(rompy("status", "out", "--json", cwd=tmp_path).stdout)] == ["a", "b"]


def test_status_of_what_is_no_run_is_an_error(tmp_path: Path) -> None:
    assert_refused(rompy("status", "nowhere", cwd=tmp_path), 2, "nowhere")


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    run_command("true", tmp_path)
    shell = f"{sys.executable} -m rompy_hydra status out/r --json | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
