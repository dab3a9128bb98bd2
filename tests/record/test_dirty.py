"""What a dirty work tree differs by: real git, a diff that applies, and no credential in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rompy_hydra.record.dirty import dirty_diff, redact_diff

LONG = "\n".join(f"    line {n} of canary-5" for n in range(30))


def git(directory: Path, *words: str, stdin: str | None = None) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(
        ["git", "-C", str(directory), *identity, *words], check=True, capture_output=True, text=True, input=stdin
    ).stdout


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "conf/env").mkdir(parents=True)
    (tmp_path / "conf/env/lab.yaml").write_text("a: 1\nb: 2\n")
    (tmp_path / "gone.txt").write_text("x\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def diff(top: Path, **options: int) -> str:
    return dirty_diff(top / "conf", top / "templates", **options)


def test_a_clean_tree_and_no_tree_have_none(top: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert diff(top) == ""
    assert diff(tmp_path_factory.mktemp("plain")) == ""


def test_it_makes_the_commit_what_the_work_tree_was(top: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (top / "conf/env/lab.yaml").write_text("a: 1\nb: 3\nc: é\f4\n")
    (top / "gone.txt").unlink()
    (top / "conf/env/new one.yaml").write_text("n: 1\nm: 2")
    (top / "templates").mkdir()
    (top / "templates/empty.txt").write_text("")
    (top / "untracked.txt").write_text("outside of conf and templates: not ours\n")
    text = diff(top)
    clone = tmp_path_factory.mktemp("clone") / "c"
    git(top, "clone", "-q", str(top), str(clone))
    git(clone, "apply", "-", stdin=text)
    for name in ("conf/env/lab.yaml", "conf/env/new one.yaml", "templates/empty.txt"):
        assert (clone / name).read_bytes() == (top / name).read_bytes()
    assert not (clone / "gone.txt").exists()
    assert "not ours" not in text
    assert git(top, "rev-parse", "HEAD").strip() in text


def test_credentials_are_not_in_it(top: Path) -> None:
    lab = top / "conf/env/lab.yaml"
    lab.write_text(f"password: canary-0\nx: 1\nauth:\n  - canary-1\nprivate_key: |\n{LONG}\nz: 1\n")
    git(top, "commit", "-qam", "second")
    lab.write_text(
        f"password: canary-2  # db\nx: 1\nauth:\n  - canary-3\napi_key: {{a: canary-4}}\nprivate_key: |\n"
        f"{LONG}\n    one more canary-6\nz: {{token: canary-7, y: 1}}\nw: '${{secret:MINE}}'\n"
    )
    (top / ".env").write_text("ANYTHING=canary-8\n")
    (top / "conf/.env").write_text("ANYTHING=canary-9\n")
    (top / "conf/my_secrets.yaml").write_text("x: canary-10\n")
    (top / "conf/new.yaml").write_text('{"db": {"password": "canary-11"}}\n# token: canary-12\n')
    (top / "gone.txt").write_text("curl --header 'X-Auth-Token: canary-13'\nexport API_KEY=canary-14\n")
    text = diff(top)
    assert "canary" not in text
    assert "+w: '${secret:MINE}'" in text
    assert "z: " in text
    assert "my_secrets" not in text


def test_a_long_one_is_cut_and_says_so(top: Path) -> None:
    (top / "gone.txt").write_text("".join(f"line {n}\n" for n in range(1000)))
    text = diff(top, limit=2000)
    assert "it is cut at 2000 bytes" in text
    assert len(text) < 3000
    assert text.endswith("\n")


def test_binary_files_are_named_only(top: Path) -> None:
    (top / "conf/raw.bin").write_bytes(b"\0canary")
    assert "raw.bin" in diff(top)
    assert "canary" not in diff(top)


def test_a_value_that_goes_on_over_lines_goes_whole() -> None:
    text = "@@ -1 +1,6 @@ password: hunter1\n+secret: >-\n+  hunter2\n+\n+  hunter3\n+next: 1\n"
    assert redact_diff(text) == "@@ -1 +1,6 @@\n+secret: >-\n+  ***\n+\n+  ***\n+next: 1\n"


@pytest.mark.parametrize("line", ["tokens_per_step: 4", "keyword: x", "secrets: ${secret:A}", "author: me"])
def test_what_is_no_credential_stays(line: str) -> None:
    assert redact_diff(f"+{line}\n") == f"+{line}\n"
