from __future__ import annotations

import signal
import tracemalloc
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rompy_hydra.run.base import SuccessRules
from rompy_hydra.run.success import LogScanner, describe_signal, last_line, quote, signal_name, unmet_rule


@pytest.fixture
def logs(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "logs").mkdir()
    for name in ("stdout", "stderr"):
        (tmp_path / f"logs/{name}.log").touch()
    return {name: str(tmp_path / f"logs/{name}.log") for name in ("stdout", "stderr")}


def unmet(rules: SuccessRules, run_dir: Path, logs: dict[str, str], **end: Any) -> str | None:
    end = {"exit_code": 0, "signal_number": None, **end}
    return unmet_rule(asdict(rules), run_dir=str(run_dir), logs=logs, **end)


def test_no_rules_ask_for_exit_code_0_only(tmp_path: Path, logs: dict[str, str]) -> None:
    assert unmet(SuccessRules(), tmp_path, logs) is None
    assert unmet(SuccessRules(), tmp_path, logs, exit_code=2) == "its command ended with exit code 2"


def test_the_last_line_of_stderr_is_quoted(tmp_path: Path, logs: dict[str, str]) -> None:
    Path(logs["stdout"]).write_text("step 1\nstep 2\n")
    reason = unmet(SuccessRules(), tmp_path, logs, exit_code=1)
    assert reason == "its command ended with exit code 1; the last line of stdout.log: “step 2”"
    Path(logs["stderr"]).write_text("Traceback\nValueError: depth is negative\n\n")
    reason = unmet(SuccessRules(), tmp_path, logs, exit_code=1)
    assert reason is not None
    assert reason.endswith("stderr.log: “ValueError: depth is negative”")


def test_expected_exit_codes_are_listed(tmp_path: Path, logs: dict[str, str]) -> None:
    rules = SuccessRules(exit_codes=(0, 17))
    assert unmet(rules, tmp_path, logs, exit_code=17) is None
    assert unmet(rules, tmp_path, logs, exit_code=1) == "its command ended with exit code 1 (success is 0, 17)"


@pytest.mark.parametrize(("code", "words"), [(139, "SIGSEGV"), (137, "SIGKILL"), (128, None), (255, None), (190, None)])
def test_shell_codes_for_signals_are_explained(
    tmp_path: Path, logs: dict[str, str], code: int, words: str | None
) -> None:
    reason = unmet(SuccessRules(), tmp_path, logs, exit_code=code)
    assert reason is not None
    assert ("shell" in reason) == (words is not None)
    assert words is None or words in reason


def test_a_signal_is_described(tmp_path: Path, logs: dict[str, str]) -> None:
    reason = unmet(SuccessRules(), tmp_path, logs, exit_code=None, signal_number=signal.SIGSEGV)
    assert reason == "its command was ended by SIGSEGV (segmentation fault)"


def test_every_signal_number_has_a_name() -> None:
    for number in range(1, 65):
        assert signal_name(number)
        assert describe_signal(number)


# ---- files


def test_files_must_match(tmp_path: Path, logs: dict[str, str]) -> None:
    rules = SuccessRules(files=("out/*.nc",))
    assert unmet(rules, tmp_path, logs) == "success.files: nothing in the run directory matches 'out/*.nc'"
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.nc").touch()
    assert unmet(rules, tmp_path, logs) is None


def test_every_nonempty_match_must_hold_a_byte(tmp_path: Path, logs: dict[str, str]) -> None:
    rules = SuccessRules(nonempty=("**/*.nc",))
    assert "nothing in the run directory matches" in (unmet(rules, tmp_path, logs) or "")
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "a.nc").write_bytes(b"x")
    (tmp_path / "deep/er/b.nc").touch()
    assert unmet(rules, tmp_path, logs) == "success.nonempty: deep/er/b.nc is empty"
    (tmp_path / "deep/er/b.nc").write_bytes(b"x")
    assert unmet(rules, tmp_path, logs) is None


def test_a_directory_store_counts_as_a_file(tmp_path: Path, logs: dict[str, str]) -> None:
    (tmp_path / "out.zarr").mkdir()
    assert unmet(SuccessRules(files=("out.zarr",)), tmp_path, logs) is None
    assert unmet(SuccessRules(nonempty=("out.zarr",)), tmp_path, logs) == "success.nonempty: out.zarr is empty"
    (tmp_path / "out.zarr/0").touch()
    assert unmet(SuccessRules(nonempty=("out.zarr",)), tmp_path, logs) is None


def test_a_name_with_brackets_is_a_name_first(tmp_path: Path, logs: dict[str, str]) -> None:
    (tmp_path / "out[1].nc").write_bytes(b"x")
    assert unmet(SuccessRules(nonempty=("out[1].nc",)), tmp_path, logs) is None


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../*", "a/../../*"])
def test_a_file_elsewhere_says_nothing_about_the_run(tmp_path: Path, logs: dict[str, str], pattern: str) -> None:
    assert "nothing in the run directory" in (unmet(SuccessRules(files=(pattern,)), tmp_path / "logs", logs) or "")


def test_a_dangling_link_is_no_file(tmp_path: Path, logs: dict[str, str]) -> None:
    (tmp_path / "out.nc").symlink_to("nowhere")
    assert unmet(SuccessRules(files=("*.nc",)), tmp_path, logs) is not None


# ---- logs


def test_log_has_searches_both_logs_line_by_line(tmp_path: Path, logs: dict[str, str]) -> None:
    rules = SuccessRules(log_has=(r"^run completed$", r"steps: \d+"))
    Path(logs["stdout"]).write_text("steps: 100\nnot run completed\n")
    reason = unmet(rules, tmp_path, logs)
    assert reason is not None
    assert reason.startswith("success.log_has: no line of stdout.log or stderr.log matches '^run completed$'")
    assert "not run completed" in reason
    Path(logs["stderr"]).write_text("run completed")
    assert unmet(rules, tmp_path, logs) is None


def test_log_lacks_quotes_what_it_found(tmp_path: Path, logs: dict[str, str]) -> None:
    rules = SuccessRules(log_lacks=("(?i)warning: .*negative",))
    Path(logs["stdout"]).write_text("fine\nWARNING: negative depth at (3, 4)\nfine\n")
    reason = unmet(rules, tmp_path, logs)
    assert reason == (
        "success.log_lacks: '(?i)warning: .*negative' found in stdout.log: “WARNING: negative depth at (3, 4)”"
    )


def test_one_pattern_may_not_span_two_lines(tmp_path: Path, logs: dict[str, str]) -> None:
    Path(logs["stdout"]).write_text("one\ntwo\n")
    assert unmet(SuccessRules(log_has=(r"one\s+two",)), tmp_path, logs) is not None


def test_logs_that_were_not_kept_do_not_count_as_clean(tmp_path: Path) -> None:
    assert "not kept" in (unmet(SuccessRules(log_lacks=("x",)), tmp_path, {}) or "")


def test_rules_are_asked_in_order(tmp_path: Path, logs: dict[str, str]) -> None:
    rules = SuccessRules(files=("x",), log_has=("y",))
    assert "exit code" in (unmet(rules, tmp_path, logs, exit_code=1) or "")
    assert "success.files" in (unmet(rules, tmp_path, logs) or "")


# ---- the scanner


@given(
    lines=st.lists(
        st.text(alphabet=st.characters(blacklist_characters="\r\n", codec="utf-8"), max_size=20), max_size=20
    ),
    at=st.integers(0, 20),
    cuts=st.lists(st.integers(1, 40), max_size=10),
)
def test_a_line_is_found_however_the_log_grows(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], at: int, cuts: list[int]
) -> None:
    lines.insert(min(at, len(lines)), "the needle µ")
    data = "\n".join(lines).encode()
    path = tmp_path_factory.mktemp("log") / "log"
    path.touch()
    scanner = LogScanner(str(path), ["^the needle µ$"])
    hits = []
    with path.open("ab") as file:
        for cut in cuts:
            file.write(data[:cut])
            file.flush()
            data = data[cut:]
            hits += scanner.scan(ended=False, max_bytes=7)
        file.write(data)
    while True:
        hits += scanner.scan(max_bytes=7)
        if scanner.is_at_end:
            break
    assert [hit.line for hit in hits] == ["the needle µ"]


def test_progress_bars_and_windows_lines_end_at_the_carriage_return(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b" 10%\r 20%\rdone\r\nend")
    scanner = LogScanner(str(path), ["^done$", "^end$", "^ 20%$"])
    assert [hit.line for hit in scanner.scan()] == ["done", "end", " 20%"]


def test_bytes_that_are_not_text_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(bytes(range(256)) + b"\nerror \xff here\n")
    hits = LogScanner(str(path), ["error . here"]).scan()
    assert [hit.line for hit in hits] == ["error \ufffd here"]


def test_a_line_without_end_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        for _ in range(20):
            file.write(b"x" * 1_000_000)
        file.write(b"needle")
    scanner = LogScanner(str(path), ["needle"])
    tracemalloc.start()
    hits = []
    while not scanner.is_at_end:
        hits += scanner.scan()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(hits) == 1
    assert peak < 12_000_000


def test_a_missing_log_has_no_lines(tmp_path: Path) -> None:
    scanner = LogScanner(str(tmp_path / "none"), ["x"])
    assert scanner.scan() == []
    assert scanner.is_at_end
    assert last_line(str(tmp_path / "none")) == ""


def test_quotes_are_short_and_printable() -> None:
    assert quote(" a\tb\x00c ") == "“a\\tb\\x00c”"
    assert len(quote("x" * 1000)) < 210
