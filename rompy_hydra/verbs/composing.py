"""What `run`, `explain`, `sources` and `diff` share: the flags that say what is composed, how places are shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from rompy_hydra.compose.sources import Sources

_LONGEST_VALUE = 100


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say where configuration comes from."""
    add = parser.add_argument
    add("--config-dir", "-cd", action="append", default=[], metavar="DIR", help="a config repository; may be repeated")
    add("--config-path", "-cp", metavar="DIR", help="a config repository that comes before those")
    add("--rev", metavar="REV", help="your repositories as they are at a tag, branch or commit of theirs")
    add("--config-name", "-cn", default="config", metavar="NAME", help="the root configuration")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Those, and `--json`."""
    add_source_flags(parser)
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def sources_of(args: argparse.Namespace) -> Sources:
    """The repositories that these flags ask for."""
    from rompy_hydra.compose.sources import find_sources

    return find_sources(args.config_dir, config_path=args.config_path, revision=args.rev)


def is_override(word: str) -> bool:
    """Whether a word of the command line sets something, and names no key or group."""
    return "=" in word or word.startswith(("~", "+"))


def as_json(data: Any) -> str:
    """For programs."""
    return json.dumps(data, indent=2, ensure_ascii=False, default=str)


def as_value(value: Any) -> str:
    """A value on one line, as it would be typed."""
    if value is None or isinstance(value, (bool, int, float)):
        text = json.dumps(value)
    elif isinstance(value, str):
        text = (
            value if value and value.isprintable() and value == value.strip() else json.dumps(value, ensure_ascii=False)
        )
    elif isinstance(value, (list, dict)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 2]} …"


class Places:
    """Shows files as short as they can be found from here."""

    def __init__(self, sources: Iterable[Any], cwd: Path) -> None:
        self._cwd = f"{cwd}/"
        self._names: Mapping[str, str] = {
            f"{r.conf.parent}/": f"{r.revision.name}:" for r in sources if r.revision is not None
        }

    def short(self, text: str) -> str:
        """A text with the directories in it shortened."""
        for directory, name in self._names.items():
            text = text.replace(directory, name)
        return text.replace(self._cwd, "") if len(self._cwd) > 2 else text
