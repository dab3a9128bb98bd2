"""`rompy-hydra report` on real runs and sweeps."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.errors import SiteError
from rompy_hydra.report.page import write_page
from tests.report.made import MadePoint, make_sweep
from tests.sweep.commands import Sweeps, kill, until

SWEEP_PAGE = Path("sw/report/index.html")


@pytest.fixture
def sweeps(tmp_path: Path) -> Sweeps:
    return Sweeps(tmp_path)


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def column(page: Path, key: str) -> list[Any]:
    found = next(c for c in data_of(page)["columns"] if c["key"] == key)
    return [found["texts"][i] for i in found["index"]] if "index" in found else list(found["values"])


def test_a_run_has_its_report_beside_its_record(sweeps: Sweeps) -> None:
    (sweeps.directory / "job.sh").write_text("echo 'a < b'; printf '\\033[31mred\\033[0m\\n' >&2; exit 3\n")
    sweeps.run(
        "run",
        "model=command",
        f"model.command=sh {sweeps.directory}/job.sh",
        "output_dir=runs",
        "run_id=one",
        "resources.memory=100m",
        code=1,
    )
    assert sweeps.run("report", "runs/one").stdout == "runs/one/report.html\n"
    text = (sweeps.directory / "runs/one/report.html").read_text()
    for part in (
        "<h1>one</h1>",
        "exit code 3",
        "100 MiB",
        "the override &#39;resources.memory=100m&#39;",
        ">a &lt; b\n",
        ">red\n",
    ):
        assert part in text


def test_each_value_of_a_run_says_who_set_it(sweeps: Sweeps) -> None:
    words = ["env=hpc", "backend=local", "resources.memory=100m", "output_dir=runs", "run_id=one"]
    sweeps.run("run", "model=command", "model.command=echo", *words)
    sweeps.run(*sweeps.sweep("exit 0", "vars.n=7,8"))
    rows = {}
    for run, page in (("one", "runs/one/report.html"), ("point", "sw/1/report.html")):
        sweeps.run("report", str(Path(page).parent))
        text = (sweeps.directory / page).read_text()
        found = re.findall(
            r'<th scope="row">(.*?)</th><td class="value.*?">(.*?)</td><td class="from">(.*?)</td>', text
        )
        rows[run] = {key: (value, html.unescape(by)) for key, value, by in found}
    assert rows["one"]["resources.memory"] == ("100m", "the override 'resources.memory=100m'")
    assert re.search(r"/env/hpc\.yaml:\d+$", rows["one"]["resources.time_limit"][1])
    assert rows["one"]["period.calendar"] == ("standard", "the default of RunSpec.period.calendar")
    assert rows["point"]["vars.n"] == ("8", "the override 'vars.n=8'")


def test_without_a_snapshot_what_was_typed_is_told(sweeps: Sweeps) -> None:
    sweeps.run("run", "model=command", "model.command=echo", "vars.a=1", "output_dir=runs", "run_id=one")
    shutil.rmtree(sweeps.directory / "runs/one/.source")
    sweeps.run("report", "runs/one")
    text = (sweeps.directory / "runs/one/report.html").read_text()
    assert "the override &#39;vars.a=1&#39;" in text
    assert "the option backend=local" in text


def test_a_sweep_has_its_report_below_it_and_its_figures_are_those_of_the_records(sweeps: Sweeps) -> None:
    sweeps.run(*sweeps.sweep("exit ${vars.n}", "vars.n=0,1,0,2", "sweep.repeats=2"), code=1)
    assert sweeps.run("report", "sw").stdout == f"{SWEEP_PAGE}\n"
    page = sweeps.directory / SWEEP_PAGE
    records = [sweeps.record(n) for n in range(8)]
    assert column(page, "state") == [record["state"] for record in records]
    assert column(page, "swept:vars.n") == [record["sweep"]["swept"]["vars.n"] for record in records]
    assert column(page, "wall") == pytest.approx([record["wall_seconds"] for record in records], rel=1e-5)
    assert column(page, "peak") == [record["peak_memory_bytes"] for record in records]
    assert data_of(page)["timeline"]["count"] == 8
    assert "4 failed" in page.read_text()


def test_links_lead_to_the_points_wherever_the_page_lies(sweeps: Sweeps) -> None:
    sweeps.run(*sweeps.sweep("exit ${vars.n}", "vars.n=0,1"), code=1)
    sweeps.run("report", "sw/1")
    for output in ("page.html", "deep/er/page.html"):
        sweeps.run("report", "sw", "--output", output)
        page = sweeps.directory / output
        plain, reported = column(page, "href")
        assert (page.parent / plain).resolve() == sweeps.path / "0"
        assert (page.parent / reported).resolve() == sweeps.path / "1" / "report.html"
        (log,) = re.findall(r'<a href="([^"]+)">its log</a>', page.read_text())
        assert (page.parent / log).resolve().parent == sweeps.path / "1"


def test_a_page_goes_on_while_the_sweep_runs_and_stops_when_it_ends(sweeps: Sweeps) -> None:
    page = sweeps.directory / SWEEP_PAGE
    wait = f"while [ ! -e '{sweeps.directory}/go' ]; do sleep 0.05; done"
    with sweeps.started(*sweeps.sweep(f"[ ${{vars.n}} = 0 ] || {wait}", "vars.n=0,1,2", "sweep.jobs=1")) as driver:
        until(lambda: len(sweeps.events("start")) == 2)
        with sweeps.started("report", "sw", "--watch") as watcher:
            until(page.exists)
            first = page.read_text()
            assert '<meta http-equiv="refresh" content="10">' in first
            assert column(page, "state") == ["succeeded", "running", "queued"]
            assert watcher.poll() is None
            (sweeps.directory / "go").touch()
            assert driver.wait(90) == 0
            assert watcher.wait(90) == 0
    assert column(page, "state") == ["succeeded"] * 3
    assert 'http-equiv="refresh"' not in page.read_text()
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]


def test_the_page_of_a_run_goes_on_while_it_runs(sweeps: Sweeps) -> None:
    page = sweeps.directory / "runs/one/report.html"
    wait = f"model.command=sh {sweeps.directory}/job.sh"
    (sweeps.directory / "job.sh").write_text(f"echo begun; while [ ! -e '{sweeps.directory}/go' ]; do sleep 0.05; done")
    with sweeps.started("run", "model=command", wait, "output_dir=runs", "run_id=one") as run:
        log = sweeps.directory / "runs/one/logs/stdout.log"
        until(lambda: log.exists() and log.read_text() == "begun\n")
        with sweeps.started("report", "runs/one", "--watch") as watcher:
            until(lambda: page.exists() and "begun" in page.read_text())
            assert '<span class="pill running">' in page.read_text()
            assert 'http-equiv="refresh"' in page.read_text()
            (sweeps.directory / "go").touch()
            assert run.wait(90) == 0
            assert watcher.wait(90) == 0
    assert '<span class="pill succeeded">' in page.read_text()
    assert 'http-equiv="refresh"' not in page.read_text()


def test_without_watching_a_page_does_not_reload_itself(sweeps: Sweeps) -> None:
    with sweeps.started(*sweeps.sweep("sleep 60", "vars.n=1,2", "sweep.jobs=1")):
        until(lambda: len(sweeps.events("start")) == 1)
        sweeps.run("report", "sw")
        assert 'http-equiv="refresh"' not in (sweeps.directory / SWEEP_PAGE).read_text()
        sweeps.run("cancel", "sw")


def test_watching_outlives_the_driver_as_the_runs_do(sweeps: Sweeps) -> None:
    page = sweeps.directory / SWEEP_PAGE
    wait = f"while [ ! -e '{sweeps.directory}/go' ]; do sleep 0.05; done"
    with sweeps.started(*sweeps.sweep(wait, "vars.n=1,2", "sweep.jobs=1")) as driver:
        until(lambda: len(sweeps.events("start")) == 1)
        with sweeps.started("report", "sw", "--watch") as watcher:
            until(page.exists)
            kill(driver)
            until(lambda: "is gone" in page.read_text())
            assert column(page, "state") == ["running", "queued"]
            assert 'http-equiv="refresh"' in page.read_text()
            assert watcher.poll() is None
            (sweeps.directory / "go").touch()
            assert watcher.wait(90) == 0
    assert column(page, "state") == ["succeeded", "queued"]
    assert 'http-equiv="refresh"' not in page.read_text()
    assert "resume" in page.read_text()


def test_secrets_are_in_no_report(sweeps: Sweeps) -> None:
    secret = "hunter2hunter2"
    (sweeps.directory / "job.sh").write_text(f"echo db_password={secret}; echo token: {secret} >&2; exit $1\n")
    words = [f"env_vars.API_TOKEN={secret}", f"+vars.password={secret},{secret}2"]
    sweeps.run(*sweeps.sweep(f"sh {sweeps.directory}/job.sh ${{vars.n}}", "vars.n=1", *words), code=1)
    sweeps.run("report", "sw")
    sweeps.run("report", "sw/0")
    for page in (SWEEP_PAGE, Path("sw/0/report.html")):
        assert secret not in (sweeps.directory / page).read_text(), page


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothing"], 2, "nothing/run.json"),
        (["here"], 2, "here/run.json"),
        ([], 2, "RUN|SWEEP"),
        (["sw", "--output", "here"], 2, "name a file"),
        (["sw", "--output", "file/page.html"], 4, "write it elsewhere with --output FILE"),
    ],
)
def test_what_cannot_be_is_told(words: list[str], code: int, said: str, sweeps: Sweeps) -> None:
    (sweeps.directory / "here").mkdir()
    (sweeps.directory / "file").touch()
    make_sweep(sweeps.path, [MadePoint({})])
    done = sweeps.run("report", *words, code=code)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.html"
    write_page(page, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SiteError, match="No space left on device"):
        write_page(page, b"new")
    monkeypatch.undo()
    assert page.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [page]


def test_an_example_is_reported(sweeps: Sweeps) -> None:
    examples = Path(__file__).resolve().parents[2] / "multirun_examples"
    first, small, *_ = (examples / "env_matrix.sh").read_text().splitlines()
    words = shlex.split(first)[1:] + shlex.split(small.removeprefix("# small form: ")) + ["hydra.sweep.dir=sw"]
    sweeps.run(*words)
    sweeps.run("report", "sw")
    page = sweeps.directory / SWEEP_PAGE
    assert column(page, "swept:env") == ["dev", "hpc"]
    assert "every point ran on 1 CPU" in page.read_text()


def test_pictures_and_figures_are_in_the_page(sweeps: Sweeps) -> None:
    sweeps.run("run", "model=command", "model.command=echo", "output_dir=runs", "run_id=one")
    run_dir = sweeps.directory / "runs/one"
    (run_dir / "pictures").mkdir()
    png = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    (run_dir / "pictures" / "a.png").write_bytes(png)
    (sweeps.directory / "outside.png").write_bytes(png)
    (run_dir / "pictures" / "link.png").symlink_to(sweeps.directory / "outside.png")
    listed = {"file": "a.png", "kind": "map", "title": "Sea level", "alt": "A map of the sea level"}
    (run_dir / "pictures" / "pictures.json").write_text(json.dumps({"pictures": [listed]}))
    (run_dir / "metrics.json").write_text('{"temp.mean": 8.5, "nested": {"hs": {"value": 2, "units": "m"}}}')
    sweeps.run("report", "runs/one")
    text = (run_dir / "report.html").read_text()
    assert re.findall(r'<img src="data:image/png;base64,(\S+)" alt="(.*?)"', text) == [
        (base64.b64encode(png).decode(), "A map of the sea level")
    ]
    assert "outside" not in text
    assert '<th scope="row">temp.mean</th><td>8.5</td>' in text
    assert '<th scope="row">nested.hs [m]</th><td>2</td>' in text


def test_a_packed_sweep_is_reported_as_before(sweeps: Sweeps) -> None:
    told = 'echo "{\\"depth\\": ${vars.n}}" > metrics.json; echo oops${vars.n} >&2; exit ${vars.n}'
    sweeps.run(*sweeps.sweep(told, "vars.n=0,1,2"), code=1)
    page = sweeps.directory / SWEEP_PAGE
    keys = ("state", "wall", "peak", "metric:depth", "host", "cpus")
    sweeps.run("report", "sw")
    before = {key: column(page, key) for key in keys}
    assert before["metric:depth"] == [0, 1, 2]
    sweeps.run("postprocess", "sw", "processor=archive", "pack=true", "remove_originals=true")
    assert not (sweeps.path / "1").exists()
    sweeps.run("report", "sw")
    assert {key: column(page, key) for key in keys} == before
    assert "oops2" in page.read_text()
    assert 'href="../' not in page.read_text()  # there are no directories to lead to
    assert sweeps.run("report", "sw/1").stdout == "sw/report/1.html\n"
    assert "oops1" in (sweeps.path / "report/1.html").read_text()


def test_a_limit_that_grew_is_the_one_that_was_asked_for(sweeps: Sweeps) -> None:
    eat = f"{sys.executable} -c 'import time; x = bytearray(150_000_000); time.sleep(1)'"
    retry = [
        "resources.memory=100m",
        "retry.attempts=2",
        "retry.scale={memory: 4}",
        "retry.wait=0",
        "retry.on_states=[out_of_memory]",
    ]
    sweeps.run(*sweeps.sweep(eat, "vars.n=1", *retry))
    sweeps.run("report", "sw")
    sweeps.run("report", "sw/0")
    assert column(sweeps.directory / SWEEP_PAGE, "memory") == [400 * 2**20]
    assert column(sweeps.directory / SWEEP_PAGE, "attempts") == [2]
    text = (sweeps.path / "0/report.html").read_text()
    assert '<th scope="row">memory</th><td>400 MiB</td>' in text
    assert "out of memory" in text


def test_importing_the_verb_imports_nothing_heavy() -> None:
    code = (
        "import sys, rompy_hydra.verbs.report; print([m for m in ('jinja2', 'pydantic', 'hydra') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
