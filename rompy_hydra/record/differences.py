"""What differs around two runs, as their records tell of it: versions, program, image, machine, revisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

_SHOWN_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is another one now."""

    what: str
    then: str | None
    now: str | None

    def __str__(self) -> str:
        return f"{self.what}: {self.then or '(none)'} → {self.now or '(none)'}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the record."""
        return asdict(self)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Between the `provenance` of two records."""
    pairs = dict(_facts(then)), dict(_facts(now))
    names = dict.fromkeys([*pairs[0], *pairs[1]])
    return [
        Difference(name, pairs[0].get(name), pairs[1].get(name))
        for name in names
        if pairs[0].get(name) != pairs[1].get(name)
    ]


def _facts(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    for name, version in _map(provenance, "packages").items():
        yield f"package {name}", version
    yield "python", _map(provenance, "python").get("version")
    program = _map(provenance, "executable")
    yield "executable", program.get("path")
    yield "content of the executable", _short(program.get("identity"))
    image = _map(provenance, "image")
    yield "image", image.get("image") or image.get("name")
    yield "image id", _short(image.get("id"))
    machine = _map(provenance, "machine")
    for name in ("host", "system", "cpu_model", "cpus"):
        yield name.replace("_", " "), None if machine.get(name) is None else str(machine[name])
    yield "rompy-hydra's own code", revision(_map(provenance, "code"))
    for number, repository in enumerate(provenance.get("config_repositories") or []):
        if isinstance(repository, Mapping):
            yield f"config repository {number + 1}", revision(repository)


def revision(repository: Mapping[str, Any]) -> str | None:
    """`1924ddc24885`, with a word if the work tree was dirty."""
    commit = repository.get("commit")
    if not commit:
        return None
    return f"{str(commit)[:_SHOWN_DIGITS]}{' with uncommitted changes' if repository.get('dirty') else ''}"


def _map(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _short(digest: object) -> str | None:
    return None if digest is None else str(digest).removeprefix("sha256:")[:_SHOWN_DIGITS]
