"""`postprocess --prune`: what would go by the rules, and with `--yes` its removal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import EXIT_OK, EXIT_RUN_FAILED, ConfigError, Finding, RompyHydraError, UsageError

if TYPE_CHECKING:
    from rompy_hydra.postprocess.retention import Decision, RetentionRules
    from rompy_hydra.sweeping.retaining import Freed

_MOST_LINES = 40


def prune(paths: list[Path], options: dict[str, Any], *, really: bool, as_json: bool) -> int:
    """Say what the rules remove and free; remove it only if `really`."""
    from rompy_hydra.sweeping.retaining import Freed, remove, remove_leftovers, would_free
    from rompy_hydra.units.sizes import format_memory

    rules = _rules(options)
    decisions = _decisions(paths, rules)
    told: list[dict[str, Any]] = []
    total = Freed()
    failed = 0
    for decision in decisions:
        if not decision.goes:
            continue
        try:
            freed = remove(decision, rules) if really else would_free(decision, rules)
        except RompyHydraError as error:
            failed += 1
            print(f"{decision.candidate.path}: not removed: {error}", file=sys.stderr)
            continue
        total.add(freed)
        told.append(_entry(decision, freed))
    if really:
        for path in paths:
            remove_leftovers(path)
    kept = [decision for decision in decisions if not decision.goes]
    if as_json:
        listed = [{"path": str(d.candidate.path), "because": d.kept_because} for d in kept]
        told_all = {"removed" if really else "would_remove": told, "kept": listed, "bytes": total.bytes}
        print(json.dumps(told_all, indent=2))
        return EXIT_RUN_FAILED if failed else EXIT_OK
    what = "the outputs of" if rules.remove == "outputs" else "all of"
    for entry in told[:_MOST_LINES]:
        print(f"{format_memory(entry['bytes']):>10}  {entry['path']}  {entry['state']}, {entry['age']}")
    if len(told) > _MOST_LINES:
        print(f"… and {len(told) - _MOST_LINES} more")
    print("\n".join(_kept_lines(kept)))
    size = f"{format_memory(total.bytes)} in {total.files} files"
    if really:
        print(f"removed {what} {len(told)} of {len(decisions)}: {size}")
    elif told:
        print(f"would remove {what} {len(told)} of {len(decisions)}: {size}; nothing was removed yet: add --yes")
    else:
        print("nothing would be removed")
    return EXIT_RUN_FAILED if failed else EXIT_OK


def _rules(options: dict[str, Any]) -> RetentionRules:
    from pydantic import ValidationError

    from rompy_hydra.postprocess.retention import RetentionRules

    try:
        return RetentionRules(**options)
    except ValidationError as error:
        findings = [
            Finding(key=".".join(map(str, item["loc"])) or "--prune", rule=item["msg"])
            for item in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError("the rules of --prune are wrong", findings) from None


def _decisions(paths: Iterable[Path], rules: RetentionRules) -> list[Decision]:
    from rompy_hydra.postprocess.retention import decide
    from rompy_hydra.sweep.layout import SWEEP_NAME
    from rompy_hydra.sweeping.retaining import candidates_in

    found: list[Decision] = []
    for path in paths:
        if not path.is_dir():
            raise UsageError(f"{path} is no directory")
        if rules.remove == "runs" and (path.absolute() / SWEEP_NAME).is_file():
            raise UsageError(
                f"{path} is a sweep, whose points are told by its journal: remove=outputs goes, pack=true saves inodes,"
                f" and the sweep as a whole goes by the directory that it lies in"
            )
        found += decide(candidates_in(path.absolute()), rules, time.time())
    return found


def _entry(decision: Decision, freed: Freed) -> dict[str, Any]:
    from rompy_hydra.units.durations import format_duration

    candidate = decision.candidate
    age = "nobody knows when it ended"
    if candidate.ended is not None:
        seconds = max(0.0, time.time() - candidate.ended)
        days = seconds / 86400
        age = f"ended {f'{days:.0f} days' if days >= 2 else format_duration(float(round(seconds)))} ago"
    return {
        "path": str(candidate.path),
        "kind": candidate.kind,
        "state": ", ".join(sorted(candidate.states)),
        "age": age,
        "files": freed.files,
        "bytes": freed.bytes,
    }


def _kept_lines(kept: list[Decision]) -> list[str]:
    """How many are kept for which reason; by name where a reason is an obstacle."""
    counts: dict[str, list[Decision]] = {}
    for decision in kept:
        counts.setdefault(decision.kept_because, []).append(decision)
    lines = []
    for reason, those in counts.items():
        names = ", ".join(d.candidate.path.name for d in those[:3]) + (", …" if len(those) > 3 else "")
        lines.append(f"{'kept':>10}  {len(those)}: {reason}  ({names})")
    return lines
