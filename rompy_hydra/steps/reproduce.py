"""record → plan: an earlier run once more, from its record alone; its repositories may have changed or be gone.

    run.json, .source/ (or the sweep's snapshot)  →  open_recorded  →  Recorded  →  plan_of  →  RunPlan  →  prepare

The configuration is the one that the record holds, resolved; templates come from the snapshot; every input must be the
one that the record tells of.  What differs around it (versions, program, machine) is told and changes nothing here.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rompy_hydra.backends.complaints import path_in, rules_by_key
from rompy_hydra.errors import ConfigError, Finding, RecordError
from rompy_hydra.plan.inputs import TEMPLATE_PREFIX
from rompy_hydra.plan.run_plan import Reproduced, RunPlan
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.record import store
from rompy_hydra.redaction import REDACTED, looks_like_credential, redact, redact_override
from rompy_hydra.steps.prepare import Prepared, identify_inputs, prepare
from rompy_hydra.steps.source import NOT_KEPT, SNAPSHOT, unpacked
from rompy_hydra.sweep.description import find_sweep, read_description
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.packed import refuse_packed
from rompy_hydra.workspace.hashes import FileHashes
from rompy_hydra.workspace.template import Template, find_templates, load_template


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A run that may be run once more, with what it was composed from.

    `confs` are the options of its repositories as they were, none where no snapshot was kept (`why_not` says why);
    `base` is where its command was typed; `is_lasting`: the snapshot stays (a sweep's), else it is gone when closed.
    """

    run_dir: Path
    data: dict[str, Any]
    base: Path
    config_name: str
    confs: tuple[Path, ...] = ()
    diffs: tuple[Path, ...] = ()
    is_lasting: bool = False
    why_not: str = ""
    sweep_dir: Path | None = None

    @property
    def config(self) -> dict[str, Any]:
        """A copy of the resolved configuration."""
        return copy.deepcopy(self.data["config"])

    @property
    def provenance(self) -> dict[str, Any]:
        """Where it came from."""
        found = self.data.get("provenance")
        return found if isinstance(found, dict) else {}

    @property
    def template_roots(self) -> list[Path]:
        """Where its templates are."""
        return [conf.parent / "templates" for conf in self.confs]

    def shown(self, text: str) -> str:
        """A text with the names that the repositories had, in place of the snapshot's."""
        known = self.provenance.get("config_repositories") or []
        for conf, repository in zip(self.confs, known, strict=False):
            text = text.replace(str(conf), f"{repository.get('path')} (as recorded)")
        return text


# -- reading -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_recorded(run_dir: Path) -> Iterator[Recorded]:
    """The run in a directory; its snapshot is there until the end of the `with`.

    Raises `RecordError` for what is no run, or holds no configuration.
    """
    run_dir = run_dir.absolute()
    if not (run_dir / store.RECORD_NAME).is_file() and find_sweep(run_dir) is not None:
        raise RecordError(f"{run_dir} is a sweep: name one of its points, as --from {run_dir}/0 (all: resume)")
    _refuse_packed(run_dir)
    data = store.read_record(run_dir)
    if not isinstance(data.get("config"), dict) or not isinstance(data["config"].get("model"), dict):
        raise RecordError(f"the record of {run_dir} holds no configuration, so the run cannot be reproduced")
    if not data.get("command") and data["config"]["model"].get("command") is None and not data["choices"]:
        raise RecordError(f"{run_dir} ran a Python object, which no record can hold: build its ModelRun again")
    if isinstance(data.get("sweep"), dict):
        yield _of_point(run_dir, data)
        return
    told = data.get("source") if isinstance(data.get("source"), dict) else {}
    assert isinstance(told, dict)
    kept = run_dir / ".source"
    common: dict[str, Any] = {
        "run_dir": run_dir,
        "data": data,
        "base": Path(told.get("base") or Path.cwd()),
        "config_name": str(told.get("config_name", "config")),
        "diffs": tuple(sorted(kept.glob("*.diff"))),
    }
    if not (kept / SNAPSHOT).is_file():
        yield Recorded(**common, why_not=f"there is no snapshot {kept / SNAPSHOT}")
        return
    with unpacked(kept / SNAPSHOT) as directory:
        why_not = ""
        with contextlib.suppress(OSError):
            why_not = (kept / NOT_KEPT).read_text(encoding="utf-8", errors="replace").strip()
        yield Recorded(**common, confs=_confs(directory), why_not=why_not)


def _refuse_packed(run_dir: Path) -> None:
    for parent in [] if run_dir.is_dir() else run_dir.parents:
        if (layout := find_sweep(parent)) is not None:
            refuse_packed(layout, "reproduced")


def _confs(directory: Path) -> tuple[Path, ...]:
    numbers = sorted(int(place.name) for place in directory.iterdir() if place.name.isdigit())
    return tuple(directory / str(number) / "conf" for number in numbers)


def _of_point(run_dir: Path, data: dict[str, Any]) -> Recorded:
    """A point: its sweep lies above it, wherever both have been moved to, or where it was."""
    told = data["sweep"]
    places = [*run_dir.parents, Path(str(told.get("directory")))]
    for place in places:
        if (layout := find_sweep(place)) is not None:
            description = read_description(layout)
            if description.get("sweep_id") == told.get("id"):
                return _in_sweep(run_dir, data, layout, description)
    raise RecordError(
        f"{run_dir} is a point of the sweep {told.get('directory')}, which is gone: it held the snapshot of the "
        "configuration and the templates"
    )


def _in_sweep(run_dir: Path, data: dict[str, Any], layout: SweepLayout, description: Mapping[str, Any]) -> Recorded:
    confs = tuple(layout.sweep_dir / entry["snapshot"] for entry in description["repositories"])
    missing = [str(conf) for conf in confs if not conf.is_dir()]
    return Recorded(
        run_dir=run_dir,
        data=data,
        base=Path(description["base"]),
        config_name=description["config_name"],
        confs=() if missing else confs,
        diffs=tuple(sorted(layout.snapshot.glob("*.diff"))),
        is_lasting=True,
        why_not=f"the sweep's snapshot {missing[0]} is gone" if missing else "",
        sweep_dir=layout.sweep_dir,
    )


# -- planning ------------------------------------------------------------------------------------------------------


def plan_of(
    recorded: Recorded,
    *,
    cwd: Path,
    config: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    choices: Mapping[str, str | None] | None = None,
    repositories: Sequence[Path] = (),
    left_out: Sequence[str] = (),
) -> RunPlan:
    """The plan of a recorded run.

    `config` is its configuration with `overrides` applied (default: as it is); `cwd` is where relative paths start now;
    `repositories` are those of today (for `.env` files, and templates whose copy was too large to be kept); `left_out`:
    recorded overrides that mean nothing with the new ones.

    Raises `ConfigError` with everything that is gone or another one now: inputs, template, credentials.
    """
    given = set(map(_key, overrides))
    data: dict[str, Any] = copy.deepcopy(dict(config if config is not None else recorded.config))
    if findings := list(lost_credentials(data)):
        raise ConfigError("a credential was given when the run was started, and no record keeps one", findings)
    data |= _placed(recorded, data, given, cwd)
    spec = _validated(data)
    template = _template(recorded, spec, repositories)
    parameters = _parameters(template, spec)
    if template is not None and not recorded.is_lasting:
        spec = _copying_what_lies_in_it(spec)
    shown = redact({**data, "output_dir": str(spec.output_dir)})
    before = recorded.data.get("overrides") or ()
    kept = [line for line in before if _key(line) not in given and line not in left_out]
    lines = (*kept, *map(redact_override, overrides))
    plan = RunPlan(
        spec=spec,
        base=cwd,
        parameters=parameters,
        template_directory=template.directory if template is not None else None,
        config=shown,
        overrides=lines,
        choices=dict(choices if choices is not None else recorded.data.get("choices") or {}),
        repositories=tuple(repositories),
        hydra_files={"config.yaml": _yaml(shown), "overrides.yaml": _yaml(list(lines))},
        config_name=recorded.config_name,
        reproduced=Reproduced(
            run_id=str(recorded.data["run_id"]),
            directory=recorded.run_dir,
            science_id=str(recorded.data["science_id"]),
            provenance=recorded.provenance,
            inputs=_samples(recorded.data),
            confs=recorded.confs,
            diffs=recorded.diffs,
            overrides=tuple(map(redact_override, overrides)),
            left_out=tuple(left_out),
        ),
    )
    return _with_inputs_as_recorded(plan, recorded, given)


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def prepare_again(plan: RunPlan, *, make: bool = True) -> Prepared:
    """`prepare`, told in terms of the record."""
    try:
        return prepare(plan, make=make)
    except ConfigError as error:
        assert plan.reproduced is not None
        raise ConfigError(
            f"{plan.reproduced.directory} cannot be run here: {error.headline}", error.findings
        ) from error


def _placed(recorded: Recorded, data: Mapping[str, Any], given: set[str], cwd: Path) -> dict[str, Any]:
    """A place of its own: below the directory where we are if the first one was relative, under the next free name."""
    placed: dict[str, Any] = {}
    before = Path(str(recorded.config.get("output_dir", "runs")))
    if "output_dir" in given or "hydra.run.dir" in given:
        placed["output_dir"] = str(cwd / Path(str(data["output_dir"])).expanduser())
    else:
        if recorded.sweep_dir is not None:
            before = Path(str(recorded.data["sweep"].get("directory") or recorded.sweep_dir)).parent
        is_relative = before.is_relative_to(recorded.base)
        placed["output_dir"] = str(cwd / before.relative_to(recorded.base) if is_relative else before)
    if not {"run_id", "hydra.run.dir"} & given:
        name = str(recorded.data["run_id"])
        if recorded.sweep_dir is not None:
            name = f"{recorded.sweep_dir.name}-{recorded.data['sweep'].get('name', name)}"[:200]
        placed["run_id"] = name
        if "on_existing" not in given:
            placed["on_existing"] = "new"
    elif "on_existing" not in given:
        placed["on_existing"] = "error"
    return placed


def _yaml(data: Any) -> str:
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def lost_credentials(value: Any, key: str = "") -> Iterator[Finding]:
    """What a configuration that was kept has lost: the values under keys that look like a credential's."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from lost_credentials(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from lost_credentials(inner, key)
    elif value == REDACTED and looks_like_credential(key.rpartition(".")[2]):
        rule = f"the value of '{key}' was a credential"
        yield Finding("", rule, mend="give it again on the command line, or name it there as '${secret:NAME}'")


def _validated(data: Mapping[str, Any]) -> RunSpec:
    try:
        return RunSpec.model_validate(data)
    except ValidationError as error:
        raise ConfigError("the recorded configuration cannot be run by this version", _findings(error, data)) from None


def _parameters(template: Template | None, spec: RunSpec) -> dict[str, Any]:
    if template is None:
        return dict(spec.model.parameters)
    try:
        return template.parameters_model.model_validate(spec.model.parameters).model_dump(mode="json")
    except ValidationError as error:
        found = _findings(error, spec.model.parameters, "model.parameters.")
        raise ConfigError("the parameters do not fit the template", found) from None


def _findings(error: ValidationError, data: Any, prefix: str = "") -> list[Finding]:
    rules = rules_by_key(error, lambda location: path_in(data, location))
    return [Finding(prefix + ".".join(map(str, path)), rule) for path, rule in rules.items()]


# -- template ------------------------------------------------------------------------------------------------------


def _template(recorded: Recorded, spec: RunSpec, repositories: Sequence[Path]) -> Template | None:
    """The template as it was: from the snapshot, else any that has the recorded content."""
    name = spec.model.template
    if name is None:
        return None
    is_the_same = name == (recorded.config["model"].get("template"))
    told = recorded.provenance.get("template") or {}
    if (directory := find_templates(recorded.template_roots).get(name)) is not None:
        template = load_template(directory)
        if not is_the_same or told.get("sha256") in (None, template.sha256):
            return template
    wanted = told.get("sha256") if is_the_same else None
    places = [Path(str(told.get("path", "/nowhere"))), *(conf.parent / "templates" / name for conf in repositories)]
    seen: list[str] = []
    for place in places if wanted else ():
        if (place / "template.yaml").is_file():
            template = load_template(place)
            if template.sha256 == wanted:
                return template
            seen.append(f"{place} is another one (sha256 {template.sha256})")
    why = recorded.why_not or "its snapshot holds the template of the run only"
    rule = "; ".join(filter(None, [why, *seen, f"the recorded one has the sha256 {wanted}" if wanted else ""]))
    mend = "check out the revision that the record names" if is_the_same else "start a new run with that template"
    raise ConfigError("the template is gone", [Finding("model.template", rule, name, mend=mend)])


def _copying_what_lies_in_it(spec: RunSpec) -> RunSpec:
    """An input of the template must not be a link into a snapshot that is gone afterwards."""
    inputs = {
        name: item.model_copy(update={"mode": "copy"})
        if any(source.startswith(TEMPLATE_PREFIX) for source in item.sources)
        else item
        for name, item in spec.model.inputs.items()
    }
    return spec.model_copy(update={"model": spec.model.model_copy(update={"inputs": inputs})})


# -- inputs --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Seen:
    """The inputs as one directory gives them."""

    plan: RunPlan
    findings: list[Finding] = field(default_factory=list)


def _with_inputs_as_recorded(plan: RunPlan, recorded: Recorded, given: set[str]) -> RunPlan:
    """The plan with the directory in which relative inputs are those of the record: here, or where it was typed."""
    if not plan.spec.model.inputs:
        return plan
    hashes = FileHashes()
    best: _Seen | None = None
    for base in dict.fromkeys([plan.base, recorded.base]):
        seen = _Seen(plan.model_copy(update={"base": base}))
        seen.findings = _changed_inputs(seen.plan, recorded.data.get("inputs") or [], given, hashes)
        if not seen.findings:
            return seen.plan
        if best is None or len(seen.findings) < len(best.findings):
            best = seen
    assert best is not None
    raise ConfigError("an input is not the one that the record tells of", best.findings)


def _changed_inputs(
    plan: RunPlan, recorded: Iterable[Mapping[str, Any]], given: set[str], hashes: FileHashes
) -> list[Finding]:
    before = {str(entry["as"]): entry for entry in recorded}
    try:
        found = {file.name.as_posix(): file for file in identify_inputs(plan, hashes)[0]}
    except ConfigError as error:
        return [_with_record(finding, before.values()) for finding in error.findings]
    is_replaced = _replaced(given)
    findings = []
    for name, entry in before.items():
        if is_replaced(str(entry["name"])):
            continue
        key, mend = f"model.inputs.{entry['name']}.source", "put it back, or name what is to be taken instead"
        file = found.get(name)
        if file is None:
            rule = f"is not there any more; the record knows it as {entry['path']}, {_known(entry)}"
            findings.append(Finding(key, rule, name, mend=mend))
        elif file.identity != entry["identity"]:
            now = file.sample if file.sample and entry.get("sample") else file.identity
            rule = f"has changed: the record says {_known(entry)}, it is {now} now"
            findings.append(Finding(key, rule, str(file.path), mend=f"{mend}: {key}=PATH"))
    for name, file in found.items():
        if name not in before and not is_replaced(file.input):
            rule = "matches a file that was not there before"
            findings.append(Finding(f"model.inputs.{file.input}.source", rule, str(file.path), mend="move it away"))
    return findings


def _replaced(given: set[str]) -> Callable[[str], bool]:
    """Whether an override speaks of an input, or of all of them."""
    if {"model", "model.inputs"} & given:
        return lambda _: True
    return lambda name: any(f"{key}.".startswith(f"model.inputs.{name}.") for key in given)


def _with_record(finding: Finding, before: Iterable[Mapping[str, Any]]) -> Finding:
    """A finding of a missing input, with what the record knows of it."""
    known = next((e for e in before if finding.key.startswith(f"model.inputs.{e['name']}.")), None)
    if known is None:
        return finding
    rule = f"{finding.rule}; the record knows it as {known['path']}, {_known(known)}"
    return Finding(finding.key, rule, finding.value, finding.where, finding.mend)


def _known(entry: Mapping[str, Any]) -> str:
    identity = entry.get("sample") or entry["identity"]
    return f"{identity} ({entry['bytes']} bytes, {entry['mtime']})"


def _samples(data: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {str(e["as"]): (e["identity"], e["sample"]) for e in data.get("inputs") or [] if e.get("sample")}
