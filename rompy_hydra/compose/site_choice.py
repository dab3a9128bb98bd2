"""Which site we are at, and what of it is personal: overrides that stand before those of the command line.

    ROMPY_HYDRA_SITE, else a site's `hosts` that fit this machine's name  →  site=NAME
    personal.yaml in the user's configuration directory                   →  ++site.account=…, ++site.mail_user=…

No Hydra in here: a command that is recalled comes through here, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rompy_hydra.compose.sources import Sources
from rompy_hydra.errors import ConfigError, Finding, did_you_mean

SITE_VARIABLE = "ROMPY_HYDRA_SITE"
PERSONAL_NAME = "personal.yaml"
PERSONAL_KEYS = {"account": "account", "mail": "mail_user", "scratch": "scratch"}
_HAS_HOSTS = re.compile(rb"^hosts\s*:", re.MULTILINE)


def with_site(overrides: Sequence[str], sources: Sources, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The overrides with those in front that the place and the person add; what is typed wins over them.

    Raises `ConfigError` for a personal file that cannot be read, or that says something else.
    """
    given = tuple(overrides)
    added = [*site_line(given, sources, environ), *personal_lines(environ)]
    return (*(line for line in added if line not in given), *given)


def site_line(
    overrides: Sequence[str], sources: Sources, environ: Mapping[str, str], *, host: str | None = None
) -> tuple[str, ...]:
    """`site=NAME` where nobody typed one and the variable or the name of this machine tells it."""
    if any(text.lstrip("+").startswith(("site=", "site@")) for text in overrides):
        return ()
    if wanted := environ.get(SITE_VARIABLE):
        return (f"site={wanted}",)
    found = site_of_host(sources, host)
    return () if found is None else (f"site={found}",)


def site_of_host(sources: Sources, host: str | None = None) -> str | None:
    """The first site, of the user's repositories first, whose `hosts` fit the name of this machine."""
    name = host or os.uname().nodename
    names = {name, name.partition(".")[0]}
    is_asked = False
    for repository in sources.repositories:
        for path in sorted((repository.conf / "site").glob("*.yaml")):
            patterns = _hosts(path)
            if patterns and not is_asked and host is None:
                import socket

                names.add(socket.getfqdn())  # may ask a name server: only where a site is known by its hosts
                is_asked = True
            if any(fnmatchcase(name, pattern) for name in names for pattern in patterns):
                return path.stem
    return None


def _hosts(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except OSError:
        return []
    if not _HAS_HOSTS.search(data):
        return []
    import yaml

    try:
        told = (yaml.safe_load(data) or {}).get("hosts") or []
    except (yaml.YAMLError, AttributeError):
        return []  # whoever composes this file is told what is wrong with it
    return [str(pattern) for pattern in told] if isinstance(told, list) else [str(told)]


def personal_file(environ: Mapping[str, str]) -> Path | None:
    """Where the personal file lies, or would lie; None where there is no home."""
    base = environ.get("XDG_CONFIG_HOME") or (f"{environ['HOME']}/.config" if environ.get("HOME") else "")
    return Path(base, "rompy-hydra", PERSONAL_NAME) if base.startswith("/") else None


def personal_lines(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The overrides that the personal file stands for."""
    path = personal_file(environ)
    try:
        data = path.read_bytes() if path is not None else b""
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _wrong(path, Finding("", f"it cannot be read: {error.strerror}")) from error
    if not data.strip():
        return ()
    import yaml

    try:
        told: Any = yaml.safe_load(data) or {}
    except yaml.YAMLError as error:
        raise _wrong(path, Finding("", f"it is no YAML: {str(error).splitlines()[0]}")) from error
    if not isinstance(told, dict):
        raise _wrong(path, Finding("", "it is no map of keys", mend=f"write one of {', '.join(PERSONAL_KEYS)}: VALUE"))
    findings = []
    for key, value in told.items():
        if key not in PERSONAL_KEYS:
            findings.append(
                Finding(str(key), "is no personal key", where=str(path), mend=did_you_mean(str(key), PERSONAL_KEYS))
            )
        elif value is not None and not isinstance(value, str):
            findings.append(Finding(key, "is not text; quote it", value=str(value), where=str(path)))
    if findings:
        raise _wrong(path, *findings)
    return tuple(f"++site.{PERSONAL_KEYS[key]}={_quoted(value)}" for key, value in told.items() if value is not None)


def _wrong(path: Path | None, *findings: Finding) -> ConfigError:
    return ConfigError(f"the personal file {path} is wrong", findings)


def _quoted(text: str) -> str:
    """A text as one value in Hydra's grammar; `${` stays an interpolation, as in every file."""
    if re.fullmatch(r"[\w@./-]+", text, re.ASCII) and not re.fullmatch(r"[\d._-]+|(?i:null|true|false|inf|nan)", text):
        return text
    escaped = re.sub(r"(\\*)'", lambda m: m[1] * 2 + "\\'", text)
    trailing = re.search(r"\\*\Z", escaped)
    return f"'{escaped}{trailing[0] if trailing else ''}'"
