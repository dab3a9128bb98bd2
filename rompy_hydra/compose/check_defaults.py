"""Defaults lists, held against the options that there are: each wrong entry by its line, and who chooses what.

SourceFile → read_defaults (Hydra's own reading of the list) → Inclusions: faults, what each file includes and pins
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.config_repository import IConfigRepository
from hydra.core.default_element import ConfigDefault, GroupDefault, InputDefault
from omegaconf import ListConfig, OmegaConf

from rompy_hydra.check.faults import Fault
from rompy_hydra.compose.check_files import Entry, SourceFile
from rompy_hydra.errors import did_you_mean

_GOOD_NAME = "write 'group: option', '/group/option', 'override /group: option' or '_self_'"


@dataclass(eq=False)
class Inclusions:
    """What the defaults lists of some files say."""

    faults: list[Fault] = field(default_factory=list)
    wrong: dict[str, set[int]] = field(default_factory=dict)  # config path → numbers of the entries that are wrong
    includes: dict[str, dict[str, int]] = field(default_factory=dict)  # config path → what it includes: at which line
    overrides: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)  # → group: the options chosen
    groups: set[str] = field(default_factory=set)  # groups that a list has, so that they can be chosen from
    chosen: set[str] = field(default_factory=set)  # `group/option` that a list chooses

    def pins(self, config_path: str) -> set[str]:
        """The groups that an option overrides, or one that it includes."""
        seen: set[str] = set()
        pinned: set[str] = set()
        waiting = [config_path]
        while waiting:
            here = waiting.pop()
            if here not in seen:
                seen.add(here)
                pinned |= self.overrides.get(here, {}).keys()
                waiting += self.includes.get(here, {})
        return pinned


def read_defaults(files: Sequence[SourceFile], repo: IConfigRepository) -> Inclusions:
    """The lists of some files, with every fault in them."""
    found = Inclusions()
    overridden: list[tuple[SourceFile, Entry, int, str]] = []
    for file in files:
        _, value = file.defaults()
        if value is None:
            continue
        if not isinstance(file.content.get("defaults"), list):
            found.wrong[file.config_path] = {-1}
            rule = "the defaults list is no list"
            found.faults.append(_fault("RH102", file, file.line_of("defaults"), rule, "write '- entry' lines"))
            continue
        overridden += _read_list(file, repo, found)
        if not file.group and len(file.content) > 1 and all(entry.text != "_self_" for entry in file.entries()):
            rule = "there is no '_self_': Hydra puts the file after all that it includes"
            found.faults.append(_fault("RH106", file, file.line_of("defaults"), rule, "add '- _self_'"))
    for file, entry, number, group in overridden:
        if group not in found.groups and not group.startswith("hydra/"):
            rule = f"there is no '{group}' in any defaults list that could be overridden"
            mend = did_you_mean(group, found.groups)
            _note(found, file, number, _fault("RH101", file, entry.line, rule, mend))
    for file in files:
        _note_circles(file, files, found)
    return found


def _fault(code: str, file: SourceFile, line: int, rule: str, mend: str | None = None) -> Fault:
    return Fault(code, file.path, line, "defaults", rule, mend)


def _note(found: Inclusions, file: SourceFile, number: int, fault: Fault) -> None:
    found.faults.append(fault)
    found.wrong.setdefault(file.config_path, set()).add(number)


def _read_list(
    file: SourceFile, repo: IConfigRepository, found: Inclusions
) -> Iterator[tuple[SourceFile, Entry, int, str]]:
    seen: dict[str, int] = {}
    after_override = False
    for number, (entry, item) in enumerate(zip(file.entries(), file.content["defaults"], strict=True)):
        default = _parsed(file, item)
        if isinstance(default, str):
            _note(found, file, number, _fault("RH102", file, entry.line, default, _GOOD_NAME))
            continue
        key = entry.text if default.is_self() else _key(default)
        if key in seen:
            rule = f"'{entry.text}' stands twice: in line {seen[key]} too"
            _note(found, file, number, _fault("RH102", file, entry.line, rule, "take one of them out"))
            continue
        seen[key] = entry.line
        if default.is_self():
            continue
        if after_override and not default.is_override():
            rule = f"'{entry.text}' stands after an override"
            _note(found, file, number, _fault("RH102", file, entry.line, rule, "put overrides last, before _self_"))
            continue
        after_override = after_override or default.is_override()
        wrong = list(_missing(file, entry, default, repo, found))
        for fault in wrong:
            _note(found, file, number, fault)
        if not wrong and default.is_override() and not default.is_interpolation():
            yield file, entry, number, default.get_group_path()


def _parsed(file: SourceFile, item: Any) -> InputDefault | str:
    """Hydra's own reading of one item, or what it says against it."""
    from hydra._internal.config_repository import ConfigRepository

    if not isinstance(item, (str, dict)) or (isinstance(item, dict) and len(item) != 1):
        return "an entry is a name, or one 'group: option'"
    reader = ConfigRepository.__new__(ConfigRepository)
    items: Any = OmegaConf.create([item])
    assert isinstance(items, ListConfig)
    try:
        (default,) = reader._create_defaults_list(file.config_path, items)  # noqa: SLF001  # its reading of an entry
    except (ValueError, AssertionError) as error:
        text = str(error).removeprefix(f"In {file.config_path}: ")
        return text.splitlines()[0] if text else "is no entry of a defaults list"
    default.update_parent(parent_base_dir=file.group, parent_package="")
    return default


def _key(default: InputDefault) -> str:
    if isinstance(default, GroupDefault):
        return f"{default.is_override()} {default.get_group_path()}@{default.package or ''}"
    return f"{default.get_config_path()}@{default.package or ''}"


def _missing(
    file: SourceFile, entry: Entry, default: InputDefault, repo: IConfigRepository, found: Inclusions
) -> Iterator[Fault]:
    """What an entry names that is not there; notes what it includes and chooses."""
    if isinstance(default, ConfigDefault):
        if not default.is_interpolation() and not default.is_missing():
            yield from _missing_config(file, entry, default.get_config_path(), repo, found)
        return
    assert isinstance(default, GroupDefault)
    group = default.get_group_path()
    if not default.is_override():
        found.groups.add(group)
    if not repo.group_exists(group):
        if not default.is_optional():
            mend = did_you_mean(group, _groups(repo))
            yield _fault("RH101", file, entry.line, f"there is no group '{group}'", mend)
    elif not (default.is_interpolation() or default.is_missing() or default.value is None):
        yield from _missing_options(file, entry, default, repo, found)


def _missing_config(
    file: SourceFile, entry: Entry, path: str, repo: IConfigRepository, found: Inclusions
) -> Iterator[Fault]:
    group, _, name = path.rpartition("/")
    if repo.config_exists(path):
        found.includes.setdefault(file.config_path, {})[path] = entry.line
        found.chosen.add(path)
    elif group and repo.group_exists(group):
        rule = f"there is no option '{name}' in the group '{group}'"
        yield _fault("RH101", file, entry.line, rule, did_you_mean(name, repo.get_group_options(group)))
    elif repo.group_exists(path):
        yield _fault("RH101", file, entry.line, f"'{path}' is a group: choose one", f"write '{path}: OPTION'")
    else:
        known = [*_groups(repo), *repo.get_group_options(file.group)]
        yield _fault("RH101", file, entry.line, f"there is no option '{path}'", did_you_mean(group or name, known))


def _missing_options(
    file: SourceFile, entry: Entry, default: GroupDefault, repo: IConfigRepository, found: Inclusions
) -> Iterator[Fault]:
    group = default.get_group_path()
    values = default.get_options() if default.is_options() else [str(default.value)]
    for value in values:
        if repo.config_exists(f"{group}/{value}"):
            found.chosen.add(f"{group}/{value}")
            if not default.is_override():
                found.includes.setdefault(file.config_path, {})[f"{group}/{value}"] = entry.line
        elif not default.is_optional():
            rule = f"there is no option '{value}' in the group '{group}'"
            yield _fault("RH101", file, entry.line, rule, did_you_mean(value, repo.get_group_options(group)))
    if default.is_override():
        found.overrides.setdefault(file.config_path, {})[group] = tuple(values)


def _groups(repo: IConfigRepository) -> list[str]:
    names: Any = repo.get_group_options("", results_filter=None)
    return [name for name in names if repo.group_exists(name)]


def _note_circles(file: SourceFile, files: Sequence[SourceFile], found: Inclusions) -> None:
    """An option that includes itself, over others or not; told once, at the first file of the circle."""
    order = [f.config_path for f in files]
    circle = _circle(file.config_path, found.includes)
    if circle is None or min(circle, key=lambda p: order.index(p) if p in order else len(order)) != file.config_path:
        return
    first = circle[1] if len(circle) > 1 else circle[0]
    line = found.includes[file.config_path][first]
    way = " → ".join([*circle, circle[0]])
    mend = "extend the packaged one by its name with '/packaged/' before it"
    number = next((n for n, entry in enumerate(file.entries()) if entry.line == line), 0)
    _note(found, file, number, _fault("RH103", file, line, f"includes itself: {way}", mend))


def _circle(start: str, includes: dict[str, dict[str, int]]) -> list[str] | None:
    """A way from a config path back to itself."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop(0)
        for path in includes.get(way[-1], {}):
            if path == start:
                return way
            if path not in seen:
                seen.add(path)
                ways.append([*way, path])
    return None
