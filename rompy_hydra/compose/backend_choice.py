"""`backend.type=NAME` on a command line chooses the option `backend=NAME`: the keys of that backend can then be set.

Every backend type has an option of its name: a file of a repository, or the schema of a plug-in.  The tree of the
option that the defaults list chose is closed, so `backend.type=NAME backend.queue=gpu` can mean nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rompy_hydra.backends.registry import known_names, plugin_names

_TYPE = re.compile(r"\+?\+?backend\.type=([A-Za-z0-9_.,\- ]+)\Z")
_CHOICE = re.compile(r"[+~]*backend(=|\Z)")


def choose_backend_by_type(overrides: Iterable[str]) -> tuple[str, ...]:
    """The overrides with every `backend.type=NAME[,NAME…]` of known names as a choice of these options.

    As they are, where `backend=` chooses already (the type is then held against that option), or a name is unknown
    (pydantic then says which are known).
    """
    given = tuple(overrides)
    if any(map(_CHOICE.match, given)) or not any(map(_TYPE.match, given)):
        return given
    known = {*known_names(), *plugin_names()}
    return tuple(_chosen(text, known) for text in given)


def _chosen(text: str, known: set[str]) -> str:
    typed = _TYPE.match(text)
    if typed is None or not all(name.strip() in known for name in typed[1].split(",")):
        return text
    return f"backend={typed[1]}"
