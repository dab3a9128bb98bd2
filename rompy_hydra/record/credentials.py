"""Credentials in the text of YAML files: found by their keys and taken out, everything else byte for byte as it was."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from rompy_hydra.redaction import REDACTED, looks_like_credential, redact

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORTH_A_LOOK = re.compile(r"pass|pwd|secret|token|credential|auth|bearer|key", re.IGNORECASE)
_ONLY_NAMES = re.compile(r"\A\s*\$\{[^,{}]*\}\s*\Z")  # `${oc.env:DB_PASSWORD}`: says where it is, and holds none
_BEFORE_A_VALUE = re.compile(r"(?:[&!]\S*\s+)*")
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$", re.MULTILINE)
_ASSIGNED = re.compile(r"(?P<key>[A-Za-z_][\w.@/-]*)[\"']?\s*[:=]\s*(?=\S)")


def credentials_in_yaml(text: str) -> Iterator[str]:
    """The values that stand under keys that look like a credential's."""
    for node in _found(text):
        yield node.value


def redact_yaml(text: str) -> str | None:
    """The text without them, in the values and in comments; None where it cannot be read once they are gone."""
    if not _WORTH_A_LOOK.search(text):
        return text
    try:
        nodes = sorted(_found(text, strict=True), key=lambda node: node.start_mark.index, reverse=True)
    except yaml.YAMLError:
        return None
    shown = text
    for node in nodes:
        start, end = node.start_mark.index, node.end_mark.index
        if (before := _BEFORE_A_VALUE.match(text[start:end])) is not None:
            start += before.end()
        shown = f"{shown[:start]}'{REDACTED}'{chr(10) if text[start:end].endswith(chr(10)) else ''}{shown[end:]}"
    shown = _COMMENT.sub(lambda match: _without_credential(match[0]), shown)
    if shown == text:
        return text
    try:
        left = {node.value for node in _found(shown, strict=True)} - {REDACTED}
    except yaml.YAMLError:
        return None
    return None if left else shown


def _found(text: str, *, strict: bool = False) -> Iterator[yaml.ScalarNode]:
    seen: set[int] = set()
    try:
        for tree in yaml.compose_all(text, Loader=_Loader):
            yield from _below(tree, "", seen)
    except yaml.YAMLError:
        if strict:
            raise


def _below(node: yaml.Node | None, key: str, seen: set[int]) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            yield from _below(value_node, str(key_node.value), seen)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _below(item, key, seen)
    elif isinstance(node, yaml.ScalarNode) and key and id(node) not in seen:
        is_text = node.tag not in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:bool")
        if is_text and redact(node.value, key) == REDACTED != node.value and not _ONLY_NAMES.match(node.value):
            seen.add(id(node))
            yield node


def _without_credential(comment: str) -> str:
    for match in _ASSIGNED.finditer(comment):
        if looks_like_credential(match["key"]):
            return comment[: match.end()] + REDACTED
    return comment
