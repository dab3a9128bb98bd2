from __future__ import annotations

from pathlib import Path

from rompy_hydra.run.follow import LogTail, follow


def test_a_tail_hands_on_what_was_added_and_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = LogTail(str(path))
    assert tail.read() == b""
    path.write_bytes(b"one\xff")
    assert tail.read() == b"one\xff"
    assert tail.read() == b""
    with path.open("ab") as file:
        file.write(b"two")
    assert tail.read(2) == b"tw"
    assert tail.read(2) == b"o"


def test_a_file_that_was_written_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a long first attempt")
    tail = LogTail(str(path))
    tail.read()
    path.write_bytes(b"second")
    assert tail.read() == b"second"


def test_following_ends_with_the_run_and_misses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"start ")
    answers = iter([False, False, True])

    def is_over() -> bool:
        over = next(answers)
        if over:
            with path.open("ab") as file:
                file.write(b"last words")
        return over

    heard = b"".join(chunk for _, chunk in follow({"stdout": str(path)}, is_over, interval_s=0))
    assert heard == b"start last words"
