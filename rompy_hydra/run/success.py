"""What a model calls success, looked up in what the run left: exit code, files, log lines.  Stdlib only.

Every function answers with one sentence that names the rule and quotes what was found, or None when all is well.
The rules come as plain data (`SuccessRules` as a mapping), because the keeper evaluates them.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_LINE_MAX = 65536
_OVERLAP = 4096
_CHUNK = 1 << 20
_QUOTE_MAX = 200
_SHELL_SAYS = {126: "the command cannot be executed", 127: "command not found"}


def unmet_rule(
    rules: Mapping[str, Any],
    *,
    run_dir: str,
    logs: Mapping[str, str],
    exit_code: int | None,
    signal_number: int | None,
) -> str | None:
    """The first rule that does not hold, as a sentence; `check` is not among them: it is a command (see the keeper).

    `logs` maps `stdout` / `stderr` to files; a rule about logs that were not kept does not hold.
    """
    return (
        _unexpected_end(tuple(rules.get("exit_codes", (0,))), logs, exit_code, signal_number)
        or _missing_file(rules, run_dir)
        or _log_rules(tuple(rules.get("log_has", ())), tuple(rules.get("log_lacks", ())), logs)
    )


def _unexpected_end(
    expected: Sequence[int], logs: Mapping[str, str], exit_code: int | None, signal_number: int | None
) -> str | None:
    if signal_number is not None:
        return f"its command was ended by {describe_signal(signal_number)}{_last_words(logs)}"
    if exit_code in expected:
        return None
    wanted = "" if tuple(expected) == (0,) else f" (success is {', '.join(map(str, expected)) or 'never'})"
    return f"its command ended with exit code {exit_code}{_shell_signal(exit_code)}{wanted}{_last_words(logs)}"


def signal_name(number: int) -> str:
    """`SIGKILL`, also for real-time signals that have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def describe_signal(number: int) -> str:
    """`SIGSEGV (segmentation fault)`."""
    words = signal.strsignal(number)
    return f"{signal_name(number)} ({words.lower()})" if words else signal_name(number)


def _shell_signal(exit_code: int | None) -> str:
    """What a shell means by 126, 127 and 128 + n."""
    if exit_code in _SHELL_SAYS:
        return f" (a shell's way to say: {_SHELL_SAYS[exit_code]})"
    if exit_code is None or not 128 < exit_code <= 128 + 64:
        return ""
    try:
        return f" (a shell's way to say {signal.Signals(exit_code - 128).name})"
    except ValueError:
        return ""


def _missing_file(rules: Mapping[str, Any], run_dir: str) -> str | None:
    for pattern in rules.get("files", ()):
        if not _matches(pattern, run_dir):
            return f"success.files: nothing in the run directory matches {pattern!r}"
    for pattern in rules.get("nonempty", ()):
        found = _matches(pattern, run_dir)
        if not found:
            return f"success.nonempty: nothing in the run directory matches {pattern!r}"
        for name in found:
            if _is_empty(os.path.join(run_dir, name)):
                return f"success.nonempty: {name} is empty"
    return None


def _matches(pattern: str, run_dir: str) -> list[str]:
    if os.path.isabs(pattern) or ".." in pattern.split("/"):
        return []  # below the run directory only: a file elsewhere says nothing about this run
    if os.path.exists(os.path.join(run_dir, pattern)):
        return [pattern]  # also a name with brackets in it, which a glob would read as a set
    import glob

    return sorted(
        name
        for name in glob.iglob(pattern, root_dir=run_dir, recursive=True)
        if os.path.exists(os.path.join(run_dir, name))
    )


def _is_empty(path: str) -> bool:
    """A file without a byte, or a directory (a Zarr store) without an entry."""
    if os.path.isdir(path):
        return not os.listdir(path)
    return os.stat(path).st_size == 0


def _log_rules(has: Sequence[str], lacks: Sequence[str], logs: Mapping[str, str]) -> str | None:
    if not has and not lacks:
        return None
    if not logs:
        return f"success.{'log_has' if has else 'log_lacks'}: the output was not kept, so it cannot be searched"
    wanted = set(has)
    scanners = [LogScanner(path, (*has, *lacks)) for path in dict.fromkeys(logs.values())]
    for scanner in scanners:
        while not scanner.is_at_end:
            for hit in scanner.scan():
                if hit.pattern in lacks:
                    return f"success.log_lacks: {hit}"
                wanted.discard(hit.pattern)
    if wanted:
        pattern = next(p for p in has if p in wanted)
        names = " or ".join(os.path.basename(path) for path in dict.fromkeys(logs.values()))
        return f"success.log_has: no line of {names} matches {pattern!r}{_last_words(logs)}"
    return None


class Hit:
    """A pattern that was found, with the line and the log."""

    __slots__ = ("pattern", "line", "log")

    def __init__(self, pattern: str, line: str, log: str) -> None:
        self.pattern = pattern
        self.line = line
        self.log = log

    def __str__(self) -> str:
        return f"{self.pattern!r} found in {os.path.basename(self.log)}: {quote(self.line)}"


class LogScanner:
    """Searches a log line by line while it may still grow; memory stays bounded whatever is written there.

    Bytes that are not UTF-8 become U+FFFD; a carriage return ends a line too (progress bars); a line above 64 KiB is
    searched in overlapping pieces.  Each pattern is reported once.
    """

    def __init__(self, path: str, patterns: Iterable[str]) -> None:
        self.path = path
        self.is_at_end = False
        self._patterns = [(text, re.compile(text)) for text in dict.fromkeys(patterns)]
        self._offset = 0
        self._rest = b""

    def scan(self, *, ended: bool = True, max_bytes: int = _CHUNK) -> list[Hit]:
        """Search what was added, up to `max_bytes`; `ended`: nothing will be added, the last line counts as it is.

        `is_at_end` tells whether everything written so far was read.
        """
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                chunk = file.read(max_bytes)
        except FileNotFoundError:
            chunk = b""
        self._offset += len(chunk)
        self.is_at_end = len(chunk) < max_bytes
        data = self._rest + chunk.replace(b"\r", b"\n")
        if self.is_at_end and ended:
            self._rest = b""
        else:
            cut = data.rfind(b"\n") + 1
            data, self._rest = data[:cut], data[cut:]
            if len(self._rest) > _LINE_MAX:
                data += self._rest
                self._rest = self._rest[-_OVERLAP:]
        return self._search(data.decode("utf-8", "replace")) if data else []

    def _search(self, text: str) -> list[Hit]:
        hits = []
        lines = text.removesuffix("\n").split("\n")
        for entry in list(self._patterns):
            pattern, search = entry[0], entry[1].search
            line = next((line for line in lines if search(line)), None)
            if line is not None:
                hits.append(Hit(pattern, line, self.path))
                self._patterns.remove(entry)
        return hits


def _last_words(logs: Mapping[str, str]) -> str:
    """The last line that is not blank, of stderr if it has one: what a person would look at first."""
    for name in ("stderr", "stdout"):
        if name in logs and (line := last_line(logs[name])):
            return f"; the last line of {os.path.basename(logs[name])}: {quote(line)}"
    return ""


def last_line(path: str) -> str:
    """The last line of a log that is not blank; empty when there is none.  Reads the end of the file only."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            tail = file.read(8192)
    except OSError:
        return ""
    lines = tail.replace(b"\r", b"\n").decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def quote(line: str) -> str:
    """A line for a sentence: printable, at most 200 characters."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line.strip())
    return f"“{text[:_QUOTE_MAX]}…”" if len(text) > _QUOTE_MAX else f"“{text}”"
