"""What Hydra's own part of a composition means for the run: its directory and its environment (composer → bridge)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from rompy_hydra.backends.config import EnvVars
from rompy_hydra.compose.composer import Composition
from rompy_hydra.compose.tree import child, put_below, written
from rompy_hydra.compose.typed_text import put_typed_text_back, put_typed_variables_back
from rompy_hydra.errors import Finding
from rompy_hydra.plan.names import RunId
from rompy_hydra.redaction import looks_like_credential

RUN_DIR = "hydra.run.dir"
OUR_RUN_DIR = "${output_dir}/${run_id}"  # of the packaged conf/config.yaml


def settle(composition: Composition, cwd: Path) -> None:
    """What only the whole composition knows: text as it was typed, and `hydra.runtime.output_dir`.

    `cwd` is where relative directories start.  The same twice changes nothing.
    """
    put_typed_text_back(composition.config, composition.parsed, composition.templates)
    put_typed_variables_back(composition.hydra, composition.parsed)
    put_below(composition.config, "hydra", composition.hydra)
    if composition.raw("on_existing") == "new":
        return  # the directory's name is not known before it is made
    try:
        text = _directory(composition)
    except OmegaConfBaseException:
        return  # what cannot be resolved is found where it stands
    if text is not None:
        composition.hydra.runtime.output_dir = str(cwd / Path(text).expanduser())


def _directory(composition: Composition) -> str | None:
    """Where the run will be, as far as the configuration says it."""
    hydra = composition.hydra
    if composition.request.point is not None:
        return f"{hydra.sweep.dir}/{hydra.sweep.subdir}" if composition.sets("hydra.sweep") else None
    if composition.sets(RUN_DIR):
        return str(hydra.run.dir)
    return f"{composition.config.get('output_dir', '')}/{composition.config.get('run_id', '')}"


def run_directory(composition: Composition, cwd: Path) -> Path | None:
    """Where `hydra.run.dir` puts the run.

    None if it is what we do anyway, for a point of a sweep, or if it is wrong: then a finding says why.
    """
    is_point = composition.request.point is not None
    if is_point or not composition.sets(RUN_DIR) or written(child(composition.hydra.run, "dir")) == OUR_RUN_DIR:
        return None
    text = composition.resolve_hydra("run").get("dir")
    if text is None:
        return None
    directory = cwd / Path(str(text)).expanduser()
    wrong, mend = _is_wrong(composition, directory.name)
    if wrong:
        where = composition.provenance.origin(RUN_DIR).where
        composition.findings.append(Finding(key=RUN_DIR, value=str(text), rule=wrong, where=where, mend=mend))
        return None
    return directory


def _is_wrong(composition: Composition, name: str) -> tuple[str | None, str | None]:
    """What is wrong with the last part of `hydra.run.dir`, and what would be right."""
    try:
        TypeAdapter(RunId).validate_python(name)
    except ValidationError as error:
        return f"its last part is the run_id: {error.errors(include_url=False)[0]['msg']}", None
    given = [o.input_line for o in composition.parsed if o.key_or_group == "run_id"]
    uses_it = "run_id}" in str(written(child(composition.hydra.run, "dir")))
    if given and not uses_it and str(written(child(composition.config, "run_id"))) != name:
        return f"contradicts the override '{given[-1]}'", "leave one out, or end it with /${run_id}"
    return None, None


def job_environment(composition: Composition) -> dict[str, str]:
    """`hydra.job.env_set`, with what `hydra.job.env_copy` copied; what is wrong with it becomes findings."""
    if not (composition.sets("hydra.job.env_set") or composition.sets("hydra.job.env_copy")):
        return {}
    known = len(composition.findings)
    variables = composition.resolve_hydra("job.env_set")
    if len(composition.findings) > known:
        return {}
    try:
        return TypeAdapter(EnvVars).validate_python(variables)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            composition.findings.append(_finding(composition, [str(part) for part in item["loc"]], item))
    return {}


def _finding(composition: Composition, location: list[str], item: Any) -> Finding:
    name = location[0]
    key = f"hydra.job.env_set.{name}"
    value = OmegaConf.select(composition.hydra, f"job.env_set.{name}")
    return Finding(
        key=key,
        value="***" if looks_like_credential(name) else repr(value),
        rule=str(item["msg"]),
        where=composition.provenance.origin(key).where,
    )
