"""One command line as a request: what was typed, where configuration comes from, and the identity minted for it."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping, Sequence

from rompy_hydra.compose.backend_choice import choose_backend_by_type
from rompy_hydra.compose.composer import CONFIG_NAME, Composition, Request, compose
from rompy_hydra.compose.sources import Sources

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # no 0/o, 1/l/i: read aloud and typed again


def mint() -> str:
    """The identity of this invocation: UTC time and four random characters, `20261124T061502Z-k3f9`."""
    random = "".join(secrets.choice(_ALPHABET) for _ in range(4))
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{random}"


def command_request(
    overrides: Sequence[str],
    sources: Sources,
    config_name: str = CONFIG_NAME,
    *,
    environ: Mapping[str, str] = os.environ,
) -> Request:
    """What a command line asks for; its identity, part of the default `run_id`, is minted here, once."""
    return Request(
        overrides=choose_backend_by_type(overrides),
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
