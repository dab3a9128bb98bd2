"""How the text fields of a backend may be written: one regular expression each, for pydantic and the JSON schema.

Both ask the same expression, so their verdicts cannot differ.  The expressions keep to what Python and ECMAScript
read alike: searched from `^`, ended by `END` (a `$` would let a line end pass), digits written out, no flags.
"""

from __future__ import annotations

import re
from functools import lru_cache

END = r"(?![\s\S])"


def _whole(*alternatives: str) -> str:
    return "^(?:" + "|".join(alternatives) + ")" + END


def fits(pattern: str, text: str) -> bool:
    """Whether a text has the form, by the rule that `jsonschema` applies."""
    return _compiled(pattern).search(text) is not None


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


TEXT = _whole(r"[^\x00]*")
NOT_BLANK = _whole(r"(?=[\s\S]*\S)[^\x00]*")
PATH = _whole(r"[^\x00]+")
ENV_NAME = _whole(r"[A-Za-z_][A-Za-z0-9_]*")

# What shlex.split takes: quotes closed, nothing left to escape at the end.
LAUNCHER = _whole(
    "",
    r"(?=[\s\S]*\S)(?:[^'\"\\\x00]|\\[^\x00]|'[^'\x00]*'|\"(?:[^\"\\\x00]|\\[^\x00])*\")*",
)

_SECONDS = "6[0-9]|[7-9][0-9]|[1-9][0-9]{2,3}|[1-7][0-9]{4}|8[0-5][0-9]{3}|86[0-3][0-9]{2}|86400"  # 60 to 86400
_MINUTES = "[1-9]|[1-9][0-9]{1,2}|1[0-3][0-9]{2}|14[0-3][0-9]|1440"
_HOURS = "[1-9]|1[0-9]|2[0-4]"
_HOURS_OF_A_DAY = "[1-9]|1[0-9]|2[0-3]"
_REST = "[0-9]|[1-5][0-9]"

TIMEOUT = _whole(
    f"(?:{_SECONDS})s?",
    f"(?:{_MINUTES})m",
    f"(?:{_HOURS})h",
    f"(?:{_HOURS_OF_A_DAY})h(?:{_REST})m",
    "1d",
    "(?!0?0:00:)(?:[01]?[0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]",
    "24:00:00",
    f"PT(?:{_SECONDS})S",
    f"PT(?:{_MINUTES})M",
    f"PT(?:{_HOURS})H",
    f"PT(?:{_HOURS_OF_A_DAY})H(?:{_REST})M",
    "P1D",
)
"""A limit of 60 to 86400 seconds."""

TIME_LIMIT = "^(?=[^1-9]*[1-9])" + _whole(
    "[0-9]{1,4}:[0-5][0-9]:[0-5][0-9]",
    "[0-9]{1,4}-(?:[01]?[0-9]|2[0-3])(?::[0-5][0-9]){0,2}",
    "[0-9]{1,4}w",
    "(?=[0-9])(?:[0-9]{1,4}d)?(?:[0-9]{1,5}h)?(?:[0-9]{1,7}m)?(?:[0-9]{1,8}s)?",
    "P(?=[0-9T])(?:[0-9]{1,4}D)?(?:T(?=[0-9])(?:[0-9]{1,5}H)?(?:[0-9]{1,7}M)?(?:[0-9]{1,8}S)?)?",
)
"""A scheduler's time limit above zero that has one reading (source: sbatch(1), `--time`)."""

_DECIMALS = r"(?:\.[0-9]{1,3})?"
_BYTES = "419430[4-9]|41943[1-9][0-9]|4194[4-9][0-9]{2}|419[5-9][0-9]{3}|4[2-9][0-9]{5}|[5-9][0-9]{6}|[1-9][0-9]{7,}"
MEMORY = _whole(
    f"(?:{_BYTES}) ?[bB]?",
    f"(?:409[6-9]|4[1-9][0-9]{{2}}|[5-9][0-9]{{3}}|[1-9][0-9]{{4,}}){_DECIMALS} ?[kK](?:[iI]?[bB])?",
    f"(?:[4-9]|[1-9][0-9]+){_DECIMALS} ?[mM](?:[iI]?[bB])?",
    rf"(?:[1-9][0-9]*{_DECIMALS}|0\.(?:[1-9]|(?!00)[0-9]{{2}}|(?!00[0-3])[0-9]{{3}})) ?[gGtTpP](?:[iI]?[bB])?",
)
"""A size of at least `MINIMUM_MEMORY` bytes (`units.sizes`)."""

CPU = _whole(r"(?:[1-9]|[1-9][0-9]|1[01][0-9]|12[0-7])(?:\.[0-9]{1,6})?", r"128(?:\.0{1,6})?")
UP_TO_100 = _whole("[1-9]|[1-9][0-9]|100")
UP_TO_128 = _whole("[1-9]|[1-9][0-9]|1[01][0-9]|12[0-8]")
UP_TO_A_MILLION = _whole("[1-9][0-9]{0,5}|1000000")

_NAME_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
IMAGE = _whole(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]+)?/)?"  # registry
    rf"{_NAME_PART}(?:/{_NAME_PART})*"  # repository
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"  # tag
    r"(?:@sha256:[0-9a-f]{64})?"  # digest
)
DOCKERFILE = _whole(r"[^/\x00][^\x00]*")
USER = _whole(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?(?::[A-Za-z0-9_][A-Za-z0-9_.-]*\$?)?")
CAPABILITY = _whole("[A-Z][A-Z_]*[A-Z]")
NETWORK = _whole("[A-Za-z0-9][A-Za-z0-9_.:-]*")

MODE_KINDS: tuple[tuple[str, ...], ...] = (
    ("ro", "rw"),
    ("z", "Z"),
    ("shared", "slave", "private", "rshared", "rslave", "rprivate"),
    ("cached", "delegated", "consistent"),
)
"""The modes of a mount; at most one of each kind (source: docker-run(1), `--volume`)."""
NO_COPY = "nocopy"


def _modes(*kinds: tuple[str, ...]) -> str:
    words = "|".join(word for kind in kinds for word in kind)
    once = "".join(
        f"(?!(?:[^,]*,)*(?:{kind}),(?:[^,]*,)*(?:{kind})(?:,|{END}))" for kind in ("|".join(k) for k in kinds)
    )
    return f"(?::{once}(?:{words})(?:,(?:{words}))*)?"


_CONTAINER_PATH = rf"/(?=[^:]*[^:/])(?!(?:[^:]*/)?\.\.?(?:/|:|{END}))[^:\x00]*"
VOLUME_NAME = "[A-Za-z0-9][A-Za-z0-9_.-]+"
VOLUME = _whole(
    f"volume:{VOLUME_NAME}:{_CONTAINER_PATH}{_modes(*MODE_KINDS, (NO_COPY,))}",
    rf"(?!volume:{VOLUME_NAME}:)[^:\x00]+:{_CONTAINER_PATH}{_modes(*MODE_KINDS)}",
)
"""`host:container[:mode]`, or `volume:NAME:container[:mode]` for a named volume."""

WORD = _whole(r"[^\s\x00-\x1f\x7f]+")
LINE = _whole(r"(?=[^\n]*\S)[^\x00-\x1f\x7f]+")
OPTION = _whole(r"--?[A-Za-z][^\x00-\x1f\x7f]*")
SIGNAL = _whole("(?:USR1|USR2|TERM)@[1-9][0-9]{0,4}")
"""Slurm counts the seconds before a time limit in 16 bits (source: sbatch(1), `--signal`)."""
_MAIL = "NONE|BEGIN|END|FAIL|REQUEUE|ALL|INVALID_DEPEND|STAGE_OUT|TIME_LIMIT(?:_(?:90|80|50))?|ARRAY_TASKS"
MAIL_TYPE = _whole(f"(?:{_MAIL})(?:,(?:{_MAIL}))*")
