"""Reports as a person uses them: a real browser opens the file, sorts, filters, hovers, switches axes."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rompy_hydra.cli import main
from tests.report.conftest import Browser
from tests.report.made import MACHINE, MadePoint, amdahl_points, make_sweep

CONTRAST = Path(__file__).with_name("contrast.js")

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def report(directory: Path, *words: str) -> Path:
    assert main(["report", str(directory), *words]) == 0
    return directory / "report" / "index.html"


def mixed(count: int, seed: int = 1) -> list[MadePoint]:
    rng = random.Random(seed)
    points = []
    for number in range(count):
        ranks = rng.choice([1, 2, 4, 8])
        state = rng.choices(["succeeded", "failed", "timed_out", "out_of_memory"], [0.9, 0.05, 0.03, 0.02])[0]
        points.append(
            MadePoint(
                {
                    "resources.ranks": ranks,
                    "model.parameters.wind": round(rng.uniform(0.05, 0.2), 5),
                    "model.scheme": rng.choice(["a", "b"]),
                },
                rng.lognormvariate(2, 0.4) / ranks,
                state,
                cpus=ranks,
                ranks=ranks,
                after_s=number * 0.35,
                peak=int(rng.lognormvariate(5.5, 0.3) * 2**20),
                memory=rng.choice([512, 1024]) * 2**20,
                reason="" if state == "succeeded" else f"it ended with exit code {rng.randint(1, 3)}",
                metrics={"transport": {"max": {"value": rng.gauss(12, 2), "units": "Sv"}}}
                if state == "succeeded"
                else None,
                log=None if state == "succeeded" else b"step 1\nError: unstable\n",
                machine={**MACHINE, "host": rng.choice(["n1", "n2"])},
            )
        )
    return points


def test_a_sweep_is_sorted_filtered_and_hovered(tmp_path: Path, browser: Browser) -> None:
    points = mixed(60)
    browser.open(report(make_sweep(tmp_path / "sw", points)))
    assert browser.text("#shown") == "60 points."
    walls = sorted(point.wall_s for point in points if point.wall_s)

    # sort, by the keyboard
    browser.js("[...document.querySelectorAll('button.head')].find((b) => b.textContent === 'time').focus()")
    browser.driver.switch_to.active_element.send_keys("\n")
    browser.until(lambda: browser.column("time")[0] == shown_seconds(walls[0]))
    assert (
        browser.js("return document.querySelector('.tabulator-col[aria-sort=ascending]').textContent.trim()") == "time"
    )
    browser.driver.switch_to.active_element.send_keys("\n")
    browser.until(lambda: browser.column("time")[0] == shown_seconds(walls[-1]))

    # filter by a state, then by a head as well, then by any text
    failed = [point for point in points if point.state == "failed"]
    browser.js("document.querySelector('#states input[value=failed]').click()")
    browser.until(lambda: browser.text("#shown") == f"{len(failed)} of 60 points.")
    assert set(browser.column("state")) == {"failed"}
    few = [point for point in failed if point.cpus > 2]
    browser.find("input[aria-label='filter CPUs']").send_keys(">2")
    browser.until(lambda: browser.text("#shown") == f"{len(few)} of 60 points.")
    browser.find("#reset").click()
    browser.until(lambda: browser.text("#shown") == "60 points.")
    browser.find("#search").send_keys("exit code 2")
    matching = [point for point in points if "code 2" in point.reason]
    browser.until(lambda: browser.text("#shown") == f"{len(matching)} of 60 points.")

    # the charts show what the table shows
    browser.show("#compare")
    browser.until(lambda: f"0 of {len(matching)} points" in browser.text("#scatter-words"))  # those have no metrics
    browser.find("#reset").click()

    # hover
    browser.chart("chart-lanes")
    browser.until(
        lambda: browser.js("return document.querySelectorAll('#chart-lanes [aria-label=rect] rect').length") == 60
    )
    browser.hover("#chart-lanes [aria-label=rect] rect:nth-of-type(30)")
    browser.until(lambda: "point " in browser.text("#chart-lanes [aria-label=tip]"))
    assert browser.complaints() == []


def shown_seconds(seconds: float) -> str:
    return f"{float(f'{seconds:.3g}'):g} s" if seconds >= 0.9995 else f"{float(f'{seconds * 1000:.3g}'):g} ms"


def test_axes_are_chosen_by_drop_downs(tmp_path: Path, browser: Browser) -> None:
    points = mixed(80)
    browser.open(report(make_sweep(tmp_path / "sw", points)))
    browser.chart("chart-scatter")
    offered = browser.texts("#y option")
    assert {"time", "peak memory", "transport.max [Sv]", "wind", "core-hours held"} <= set(offered)
    browser.choose("x", key="swept:model.parameters.wind")
    browser.choose("y", key="wall")
    browser.choose("colour", key="swept:model.scheme")
    assert browser.text("#scatter-words").startswith("time against wind: 80 of 80 points have both.")
    # what is drawn is what was measured: the places of the dots are linear in the values
    dots = browser.dots("chart-scatter", 80)
    walls, winds = [p.wall_s or 0 for p in points], [p.swept["model.parameters.wind"] for p in points]
    assert correlation([x for x, _ in dots], winds) > 0.999999
    assert correlation([y for _, y in dots], walls) < -0.999999
    browser.find("#y-log").click()
    logged = [y for _, y in browser.dots("chart-scatter", 80)]
    assert correlation(logged, [math.log(wall) for wall in walls]) < -0.999999
    assert browser.complaints() == []


def correlation(a: list[float], b: list[float]) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_the_scaling_figure_shows_the_figures(tmp_path: Path, browser: Browser) -> None:
    browser.open(report(make_sweep(tmp_path / "sw", amdahl_points(0.05, noise=(0.0, 0.0)))))
    assert "Take 8 CPUs (8 ranks)" in browser.text("#advice")
    assert "resources.ranks=8 resources.threads=1" in browser.text("#advice code")
    rows = browser.rows("#scaling tbody tr")
    assert [row[4] for row in rows] == ["1", "1.9", "3.48", "5.93", "9.14"]  # 1 / (0.05 + 0.95 / p)
    assert [row[6] for row in rows] == ["100%", "95%", "87%", "74%", "57%"]
    assert "a serial part of 5.0% ± 0.0%" in browser.text("#scaling")
    assert "at most 20 times faster" in browser.text("#scaling")
    for name in ("chart-time", "chart-speedup", "chart-efficiency"):
        browser.chart(name)
    browser.hover("#chart-speedup [aria-label=dot] circle[r='4.5']:nth-of-type(3)")
    browser.until(lambda: "speed-up 3.48" in browser.text("#chart-speedup [aria-label=tip]"))
    assert browser.complaints() == []


SWEEPS: dict[str, list[MadePoint]] = {
    "empty": [],
    "one point": [MadePoint({}, 1.0, peak=5 * 2**20)],
    "nothing started": [MadePoint({"a": n}, None, "queued", has_record=False) for n in range(3)],
    "all failed": [MadePoint({"a": n}, 1.0, "failed", reason="it ended with exit code 1") for n in range(7)],
    "half done": [
        MadePoint({"a": 1}),
        MadePoint({"a": 2}, None, "running", has_record=False),
        MadePoint({"a": 3}, None, "queued"),
    ],
    "no records": [MadePoint({"a": n, "b": [n, None]}, has_record=False) for n in range(3)],
    "odd values": [
        MadePoint({"a": value}, 1.0) for value in (None, True, 1, 1.5, "x", [1, {"b": 2}], 10**400, 1e-300, "1e3")
    ],
    "no time": [MadePoint({"resources.ranks": n}, 0.0, cpus=n) for n in (1, 2)],
}


@pytest.mark.parametrize("name", SWEEPS)
def test_any_sweep_opens_without_a_complaint(name: str, tmp_path: Path, browser: Browser) -> None:
    points = SWEEPS[name]
    browser.open(report(make_sweep(tmp_path / "sw", points)))
    assert browser.text("#shown") == f"{len(points)} point{'' if len(points) == 1 else 's'}."
    assert "No evidence" in browser.text("#advice")
    for section in ("timeline", "compare", "memory", "cost", "about"):
        browser.show(f"#{section}")
    browser.until(lambda: browser.js("return document.querySelector('#chart-scatter').childElementCount > 0"))
    assert browser.complaints() == []


def test_ten_thousand_points(tmp_path: Path, browser: Browser, record_property: Any) -> None:
    points = mixed(10_000)
    page = report(make_sweep(tmp_path / "sw", points, timing=False))
    size = page.stat().st_size
    assert size < 5_000_000
    browser.open(page)
    record_property("bytes", size)
    record_property("interactive_ms", browser.js("return document.documentElement.dataset.ready"))
    assert browser.text("#shown") == "10,000 points."
    assert (
        browser.js("return document.querySelectorAll('.tabulator-row').length") < 200
    )  # only what is seen is in the page
    browser.find("#search").send_keys(" 9999")
    browser.until(lambda: "9999" in browser.column("point") and len(browser.column("point")) < 60)
    browser.find("#reset").click()
    browser.chart("chart-lanes")
    browser.until(
        lambda: browser.js("return document.querySelectorAll('#chart-lanes [aria-label=rect] rect').length") == 10_000
    )
    browser.chart("chart-scatter")
    succeeded = sum(point.state == "succeeded" for point in points)
    browser.until(lambda: f"{succeeded:,} of 10,000 points" in browser.text("#scatter-words"))
    assert browser.complaints() == []


HOSTILE = [
    "</script><script>window.hit=1</script>",
    "<!--<script>",
    "<img src=x onerror=window.hit=1>",
    "\"'><svg onload=window.hit=1>",
    "javascript:window.hit=1//",
    "{{ 7 * 7 }}${window.hit=1}`",
    "a\u2028b\u2029c\x00\x1b[31m\u202e",
    "&lt;b&gt;&amp;",
    "__proto__",
    "]]>--!><style>*{display:none}</style>",
    "=cmd()",
]


def hostile_points() -> list[MadePoint]:
    return [
        MadePoint(
            {f"vars.{bad}": bad, "resources.ranks": 1 + number % 2, bad: number},
            1.0,
            "failed" if number % 3 == 0 else "succeeded",
            cpus=1 + number % 2,
            reason=bad,
            name=f"{number} {bad.replace('/', '_').replace(chr(0), '')}",
            peak=2**20 * (number + 1),
            memory=2**30 * (1 + number % 2),
            log=f"{bad}\n".encode(),
            machine={**MACHINE, "host": bad, "cpu_model": bad},
            metrics={bad: {"value": 1.0 + number, "units": bad}},
        )
        for number, bad in enumerate(HOSTILE)
    ]


def test_hostile_texts_of_a_sweep_are_shown_and_do_nothing(tmp_path: Path, browser: Browser) -> None:
    points = hostile_points()
    page = report(make_sweep(tmp_path / "sw<b>&'\"", points))
    browser.open(page)
    assert browser.text("h1") == "sw<b>&'\""
    shown = browser.column(HOSTILE[0])
    assert shown[0] == "0"
    assert browser.column("point")[2] == f"2 {HOSTILE[2]}"
    for section in ("failures", "points", "timeline", "compare", "memory", "about"):
        browser.show(f"#{section}")
    for option in range(browser.js("return document.querySelector('#x').options.length")):
        for axis in ("x", "colour"):
            browser.choose(axis, number=option)
    browser.chart("chart-lanes")
    browser.hover("#chart-lanes [aria-label=rect] rect:nth-of-type(1)")
    browser.until(lambda: HOSTILE[0][:20] in browser.text("#chart-lanes [aria-label=tip]"))
    browser.js("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.js("return document.querySelectorAll('#print-table tbody tr').length") == len(points)
    harmless(browser)


def test_hostile_texts_of_a_run_are_shown_and_do_nothing(tmp_path: Path, browser: Browser) -> None:
    run_dir = tmp_path / "run <i>"
    (run_dir / "logs").mkdir(parents=True)
    (run_dir / "logs" / "stdout.log").write_bytes("\n".join(HOSTILE).encode() + b"\n\xff\xfe not utf-8")
    (run_dir / "plots").mkdir()
    (run_dir / "plots" / "a<b>.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" onload="window.hit=1"><script>window.hit=1</script></svg>'
    )
    (run_dir / "metrics.json").write_text(json.dumps(dict.fromkeys(HOSTILE, 1.0)))
    everything = {f"key {number} {bad}": bad for number, bad in enumerate(HOSTILE)}
    record = {
        "schema": "rompy-hydra/run",
        "schema_version": 1,
        "run_id": HOSTILE[0],
        "state": "failed",
        "reason": HOSTILE[2],
        "model": HOSTILE[3],
        "backend": HOSTILE[4],
        "command": HOSTILE,
        "overrides": [f"vars.x={bad}" for bad in HOSTILE],
        "choices": {"model": HOSTILE[1]},
        "config": {"vars": everything, HOSTILE[2]: HOSTILE},
        "resources": {"cpus": 1, "notes": HOSTILE},
        "logs": {"stdout": "/elsewhere/logs/stdout.log"},
        "notes": HOSTILE,
        "provenance": {"argv": HOSTILE, "machine": {"host": HOSTILE[0]}},
        "outputs": [{"path": bad, "bytes": 1} for bad in HOSTILE],
        "postprocess": {"processor": HOSTILE[0], "success": False, "error": HOSTILE[2]},
        "attempts": [{"state": "failed", "reason": bad, "wall_seconds": 1.0} for bad in HOSTILE],
        "container": {"image": HOSTILE[0]},
    }
    (run_dir / "run.json").write_text(json.dumps(record))
    assert main(["report", str(run_dir)]) == 0
    browser.open(run_dir / "report.html")
    assert browser.text("h1") == HOSTILE[0]
    assert HOSTILE[2] in browser.text("#logs pre")
    assert browser.js("const i = document.querySelector('#pictures img'); return i.complete") is not None
    harmless(browser)


def harmless(browser: Browser) -> None:
    """Nothing ran, nothing was asked for, and there is no element or address that our templates do not have."""
    assert browser.js("return window.hit") is None
    fetched = browser.js("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert [address for address in fetched if not address.startswith("data:")] == []
    foreign = "svg[onload], img[onerror], i, b:not(.kicker b), body :not(svg) > style, iframe, object"
    assert browser.js("return document.querySelectorAll(arguments[0]).length", foreign) == 0
    addresses = browser.js("return [...document.querySelectorAll('[href]')].map((e) => e.getAttribute('href'))")
    assert [a for a in addresses if re.match("[a-z]+:", a, re.IGNORECASE) and a != "data:,"] == []
    assert browser.complaints() == []


def test_markup_that_got_in_all_the_same_could_run_and_fetch_nothing(tmp_path: Path, browser: Browser) -> None:
    browser.open(report(make_sweep(tmp_path / "sw", mixed(3))))
    browser.js(
        "const d = document.createElement('div'); document.body.append(d);"
        "d.innerHTML = `<img src='http://127.0.0.1:9/x.png' onerror='window.hit=1'><iframe src='http://127.0.0.1:9/'></iframe>`;"
        "const s = document.createElement('script'); s.textContent = 'window.hit=2'; d.append(s);"
        "return fetch('http://127.0.0.1:9/').catch(() => 0)"
    )
    browser.until(
        lambda: len([c for c in said if "Content Security Policy" in c]) >= 4 if (said := gather(browser)) else False
    )
    assert browser.js("return window.hit") is None


_SAID: list[str] = []


def gather(browser: Browser) -> list[str]:
    _SAID.extend(browser.complaints())
    return _SAID


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(width: int, tmp_path: Path, browser: Browser) -> None:
    browser.open(
        report(make_sweep(tmp_path / "sw", [*mixed(20), *amdahl_points(0.1)])), width=width, is_phone=width < 600
    )
    for chart in ("chart-use", "chart-lanes", "chart-scatter", "chart-memory"):
        browser.chart(chart)
    assert browser.js("return document.documentElement.scrollWidth") <= width
    assert browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast(dark: bool, tmp_path: Path, browser: Browser) -> None:
    browser.open(report(make_sweep(tmp_path / "sw", [*mixed(60), *amdahl_points(0.1)])), dark=dark)
    for chart in ("chart-use", "chart-lanes", "chart-scatter", "chart-memory", "chart-speedup"):
        browser.chart(chart)
    browser.hover("#chart-speedup [aria-label=dot] circle[r='4.5']:nth-of-type(3)")
    browser.until(lambda: "speed-up" in browser.text("#chart-speedup [aria-label=tip]"))
    poor = browser.js(CONTRAST.read_text())
    assert poor == []


def test_every_control_and_picture_has_a_name(tmp_path: Path, browser: Browser) -> None:
    browser.open(report(make_sweep(tmp_path / "sw", [*mixed(20), *amdahl_points(0.1)])))
    for chart in (
        "chart-use",
        "chart-lanes",
        "chart-scatter",
        "chart-time",
        "chart-speedup",
        "chart-efficiency",
        "chart-memory",
    ):
        browser.chart(chart)
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    must = {
        "button",
        "checkbox",
        "combobox",
        "searchbox",
        "textbox",
        "img",
        "image",
        "link",
        "table",
        "region",
        "group",
    }
    nameless = [
        n for n in tree if not n.get("ignored") and n["role"]["value"] in must and not n.get("name", {}).get("value")
    ]
    assert [
        (n["role"]["value"], n.get("description", {}).get("value")) for n in nameless if n["role"]["value"] != "table"
    ] == []
    assert browser.js("return document.documentElement.lang") == "en"
    assert browser.js("return document.querySelectorAll('main').length") == 1
    headings = browser.js("return [...document.querySelectorAll('h1,h2,h3')].map((h) => +h.tagName[1])")
    assert headings[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(headings))


def test_it_prints_with_all_of_a_small_table(tmp_path: Path, browser: Browser) -> None:
    browser.open(report(make_sweep(tmp_path / "sw", mixed(30))))
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.js("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.js("return document.querySelectorAll('#print-table tbody tr').length") == 30
    assert browser.js("return getComputedStyle(document.getElementById('table')).display") == "none"
    assert browser.js("return [...document.querySelectorAll('.chart')].every((c) => c.querySelector('svg'))")
    browser.js("window.dispatchEvent(new Event('afterprint'))")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert browser.complaints() == []


def test_the_table_of_the_screen_can_be_saved(tmp_path: Path, browser: Browser) -> None:
    browser.open(report(make_sweep(tmp_path / "sw", hostile_points())))
    browser.js(
        "window.saved = new Promise((done) => { const make = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { blob.text().then(done); return make(blob); }; })"
    )
    browser.js("HTMLAnchorElement.prototype.click = () => {}")
    browser.find("#csv").click()
    text = browser.driver.execute_async_script("window.saved.then(arguments[0])")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == len(HOSTILE)
    assert [row["resources.ranks"] for row in rows[:4]] == ["1", "2", "1", "2"]
    assert rows[-1]["reason"] == "'=cmd()"  # no spreadsheet runs it


def test_what_was_chosen_outlives_a_reload(tmp_path: Path, browser: Browser) -> None:
    page = report(make_sweep(tmp_path / "sw", mixed(40)))
    browser.open(page)
    browser.js("document.querySelector('#states input[value=failed]').click()")
    browser.find("input[aria-label='filter CPUs']").send_keys(">1")
    browser.js("[...document.querySelectorAll('button.head')].find((b) => b.textContent === 'time').click()")
    browser.choose("y", key="peak")
    browser.until(
        lambda: (
            browser.text("#shown") != "40 points."
            and browser.js("return document.querySelector('.tabulator-col[aria-sort=ascending]') !== null")
        )
    )
    before = (browser.text("#shown"), browser.column("time"))
    browser.open(page)
    browser.until(lambda: (browser.text("#shown"), browser.column("time")) == before)
    assert browser.js("return document.getElementById('y').value") == "peak"
