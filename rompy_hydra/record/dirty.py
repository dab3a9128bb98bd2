"""What a dirty work tree differs by from its commit: a diff that `git apply` takes, bounded and free of credentials.

    repository  →  dirty_diff  →  `.source/0.diff` of a run, `snapshot/0.diff` of a sweep

Tracked files by `git diff HEAD`; files that git does not know yet, where they lie in `conf/` or `templates/`.  Of files
whose very name says that they hold secrets (`.env`, keys) nothing is kept.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from rompy_hydra.record.credentials import credentials_in_yaml
from rompy_hydra.record.provenance import git_toplevel
from rompy_hydra.redaction import REDACTED, looks_like_credential

LARGEST_DIFF_BYTES = 1 << 20
_LARGEST_NEW_FILE_BYTES = 256 * 1024
_MOST_NEW_FILES = 200
_GIT_TIMEOUT_S = 20
_SECRET_NAMES = (
    "**/.env*",
    "**/*.env",
    "**/*.pem",
    "**/*.key",
    "**/id_rsa*",
    "**/*secret*",
    "**/*credential*",
    "**/.netrc",
)
_ASSIGNED = re.compile(r"(?P<quote>[\"']?)(?P<key>[A-Za-z_][\w.@/-]*)(?P=quote)\s*[:=]\s*")
_OPENS_MORE = re.compile(r"(?:[|>][-+0-9]*|[\[{(\\]|)\s*(?:#.*)?\Z")
_HUNK = re.compile(r"(@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@).*")
_REFERENCE = re.compile(r"\A\s*([\"']?)\$\{secret:[^}]*\}\1\s*,?\s*\Z")


def dirty_diff(conf: Path, templates: Path, *, limit: int = LARGEST_DIFF_BYTES) -> str:
    """What the work tree that holds `conf` differs by from its commit; empty where it does not, or is no work tree."""
    top = git_toplevel(conf)
    if top is None:
        return ""
    tracked = _git(
        top, "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv", "--", ".", *_left_out(), limit=limit
    )
    places = [
        str(place.relative_to(top)) for place in map(Path.resolve, (conf, templates)) if place.is_relative_to(top)
    ]
    names = _git(top, "ls-files", "--others", "--exclude-standard", "-z", "--", *places, *_left_out(), limit=limit)
    new = [os.fsdecode(name) for name in names.split(b"\0") if name]
    parts = [tracked, *_new_files(top, new[:_MOST_NEW_FILES])]
    notes = [f"{len(new) - _MOST_NEW_FILES} more new files are not shown"] if len(new) > _MOST_NEW_FILES else []
    text, is_cut = _joined(parts, limit)
    if is_cut:
        notes.append(f"it is cut at {limit} bytes")
    if not text and not notes:
        return ""
    shown = redact_diff(text, _credentials(top, tracked, new))
    head = [f"the work tree {top} beside its commit {_commit(top)}; what looks like a credential is {REDACTED}", *notes]
    return "".join(f"# {line}\n" for line in head) + shown


def redact_diff(text: str, values: Iterable[str] = ()) -> str:
    """A diff without credentials: what is assigned to a key that looks like one, with the lines that belong to it.

    `values` are texts that are known to be credentials and go wherever they stand.  Rather too much goes than too
    little: the whole rest of such a line.
    """
    known = sorted({value for value in values if len(value) >= 4}, key=len, reverse=True)
    out: list[str] = []
    within: int | None = None  # the indent of the key whose value goes on over the next lines
    for line in text.split("\n")[:-1]:
        if not line[:1] or line[0] not in " +-" or line.startswith(("+++ ", "--- ")):
            within = None
            hunk = _HUNK.match(line)
            out.append(hunk[1] if hunk else line)  # git shows a line of the file after the numbers
            continue
        sign, content = line[0], line[1:]
        indent = len(content) - len(content.lstrip())
        if within is not None and (not content.strip() or indent > within or content.lstrip().startswith("- ")):
            out.append(f"{sign}{content[:indent]}{REDACTED if content.strip() else ''}")
            continue
        content, goes_on = _redact_line(content)
        within = indent if goes_on else None
        for value in known:
            content = content.replace(value, REDACTED)
        out.append(sign + content)
    return "".join(f"{line}\n" for line in out)


def _redact_line(content: str) -> tuple[str, bool]:
    """The line, and whether the value of a credential goes on after it."""
    for match in _ASSIGNED.finditer(content):
        value = content[match.end() :]
        names_one = content[: match.start()].endswith("${")  # the `secret:NAME` of a `${secret:NAME}`
        if looks_like_credential(match["key"]) and not names_one and not _REFERENCE.match(value):
            if _OPENS_MORE.match(value):
                return content, True
            return f"{content[: match.end()]}{REDACTED}", value.count('"') % 2 == 1 or value.count("'") % 2 == 1
    return content, False


def _credentials(top: Path, diff: bytes, new: Iterable[str]) -> Iterator[str]:
    """The credentials in the YAML files that the diff tells of, as they are and as they were committed.

    A hunk may begin inside of a long value, where no line tells what it is.
    """
    changed = [os.fsdecode(name) for name in re.findall(rb"^\+\+\+ b/(.*?)\t?$", diff, re.MULTILINE)]
    changed += [os.fsdecode(name) for name in re.findall(rb"^--- a/(.*?)\t?$", diff, re.MULTILINE)]
    for name in dict.fromkeys([*changed, *new]):
        if not name.endswith((".yaml", ".yml")):
            continue
        texts = [_git(top, "show", f"HEAD:{name}", limit=LARGEST_DIFF_BYTES)] if name in changed else []
        with contextlib.suppress(OSError):  # it was deleted
            texts.append((top / name).read_bytes())
        for text in texts:
            for value in credentials_in_yaml(text.decode("utf-8", "replace")):
                yield from (line.strip() for line in value.split("\n"))


def _left_out() -> list[str]:
    return [f":(exclude,glob,icase){pattern}" for pattern in _SECRET_NAMES]


def _new_files(top: Path, names: Iterable[str]) -> Iterator[bytes]:
    """Each as a diff that makes it."""
    for name in names:
        path = top / name
        try:
            if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST_NEW_FILE_BYTES:
                yield f"# new and not kept (no file, or too big): {name}\n".encode(errors="replace")
                continue
            content = path.read_bytes()
        except OSError as error:
            yield f"# new and not kept ({error.strerror}): {name}\n".encode(errors="replace")
            continue
        if b"\0" in content or "\n" in name:
            yield f"# new and not kept (binary): {name!r}\n".encode(errors="replace")
            continue
        lines = content.split(b"\n")
        end = b""
        if lines[-1] == b"":
            lines.pop()
        else:
            end = b"\\ No newline at end of file\n"
        head = f"diff --git a/{name} b/{name}\nnew file mode 100644\n".encode(errors="surrogateescape")
        if not lines:
            yield head
            continue
        head += f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{len(lines)} @@\n".encode(errors="surrogateescape")
        yield head + b"".join(b"+%s\n" % line for line in lines) + end


def _joined(parts: Iterable[bytes], limit: int) -> tuple[str, bool]:
    whole = b"".join(parts)
    is_cut = len(whole) > limit
    if is_cut:
        whole = whole[:limit]
        whole = whole[: whole.rfind(b"\n") + 1]
    return whole.decode("utf-8", "replace"), is_cut


def _commit(top: Path) -> str:
    return _git(top, "rev-parse", "HEAD", limit=100).decode().strip() or "(none yet)"


def _git(top: Path, *words: str, limit: int) -> bytes:
    """What git says, up to a byte more than the limit; nothing where it fails."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        with subprocess.Popen(
            ["git", "-C", str(top), "-c", "core.quotePath=false", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        ) as git:
            assert git.stdout is not None
            said = git.stdout.read(limit + 1)
            if len(said) > limit:
                git.kill()
                return said
            return said if git.wait(timeout=_GIT_TIMEOUT_S) == 0 else b""
    except (OSError, subprocess.TimeoutExpired):
        return b""
