"""Credentials in YAML text: gone from values and comments, all else as it was."""

from __future__ import annotations

import pytest
import yaml

from rompy_hydra.record.credentials import credentials_in_yaml, redact_yaml


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a: 1  # é\npassword: canary # x\nb: [2]\n", "a: 1  # é\npassword: '***' # x\nb: [2]\n"),
        ("é: 'ü'\ndb: {token: \"canary\", x: 1}\n", "é: 'ü'\ndb: {token: '***', x: 1}\n"),
        ("api_key: |\n  canary\n  canary\nb: 1\n", "api_key: '***'\nb: 1\n"),
        ("auth: [canary, 'canary']\n", "auth: ['***', '***']\n"),
        ("x: &a canary\npassword: *a\n", "x: &a '***'\npassword: *a\n"),
        ("# password: canary\nx: 1\n", "# password: ***\nx: 1\n"),
        ("password: ${secret:P}\ntoken: '${oc.env:T}'\n", "password: ${secret:P}\ntoken: '${oc.env:T}'\n"),
        ("password: ${oc.env:P,canary}\n", "password: '***'\n"),
        ("password: null\nsecrets: file\ntoken: true\n", "password: null\nsecrets: file\ntoken: true\n"),
        ("tokens_per_step: 4\n", "tokens_per_step: 4\n"),
        ("password: 1234\n", "password: '***'\n"),
        ("", ""),
    ],
)
def test_only_credentials_go(text: str, shown: str) -> None:
    assert redact_yaml(text) == shown
    yaml.safe_load(shown)


def test_what_cannot_be_read_is_not_shown() -> None:
    assert redact_yaml("password: [canary") is None
    assert list(credentials_in_yaml("password: [canary")) == []


def test_credentials_are_found() -> None:
    assert list(credentials_in_yaml("a: {token: x1}\npassword: [y, z]\n")) == ["x1", "y", "z"]
