"""A point of a sweep is what `hydra.compose` makes of its overrides: values, types, key order, and errors."""

from __future__ import annotations

import enum
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

import hypothesis.strategies as st
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from hypothesis import HealthCheck, Phase, given, settings
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

from rompy_hydra.compose.staged_loader import StagedLoader
from rompy_hydra.compose.sweep_composer import SweepComposer

pytestmark = pytest.mark.filterwarnings("ignore")  # Hydra warns of missing `_self_`, OmegaConf of deprecated keys


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Inner:
    n: int = 3
    text: str = "inner"
    unset: int = MISSING


@dataclass(frozen=True)
class Frozen:
    v: int = 1


@dataclass
class Typed:
    whole: int = 1
    real: float = 0.5
    text: str = "t"
    flag: bool = True
    maybe: int | None = None
    colour: Colour = Colour.RED
    path: Path = Path("x/y")
    either: Union[int, str] = 7  # noqa: UP007  # as people write it for OmegaConf
    numbers: list[int] = field(default_factory=lambda: [1, 2])
    table: dict[str, int] = field(default_factory=lambda: {"k": 1})
    inner: Inner = field(default_factory=Inner)
    read: int = "${.whole}"  # type: ignore[assignment]
    frozen: Frozen = field(default_factory=Frozen)
    nothing: Inner | None = None
    inners: list[Inner] = field(default_factory=lambda: [Inner(unset=1), Inner(n=4, unset=2)])
    by_colour: dict[Colour, int] = field(default_factory=lambda: {Colour.RED: 1})
    unset: str = MISSING


@pytest.fixture(autouse=True, scope="module")
def nodes_in_the_store() -> Iterator[None]:
    store = ConfigStore.instance()
    store.store(group="typed", name="one", node=Typed)
    store.store(group="typed", name="two", node=Typed(whole=2, text="two"))
    store.store(group="loose", name="one", node={"a": 1, "b": {"c": "${..a}"}})
    setup_globals()
    OmegaConf.register_new_resolver("pure.join", lambda *parts: "+".join(map(str, parts)), replace=True)
    OmegaConf.register_new_resolver("impure.pid", os.getpid, replace=True)
    os.environ["SWEEP_TEST_VARIABLE"] = "from the environment"
    yield
    del os.environ["SWEEP_TEST_VARIABLE"]
    for group in ("typed", "loose"):
        del store.repo[group]
    for name in ("pure.join", "impure.pid"):
        OmegaConf.clear_resolver(name)


# -- the two ways ----------------------------------------------------------------------------------------------------


@dataclass
class Plain:
    """What a composition of a foreign tree gives."""

    config: DictConfig
    hydra: DictConfig
    is_sound: bool = True
    unset: tuple[str, ...] = ()


def composer_of(directory: Path, **options: Any) -> SweepComposer:
    loader = StagedLoader(create_config_search_path(str(directory)), "config")

    def by_hydra(lines: Sequence[str], _: int) -> Plain:
        config = loader.load_configuration("config", list(lines), RunMode.RUN, from_shell=False)
        hydra = config.hydra
        with open_dict(config):
            del config["hydra"]
        return Plain(config, hydra)

    return SweepComposer(loader, by_hydra, constant_resolvers=["pure.join"], **options)


def by_hydra(overrides: Sequence[str]) -> Any:
    try:
        return shown(OmegaConf.to_container(compose("config", list(overrides)), resolve=True))
    except Exception as error:  # noqa: BLE001  # whatever it is, it must be the same
        return _told(error)


def by_us(composer: SweepComposer, overrides: Sequence[str]) -> Any:
    try:
        return shown(composer.point(overrides).config)
    except Exception as error:  # noqa: BLE001
        return _told(error)


def _told(error: Exception) -> tuple[type, str]:
    text = str(error)
    # Python ends an endless recursion wherever it happens to be
    return type(error), re.sub(r"maximum recursion depth exceeded[^\n]*", "recursion", text)


def shown(content: Any) -> str:
    """Content with its types and the order of its keys."""
    if isinstance(content, dict):
        return "{" + ", ".join(f"{k!r}: {shown(v)}" for k, v in content.items()) + "}"
    if isinstance(content, list):
        return "[" + ", ".join(map(shown, content)) + "]"
    return f"{type(content).__name__} {content!r}"


def write(directory: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        header, body = content if isinstance(content, tuple) else ("", content)
        path.write_text(header + (body if isinstance(body, str) else yaml.safe_dump(body, sort_keys=False)))
    return directory


def check(directory: Path, points: Sequence[Sequence[str]], **options: Any) -> SweepComposer:
    """Every point is the same both ways, the first time and when everything is known."""
    composer = composer_of(directory, **options)
    with initialize_config_dir(str(directory), version_base="1.3"):
        expected = [by_hydra(point) for point in points]
    for _ in range(2):
        for point, wanted in zip(points, expected, strict=True):
            assert by_us(composer, point) == wanted, point
    return composer


# -- trees and commands made up by Hypothesis --------------------------------------------------------------------------
#
# Most of a tree is sound, so that most points compose: what an expression reads is there and holds no expression that
# reads back.  A few wild things are mixed in, and a few wrong overrides.

GROUPS = {"db": ("one", "two", "three"), "srv": ("one", "two")}
LEAVES = ("base.p", "base.q", "base.r", "db.x", "typed.whole", "typed.text", "typed.inner.n")
CHAIN = ("chain.k1", "chain.k2", "chain.k3", "chain.k4")
SCALARS = st.sampled_from(
    [0, 1, 7, -3, 0.5, 1e-3, True, False, None, "text", "", "7", "true", "two words", "a,b", "x: y", "p"]
)


def _often(draw: st.DrawFn, percent: int) -> bool:
    yes = percent // 5
    return draw(st.sampled_from([True] * yes + [False] * (20 - yes)))


@st.composite
def sound_expressions(draw: st.DrawFn, readable: Sequence[str] = LEAVES) -> str:
    one, other = draw(st.sampled_from(readable)), draw(st.sampled_from(readable))
    simple = [f"${{{one}}}", f"x-${{{one}}}", f"${{{one}}}/${{{other}}}", f"${{{one}}}%d${{{one}}}"]
    hard = [
        f"\\${{{one}}}",
        f"'${{{one}}}' \\\\${{{other}}}",
        f"${{oc.select:{one},3}}",
        f"${{oc.select:nowhere.at_all,${{{one}}}}}",
        "${oc.env:SWEEP_TEST_VARIABLE}",
        f"${{oc.env:SWEEP_TEST_UNSET,${{{one}}}}}",
        f"${{oc.decode:'[1, ${{{one}}}]'}}",
        f"${{oc.create:{{x: ${{{one}}}, y: [2]}}}}",
        f"${{oc.deprecated:{one}}}",
        f"${{pure.join:1,${{{one}}}}} and ${{{other}}}",
        f"${{pure.join:${{{one}}},{{a: 1}},[b, ${{{other}}}]}}",
        "${base.${chosen}}",
        f"${{base[${{chosen}}]}}-${{{one}}}",
        f"${{oc.dict.keys:{draw(st.sampled_from(['base', 'typed.table']))}}}",
        f"${{oc.dict.values:{draw(st.sampled_from(['base', 'typed.table']))}}}",
        f"${{{draw(st.sampled_from(['base', 'list', 'typed.inner', 'typed.numbers']))}}}",
    ]
    return draw(st.sampled_from([*simple * 3, *hard]))


WILD = st.sampled_from(
    ["???", "${nowhere}", "${chain.k4}", "${.x}", "${..base.p}", "${wild}", "${wild.a}", "${oc.env:SWEEP_TEST_UNSET}"]
    + ["${unknown.resolver:1}", "${impure.pid:}", "${db.nest.z}", "${oc.decode:${base.p}}", "${...p}", "${hydra:job.name}"]
    + ["${now:%Y}", "${oc.select:${base.p}}", "text ${db}", "${db.${base.p}}", "${typed.unset}", "${list.0}", "${srv.x}"]
    + ["${db}", "${link.p}", "${oc.dict.keys:link}", "${oc.dict.values:db}", "${pure.join:${base}}", "${now:${base.p}}"]
)
VALUES = st.recursive(
    st.one_of(SCALARS, SCALARS, sound_expressions()),
    lambda inner: st.one_of(st.dictionaries(st.sampled_from("abcd"), inner, max_size=3), st.lists(inner, max_size=3)),
    max_leaves=5,
)
HEADERS = st.sampled_from(["# @package _global_\n", "# @package inner.deep\n", "# @package base\n", "# @package db.nest\n"])


@st.composite
def options(draw: st.DrawFn, group: str, option: str) -> tuple[str, Any]:
    readable = [leaf for leaf in LEAVES if not leaf.startswith("db")]
    body: dict[str, Any] = {
        "x": draw(SCALARS),
        "y": draw(st.one_of(SCALARS, sound_expressions(readable))),
        "nest": {"z": draw(sound_expressions(readable)), "w": draw(st.sampled_from([1, "w", "${..x}", "${.z}"]))},
        f"only_{option}": draw(VALUES),
    }
    defaults: list[Any] = draw(
        st.sampled_from([[], [], [], ["/loose/one", "_self_"], ["_self_", {"sub": "x"}], [{"optional sub": "no"}, "_self_"]])
    )
    header = "" if group == "db" or _often(draw, 70) else draw(HEADERS)
    if group == "srv" and _often(draw, 20):
        header = "# @package _global_\n"
        defaults = [*(defaults or ["_self_"]), {"override /db": draw(st.sampled_from(GROUPS["db"]))}]
    return header, {**({"defaults": defaults} if defaults else {}), **_shuffled(draw, body)}


def _shuffled(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    return {key: body[key] for key in draw(st.permutations(list(body)))}


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    files: dict[str, Any] = {}
    for group, names in GROUPS.items():
        for option in names:
            files[f"{group}/{option}.yaml"] = draw(options(group, option))
        files[f"{group}/sub/x.yaml"] = {"leaf": draw(VALUES)}
    extras: list[Any] = [{"loose": "one"}, {"db@more": "two"}, {"db@base.more": "one"}, {"optional srv@gone": "no"}]
    defaults = [{"db": draw(st.sampled_from(GROUPS["db"]))}, {"srv": draw(st.sampled_from(GROUPS["srv"]))}, {"typed": "one"}]
    defaults += draw(st.lists(st.sampled_from(extras), max_size=2, unique_by=str))
    defaults.insert(draw(st.integers(0, 3)), "_self_")
    readable: list[str] = list(LEAVES)
    chain = {}
    for key in CHAIN:
        chain[key.partition(".")[2]] = draw(sound_expressions(readable))
        readable = [*readable, key, key]
    body = {
        "base": {"p": draw(SCALARS), "q": draw(SCALARS), "r": draw(SCALARS)},
        "chosen": draw(st.sampled_from("pqr")),
        "chain": chain,
        "list": draw(st.lists(st.one_of(SCALARS, sound_expressions()), max_size=3)),
        "free": draw(VALUES),
        "keys": {1: "one", True: "yes", "a.b": "${base.p}", 2.5: [{"q": "${....base.p}"}, "${...chosen}"]},
        "link": draw(st.sampled_from(["${base}", "${typed.inner}", "${db.nest}", None])),
    }
    if not _often(draw, 85):
        body["wild"] = draw(WILD)
    typed = {"unset": "given", "inner": {"unset": 4}}
    if _often(draw, 60):
        typed |= draw(st.sampled_from([{"whole": 5}, {"text": "${base.p}"}, {"either": "x"}, {"maybe": "${.whole}"}]))
    body["typed"] = typed
    files["config.yaml"] = {"defaults": defaults, **_shuffled(draw, body)}
    return files


NUMBERS = st.sampled_from(["1", "2", "3", "17"])
TEXTS = st.sampled_from(
    ["1", "2", "0.5", "1e3", "true", "null", "text", "'quoted, text'", '"7"', "", "RED", "a\\,b", "float(3)", "str(5)", "001", "p"]
)
CONTAINERS = st.sampled_from(["[1,2]", "[]", "[a,null]", "{x:1}", "{p:2,b:{c:3}}", "[${base.p},1]", "{p:${base.r}}", "{z:1}"])
READING = st.sampled_from(["${base.p}", "'${db.x}'", "x/${base.q}", "???", "${chosen}", "${link.p}", "${.q}", "\\${base.p}"])
LOOSE = st.sampled_from(["base.p", "base.q", "base.r", "db.x", "db.y", "db.nest.z", "db.nest.w", "free", *CHAIN, "list.0"])
WHOLE = st.sampled_from(["typed.whole", "typed.inner.n", "typed.table.k", "typed.numbers.1", "typed.maybe", "typed.read"])
BRANCHES = st.sampled_from(["base", "db", "db.nest", "list", "typed.inner", "typed.table", "link", "free", "new", "typed.numbers"])
OTHERS = st.sampled_from(
    ["typed.frozen.v", "typed.nothing.n", "typed.inners.1.n", "typed.by_colour.RED", "typed.by_colour.BLUE", "typed.nothing"]
    + ["keys.1", "keys.true", "keys.a.b", "keys"]
    + ["chosen", "link", "link.p", "wild", "typed.colour", "typed.either", "typed.text", "typed.unset", "srv.x", "srv.nest.w"]
    + ["nowhere", "db.nope", "inner.deep.x", "list.7", "chain", "chain.k1.new"]
)
NEW = st.sampled_from(["new", "base.new", "new.deep.er", "typed.table.new", "db.nest.new", "chain.new", "typed.new"])


@st.composite
def value_overrides(draw: st.DrawFn) -> list[str]:
    """One override, with a few values."""

    def several(texts: st.SearchStrategy[str]) -> list[str]:
        return draw(st.lists(texts, min_size=1, max_size=3, unique=True))

    kind = draw(st.integers(0, 13))
    if kind < 4:
        place = draw(LOOSE)
        return [f"{place}={text}" for text in several(TEXTS)]
    if kind < 6:
        place = draw(WHOLE)
        return [f"{place}={text}" for text in several(NUMBERS)]
    if kind < 8:
        place = draw(NEW)
        sign = draw(st.sampled_from(["+", "++"]))
        return [f"{sign}{place}={text}" for text in several(NUMBERS if "typed" in place else st.one_of(TEXTS, CONTAINERS))]
    if kind == 8:
        place = draw(st.one_of(LOOSE, BRANCHES, OTHERS))
        return [f"{draw(st.sampled_from(['', '++']))}{place}={text}" for text in several(CONTAINERS)]
    if kind == 9:
        place = draw(st.one_of(LOOSE, OTHERS))
        return [f"{place}={text}" for text in several(READING)]
    if kind == 10:
        place = draw(OTHERS)
        return [f"{place}={text}" for text in several(TEXTS)]
    if kind == 11:
        return [f"~{draw(st.one_of(LOOSE, LOOSE, BRANCHES, OTHERS))}"]
    if kind == 12:
        place = draw(st.one_of(LOOSE, WHOLE))
        return [f"~{place}={text}" for text in several(TEXTS)]
    place = draw(st.one_of(LOOSE, NEW))
    return [f"+{place}={text}" for text in several(TEXTS)]


CHOICES = [["db=one", "db=two", "db=three"], ["srv=one", "srv=two"], ["typed=two"], ["db=two", "db=three"]]
OTHER_OVERRIDES = st.sampled_from(
    [*CHOICES * 5, ["+typed@again=one", "+typed@again=two"], ["+loose=one"], ["~srv"], ["~db=one"], ["+db@extra=one"]]
    + [["db=absent"], ["db@more=one"], ["db/sub=x"], ["a=[1"], ["base.p=1,2"], ["=3"], ["hydra.job.name=x"], ["srv=null"]]
    + [["hydra.verbose=true"], ["db={x:1}"], ["typed.whole=1", "typed.whole=x", "typed.whole=null"], ["++db=one"], ["db=[one,two]"]]
)
COMMANDS = st.lists(st.one_of(*[value_overrides()] * 3, OTHER_OVERRIDES), min_size=1, max_size=4)


def points_of(command: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(point) for point in itertools.islice(itertools.product(*command), 4)]


def try_one(files: dict[str, Any], command: Sequence[Sequence[str]]) -> None:
    directory = Path(tempfile.mkdtemp(prefix="rompy-hydra-trees-"))
    try:
        check(write(directory, files), points_of(command))
    finally:
        shutil.rmtree(directory)


SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@settings(max_examples=60, suppress_health_check=SLOW, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink])
@given(trees(), COMMANDS)
def test_any_point_of_any_tree_is_what_hydra_makes_of_it(files: dict[str, Any], command: list[list[str]]) -> None:
    try_one(files, command)
