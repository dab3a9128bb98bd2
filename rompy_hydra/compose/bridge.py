"""From a composed tree to a `RunPlan`: resolve, validate in pydantic, and say everything that is wrong at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from rompy_hydra.backends.complaints import rules_by_key
from rompy_hydra.compose.composer import Composition, namesakes, wrong
from rompy_hydra.compose.hydra_job import job_environment, run_directory, settle
from rompy_hydra.errors import ConfigError, Finding, did_you_mean
from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.redaction import looks_like_credential, redact, redact_override

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def to_plan(composition: Composition, *, cwd: Path) -> RunPlan:
    """The plan of one run.  `cwd` is where relative paths start (the directory the command was typed in).

    Raises `ConfigError` with every finding: overrides that were refused, leaves that cannot be resolved, and values
    that break a rule, each with its key, value, rule and the place that set it.
    """
    settle(composition, cwd)
    plain = composition.resolve()
    directory, environment = run_directory(composition, cwd), job_environment(composition)
    unresolved = len(composition.findings)
    spec = _validated(RunSpec, plain, "", composition)
    parameters = _parameters(plain, composition)
    findings = _without_consequences(composition.findings, unresolved)
    if findings or spec is None:
        raise wrong(findings)
    spec = _placed(spec, directory, cwd)
    variables = {**environment, **spec.env_vars}
    template = composition.templates.get(spec.model.template or "")
    return RunPlan(
        spec=spec.model_copy(update={"env_vars": variables}),
        base=cwd,
        parameters=parameters,
        template_directory=template.directory if template else None,
        config=redact({**plain, "run_id": spec.run_id, "output_dir": str(spec.output_dir), "env_vars": variables}),
        overrides=tuple(redact_override(o) for o in composition.request.overrides),
        choices=composition.choices,
        repositories=tuple(r.conf for r in composition.request.sources.repositories),
        hydra_files=hydra_files(composition),
        config_name=composition.request.config_name,
    )


def located(error: ConfigError, composition: Composition) -> ConfigError:
    """What was found wrong after composing (contradicting resources, missing inputs), with the places that set it."""
    origin = composition.provenance.origin
    findings = [
        replace(f, where=origin(f.key).where) if f.where is None and composition.raw(f.key) is not None else f
        for f in error.findings
    ]
    return ConfigError(error.headline, findings)


def _validated(cls: type[BaseModel], plain: Mapping[str, Any], prefix: str, composition: Composition) -> Any:
    try:
        return cls.model_validate(plain)
    except ValidationError as error:
        composition.findings += _findings(error, prefix, composition)
    return None


def _parameters(plain: Mapping[str, Any], composition: Composition) -> dict[str, Any]:
    model = plain.get("model")
    if not isinstance(model, Mapping):
        return {}
    name = model.get("template")
    given = model.get("parameters") or {}
    if name is None:
        return dict(given)
    if name not in composition.templates:
        composition.findings.append(
            Finding(
                key="model.template",
                value=repr(name),
                rule=f"there is no template '{name}'",
                where=composition.provenance.origin("model.template").where,
                mend=did_you_mean(str(name), composition.templates),
            )
        )
        return {}
    checked = _validated(composition.templates[name].parameters_model, given, "model.parameters.", composition)
    return checked.model_dump(mode="json") if checked is not None else {}


def _findings(error: ValidationError, prefix: str, composition: Composition) -> list[Finding]:
    rules = rules_by_key(error, lambda location: (prefix + _key(location, composition, prefix)).rstrip("."))
    return [_finding(key, rule, composition) for key, rule in rules.items()]


def _finding(key: str, rule: str, composition: Composition) -> Finding:
    raw = composition.raw(key)
    value = None
    if raw is not None and not isinstance(raw, (dict, list)):
        value = "***" if looks_like_credential(key) else repr(raw) if isinstance(raw, str) else str(raw).lower()
        if isinstance(raw, str) and "${" in raw:
            with suppress(OmegaConfBaseException):  # one that cannot be resolved has a finding of its own
                value = f"{raw} = {OmegaConf.select(composition.config, key, throw_on_missing=False)!r}"
    mend = None
    if "no such field" in rule and "did you mean" not in rule:
        parent, _, name = key.rpartition(".")
        elsewhere = [other for other in namesakes(composition.config, name) if parent and other != key]
        elsewhere.sort(key=lambda other: other.startswith("sweep."))  # those bound a whole sweep
        mend = did_you_mean(name, [], elsewhere=elsewhere) or None
    return Finding(key=key, value=value, rule=rule, where=composition.provenance.origin(key).where, mend=mend)


def _key(loc: Sequence[int | str], composition: Composition, prefix: str) -> str:
    """The dotted key of a pydantic location: the labels of union members are no keys."""
    parts: list[str] = []
    for part in loc:
        candidate = ".".join([*parts, str(part)])
        if composition.raw(prefix + candidate) is not None or _is_last_field(part, loc):
            parts.append(str(part))
    return ".".join(parts)


def _is_last_field(part: int | str, loc: Sequence[int | str]) -> bool:
    return part is loc[-1] and isinstance(part, str) and part.isidentifier() and part not in _UNION_LABELS


_UNION_LABELS = frozenset({"str", "int", "float", "bool", "list", "dict", "none", "constrained", "path"})


def _without_consequences(findings: list[Finding], unresolved: int) -> list[Finding]:
    """Drop 'missing' complaints about leaves that another finding already explains."""
    explained = {f.key for f in findings[:unresolved]}
    kept = [f for n, f in enumerate(findings) if n < unresolved or f.key not in explained]
    return list(dict.fromkeys(kept))


def _placed(spec: RunSpec, directory: Path | None, cwd: Path) -> RunSpec:
    """Paths made absolute; `directory` is the run's own where `hydra.run.dir` names one."""
    if directory is None:
        return spec.model_copy(update={"output_dir": cwd / spec.output_dir})
    return spec.model_copy(update={"output_dir": directory.parent, "run_id": directory.name})


def hydra_files(composition: Composition) -> dict[str, str]:
    """The texts that Hydra users expect in `.hydra/`, with credentials taken out; none if they are not wanted."""
    if composition.hydra.output_subdir is None:
        return {}
    config = OmegaConf.to_container(composition.config, resolve=False)
    hydra: Any = OmegaConf.to_container(composition.hydra, resolve=False, enum_to_str=True)
    return {
        "config.yaml": _yaml(redact(config)),
        "hydra.yaml": _yaml({"hydra": redact(hydra)}),
        "overrides.yaml": _yaml(hydra["overrides"]["task"]),
    }


def _yaml(data: Any) -> str:
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
