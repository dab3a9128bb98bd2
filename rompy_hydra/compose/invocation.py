"""One command line as a request: what was typed, where configuration comes from, and the identity minted for it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from rompy_hydra.compose.backend_choice import choose_backend_by_type
from rompy_hydra.compose.cache import mint
from rompy_hydra.compose.composer import CONFIG_NAME, Composition, Request, compose
from rompy_hydra.compose.site_choice import with_site
from rompy_hydra.compose.sources import Sources


def command_request(
    overrides: Sequence[str],
    sources: Sources,
    config_name: str = CONFIG_NAME,
    *,
    environ: Mapping[str, str] = os.environ,
) -> Request:
    """What a command line asks for; its identity, part of the default `run_id`, is minted here, once."""
    return Request(
        overrides=choose_backend_by_type(with_site(overrides, sources, environ)),
        sources=sources,
        invocation=mint(),
        environ=environ,
        config_name=config_name.removesuffix(".yaml"),
    )


def compose_command(
    overrides: Sequence[str],
    sources: Sources,
    config_name: str = CONFIG_NAME,
    *,
    environ: Mapping[str, str] = os.environ,
) -> Composition:
    """Compose what a command line asks for."""
    return compose(command_request(overrides, sources, config_name, environ=environ))
