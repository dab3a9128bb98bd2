"""What `--cfg` prints: the composed configuration as YAML, credentials taken out."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rompy_hydra.compose.composer import Composition
from rompy_hydra.compose.tree import leaves
from rompy_hydra.errors import ConfigError, Finding, did_you_mean
from rompy_hydra.redaction import redact


def shown_config(composition: Composition, part: str, *, package: str | None, resolve: bool) -> str:
    """`part` is job, hydra or all; `package` a dotted key.  Raises `ConfigError` with the composition's findings."""
    if composition.findings:
        raise ConfigError("the configuration is wrong", composition.findings)
    tree: Any = composition.config
    if part == "hydra":
        tree = OmegaConf.create({"hydra": composition.hydra})
    elif part == "all":
        tree = OmegaConf.create({"hydra": composition.hydra, **_nodes(composition)})
    header = ""
    if package is not None and package != "_global_":
        tree = OmegaConf.select(tree, package)
        if tree is None:
            raise ConfigError(
                f"there is no '{package}' in the configuration",
                [
                    Finding(
                        key="--package",
                        value=package,
                        rule="no such key",
                        mend=did_you_mean(package, leaves(composition.config)),
                    )
                ],
            )
        header = f"# @package {package}\n"
    if not OmegaConf.is_config(tree):
        return f"{header}{redact(tree, package or '')}\n"
    try:
        plain = OmegaConf.to_container(tree, resolve=resolve)
    except OmegaConfBaseException as error:
        composition.resolve()
        raise ConfigError("the configuration cannot be resolved", composition.findings) from error
    return header + OmegaConf.to_yaml(OmegaConf.create(redact(plain, package or "")))


def _nodes(composition: Composition) -> dict[str, Any]:
    plain = OmegaConf.to_container(composition.config, resolve=False)
    assert isinstance(plain, dict)
    return {str(k): v for k, v in plain.items()}
