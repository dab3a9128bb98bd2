"""Sweeps from the command line: directories, records, policy, what is seen while they run and afterwards."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from rompy_hydra.sweep.layout import SweepLayout, check_point_directory, point_directory
from tests.sweep.commands import Sweeps, until


def test_a_sweep_leaves_plan_journal_records_and_a_table(sweeps: Sweeps) -> None:
    done = sweeps.run(*sweeps.sweep("echo n is ${vars.n}", "vars.n=1,2,3"))
    assert done.stdout.splitlines()[0].split() == ["point", "n", "state", "wall", "cpu", "memory"]
    assert done.stdout.splitlines()[-1].startswith("3 succeeded")
    assert [(sweeps.path / str(n) / "stdout.log").read_text() for n in range(3)] == ["n is 1\n", "n is 2\n", "n is 3\n"]
    plan = [json.loads(line) for line in (sweeps.path / "plan.jsonl").read_text().splitlines()]
    assert [line["swept"] for line in plan] == [{"vars.n": 1}, {"vars.n": 2}, {"vars.n": 3}]
    for number, line in enumerate(plan):
        record = sweeps.record(number)
        assert record["state"] == "succeeded"
        assert (record["science_id"], record["point_id"]) == (line["science"], line["point"])
        assert (record["sweep"]["number"], record["sweep"]["swept"]) == (number, line["swept"])
        assert record["config"]["run_id"] == str(number)
        assert record["overrides"] == line["overrides"]
    assert len({line["science"] for line in plan}) == 3
    assert {e["e"] for e in sweeps.events()} == {"driver", "start", "end", "stop"}
    assert (sweeps.path / ".hydra" / "overrides.yaml").exists()
    assert not (sweeps.path / ".lease").exists()


def test_a_point_has_four_inodes_of_ours_at_most(sweeps: Sweeps) -> None:
    sweeps.run(*sweeps.sweep("true", "vars.n=1,2,3,4,5,6,7,8", "model.success.check='test -f run.marker || true'"))
    for number in range(8):
        assert {p.name for p in (sweeps.path / str(number)).iterdir()} == {"run.json", "stdout.log", "stderr.log"}


def test_a_check_that_fails_keeps_what_it_said_beside_the_record(sweeps: Sweeps) -> None:
    sweeps.run(*sweeps.sweep("true", "model.success.check='echo too salty; exit 1'", "vars.n=1,2"), code=1)
    assert (sweeps.path / "0" / "check.log").read_text() == "too salty\n"
    assert sweeps.record(0)["outputs"] == []
    assert "too salty" in sweeps.record(0)["reason"]


def test_hydra_sweep_dir_and_subdir_mean_what_they_mean_in_hydra(sweeps: Sweeps) -> None:
    words = [
        "run",
        "-m",
        "model=command",
        "backend.command=pwd",
        "vars.n=7,8",
        "hydra.sweep.dir=multi/${vars.k}",
        "vars.k=x",
    ]
    sweeps.run(*words, "hydra.sweep.subdir=n${vars.n}/job${hydra:job.num}")
    for number, n in enumerate((7, 8)):
        run_dir = sweeps.directory / "multi" / "x" / f"n{n}" / f"job{number}"
        assert (run_dir / "stdout.log").read_text() == f"{run_dir}\n"


def test_two_points_in_one_directory_are_refused(sweeps: Sweeps) -> None:
    done = sweeps.run(*sweeps.sweep("true", "vars.n=1,2", "hydra.sweep.subdir=same"), code=2)
    assert "hydra.sweep.subdir" in done.stderr
    assert not sweeps.path.exists()


def test_a_directory_with_something_in_it_is_never_used(sweeps: Sweeps) -> None:
    sweeps.run(*sweeps.sweep("true", "vars.n=1,2"))
    done = sweeps.run(*sweeps.sweep("true", "vars.n=1,2"), code=2)
    assert "rompy-hydra resume" in done.stderr
    (sweeps.directory / "other").mkdir()
    (sweeps.directory / "other" / "thesis.tex").touch()
    done = sweeps.run(
        "run", "-m", "model=command", "backend.command=true", "vars.n=1,2", "hydra.sweep.dir=other", code=2
    )
    assert "holds something already" in done.stderr
    assert [p.name for p in (sweeps.directory / "other").iterdir()] == ["thesis.tex"]


def test_above_a_thousand_points_the_directories_fan_out() -> None:
    assert point_directory(12345, "12345", None, fan_out=True) == "012/12345"
    assert point_directory(12, "storm", None, fan_out=False) == "storm"
    assert point_directory(12, "storm", "a/b", fan_out=True) == "a/b"


@pytest.mark.parametrize("name", ["../x", "/x", "", "snapshot", "plan.jsonl/x", ".hidden", "a\nb", "a/../../b"])
def test_a_point_cannot_lie_outside_or_on_top_of_the_sweep(name: str) -> None:
    assert check_point_directory(name, 0) is not None


def test_each_point_is_checked_before_the_first_starts(sweeps: Sweeps) -> None:
    words = sweeps.sweep(sweeps.append("x"), "resources.cpus=1,999,1000", "vars.n=1,2", "model.parallel=openmp")
    done = sweeps.run(*words, code=2)
    assert "4 of 6 points" in done.stderr
    assert "resources.cpus = 999" in done.stderr
    assert "resources.cpus = 1000" in done.stderr
    assert "could never start" in done.stderr
    assert sweeps.ran() == {}
    assert not sweeps.path.exists()


def test_invalid_points_can_be_left_out(sweeps: Sweeps) -> None:
    words = sweeps.sweep("true", "resources.cpus=1,999", "vars.n=1,2", "model.parallel=openmp", "sweep.on_invalid=skip")
    done = sweeps.run(*words)
    assert "2 succeeded, 2 invalid" in done.stdout
    status = json.loads(sweeps.run("status", "--json", "sw").stdout)
    assert status["states"] == {"succeeded": 2, "invalid": 2}
    assert "resources.cpus" in json.loads((sweeps.path / "plan.jsonl").read_text().splitlines()[2])["invalid"]


def test_a_sweep_without_a_point_is_refused(sweeps: Sweeps) -> None:
    done = sweeps.run(*sweeps.sweep("true", "vars.n=1,2", "sweep.exclude='vars.n > 0'"), code=2)
    assert "the sweep has no point" in done.stderr
    assert not sweeps.path.exists()


def test_a_failed_point_is_told_at_once_with_its_log_and_the_exit_code_is_one(sweeps: Sweeps) -> None:
    done = sweeps.run(*sweeps.sweep("echo the bottom is gone >&2; exit ${vars.n}", "vars.n=0,3,0"), code=1)
    assert "failed: point 1 (n=3): its command ended with exit code 3" in done.stderr
    assert str(sweeps.path / "1" / "stderr.log") in done.stderr
    shown = sweeps.run("status", "sw").stdout
    assert shown.index("failed        point 1") < shown.index("points        ")
    assert "| the bottom is gone" in shown


def test_fail_fast_starts_nothing_more(sweeps: Sweeps) -> None:
    done = sweeps.run(
        *sweeps.sweep("exit 3", "vars.n=range(0,30)", "sweep.on_failure=fail_fast", "sweep.jobs=1"), code=1
    )
    assert "1 failed" in done.stdout
    assert len(sweeps.events("start")) == 1
    assert sweeps.states() == {"queued": 29, "failed": 1}


def test_points_run_side_by_side_within_their_budget(sweeps: Sweeps) -> None:
    command = "echo + >> ../log; sleep 0.2; echo - >> ../log"
    sweeps.run(*sweeps.sweep(command, "vars.n=range(0,8)", "sweep.jobs=3"))
    running = most = 0
    for line in (sweeps.path / "log").read_text().split():
        running += 1 if line == "+" else -1
        most = max(most, running)
    assert most == 3


def test_memory_is_packed_too(sweeps: Sweeps) -> None:
    command = "echo + >> ../log; sleep 0.1; echo - >> ../log"
    words = ("vars.n=range(0,6)", "sweep.jobs=4", "sweep.memory=1g", "resources.memory=600m")
    sweeps.run(*sweeps.sweep(command, *words))
    assert (sweeps.path / "log").read_text().split() == ["+", "-"] * 6


def test_a_point_that_says_nothing_of_cpus_is_held_to_one_thread(sweeps: Sweeps) -> None:
    sweeps.run(*sweeps.sweep("echo $OMP_NUM_THREADS", "vars.n=1,2"))
    assert (sweeps.path / "0" / "stdout.log").read_text() == "1\n"


def test_points_that_ask_for_cpus_are_bound_to_their_own(sweeps: Sweeps) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor only")
    command = "grep Cpus_allowed_list /proc/self/status; sleep 0.5"
    words = ("vars.n=1,2", "resources.threads=1", "model.parallel=openmp", "sweep.cpus=2")
    sweeps.run(*sweeps.sweep(command, *words))
    seen = {(sweeps.path / str(n) / "stdout.log").read_text().split()[1] for n in (0, 1)}
    assert len(seen) == 2
    assert all(text.isdigit() for text in seen)


@pytest.mark.docker
def test_containers_of_a_sweep_are_bound_to_their_own_cpus(sweeps: Sweeps, tiny_image: str) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor only")
    command = "grep Cpus_allowed_list /proc/self/status; sleep 1"
    words = ("vars.n=1,2", "backend=docker", f"model.image={tiny_image}", "resources.threads=1", "sweep.cpus=2")
    sweeps.run(*sweeps.sweep(command, *words, "model.parallel=openmp"))
    seen = {(sweeps.path / str(n) / "stdout.log").read_text().split()[1] for n in (0, 1)}
    assert len(seen) == 2
    assert all(text.isdigit() for text in seen)


def test_timing_runs_one_at_a_time_after_a_warm_up(sweeps: Sweeps) -> None:
    command = "echo + $OMP_NUM_THREADS >> ../log; sleep 0.1; echo - >> ../log"
    words = ("resources.threads=1,2", "model.parallel=openmp", "sweep.timing=true", "sweep.repeats=2", "sweep.cpus=2")
    done = sweeps.run(*sweeps.sweep(command, *words))
    assert (sweeps.path / "log").read_text().split("\n")[:-1] == [
        "+ 1",
        "-",
        "+ 1",
        "-",
        "+ 2",
        "-",
        "+ 1",
        "-",
        "+ 2",
        "-",
    ]
    assert "4 succeeded" in done.stdout
    assert not (sweeps.path / ".warm-up").exists()
    assert len({sweeps.record(n)["point_id"] for n in range(4)}) == 4
    assert len({sweeps.record(n)["science_id"] for n in range(4)}) == 1


def test_retries_are_made_and_kept(sweeps: Sweeps) -> None:
    command = "echo try; test -e twice && exit 0; test -e once && touch twice; touch once; exit 5"
    sweeps.run(*sweeps.sweep(command, "vars.n=1,2", "retry.attempts=3", "retry.wait=0.01"))
    record = sweeps.record(1)
    assert [a["state"] for a in record["attempts"]] == ["failed", "failed", "succeeded"]
    assert (sweeps.path / "1" / "stdout.3.log").read_text() == "try\n"


def test_outputs_are_processed_beside_the_runs(sweeps: Sweeps) -> None:
    sweeps.run(*sweeps.sweep("echo ${vars.n} > out", "vars.n=1,2,3", "postprocess=archive"))
    for number in range(3):
        assert sweeps.record(number)["postprocess"]["success"] is True
        assert (sweeps.path / str(number) / f"{number}.tar.gz").exists()
    assert sorted((e["n"], e["ok"]) for e in sweeps.events("post")) == [(0, True), (1, True), (2, True)]


def test_a_processor_that_fails_makes_the_exit_code_one_and_spoils_no_run(sweeps: Sweeps) -> None:
    destination = sweeps.directory / "archives"
    words = ("postprocess=archive", f"postprocess.options.destination={destination}")
    destination.mkdir()
    command = f"rm -rf '{destination}'; echo x > '{destination}'"
    sweeps.run(*sweeps.sweep(command, "vars.n=1,2", *words, "sweep.jobs=1"), code=1)
    assert sweeps.states() == {"succeeded": 2}
    assert {e["ok"] for e in sweeps.events("post")} == {False}


def test_processing_that_a_dead_driver_left_is_done_by_resume(sweeps: Sweeps) -> None:
    sweeps.run(*sweeps.sweep("echo ${vars.n} > out", "vars.n=1,2", "postprocess=archive"))
    events = (sweeps.path / "events.jsonl").read_text().splitlines(keepends=True)
    (sweeps.path / "events.jsonl").write_text("".join(e for e in events if '"e":"post","n":1' not in e))
    (sweeps.path / ".digest.json").unlink()
    (sweeps.path / "1" / "1.tar.gz").unlink()
    sweeps.run("resume", "sw")
    assert (sweeps.path / "1" / "1.tar.gz").exists()
    assert len(sweeps.events("start")) == 2


def test_secrets_reach_the_points_and_no_file(sweeps: Sweeps) -> None:
    words = sweeps.sweep("echo $KEY | wc -c | grep -x 8", "vars.n=1,2", "env_vars.KEY=${secret:MY_KEY}")
    sweeps.run(*words, env={"MY_KEY": "hunter2"})
    texts = [p.read_bytes() for p in sweeps.path.rglob("*") if p.is_file()]
    assert not any(b"hunter2" in text for text in texts)


def test_edits_after_the_start_change_no_point(sweeps: Sweeps) -> None:
    workspace = sweeps.directory / "templates" / "m" / "workspace"
    workspace.mkdir(parents=True)
    (workspace.parent / "template.yaml").write_text("model: {command: [sh, run.sh]}\n")
    (workspace / "run.sh.j2").write_text("echo before {{ vars.n }}; sleep 0.4\n")
    (sweeps.directory / "conf" / "model").mkdir(parents=True)
    (sweeps.directory / "conf" / "model" / "m.yaml").write_text("defaults: [/template/m, _self_]\n")
    words = ["run", "-m", "model=m", "vars.n=range(0,6)", "hydra.sweep.dir=sw", "sweep.jobs=1"]
    with sweeps.started(*words) as driver:
        until(lambda: sweeps.events("start"))
        (workspace / "run.sh.j2").write_text("echo after; exit 1\n")
        shutil.rmtree(sweeps.directory / "conf")
        err = driver.communicate(timeout=90)[1]
    assert driver.returncode == 0, err
    assert [(sweeps.path / str(n) / "stdout.log").read_text() for n in range(6)] == [f"before {n}\n" for n in range(6)]


@pytest.mark.soak
def test_ten_thousand_points_of_true(sweeps: Sweeps) -> None:
    with sweeps.started(*sweeps.sweep("true", "vars.n=range(0,10000)")) as driver:
        assert driver.communicate(timeout=600)[0].splitlines()[-1].startswith("10000 succeeded")
    assert sweeps.states() == {"succeeded": 10000}
    assert {p.name for p in sweeps.path.iterdir() if p.name.isdigit()} == {f"{n:03d}" for n in range(10)}
    assert len(list((sweeps.path / "003").iterdir())) == 1000
    assert sorted(p.name for p in (sweeps.path / "003" / "3999").iterdir()) == ["run.json", "stderr.log", "stdout.log"]
    assert sorted(e["n"] for e in sweeps.events("end")) == list(range(10000))


# ---- dry run


def test_a_dry_run_tells_everything_and_writes_nothing(sweeps: Sweeps) -> None:
    words = sweeps.sweep("echo ${vars.n}", "vars.n=1,2", "resources.cpus=1,2", "model.parallel=openmp", "sweep.cpus=4")
    before = sorted(sweeps.directory.rglob("*"))
    done = sweeps.run(*words, "resources.time_limit=30m", "--dry-run")
    assert sorted(sweeps.directory.rglob("*")) == before
    lines = done.stdout.splitlines()
    assert "point 1  n=1 cpus=2" in lines
    assert "  /bin/sh -c 'echo 2'" in lines
    assert "points       4" in lines
    assert "varies       resources.cpus: 1, 2" in lines
    assert any(line.startswith("to be made   16 files and directories") for line in lines)
    assert "core-hours   at most 3 (cpus × time limit)" in lines


def test_a_dry_run_names_every_invalid_point_and_exits_with_two(sweeps: Sweeps) -> None:
    done = sweeps.run(*sweeps.sweep("true", "resources.cpus=1,998,999", "model.parallel=openmp"), "--dry-run", code=2)
    assert "points       3, 2 of them wrong" in done.stdout
    assert "998" in done.stderr
    assert "999" in done.stderr
    assert "nothing was started" in done.stderr


def test_a_dry_run_of_one_run(sweeps: Sweeps) -> None:
    done = sweeps.run("run", "model=command", "backend.command=true", "run_id=r", "--dry-run")
    assert "  /bin/sh -c true" in done.stdout
    assert "points       1" in done.stdout
    assert not (sweeps.directory / "runs").exists()
    done = sweeps.run("run", "model=command", "backend.command=no_such_program", "--dry-run", code=2)
    assert "no_such_program" in done.stderr


# ---- looking


def test_status_of_a_read_only_copy(sweeps: Sweeps, read_only: Path) -> None:
    sweeps.run(*sweeps.sweep("exit ${vars.n}", "vars.n=0,1,0"), code=1)
    shutil.copytree(sweeps.path, read_only / "copy")
    _remount(read_only, "ro")
    assert "2 succeeded, 1 failed" in sweeps.run("status", str(read_only / "copy")).stdout
    (sweeps.path / ".digest.json").unlink()
    assert json.loads(sweeps.run("status", "--json", "sw").stdout)["states"] == {"succeeded": 2, "failed": 1}


@pytest.fixture
def read_only(tmp_path: Path) -> object:
    place = tmp_path / "disk"
    place.mkdir()
    if os.system(f"mount -t tmpfs -o size=4m none '{place}' 2>/dev/null") != 0:
        pytest.skip("no permission to mount a tmpfs")
    yield place
    os.system(f"umount '{place}'")


def _remount(place: Path, how: str) -> None:
    assert os.system(f"mount -o remount,{how} '{place}'") == 0


def test_logs_follow_a_running_point_to_its_end(sweeps: Sweeps) -> None:
    command = "echo one; while ! test -e ../go; do sleep 0.02; done; echo two"
    with sweeps.started(*sweeps.sweep(command, "vars.n=1,2")) as driver:
        until((sweeps.path / "1" / "stdout.log").exists)
        with sweeps.started("logs", "-f", "sw", "1") as following:
            assert following.stdout is not None
            assert following.stdout.readline() == "one\n"
            (sweeps.path / "go").touch()
            assert following.stdout.read() == "two\n"
            assert following.wait(60) == 0
        assert driver.wait(60) == 0
    assert sweeps.run("logs", "sw/0").stdout == "one\ntwo\n"
    assert sweeps.run("logs", "sw", code=2).stderr.count("name a point") == 1
    assert "has no point '9'" in sweeps.run("logs", "sw", "9", code=2).stderr


def test_a_sweep_and_a_point_can_be_cancelled_from_elsewhere(sweeps: Sweeps) -> None:
    with sweeps.started(*sweeps.sweep("sleep 60", "vars.n=range(0,6)", "sweep.jobs=2")) as driver:
        until(lambda: len(sweeps.events("start")) >= 2)
        assert "running" in sweeps.run("status", "sw/0").stdout
        sweeps.run("cancel", "sw", "0", "5")
        until(lambda: len(sweeps.events("start")) >= 3)
        sweeps.run("cancel", "sw")
        assert driver.wait(60) == 1
    states = sweeps.states()
    assert states["cancelled"] >= 3
    assert sweeps.record(0)["state"] == "cancelled"
    assert "cancel" in sweeps.record(0)["reason"]


def test_a_detached_sweep_goes_on_by_itself(sweeps: Sweeps) -> None:
    done = sweeps.run(*sweeps.sweep("sleep 0.3; " + sweeps.append("${vars.n}"), "vars.n=range(0,4)"), "--detach")
    assert "see them: rompy-hydra status" in done.stdout
    until(lambda: sweeps.events("stop"))
    assert sweeps.ran() == {str(n): 1 for n in range(4)}
    until(lambda: "4 succeeded" in (sweeps.path / "driver.log").read_text())
    assert not SweepLayout(sweeps.path).lease.exists()


def test_detach_needs_a_sweep(sweeps: Sweeps) -> None:
    assert "add -m" in sweeps.run("run", "model=command", "backend.command=true", "--detach", code=2).stderr


def test_a_refused_sweep_leaves_no_directory_and_never_takes_away_the_one_where_one_stands(sweeps: Sweeps) -> None:
    sweeps.run("run", "-m", "model=command", "model.command=true", "backend.timeout=1h,xx", code=2)
    assert list(sweeps.directory.iterdir()) == []
    sweeps.run("run", "-m", "model=command", "model.command=true", "backend.timeout=xx", "hydra.sweep.dir=sw", code=2)
    sweeps.run("run", "model=command", "model.command=/nonexistent", "output_dir=.", code=None)
    assert sweeps.directory.is_dir()
