"""An earlier run's configuration with overrides on top: composed from its snapshot, and else as it was recorded.

    A = the snapshot with the recorded overrides
    B = the snapshot with those and the new ones
    the recorded configuration, with what B has otherwise than A

So an interpolation follows what it points to, groups can be chosen anew, and what no override touches stays as
recorded, whatever the resolvers would say today.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from rompy_hydra.compose.backend_choice import choose_backend_by_type
from rompy_hydra.compose.cache import mint
from rompy_hydra.compose.composer import Composition, Request, compose, wrong
from rompy_hydra.compose.deprecation import Renamings, renamings_of
from rompy_hydra.compose.hydra_job import run_directory, settle
from rompy_hydra.compose.resolvers import ENV_VARIABLE
from rompy_hydra.compose.site_choice import personal_lines
from rompy_hydra.compose.sources import Repository, Sources
from rompy_hydra.errors import ConfigError, Finding
from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.redaction import REDACTED, redact_override
from rompy_hydra.steps.reproduce import Recorded, plan_of

_GONE = object()


def plan_from_record(
    recorded: Recorded,
    overrides: Sequence[str],
    sources: Sources,
    *,
    cwd: Path,
    environ: Mapping[str, str] = os.environ,
) -> RunPlan:
    """The plan of a recorded run, with overrides in Hydra's grammar on top.

    `sources` are the repositories of today: nothing is composed from them.  Raises `ConfigError` with every finding.
    """
    repositories = [repository.conf for repository in sources.repositories]
    recorded = _in_todays_names(recorded, renamings_of(repositories))
    lines = (*_personal(recorded, overrides, environ), *choose_backend_by_type(overrides))
    if not lines and not _holds_lost(recorded.config):
        return plan_of(recorded, cwd=cwd, repositories=repositories)
    _refuse(lines)
    if not recorded.data.get("choices"):  # made in Python: there is nothing to compose
        config = _with_values(recorded.config, lines)
        return plan_of(recorded, cwd=cwd, config=config, overrides=lines, repositories=repositories)
    if not recorded.confs and not lines:
        return plan_of(recorded, cwd=cwd, repositories=repositories)
    if not recorded.confs:
        why = recorded.why_not or "it has no snapshot"
        mend = "run it as it was recorded, without overrides"
        raise ConfigError("nothing can be changed of this run", [Finding("--from", why, mend=mend)])
    try:
        found = _composed(recorded, lines, cwd, environ)
    except ConfigError as error:
        findings = [_as_recorded(finding, recorded) for finding in error.findings]
        raise ConfigError(recorded.shown(error.headline), findings) from error
    return plan_of(
        recorded,
        cwd=cwd,
        config=found.config,
        overrides=lines,
        choices=found.choices,
        repositories=repositories,
        left_out=found.left_out,
    )


@dataclass(frozen=True, slots=True)
class _Composed:
    """A configuration with overrides on top; `left_out` are recorded ones that mean nothing any more."""

    config: dict[str, Any]
    choices: dict[str, str | None]
    left_out: tuple[str, ...]


def _in_todays_names(recorded: Recorded, renamings: Renamings) -> Recorded:
    """A record that was written when keys had other names."""
    config = recorded.config
    for old, new in renamings.table.items():
        *parents, last = old.split(".")
        part: Any = config
        for name in parents:
            part = part.get(name) if isinstance(part, dict) else None
        if isinstance(part, dict) and last in part:
            _set(config, new, part.pop(last))
    return replace(recorded, data={**recorded.data, "config": config})


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for name in parents:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    tree[last] = value


def _personal(recorded: Recorded, overrides: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """The account and the like of whoever runs it now, where they are others than those of the first time."""
    if not (recorded.confs and recorded.data.get("choices")):
        return ()
    known = {*recorded.data.get("overrides", ())}
    given = set(map(_key, overrides))
    return tuple(line for line in personal_lines(environ) if line not in known and _key(line) not in given)


def _refuse(lines: Sequence[str]) -> None:
    findings = [
        Finding(_key(line), "is not for a recorded run", where=f"the override '{redact_override(line)}'")
        for line in lines
        if _key(line).startswith(("hydra.", "hydra/")) and _key(line) != "hydra.run.dir"
    ]
    if findings:
        raise wrong(findings)


def request_of(recorded: Recorded, environ: Mapping[str, str]) -> Request:
    """What the recorded run asked for, of its snapshot."""
    known = recorded.provenance.get("config_repositories") or []
    names = [str(entry.get("path")) for entry in known] + ["recorded"] * len(recorded.confs)
    places = [Repository(conf, name) for conf, name in zip(recorded.confs, names, strict=False)]
    places[-1] = replace(places[-1], origin="packaged")
    variables = {name: value for name, value in environ.items() if name != ENV_VARIABLE}
    if chosen := recorded.data["choices"].get("env"):
        variables[ENV_VARIABLE] = chosen
    return Request(
        overrides=tuple(recorded.data.get("overrides") or ()),
        sources=Sources(tuple(places)),
        invocation=mint(),
        environ=variables,
        config_name=recorded.config_name,
    )


def _composed(recorded: Recorded, lines: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> _Composed:
    request = request_of(recorded, environ)
    before = compose(request)
    given = {_key(line) for line in lines}
    kept = [line for line in request.overrides if _key(line) not in given]
    now = compose(replace(request, overrides=(*kept, *lines)))
    left_out = _without_meaning(now, kept, given & set(before.choices))
    if left_out:
        kept = [line for line in kept if line not in left_out]
        now = compose(replace(request, overrides=(*kept, *lines)))
    a, b = _resolved(before, cwd), _resolved(now, cwd)
    config = _merged(recorded.config, a, b)
    if (directory := run_directory(now, cwd) if "hydra.run.dir" in given else None) is not None:
        config |= {"run_id": directory.name, "output_dir": str(directory.parent)}
    # What could not be resolved before either (a variable that was set then) stays as it is recorded.
    explained = {(finding.key, finding.rule) for finding in before.findings}
    findings = [finding for finding in now.findings if (finding.key, finding.rule) not in explained]
    if findings:
        raise wrong(findings)
    return _Composed(config, now.choices, left_out)


def _without_meaning(now: Composition, kept: Sequence[str], groups: set[str]) -> tuple[str, ...]:
    """Recorded overrides below a group that was chosen anew, of keys that the other option does not have."""
    wrong_keys = {finding.key for finding in now.findings}
    return tuple(
        line for line in kept if (key := _key(line)) in wrong_keys and key.partition(".")[0] in groups and "." in key
    )


def _resolved(composition: Composition, cwd: Path) -> dict[str, Any]:
    settle(composition, cwd)
    return composition.resolve()


def _merged(recorded: Any, a: Any, b: Any) -> Any:
    """`recorded`, with what `b` has otherwise than `a`; a credential that it lost is what `b` says."""
    if not (isinstance(recorded, Mapping) and isinstance(a, Mapping) and isinstance(b, Mapping)):
        if recorded is _GONE or recorded == REDACTED:
            return b
        return recorded if a == b and type(a) is type(b) else b
    merged: dict[str, Any] = {}
    for key in dict.fromkeys([*recorded, *b]):
        if key in b:
            merged[key] = _merged(recorded.get(key, _GONE), a.get(key, _GONE), b[key])
        elif key not in a:
            merged[key] = recorded[key]  # it could not be resolved now, or was never part of the configuration
    return merged


def _holds_lost(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_lost, value.values()))
    return any(map(_holds_lost, value)) if isinstance(value, list) else value == REDACTED


def _with_values(config: dict[str, Any], lines: Sequence[str]) -> dict[str, Any]:
    """Plain `key=value` overrides, set where they belong."""
    findings = []
    for line in lines:
        try:
            override = OverridesParser.create().parse_override(line)
            if override.is_delete() or override.is_sweep_override() or not override.key_or_group:
                raise HydraException("only key=value can be set on a run that was described in Python")
            value: Any = override.value()
        except HydraException as error:
            rule = f"is no override: {next(iter(str(error).splitlines()), '')}"
            findings.append(Finding(_key(line), rule, where=f"the override '{redact_override(line)}'"))
            continue
        _set(config, override.key_or_group, value)
    if findings:
        raise wrong(findings)
    return config


def _as_recorded(finding: Finding, recorded: Recorded) -> Finding:
    where = recorded.shown(finding.where) if finding.where else None
    return replace(finding, where=where, rule=recorded.shown(finding.rule))


def _key(line: str) -> str:
    return line.lstrip("+~").partition("=")[0]
