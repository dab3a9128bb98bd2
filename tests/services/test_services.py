"""The services that the other tests rely on do the real thing, and say clearly why when they cannot start."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.services import daemon
from tests.services.daemon import Daemon, ServiceError


def sh(*argv: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, cwd=cwd, timeout=100, check=False)


@pytest.mark.docker
@pytest.mark.xdist_group("docker")
class TestDocker:
    def test_a_container_returns_its_output_and_exit_code(self, tiny_image: str) -> None:
        result = sh("docker", "run", "--rm", tiny_image, "sh", "-c", "echo from inside; echo aside >&2; exit 7")
        assert (result.stdout, result.stderr, result.returncode) == ("from inside\n", "aside\n", 7)

    def test_a_memory_limit_is_enforced(self, tiny_image: str) -> None:
        eat = "head -c 200000000 /dev/zero | tail -c 190000000 | wc -c"
        limited = sh("docker", "run", "--rm", "--memory=20m", "--memory-swap=20m", tiny_image, "sh", "-c", eat)
        assert limited.stdout.strip() != "190000000"

    def test_a_read_only_mount_cannot_be_written(self, tiny_image: str, tmp_path: Path) -> None:
        result = sh("docker", "run", "--rm", "-v", f"{tmp_path}:/data:ro", tiny_image, "touch", "/data/x")
        assert result.returncode != 0
        assert "Read-only file system" in result.stderr
        assert not list(tmp_path.iterdir())

    def test_the_image_has_no_bash_and_no_passwd(self, tiny_image: str) -> None:
        result = sh("docker", "run", "--rm", tiny_image, "sh", "-c", "ls /bin/bash /etc/passwd")
        assert result.stdout == ""


@pytest.mark.slurm
@pytest.mark.xdist_group("slurm")
class TestSlurm:
    def test_a_job_writes_its_file_where_it_was_submitted(self, tmp_path: Path) -> None:
        result = sh("sbatch", "--wait", "--output=job.log", "--wrap=echo from the node > made.txt", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert (tmp_path / "made.txt").read_text() == "from the node\n"

    def test_an_exit_code_comes_back(self, tmp_path: Path) -> None:
        assert sh("sbatch", "--wait", "--output=job.log", "--wrap=exit 3", cwd=tmp_path).returncode == 3

    def test_a_job_over_its_memory_is_killed(self, tmp_path: Path) -> None:
        # the shell doubles a variable until the sampler (once a second) sees it above the limit
        eat = "x=x; while :; do x=$x$x; [ ${#x} -lt 100000000 ] || sleep 5; done"
        result = sh("sbatch", "--wait", "--mem=30", "--output=job.log", f"--wrap={eat}", cwd=tmp_path)
        assert result.returncode != 0
        assert "exceeded memory limit" in (tmp_path / "job.log").read_text()

    def test_jobs_run_side_by_side_on_more_cpus_than_the_machine_has(self, tmp_path: Path) -> None:
        began = time.monotonic()
        result = sh("sbatch", "--wait", "--array=0-7", "--output=%a.log", "--wrap=sleep 3", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert time.monotonic() - began < 8 * 3


@pytest.mark.browser
def test_chromium_runs_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<p id=p></p><script>document.getElementById('p').textContent = 'made by script ' + 6 * 7</script>")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    rendered = sh(
        *["chromium", "--headless", "--no-sandbox", "--disable-gpu", *quiet],
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        page.as_uri(),
    )
    assert "made by script 42" in rendered.stdout, rendered.stderr


@pytest.mark.anuga
def test_two_ranks_know_each_other(tmp_path: Path) -> None:
    # files and not stdout, where the ranks' lines may run into each other
    code = "import anuga; open(f'{anuga.myid} of {anuga.numprocs}', 'w').close()"
    root = ["--allow-run-as-root", "--oversubscribe"]
    launched = sh("mpirun", "-np", "2", *root, sys.executable, "-c", code, cwd=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"0 of 2", "1 of 2"}, launched.stderr


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(daemon, "STATE_DIR", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("state_dir")
class TestDaemon:
    def test_one_that_dies_shows_the_end_of_its_log(self) -> None:
        broken = Daemon("broken", ["sh", "-c", "echo starting; echo no such option >&2; exit 3"])
        broken.start()
        with pytest.raises(ServiceError, match=r"(?s)broken ended at once.*broken\.log.*no such option"):
            broken.wait_until(lambda: "no answer")

    def test_one_that_never_answers_says_what_it_was_asked(self) -> None:
        deaf = Daemon("deaf", ["sleep", "60"])
        deaf.start()
        try:
            with pytest.raises(ServiceError, match=r"deaf is not ready after 0 s: port closed"):
                deaf.wait_until(lambda: "port closed", seconds=0.3)
        finally:
            assert deaf.stop()

    def test_starting_twice_keeps_the_first(self) -> None:
        sleeper = Daemon("sleeper", ["sleep", "60"])
        sleeper.start()
        first = sleeper.pid()
        sleeper.start()
        assert first is not None
        assert sleeper.pid() == first
        assert sleeper.stop()
        assert sleeper.pid() is None
        assert not sleeper.stop()

    def test_a_pid_that_now_belongs_to_another_is_not_ours(self) -> None:
        stale = Daemon("stale", ["true"])
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        stale.pid_file.write_text(f"{boot} 1 12345")
        assert stale.pid() is None
