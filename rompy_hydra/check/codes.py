"""The codes of `check`: stable names for what can be wrong in a repository; the table in the documents is made of them.

A code is never used for anything else; one that is given up stays reserved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from rompy_hydra.errors import UsageError, did_you_mean

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of fault: its severity, what it means, and how it is mended."""

    name: str
    severity: Severity
    title: str
    mend: str


_TABLE: tuple[tuple[str, Severity, str, str], ...] = (
    ("RH001", "error", "a YAML file is malformed, holds a key twice, or is no UTF-8 text", "mend it at the line"),
    ("RH002", "error", "a YAML file holds no mapping", "write `key: value` lines"),
    ("RH003", "error", "an option is never read, because its name does not end in `.yaml`", "rename it"),
    ("RH004", "error", "a file or a link cannot be read", "mend the link or the permissions"),
    ("RH101", "error", "a defaults list names an option or a group that is not there", "correct the name"),
    ("RH102", "error", "a defaults list is malformed, or contradicts itself", "see Hydra's page on defaults lists"),
    ("RH103", "error", "an option includes itself", "extend the packaged one by `/packaged/GROUP/OPTION`"),
    ("RH104", "error", "a `# @package` line is not at the head of its file, or misspelt, and has no effect", "move it"),
    ("RH105", "error", "a configuration cannot be composed", "what Hydra says tells why"),
    ("RH106", "warning", "a root configuration does not say where it stands in its defaults list", "add `_self_`"),
    ("RH201", "error", "a key that nothing reads, because the schema has none of that name", "correct the key"),
    ("RH202", "warning", "a value below `vars` that no interpolation and no template reads", "use it, or take it out"),
    ("RH204", "error", "a value breaks a rule", "the rule says what would be right"),
    ("RH205", "warning", "a value that must be given on each command line (`???`)", "give it in an option"),
    ("RH206", "warning", "a path that is not on this machine", "nothing, if it is there where the run runs"),
    ("RH207", "error", "values that contradict each other", "change one of them"),
    ("RH301", "error", "an interpolation reads a key that is not there", "correct the key"),
    ("RH302", "error", "an interpolation uses a resolver that nobody brings", "correct its name"),
    ("RH303", "error", "an interpolation is malformed, runs in a circle, or its resolver fails", "correct it"),
    ("RH304", "warning", "an environment variable that is not set here, read without a default", "give one"),
    ("RH401", "error", "a `template.yaml` is wrong", "the rule says what would be right"),
    ("RH402", "error", "a file of a template has a syntax error, or is no UTF-8 text", "mend it at the line"),
    ("RH403", "error", "a file of a template uses a name that is not there", "correct the name, or declare it"),
    ("RH404", "error", "a template cannot be rendered", "what is raised tells why"),
    ("RH405", "warning", "a parameter that no file of its template reads", "use it, or take it out"),
    ("RH406", "error", "an input that a template brings with it is not there", "add the file"),
    ("RH501", "error", "options that do not go together, each good by itself", "change one, or pin the other's group"),
    ("RH502", "warning", "an option sets what another choice does not have", "pin that group by `override /GROUP:`"),
    ("RH503", "error", "a sweep is wrong: its design, table, samples or conditions", "the rule tells"),
    ("RH504", "error", "every point of a sweep is left out", "change its conditions"),
    ("RH601", "warning", "an option that nothing can choose: no defaults list has its group", "add it to one"),
    ("RH602", "note", "an option that no defaults list, experiment or sweep chooses; a command line may", "nothing"),
    ("RH603", "warning", "a template that no option uses", "add `conf/model/NAME.yaml`, or take it out"),
    ("RH604", "note", "an option hidden by one of the same name in a repository before this one", "nothing"),
    ("RH701", "error", "a literal that looks like a credential", "write `${secret:NAME}` and take the value back"),
    ("RH801", "warning", "a key is called by a name that it had before", "write today's name"),
    ("RH802", "error", "the repository's table of renamed keys is wrong", "an entry is `old.key: new.key`"),
    ("RH901", "warning", "the schemas for editors are not those of this version", "`rompy-hydra schema --write`"),
)

CODES = {name: Code(name, severity, title, mend) for name, severity, title, mend in _TABLE}


def selected(select: Iterable[str], ignore: Iterable[str]) -> frozenset[str]:
    """The codes that are wanted; each word is a code or the beginning of several (`RH4`).

    Raises `UsageError` for a word that is no code's beginning.
    """
    chosen = set(_matching(select)) or set(CODES)
    return frozenset(chosen - set(_matching(ignore)))


def _matching(words: Iterable[str]) -> Iterator[str]:
    for word in words:
        found = [name for name in CODES if name.startswith(word.upper())] if word else []
        if not found:
            raise UsageError(f"there is no code '{word}'; {did_you_mean(word, CODES)}")
        yield from found


def table() -> str:
    """The table of all codes, as the documents show it."""
    rows = [f"| `{c.name}` | {c.severity} | {c.title} | {c.mend} |" for c in CODES.values()]
    return "\n".join(["| code | severity | what is wrong | what to do |", "| --- | --- | --- | --- |", *rows])
