"""The driver dies, at any moment and in any way: every point runs exactly once in the end, and nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.run.processes import all_pids, marked_with
from tests.sweep.commands import Sweeps, kill, until


def trial(sweeps: Sweeps, rnd: random.Random, *, points: int, kills: int, pause_s: float) -> int:
    """Run a sweep, kill its driver at random moments, resume until it is done; how often it was killed."""
    command = f"sleep {pause_s}; {sweeps.append('${vars.n}')}"
    words = sweeps.sweep(command, f"vars.n=range(0,{points})")
    killed = 0
    while True:
        with sweeps.started(*words) as driver:
            until(lambda: driver.poll() is not None or sweeps.path.exists())
            words = ["resume", "sw"]
            if killed < kills:
                try:
                    driver.wait(rnd.uniform(0, 1.5))
                except subprocess.TimeoutExpired:
                    kill(driver)
                    killed += 1
                    continue
            out, err = driver.communicate(timeout=240)
            assert driver.returncode == 0, f"{out}\n{err}"
            break
    return killed


def check_exactly_once(sweeps: Sweeps, points: int) -> None:
    ran = sweeps.ran()
    assert ran == {str(n): 1 for n in range(points)}, {n: c for n, c in ran.items() if c != 1}
    assert sweeps.states() == {"succeeded": points}
    for number in range(points):
        assert sweeps.record(number)["state"] == "succeeded"
        assert len(sweeps.record(number)["attempts"]) == 1
    ends = [e["n"] for e in sweeps.events("end")]
    assert sorted(ends) == list(range(points))


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_driver_costs_no_point_and_repeats_none(sweeps: Sweeps, seed: int) -> None:
    trial(sweeps, random.Random(seed), points=40, kills=3, pause_s=0.03)
    check_exactly_once(sweeps, 40)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(50))
def test_fifty_killed_drivers_of_two_hundred_points(sweeps: Sweeps, soak_random: random.Random, number: int) -> None:
    rnd = random.Random(f"{soak_random.random()} {number}")
    trial(sweeps, rnd, points=200, kills=rnd.choice([1, 1, 3, 8]), pause_s=rnd.choice([0, 0, 0.005, 0.05]))
    check_exactly_once(sweeps, 200)


def test_what_ran_when_the_driver_died_is_waited_for_and_taken(sweeps: Sweeps) -> None:
    command = f"while ! test -e ../go; do sleep 0.02; done; {sweeps.append('${vars.n}')}"
    with sweeps.started(*sweeps.sweep(command, "vars.n=range(0,4)", "sweep.jobs=2")) as driver:
        until(lambda: all((sweeps.path / str(n) / "stdout.log").exists() for n in (0, 1)))
        kill(driver)
    status = json.loads(sweeps.run("status", "--json", "sw").stdout)
    assert status["states"] == {"queued": 2, "running": 2}
    assert not status["is_driven"]
    assert "is gone; go on: rompy-hydra resume" in status["driver"]
    with sweeps.started("resume", "sw") as second:
        time.sleep(1.0)
        assert second.poll() is None
        (sweeps.path / "go").touch()
        assert second.wait(60) == 0
    check_exactly_once(sweeps, 4)
    assert sum(e["n"] in (0, 1) for e in sweeps.events("start")) == 2


@pytest.mark.parametrize("looks_first", [False, True])
def test_a_run_that_ended_without_its_driver_is_not_repeated(sweeps: Sweeps, looks_first: bool) -> None:
    command = f"while ! test -e ../go; do sleep 0.02; done; {sweeps.append('${vars.n}')}; exit ${{vars.n}}"
    with sweeps.started(*sweeps.sweep(command, "vars.n=0,1")) as driver:
        until(lambda: all((sweeps.path / str(n) / "stdout.log").exists() for n in (0, 1)))
        kill(driver)
    (sweeps.path / "go").touch()
    until(lambda: all((sweeps.path / str(n) / "run.json").exists() and sweeps.record(n)["ended_at"] for n in (0, 1)))
    if looks_first:
        assert sweeps.states() == {"succeeded": 1, "failed": 1}
    done = sweeps.run("resume", "sw", code=1)
    assert "1 succeeded, 1 failed" in done.stdout
    assert sweeps.ran() == {"0": 1, "1": 1}
    assert len(sweeps.events("start")) == 2


def test_a_point_whose_keeper_was_killed_too_is_lost_ended_and_run_again(sweeps: Sweeps) -> None:
    command = f"{sweeps.append('began')}; while ! test -e ../go; do sleep 0.02; done; {sweeps.append('${vars.n}')}"
    with sweeps.started(*sweeps.sweep(command, "vars.n=0,1", "sweep.jobs=1")) as driver:
        until(lambda: sweeps.ran()["began"] == 1)
        kill(driver)
    (start,) = sweeps.events("start")
    keeper = start["by"]["pid"]
    os.kill(keeper, signal.SIGKILL)
    until(lambda: keeper not in all_pids() or ProcessIdentity.of(keeper).start_time != start["by"]["start_time"])
    (sweeps.path / "go").touch()
    sweeps.run("resume", "sw")
    assert sweeps.ran()["0"] <= 2
    assert sweeps.ran()["1"] == 1
    assert marked_with(start["token"]) == []
    assert sweeps.states() == {"succeeded": 2}
    assert [e["state"] for e in sweeps.events("end") if e["n"] == 0] == ["lost", "succeeded"]
    assert (sweeps.path / "0" / "stdout.2.log").exists()


def test_a_driver_that_dies_between_the_journal_and_the_hand_over_leaves_a_point_that_never_began(
    sweeps: Sweeps,
) -> None:
    sweeps.run(*sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=0,1,2", "sweep.on_failure=fail_fast"))
    events = (sweeps.path / "events.jsonl").read_text().splitlines(keepends=True)
    dead = json.loads(next(line for line in events if '"e":"start"' in line and '"n":2' in line))
    dead |= {"token": "never", "by": {"pid": 2**22 + 1, "start_time": 1}}
    kept = [line for line in events if '"n":2' not in line and '"stop"' not in line]
    (sweeps.path / "events.jsonl").write_text("".join(kept) + json.dumps(dead) + "\n")
    (sweeps.path / ".digest.json").unlink()
    for log in (sweeps.path / "2").iterdir():
        log.unlink()
    (sweeps.directory / "ran").write_text("0\n1\n")
    assert sweeps.states() == {"queued": 1, "succeeded": 2}
    sweeps.run("resume", "sw")
    check_exactly_once(sweeps, 3)
    assert [e["e"] for e in sweeps.events() if e.get("n") == 2] == ["start", "back", "start", "end"]


def test_a_finished_sweep_has_nothing_left_to_do(sweeps: Sweeps) -> None:
    sweeps.run(*sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=0,1,2"))
    assert "nothing is left to do: 3 succeeded" in sweeps.run("resume", "sw").stdout
    (sweeps.directory / "elsewhere").mkdir()
    sweeps.path.rename(sweeps.directory / "elsewhere" / "sw")
    assert "nothing is left to do" in sweeps.run("resume", "elsewhere/sw").stdout
    assert sum(sweeps.ran().values()) == 3


def test_failed_points_run_again_only_if_asked(sweeps: Sweeps) -> None:
    command = f"{sweeps.append('${vars.n}')}; test ${{vars.n}} = 0 || test -e ../mended"
    sweeps.run(*sweeps.sweep(command, "vars.n=0,1,2"), code=1)
    sweeps.run("resume", "sw", code=1)
    assert sweeps.ran() == {"0": 1, "1": 1, "2": 1}
    (sweeps.path / "mended").touch()
    sweeps.run("resume", "--retry-failed", "sw")
    assert sweeps.ran() == {"0": 1, "1": 2, "2": 2}
    assert [a["state"] for a in sweeps.record(1)["attempts"]] == ["failed", "succeeded"]


def test_a_point_that_is_another_simulation_now_is_refused(sweeps: Sweeps) -> None:
    forcing = sweeps.directory / "wind.nc"
    forcing.write_text("north")
    words = sweeps.sweep("exit ${vars.n}", "vars.n=1,0", "sweep.on_failure=fail_fast", "sweep.jobs=1")
    sweeps.run(*words, f"+model.inputs.wind.source={forcing}", code=1)
    forcing.write_text("south!")
    done = sweeps.run("resume", "sw", code=2)
    assert "is another simulation now" in done.stderr
    assert "resume --update" in done.stderr


def test_two_drivers_on_one_sweep(sweeps: Sweeps) -> None:
    with sweeps.started(*sweeps.sweep("sleep 60", "vars.n=range(0,4)")) as driver:
        until(lambda: sweeps.events("start"))
        done = sweeps.run("resume", "sw", code=2)
        assert f"process {driver.pid} on" in done.stderr
        assert "rompy-hydra cancel" in done.stderr
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(60) == 143


def test_a_sweep_of_another_machine_is_taken_over_only_if_asked(sweeps: Sweeps) -> None:
    sweeps.run(*sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=0,1,2"))
    host = os.uname().nodename
    events = (sweeps.path / "events.jsonl").read_text().replace(f'"host":"{host}"', '"host":"elsewhere"')
    kept = [e for e in events.splitlines(keepends=True) if '"e":"end","n":1' not in e and '"stop"' not in e]
    (sweeps.path / "events.jsonl").write_text("".join(kept))
    (sweeps.path / ".digest.json").unlink()
    (sweeps.path / "1" / "run.json").unlink()
    who = {**ProcessIdentity.of().to_dict(), "host": "elsewhere", "token": "theirs", "since": "then"}
    (sweeps.path / ".lease").write_text(json.dumps(who))
    assert sweeps.states() == {"running": 1, "succeeded": 2}
    assert "--take-over" in sweeps.run("resume", "sw", code=2).stderr
    assert "it is alive" in sweeps.run("resume", "--take-over", "sw", code=2).stderr
    os.utime(sweeps.path / ".lease", (1, 1))
    sweeps.run("resume", "--take-over", "sw")
    assert sweeps.ran() == {"0": 1, "1": 2, "2": 1}
    assert [e["state"] for e in sweeps.events("end") if e["n"] == 1] == ["lost", "succeeded"]


@pytest.mark.parametrize("garbage", [b'{"t":"2026', b"\x00\xff\x00", b'{"t":"x","e":"end","n":1,"a":1,"state":"fai'])
def test_a_torn_last_line_harms_nothing(sweeps: Sweeps, garbage: bytes) -> None:
    sweeps.run(*sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=0,1,2", "sweep.jobs=1"))
    with (sweeps.path / "events.jsonl").open("ab") as events:
        events.write(garbage)
    assert sweeps.states() == {"succeeded": 3}
    assert "nothing is left to do" in sweeps.run("resume", "sw").stdout
    assert sum(sweeps.ran().values()) == 3


# ---- signals


def test_ctrl_c_once_finishes_what_runs_and_resume_does_the_rest(sweeps: Sweeps) -> None:
    command = f"while ! test -e ../go; do sleep 0.02; done; {sweeps.append('${vars.n}')}"
    with sweeps.started(*sweeps.sweep(command, "vars.n=range(0,6)", "sweep.jobs=2")) as driver:
        until(lambda: len(sweeps.events("start")) == 2)
        driver.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert driver.poll() is None
        (sweeps.path / "go").touch()
        _, err = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "nothing more is started; waiting for 2 running; Ctrl-C again ends them" in err
    assert sweeps.states() == {"queued": 4, "succeeded": 2}
    sweeps.run("resume", "sw")
    check_exactly_once(sweeps, 6)


def test_ctrl_c_twice_ends_what_runs_with_all_its_processes(sweeps: Sweeps) -> None:
    with sweeps.started(*sweeps.sweep("sleep 61 & sleep 62", "vars.n=range(0,6)", "sweep.jobs=2")) as driver:
        until(lambda: len(sweeps.events("start")) == 2)
        tokens = [e["token"] for e in sweeps.events("start")]
        until(lambda: all(len(marked_with(token)) >= 2 for token in tokens))
        driver.send_signal(signal.SIGINT)
        time.sleep(0.3)
        driver.send_signal(signal.SIGINT)
        _, err = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "interrupted again: ending 2 running" in err
    assert sweeps.states() == {"queued": 4, "cancelled": 2}
    assert [marked_with(token) for token in tokens] == [[], []]


def test_a_lost_terminal_detaches(sweeps: Sweeps) -> None:
    command = f"while ! test -e ../go; do sleep 0.02; done; {sweeps.append('${vars.n}')}"
    with sweeps.started(*sweeps.sweep(command, "vars.n=range(0,4)", "sweep.jobs=2")) as driver:
        until(lambda: len(sweeps.events("start")) == 2)
        driver.send_signal(signal.SIGHUP)
        until((sweeps.path / "driver.log").exists)
        (sweeps.path / "go").touch()
        assert driver.wait(60) == 0
    check_exactly_once(sweeps, 4)
    assert "the terminal is gone; the sweep goes on" in (sweeps.path / "driver.log").read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_planning_leaves_nothing(sweeps: Sweeps, number: signal.Signals, code: int) -> None:
    with sweeps.started(*sweeps.sweep("true", "vars.n=range(0,30000)")) as driver:
        until(lambda: list(sweeps.directory.glob(".sw.planning-*/plan.jsonl")))
        driver.send_signal(number)
        assert driver.wait(60) == code
    assert list(sweeps.directory.iterdir()) == []


def test_a_sweep_appears_when_it_is_planned_and_a_killed_draft_is_removed(sweeps: Sweeps) -> None:
    with sweeps.started(*sweeps.sweep("true", "vars.n=range(0,30000)")) as driver:
        until(lambda: list(sweeps.directory.glob(".sw.planning-*/plan.jsonl")))
        kill(driver)
    assert not sweeps.path.exists()
    assert "there is no sweep" in sweeps.run("resume", "sw", code=2).stderr
    sweeps.run(*sweeps.sweep("true", "vars.n=1,2"))
    assert [p.name for p in sweeps.directory.iterdir()] == ["sw"]


def test_of_two_that_make_the_same_sweep_one_gets_it(sweeps: Sweeps) -> None:
    words = sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=range(0,20)")
    with sweeps.started(*words) as one, sweeps.started(*words) as other:
        ended = [(p.communicate(timeout=90)[1], p.returncode) for p in (one, other)]
    assert sorted(code for _, code in ended) == [0, 2], ended
    assert sweeps.ran() == {str(n): 1 for n in range(20)}


# ---- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> object:
    place = tmp_path / "disk"
    place.mkdir()
    if os.system(f"mount -t tmpfs -o size=2m none '{place}' 2>/dev/null") != 0:
        pytest.skip("no permission to mount a tmpfs")
    yield place
    os.system(f"umount -l '{place}'")


def test_a_full_disk_in_the_middle_stops_the_sweep_and_resume_completes_it(small_disk: Path, tmp_path: Path) -> None:
    sweeps = Sweeps(small_disk)
    command = f"echo ${{vars.n}} >> '{tmp_path}/ran'; sleep 0.02"
    words = ["run", "-m", "model=command", f'backend.command="{command}"', "hydra.sweep.dir=sw", "vars.n=range(0,400)"]
    done = sweeps.run(*words, code=4)
    assert "No space left on device" in done.stderr
    states = sweeps.states()
    assert states["queued"] > 0
    assert "failed" not in states
    assert os.system(f"mount -o remount,size=32m '{small_disk}'") == 0
    sweeps.run("resume", "sw")
    ran = (tmp_path / "ran").read_text().split()
    assert sorted(ran, key=int) == [str(n) for n in range(400)]
    assert sweeps.states() == {"succeeded": 400}


# ---- containers


@pytest.mark.docker
@pytest.mark.parametrize("keeper_dies", [False, True])
def test_a_container_that_runs_when_its_driver_dies_is_waited_for(
    sweeps: Sweeps, tiny_image: str, keeper_dies: bool
) -> None:
    command = "echo ran >> count; while ! test -e go; do sleep 0.1; done; echo ${vars.n}"
    words = sweeps.sweep(command, "backend=local,docker", f"model.image={tiny_image}", "vars.n=1", "sweep.cpus=2")
    with sweeps.started(*words) as driver:
        until(lambda: all((sweeps.path / str(n) / "count").exists() for n in (0, 1)))
        kill(driver)
    if keeper_dies:
        (start,) = (e for e in sweeps.events("start") if e["n"] == 1)
        os.kill(start["by"]["pid"], signal.SIGKILL)
    assert sweeps.states() == {"running": 2}
    with sweeps.started("resume", "sw") as second:
        time.sleep(1.0)
        for number in (0, 1):
            (sweeps.path / str(number) / "go").touch()
        assert second.wait(90) == 0
    assert [(sweeps.path / str(n) / "count").read_text() for n in (0, 1)] == ["ran\n", "ran\n"]
    assert sweeps.states() == {"succeeded": 2}
    assert (sweeps.path / "1" / "stdout.log").read_text() == "1\n"
    assert {p.name for p in (sweeps.path / "1").iterdir()} == {"run.json", "stdout.log", "stderr.log", "count", "go"}
