"""What `--cfg` prints: the composed configuration as YAML, credentials taken out."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_omega_conf_dumper
from omegaconf.errors import OmegaConfBaseException

from rompy_hydra.compose.composer import Composition, wrong
from rompy_hydra.compose.hydra_job import settle
from rompy_hydra.errors import ConfigError, Finding, did_you_mean
from rompy_hydra.redaction import redact

_WHOLE = (None, "_global_")
_NOTHING = object()


def shown_config(
    composition: Composition, part: str, *, package: str | None = None, resolve: bool = False, cwd: Path
) -> str:
    """`part` is job, hydra or all; `package` a dotted key; `cwd` where relative directories start.

    Raises `ConfigError` with the composition's findings.
    """
    if composition.findings:
        raise wrong(composition.findings)
    return config_text(composition, part, package=package, resolve=resolve, cwd=cwd)


def config_text(
    composition: Composition, part: str, *, package: str | None = None, resolve: bool = False, cwd: Path
) -> str:
    """The same, whatever else is wrong.  Raises `ConfigError` for what cannot be shown."""
    settle(composition, cwd)
    plain = _plain(composition, part, resolve=resolve)
    if package in _WHOLE:
        return as_yaml(redact(plain))
    assert package is not None
    found = _select(plain, package)
    if found is _NOTHING:
        raise ConfigError(
            f"there is no '{package}' in the configuration",
            [Finding(key="--package", value=package, rule="no such key", mend=did_you_mean(package, _keys(plain)))],
        )
    shown = redact(found, package)
    if isinstance(shown, (dict, list)):
        return f"# @package {package}\n{as_yaml(shown)}"
    return f"{'null' if shown is None else shown}\n"


def as_yaml(plain: Any) -> str:
    """Plain data as OmegaConf writes it (a text that looks like a number is quoted)."""
    dumper = get_omega_conf_dumper()
    return str(yaml.dump(plain, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=dumper))


def _plain(composition: Composition, part: str, *, resolve: bool) -> dict[str, Any]:
    job: Any = {}
    if part != "hydra":
        try:
            job = OmegaConf.to_container(composition.config, resolve=resolve, enum_to_str=True)
        except OmegaConfBaseException as error:
            composition.resolve()
            raise ConfigError("the configuration cannot be resolved", composition.findings) from error
    if part == "job":
        return dict(job)
    hydra = _hydra(composition, resolve=resolve)
    if part == "hydra":
        for name in ("help", "hydra_help"):  # as Hydra leaves them out here
            hydra.pop(name, None)
    return {"hydra": hydra, **job}


def _hydra(composition: Composition, *, resolve: bool) -> dict[str, Any]:
    """Hydra's own part; resolved as Hydra does it, where what points to `???` is `???`."""
    hydra: DictConfig = composition.hydra
    if resolve:
        hydra = deepcopy(hydra)
        try:
            OmegaConf.resolve(hydra)
        except OmegaConfBaseException as error:
            key = str(error.full_key or "hydra")
            message = (error.msg or str(error)).splitlines()[0]
            where = composition.provenance.origin(key).where
            finding = Finding(key=key, rule=f"cannot be resolved: {message}", where=where)
            raise ConfigError("the configuration cannot be resolved", [finding]) from error
    plain: Any = OmegaConf.to_container(hydra, resolve=False, enum_to_str=True)
    return dict(plain)


def _select(plain: Any, key: str) -> Any:
    for part in key.split("."):
        if isinstance(plain, dict) and part in plain:
            plain = plain[part]
        elif isinstance(plain, list) and part.isdigit() and int(part) < len(plain):
            plain = plain[int(part)]
        else:
            return _NOTHING
    return plain


def _keys(plain: Any, prefix: str = "") -> Iterator[str]:
    for key, value in plain.items() if isinstance(plain, dict) else ():
        yield f"{prefix}{key}"
        yield from _keys(value, f"{prefix}{key}.")
