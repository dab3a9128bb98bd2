"""Secrets are references: `${secret:NAME}` becomes a value here, on the way into a child's environment, nowhere else.

A value is looked for in the environment (`NAME`), in the file that `NAME_FILE` names, and in a `.env` file beside the
command or the config repository, if git does not track that.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from rompy_hydra.errors import ConfigError, Finding, MissingToolError

_REFERENCE = re.compile(r"\$\{secret:([A-Za-z_][A-Za-z0-9_]*)\}")


def resolve_secrets(
    variables: Mapping[str, str], *, environ: Mapping[str, str], env_files: Sequence[Path] = ()
) -> dict[str, str]:
    """The variables with every reference replaced by its value.

    Raises `ConfigError` that names every missing secret, every unreadable file, and a `.env` that git tracks.
    """
    names = {name for text in variables.values() for name in _REFERENCE.findall(text)}
    if not names:
        return dict(variables)
    findings: list[Finding] = []
    values = {name: _value(name, environ, env_files, findings) for name in sorted(names)}
    users = {name: sorted(k for k, text in variables.items() if f"${{secret:{name}}}" in text) for name in names}
    for name, value in values.items():
        if value is None and not any(f.key == name for f in findings):
            findings.append(
                Finding(
                    key=f"env_vars.{users[name][0]}",
                    value=f"${{secret:{name}}}",
                    rule=f"the secret {name} is not set",
                    mend=f"set the environment variable {name}, or {name}_FILE to a file that holds it, "
                    "or write it into a .env file that git ignores",
                )
            )
    if findings:
        raise ConfigError("secrets are missing", findings)
    return {key: _REFERENCE.sub(lambda m: values[m[1]] or "", text) for key, text in variables.items()}


def _value(name: str, environ: Mapping[str, str], env_files: Sequence[Path], findings: list[Finding]) -> str | None:
    if name in environ:
        return environ[name]
    if f"{name}_FILE" in environ:
        path = Path(environ[f"{name}_FILE"])
        try:
            return path.read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            findings.append(
                Finding(key=name, rule=f"cannot read {path}: {why}", where=f"the environment variable {name}_FILE")
            )
            return None
    for path in dict.fromkeys(env_files):
        if path.is_file() and (value := _from_env_file(path, name, findings)) is not None:
            return value
    return None


def _from_env_file(path: Path, name: str, findings: list[Finding]) -> str | None:
    try:
        from dotenv import dotenv_values
    except ModuleNotFoundError:
        raise MissingToolError("reading .env files needs python-dotenv: pip install python-dotenv") from None
    value = dotenv_values(path, interpolate=False).get(name)
    if value is not None and _is_tracked(path):
        findings.append(
            Finding(
                key=name,
                rule=f"{path} holds secrets and git tracks it",
                mend=f"git rm --cached {path.name}, add it to .gitignore, and change the secrets: git remembers them",
            )
        )
    return value


def _is_tracked(path: Path) -> bool:
    try:
        asked = subprocess.run(
            ["git", "-C", str(path.parent), "ls-files", "--error-unmatch", "--", path.name],
            capture_output=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError:  # no git here, so nothing is tracked
        return False
    return asked.returncode == 0


def secret_places(name: str, env_files: Sequence[Path], given: Mapping[str, str]) -> tuple[str, ...]:
    """Where a compute node, which has nothing of our environment, finds a secret: `F:` a file, `E:` a .env file.

    Raises `ConfigError` where it is in no file, or in a .env file in a way that only Python could read.
    """
    findings: list[Finding] = []
    users = [key for key, text in given.items() if f"${{secret:{name}}}" in text]
    if f"{name}_FILE" in os.environ:
        path = Path(os.environ[f"{name}_FILE"]).absolute()
        if _value(name, {f"{name}_FILE": str(path)}, (), findings) is not None:
            return (f"F:{path}",)
    for path in dict.fromkeys(env_files):
        if not path.is_file() or (value := _from_env_file(path, name, findings)) is None:
            continue
        if not findings and plain_env_value(path, name) != value:
            rule = f"{path} writes it in a way that a shell on a node reads differently"
            findings.append(Finding(key=name, rule=rule, mend=f"write {name}=VALUE or {name}='VALUE' on one line"))
        if not findings:
            return (f"E:{path.absolute()}",)
    if not findings:
        only_here = " (it is in your environment, which jobs do not get)" if name in os.environ else ""
        findings.append(
            Finding(
                key=f"env_vars.{users[0]}" if users else name,
                value=f"${{secret:{name}}}",
                rule=f"no file holds the secret {name} for the node{only_here}",
                mend=f"write it into a .env file that git ignores, or set {name}_FILE to a file that holds it",
            )
        )
    raise ConfigError("secrets are missing", findings)


def plain_env_value(path: Path, name: str) -> str | None:
    """What the shim of a batch job reads in a .env file: the last line NAME=VALUE, without quotes around it."""
    found = None
    for line in path.read_text(encoding="utf-8", errors="surrogateescape").split("\n"):
        if match := re.match(rf"\s*(?:export\s+)?{name}\s*=\s*(.*)\Z", line):
            found = match[1]
    if found is not None and len(found) >= 2 and found[0] == found[-1] and found[0] in "'\"":
        return found[1:-1]
    return found
