"""What looks like a credential and how it is written: one rule for repr, logs, records, errors and saved configs.

Stdlib only, and below everything that writes: a value under a key that looks like a credential never leaves the
process in clear text except into the child's environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REDACTED = "***"

# Words are matched as whole parts of a key (API_KEY, db.password, githubToken), so that `tokens_per_step` and
# `keyword` stay readable.
_CREDENTIAL = re.compile(
    r"(?:^|[^a-z0-9])(?:pass(?:word|wd|phrase)?|pwd|secrets?|token|credentials?|auth|bearer|"
    r"(?:api|access|secret|private|signing|encryption|account|ssh|aws)[^a-z0-9]?(?:key|id[^a-z0-9]?key)s?|apikey|accesskey)(?:$|[^a-z0-9])"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_REFERENCE = re.compile(r"^\s*(['\"]?)\$\{secret:[^}]*\}\1\s*$")
_SAYS_HOW = re.compile(r"(?:.*\.)?secrets=(?:env|file)\Z")  # a setting that says how credentials travel, and holds none
_KEY_AND_SEPARATOR = re.compile(r"(?P<key>[A-Za-z_][\w.@/-]*)(?P<sep>\s*[=:]\s*|(?<=[\w])\s+(?=[^\s=:-]))")
_VALUE = re.compile(r"\$\{secret:[^}]*\}|'[^']*'|\"[^\"]*\"|[^,;{}\]\s][^,;}\]\n]*")
_WORD = re.compile(r"\$\{secret:[^}]*\}|'[^']*'|\"[^\"]*\"|[^\s'\"]+")


def looks_like_credential(key: str) -> bool:
    """Whether a key's name says that its value is a credential."""
    return _CREDENTIAL.search(_CAMEL.sub("_", key).lower()) is not None


def says_how(key: str, value: Any) -> bool:
    """Whether it is `backend.secrets`, which says how secrets get into a container, and is none itself."""
    return key.rpartition(".")[2] == "secrets" and value in ("env", "file")


def redact(value: Any, key: str = "") -> Any:
    """A copy of plain data with every credential's value replaced; `${secret:NAME}` references stay readable."""
    if isinstance(value, Mapping):
        return {k: redact(v, str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(v, key) for v in value]
    if _SAYS_HOW.match(f"{key}={value}"):
        return value
    if key and value is not None and not isinstance(value, bool) and looks_like_credential(key):
        if says_how(key, value):
            return value
        return value if isinstance(value, str) and _REFERENCE.match(value) else REDACTED
    return value


def redact_text(text: str) -> str:
    """The same for free text with `key=value`, `{key: value}` or `--key value` in it (an override, an argument)."""
    out: list[str] = []
    position = 0
    while match := _KEY_AND_SEPARATOR.search(text, position):
        spaced = not match["sep"].strip()
        is_option = text[: match.start()].endswith("--")
        credential = looks_like_credential(match["key"]) and (is_option or not spaced)
        value = (_VALUE if text.rfind("{", 0, match.start()) >= 0 else _WORD).match(text, match.end())
        credential = credential and not (value and _SAYS_HOW.match(f"{match['key']}={value.group()}"))
        is_reference = text[: match.start()].endswith("${")  # the `secret:NAME` of a `${secret:NAME}`
        if not credential or is_reference or value is None or _REFERENCE.match(value.group()):
            out.append(text[position : match.end()])
            position = match.end()
            continue
        out += [text[position : match.end()], REDACTED]
        position = value.end()
    return "".join(out) + text[position:]


def redact_override(override: str) -> str:
    """An override as it may be shown or saved: the whole value of a credential goes, whatever it holds."""
    key, sep, value = override.partition("=")
    if _SAYS_HOW.match(override):
        return override
    if sep and says_how(key, value):
        return override
    if sep and looks_like_credential(key):
        return override if _REFERENCE.match(value) else f"{key}={REDACTED}"
    return redact_text(override)
