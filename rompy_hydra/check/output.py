"""A report as text for people, as JSON, and as the annotations of code hosts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rompy_hydra import __version__
from rompy_hydra.check.codes import CODES
from rompy_hydra.check.faults import Fault, Report
from rompy_hydra.redaction import redact_text

_GITHUB = {"error": "error", "warning": "warning", "note": "notice"}
_GITLAB = {"error": "major", "warning": "minor", "note": "info"}


def as_text(report: Report, cwd: Path, *, with_notes: bool = False) -> str:
    """A line for each fault, its mend below it, and a summary."""
    lines: list[str] = []
    notes = 0
    for fault in report.faults:
        if fault.severity == "note" and not with_notes:
            notes += 1
            continue
        lines.append(f"{shown_path(fault.path, cwd)}:{fault.line}: {fault.code} {fault.severity}: {_message(fault)}")
        if fault.mend:
            lines.append(f"    {redact_text(fault.mend)}")
    return "\n".join([*lines, *([""] if lines else []), _looked_at(report), _found(report, notes)]) + "\n"


def _message(fault: Fault) -> str:
    text = redact_text(fault.message)
    if fault.key and fault.key not in text and fault.key != "defaults":
        text = f"{fault.key}: {text}"
    if fault.hits and fault.tried > 1 and fault.hits < fault.tried:
        example = f", as {fault.example}" if fault.example else ""
        text += f" (in {fault.hits} of {fault.tried} combinations{example})"
    return text


def _looked_at(report: Report) -> str:
    parts = [f"{report.files} files", f"{report.options} options", f"{report.templates} templates"]
    how = f" of {report.possible}, pairwise" if report.strategy == "pairwise" else ""
    parts.append(f"{report.combinations} combinations{how}")
    parts.append(f"{report.sweeps} sweeps with {report.points} points")
    return f"looked at {', '.join(parts)}"


def _found(report: Report, hidden_notes: int) -> str:
    errors, warnings = report.count("error"), report.count("warning")
    if not errors and not warnings:
        found = "nothing is wrong"
    else:
        found = f"found {errors} error{'s' * (errors != 1)} and {warnings} warning{'s' * (warnings != 1)}"
    return found + (f"; {hidden_notes} note{'s' * (hidden_notes != 1)}: --notes" if hidden_notes else "")


def as_json(report: Report, cwd: Path) -> str:
    """Everything, for programs; `version` counts changes of this form."""
    looked_at = {
        name: getattr(report, name)
        for name in ("files", "options", "templates", "combinations", "possible", "strategy", "sweeps", "points")
    }
    findings = [
        {
            "code": f.code,
            "severity": f.severity,
            "file": shown_path(f.path, cwd),
            "line": f.line,
            "key": f.key,
            "message": redact_text(f.message),
            "mend": redact_text(f.mend) if f.mend else None,
            "hits": f.hits,
            "tried": f.tried,
            "example": f.example,
        }
        for f in report.faults
    ]
    counts = {severity: report.count(severity) for severity in ("error", "warning", "note")}
    return _dump({"version": 1, "findings": findings, "counts": counts, "looked_at": looked_at})


def as_github(report: Report, cwd: Path) -> str:
    """Workflow commands: GitHub shows each at its line of a pull request."""
    lines = []
    for f in report.faults:
        place = f"file={_property(shown_path(f.path, cwd))},line={f.line},title={_property(f.code)}"
        text = _message(f) + (f"\n{redact_text(f.mend)}" if f.mend else "")
        lines.append(f"::{_GITHUB[f.severity]} {place}::{_data(text)}\n")
    return "".join(lines)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def as_gitlab(report: Report, cwd: Path) -> str:
    """A Code Quality report (an artifact `reports: codequality` of GitLab)."""
    return _dump(
        [
            {
                "description": _message(f),
                "check_name": f.code,
                "fingerprint": hashlib.sha256(f"{shown_path(f.path, cwd)}\0{f.code}\0{f.key}".encode()).hexdigest(),
                "severity": _GITLAB[f.severity],
                "location": {"path": shown_path(f.path, cwd), "lines": {"begin": f.line}},
            }
            for f in report.faults
        ]
    )


def as_sarif(report: Report, cwd: Path) -> str:
    """SARIF 2.1.0, which GitHub's code scanning and editors read."""
    rules = [
        {
            "id": code.name,
            "shortDescription": {"text": code.title},
            "help": {"text": code.mend},
            "defaultConfiguration": {"level": code.severity},
        }
        for code in CODES.values()
    ]
    results = [
        {
            "ruleId": f.code,
            "level": f.severity,
            "message": {"text": _message(f)},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": shown_path(f.path, cwd)},
                        "region": {"startLine": f.line},
                    }
                }
            ],
        }
        for f in report.faults
    ]
    tool = {"driver": {"name": "rompy-hydra check", "version": __version__, "rules": rules}}
    return _dump(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{"tool": tool, "results": results}],
        }
    )


FORMATS: Mapping[str, Callable[[Report, Path], str]] = {
    "text": as_text,
    "json": as_json,
    "github": as_github,
    "gitlab": as_gitlab,
    "sarif": as_sarif,
}


def shown_path(path: Path, cwd: Path) -> str:
    """Relative to where the command was typed, if it lies there."""
    return path.relative_to(cwd).as_posix() if path.is_relative_to(cwd) else str(path)


def _dump(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
