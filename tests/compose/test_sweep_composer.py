"""A point of a sweep is what `hydra.compose` makes of its overrides: values, types, key order, and errors."""

from __future__ import annotations

import enum
import gc
import itertools
import os
import random
import re
import shlex
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Union

import hypothesis
import hypothesis.strategies as st
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.basecontainer import BaseContainer

from rompy_hydra.compose import resolvers, staged_loader, sweep_plans
from rompy_hydra.compose.bridge import to_plan
from rompy_hydra.compose.compiled_tree import ASKED
from rompy_hydra.compose.composer import Request
from rompy_hydra.compose.composer import compose as fresh_compose
from rompy_hydra.compose.loader import Loader
from rompy_hydra.compose.sources import Sources, find_sources, packaged_dir
from rompy_hydra.compose.staged_loader import StagedLoader
from rompy_hydra.compose.sweep_composer import SweepComposer
from rompy_hydra.compose.sweep_plans import SweepPlanner, plan_points
from rompy_hydra.compose.tree import copied
from rompy_hydra.errors import ConfigError
from rompy_hydra.plan.point import Point
from rompy_hydra.plan.run_plan import RunPlan

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


# -- the two ways -----------------------------------------------------------------------------------------------------


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

    return SweepComposer(
        loader, by_hydra, lambda lines: loader.look(lines)[0], constant_resolvers=["pure.join"], **options
    )


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


# -- trees and commands made up by Hypothesis -------------------------------------------------------------------------
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
    [
        "???",
        "${nowhere}",
        "${chain.k4}",
        "${.x}",
        "${..base.p}",
        "${wild}",
        "${wild.a}",
        "${oc.env:SWEEP_TEST_UNSET}",
        "${unknown.resolver:1}",
        "${impure.pid:}",
        "${db.nest.z}",
        "${oc.decode:${base.q}}",
        "${...p}",
        "${hydra:job.name}",
        "${now:%Y}",
        "${oc.select:${base.p}}",
        "text ${db}",
        "${db.${base.p}}",
        "${typed.unset}",
        "${list.0}",
        "${srv.x}",
        "${db}",
        "${link.p}",
        "${oc.dict.keys:link}",
        "${oc.dict.values:db}",
        "${pure.join:${base}}",
        "${now:${base.p}}",
    ]
)
VALUES = st.recursive(
    st.one_of(SCALARS, SCALARS, sound_expressions()),
    lambda inner: st.one_of(st.dictionaries(st.sampled_from("abcd"), inner, max_size=3), st.lists(inner, max_size=3)),
    max_leaves=5,
)
HEADERS = st.sampled_from(
    ["# @package _global_\n", "# @package inner.deep\n", "# @package base\n", "# @package db.nest\n"]
)


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
        st.sampled_from(
            [[], [], [], ["/loose/one", "_self_"], ["_self_", {"sub": "x"}], [{"optional sub": "no"}, "_self_"]]
        )
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
    defaults: list[Any] = [
        {"db": draw(st.sampled_from(GROUPS["db"]))},
        {"srv": draw(st.sampled_from(GROUPS["srv"]))},
        {"typed": "one"},
    ]
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
        "keys": {1: "one", False: "yes", "a.b": "${base.p}", 2.5: [{"q": "${....base.p}"}, "${...chosen}"]},
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
    [
        "1",
        "2",
        "0.5",
        "1e3",
        "true",
        "null",
        "text",
        "'quoted, text'",
        '"7"',
        "",
        "RED",
        "a\\,b",
        "float(3)",
        "str(5)",
        "001",
        "p",
    ]
)
CONTAINERS = st.sampled_from(
    ["[1,2]", "[]", "[a,null]", "{x:1}", "{p:2,b:{c:3}}", "[${base.p},1]", "{p:${base.r}}", "{z:1}"]
)
READING = st.sampled_from(
    ["${base.p}", "'${db.x}'", "x/${base.q}", "???", "${chosen}", "${link.p}", "${.q}", "\\${base.p}"]
)
LOOSE = st.sampled_from(
    ["base.p", "base.q", "base.r", "db.x", "db.y", "db.nest.z", "db.nest.w", "free", *CHAIN, "list.0"]
)
WHOLE = st.sampled_from(
    ["typed.whole", "typed.inner.n", "typed.table.k", "typed.numbers.1", "typed.maybe", "typed.read"]
)
BRANCHES = st.sampled_from(
    ["base", "db", "db.nest", "list", "typed.inner", "typed.table", "link", "free", "new", "typed.numbers"]
)
OTHERS = st.sampled_from(
    [
        "typed.frozen.v",
        "typed.nothing.n",
        "typed.inners.1.n",
        "typed.by_colour.RED",
        "typed.by_colour.BLUE",
        "typed.nothing",
        "keys.1",
        "keys.false",
        "keys.a.b",
        "keys",
        "chosen",
        "link",
        "link.p",
        "wild",
        "typed.colour",
        "typed.either",
        "typed.text",
        "typed.unset",
        "srv.x",
        "srv.nest.w",
        "nowhere",
        "db.nope",
        "inner.deep.x",
        "list.7",
        "chain",
        "chain.k1.new",
    ]
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
        return [
            f"{sign}{place}={text}" for text in several(NUMBERS if "typed" in place else st.one_of(TEXTS, CONTAINERS))
        ]
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
    [
        *CHOICES * 5,
        ["+typed@again=one", "+typed@again=two"],
        ["+loose=one"],
        ["~srv"],
        ["~db=one"],
        ["+db@extra=one"],
        ["db=absent"],
        ["db@more=one"],
        ["db/sub=x"],
        ["a=[1"],
        ["base.p=1,2"],
        ["=3"],
        ["hydra.job.name=x"],
        ["srv=null"],
        ["hydra.verbose=true"],
        ["db={x:1}"],
        ["typed.whole=1", "typed.whole=x", "typed.whole=null"],
        ["++db=one"],
        ["db=[one,two]"],
    ]
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


@settings(max_examples=15, suppress_health_check=SLOW)
@given(trees(), COMMANDS)
def test_any_point_of_any_tree_is_what_hydra_makes_of_it(files: dict[str, Any], command: list[list[str]]) -> None:
    try_one(files, command)


@pytest.mark.soak
def test_many_points_of_many_trees_are_what_hydra_makes_of_them(
    soak_random: random.Random, soak_seconds: float
) -> None:
    end = time.monotonic() + soak_seconds
    while time.monotonic() < end:

        @hypothesis.seed(soak_random.randrange(2**32))
        @settings(max_examples=100, suppress_health_check=SLOW, database=None)
        @given(trees(), COMMANDS)
        def some(files: dict[str, Any], command: list[list[str]]) -> None:
            try_one(files, command)

        some()


# -- the corpus: what was found, and what is easily wrong -------------------------------------------------------------

TREE: dict[str, Any] = {
    "config.yaml": """\
defaults:
  - _self_
  - db: one
  - srv: null
  - typed: one
  - db@second: two
base: {p: 1, q: two, r: null, s: "???"}
chosen: p
chain:
  k1: ${base.p}
  k2: a-${chain.k1}-${.k1}
  k3: ${.k2}/${..base.q}
  k4: ${chain.k3}
link: ${base2}
base2: {x: 1, y: "${base.p}", z: {deep: "${...base.q}"}}
copy: {of: "${base2}", of_list: "${list}"}
list: [1, "${base.p}", {in: "${...base.q}"}, [2, "${...chosen}"]]
odd: {1: one, false: yes, "a.b": "${base.p}", 2.5: [{q: "${....base.p}"}]}
typed: {unset: given, inner: {unset: 4}}
escaped: "\\\\${base.p}"
indirect: ${base.${chosen}}
bracket: ${base[${chosen}]}
""",
    "db/one.yaml": {"x": 1, "y": "${.x}", "here": "${db.x}", "nest": {"up": "${..x}"}},
    "db/two.yaml": {"defaults": ["_self_", {"sub": "a"}], "x": 2, "y": "${.x}", "only_two": [1, 2]},
    "db/sub/a.yaml": {"leaf": "${base.p}"},
    "db/moved.yaml": ("# @package base\n", {"p": 9, "new": "${chosen}"}),
    "srv/one.yaml": (
        "# @package _global_\n",
        {"defaults": ["_self_", {"override /db": "two"}], "base": {"q": "by srv"}},
    ),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("tree"), TREE)


FAST: dict[str, list[list[str]]] = {
    "a value": [["base.p=1"], ["base.p=2"], ["base.p=null"], ["base.p=text"], ["base.p="], ["base.p=1e3"]],
    "readers of readers": [["base.p=5", "chain.k1=own"], ["chain.k2=own"], ["chain.k3='${base.q}'"]],
    "relative and absolute": [["base.q=other", "db.x=7"], ["second.x=8"]],
    "a map behind an interpolation": [["base2.x=5"], ["base2.z.deep=6"], ["base.p=7"]],
    "a leaf that stood for a map": [["link=1"], ["copy.of=null", "base2.x=3"], ["copy.of_list=x"]],
    "lists": [["list.0=x"], ["list.1=x"], ["list.2.in=x"], ["list.3.1=x"], ["base.q=9"]],
    "the key of another key": [["chosen=q"], ["chosen=r"], ["chosen=p", "base.p=3"]],
    "odd keys": [["base.p=3"]],
    "a missing value is given": [["base.s=1"], ["base.s=null"]],
    "plus where nothing is": [["+new=1"], ["+new=2"], ["+new.deep.er=1"], ["+base.new=x", "base.p=2"], ["+base.r=5"]],
    "plus where a value is missing": [["+base.s=1"], ["+base.s=2"]],
    "two pluses": [["++new=1"], ["++base.p=1"], ["++base.p=2", "++new=2"]],
    "the order of new keys": [["+b=1", "+a=2"], ["+a=1", "+b=2"], ["+b.x=1", "+a=2", "+b.y=3"]],
    "a key that goes": [["~chain.k4", "base.q=1"], ["~chain"], ["~db.y", "db.x=3"], ["~odd"]],
    "whole lists and maps": [
        ["list=[1,2]", "base.p=2"],
        ["base2={x:3}", "base.q=4"],
        ["++base2={w:3}", "base2.x=9"],
        ["db={x:4}", "base.p=2"],
    ],
    "an expression as a value": [["base.q='${base.p}'", "base.p=4"], ["base.q='${.p}-${chosen}'", "chosen=q"]],
    "the last one wins": [["base.p=1", "base.p=2"], ["+new=1", "new=2"], ["base.p=1", "++base.p=2"]],
    "groups": [
        ["db=two", "db.x=4"],
        ["db=one", "db.x=4"],
        ["srv=one"],
        ["srv=one", "db=one", "base.q=3"],
        ["db=moved"],
    ],
    "groups in packages": [["db@second=one"], ["+db@third=one", "third.x=4"], ["db/sub=a", "db=two"], ["~db@second"]],
    "lists of options": [["db=[one,two]", "db.x=4"], ["db=[two,one]"]],
    "nodes of the store": [["typed=two", "typed.whole=4"], ["+loose=one", "loose.a=5"]],
    "typed leaves": [["typed.whole=5"], ["typed.real=1"], ["typed.text=5"], ["typed.flag=false"], ["typed.maybe=3"]],
    "typed leaves that convert": [["typed.whole='5'"], ["typed.colour=BLUE"], ["typed.path=a/b"], ["typed.maybe=null"]],
    "typed leaves deep down": [["typed.inner.n=5"], ["typed.inners.1.n=7"], ["typed.table.k=2"], ["typed.numbers.1=9"]],
    "a union of types": [["typed.either=x", "base.p=1"], ["typed.either=2", "base.p=1"]],
    "quotes": [["base.q='a, b'"], ['base.q="it\'s"'], ["base.q='1'"], ["base.q=a\\,b"], ["base.q=str(5)"]],
    "hydra's own keys": [["hydra.job.name=x", "base.p=3"], ["hydra.verbose=true", "base.p=4"]],
    "what comes after a change": [["+new={a:1}", "new.a=2"], ["list=[1,2]", "list.0=5"], ["link={p:1}", "link.p=3"]],
}

ASIDE: dict[str, list[list[str]]] = {
    "a change after a value": [["base2.x=5", "base2={x:3}"], ["list.0=5", "list=[1,2]"], ["base.p=4", "~base.p"]],
    "a value that is compared": [["base.q=two", "~base.p=1"]],
    "through an interpolation": [["base.p=3", "++link.x=5"], ["base.p=3", "++copy.of.x=4"]],
}

REFUSED: dict[str, list[list[str]]] = {
    "no such key": [["base.nope=1"], ["nope.at.all=1"], ["base.p=2", "chain.k9=1"], ["list.7=1"], ["list.x=1"]],
    "no such option": [["db=three"], ["db=three", "base.p=1"], ["+db@x=three"]],
    "no such group": [["bd=two", "base.p=1"], ["~bd"], ["db@nowhere=one"]],
    "an item is there": [["+base.p=1"], ["+base.q=x", "base.p=2"], ["+chain.k1=1"]],
    "what is not there cannot go": [["~base.nope"], ["~base.q=three"], ["~srv=one"]],
    "grammar": [["base.p=[1"], ["=1"], ["base.p"], ["base.p=1,2"], ["base.p=range(1,3)"], ["base.p='a"]],
    "types": [["typed.whole=x"], ["typed.whole=null"], ["typed.colour=GREEN"], ["typed.numbers.0=x"], ["typed.new=1"]],
    "read only": [["typed.frozen.v=2"], ["~typed.whole"]],
    "kinds of groups": [["db=null"], ["db=1"], ["++db=one"], ["srv={x:1}"]],
    "expressions": [["base.q='${nowhere}'"], ["base.p='${chain.k4}'"], ["base.q='${unknown:1}'"], ["chosen=nope"]],
    "to itself": [["base='${base}'"], ["base2.x='${base2}'"], ["chain.k1='${chain.k1}'"]],
    "search path": [["hydra.searchpath=3"], ["hydra.searchpath=[3]", "db=two"]],
    "two findings": [["base.nope=1", "db=three"], ["db=three", "base.nope=1"], ["base.nope=1", "base.nape=2"]],
}


@pytest.mark.parametrize("name", FAST)
def test_these_points_need_no_composition_of_their_own(tree: Path, name: str) -> None:
    composer = check(tree, FAST[name])
    assert composer.counts.fast == 2 * len(FAST[name]), composer.counts


@pytest.mark.parametrize("name", ASIDE)
def test_these_points_are_left_to_hydra(tree: Path, name: str) -> None:
    composer = check(tree, ASIDE[name])
    assert composer.counts.fallbacks == 2 * len(ASIDE[name])


@pytest.mark.parametrize("name", REFUSED)
def test_the_same_mistake_gives_the_same_error(tree: Path, name: str) -> None:
    composer = composer_of(tree)
    with initialize_config_dir(str(tree), version_base="1.3"):
        for point in REFUSED[name]:
            wanted = by_hydra(point)
            assert isinstance(wanted, tuple), f"{point} is no mistake"
            assert by_us(composer, point) == wanted, point
            assert by_us(composer, point) == wanted, point


EXPRESSIONS = [
    "${oc.env:SWEEP_TEST_VARIABLE}",
    "${oc.env:SWEEP_TEST_UNSET,${base.p}}",
    "${oc.select:base.p}",
    "${oc.select:base.nope,${base.p}}",
    "${oc.decode:'[1, ${base.p}]'}",
    "${oc.decode:${base.q}}",
    "${oc.create:{a: '${base.p}'}}",
    "${oc.deprecated:base.p}",
    "${oc.dict.keys:base}",
    "${oc.dict.values:base}",
    "${pure.join:${base.p},2}",
    "a ${pure.join:${base.p},[1,${base.q}],{k: null}} b",
    "${base}",
    "${base.${base.q}}",
    "'${base.p}' \\\\${base.q} \\${base.p}",
    "${now:%Y-%m}",
    "${.other}",
    "$${base.p}",
    "${ base.p }",
    "${base.p}}",
    "${base[p]}",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_these_expressions_are_worked_out_at_each_point_without_a_composition(tmp_path: Path, expression: str) -> None:
    body = {"base": {"p": 1, "q": "p"}, "part": {"other": "${base.p}", "leaf": expression}, "reader": "${part.leaf}"}
    write(tmp_path, {"config.yaml": body})
    composer = check(tmp_path, [["base.p=1"], ["base.p=two"], ["base.p=0.5", "base.q=q"], ["part.other=x"]])
    assert not composer.counts.aside


def test_every_resolver_of_ours_is_vouched_for() -> None:
    before = set(BaseContainer._resolvers)
    resolvers.register()
    ours = {n for n in BaseContainer._resolvers if n not in before or n.startswith(("host.", "rompy.", "secret"))}
    assert ours <= ASKED


def test_a_resolver_that_nobody_vouches_for_is_asked_by_hydra_at_each_point(tmp_path: Path) -> None:
    write(tmp_path, {"config.yaml": {"a": 1, "b": "${impure.pid:}"}})
    composer = check(tmp_path, [["a=1"], ["a=2"]])
    assert composer.counts.aside == {"${impure.pid:} may differ from point to point": 4}


def test_a_moment_is_the_same_at_every_point(tmp_path: Path) -> None:
    write(tmp_path, {"config.yaml": {"a": 1, "b": "${now:%f}", "c": "${oc.decode:${now:%f}}"}})
    composer = composer_of(tmp_path)
    found = [composer.point([f"a={n}", f"+x{n % 2}=1"]).config for n in range(4)]
    assert len({point["b"] for point in found}) == 1


def test_a_point_does_not_change_another(tree: Path) -> None:
    composer = composer_of(tree)
    before = shown(composer.point(["base.q=a"]).config)
    for other in (["base.q=b", "base2.x=3"], ["list.2.in=c"], ["db=two"], ["+new=1"]):
        composer.point(other)
    assert shown(composer.point(["base.q=a"]).config) == before


def test_points_share_what_is_the_same(tree: Path) -> None:
    composer = composer_of(tree)
    one, two = (composer.point([f"base.p={n}"]).config for n in (1, 2))
    assert one["typed"] is two["typed"]
    assert one["base"] is not two["base"]


def test_few_bases_are_kept_and_a_lost_one_is_made_again(tree: Path) -> None:
    composer = composer_of(tree, kept_bases=2)
    points = [[f"db={db}", f"+new={n}"] for n in (1, 2) for db in ("one", "two", "moved")]
    with initialize_config_dir(str(tree), version_base="1.3"):
        for point in points:
            assert by_us(composer, point) == by_hydra(point)


def test_values_that_each_need_a_composition_are_told(tree: Path) -> None:
    composer = composer_of(tree)
    for n in range(40):
        composer.point([f"list=[{n}]", "base.p=1"])
    assert composer.counts.aside == {"every value of list needs a composition": 8}
    assert composer.counts.fast == 32


def test_a_wrong_first_value_does_not_spoil_the_others(tree: Path) -> None:
    check(tree, [["+typed.table.new=x"], ["+typed.table.new=1"], ["+typed.table.new=2"]])


def test_a_value_that_decides_how_others_are_read_makes_a_base_of_its_own(tree: Path) -> None:
    composer = check(tree, [["chosen=p", "base.p=2"], ["chosen=q", "base.p=2"]], deciding_keys=["indirect", "chosen"])
    assert not composer.counts.aside


def test_a_search_path_on_the_command_line_is_searched(tree: Path, tmp_path: Path) -> None:
    write(tmp_path, {"db/far.yaml": {"x": "far"}})
    search = f"hydra.searchpath=['file://{tmp_path}']"
    check(tree, [[search, "db=far", "db.x=1"], [search, "db=far", "base.p=2"], ["db=far"], ["db=one"]])


def test_a_composition_in_two_stages_is_hydra_s_own_with_hydra_s_own_part(tree: Path) -> None:
    staged = StagedLoader(create_config_search_path(str(tree)), "config")
    for overrides in (["db=two"], ["db=two", "base.p=3", "hydra.job.name=x"], ["srv=one", "hydra.run.dir=y"], []):
        fresh = Loader(create_config_search_path(str(tree)))
        wanted = fresh.load_configuration("config", overrides, RunMode.RUN)
        for _ in range(2):
            found = staged.load_configuration("config", overrides, RunMode.RUN)
            assert OmegaConf.to_yaml(found) == OmegaConf.to_yaml(wanted)
            assert staged.hydra_keys == fresh.hydra_keys


# -- the shipped configuration ----------------------------------------------------------------------------------------

EMPTY: dict[str, str] = {}


def request_of(*overrides: str, sources: Sources | None = None) -> Request:
    found = sources or find_sources(environ=EMPTY)
    return Request(overrides=overrides, sources=found, invocation="20260101T000000Z-test", environ=EMPTY)


def planner_of(*conf: str, environ: dict[str, str] | None = None) -> SweepPlanner:
    request = replace(request_of(sources=find_sources(conf, environ=EMPTY)), environ=environ or EMPTY)
    return SweepPlanner(request, cwd=Path("/work-dir"))


def single(planner: SweepPlanner, overrides: Sequence[str]) -> Any:
    """The plan of the single run, or what is wrong with it."""
    request = replace(planner.request, overrides=tuple(overrides))
    try:
        return _comparable(to_plan(fresh_compose(request), cwd=planner.cwd))
    except ConfigError as error:
        return [str(finding) for finding in error.findings]


def planned(planner: SweepPlanner, overrides: Sequence[str]) -> Any:
    (point,) = plan_points([overrides], planner)
    return _comparable(point.plan) if isinstance(point, Point) else [str(finding) for finding in point.error.findings]


def _comparable(plan: RunPlan) -> Any:
    data = {name: getattr(plan, name) for name in RunPlan.model_fields if name not in ("hydra_files", "spec")}
    return shown(data), type(plan.spec.backend), plan.spec.model_dump(), plan.spec.model_dump(exclude_unset=True)


def options_of(group: str) -> list[str]:
    return sorted(path.stem for path in (packaged_dir("conf") / group).glob("*.yaml"))


GROUPS_OF_OURS = sorted(path.name for path in packaged_dir("conf").iterdir() if path.is_dir())
VALUES_OF_OURS = [
    "resources.threads=2",
    "resources.memory=2g",
    "resources.time_limit=2h",
    "run_id=001",
    "vars.x=3",
    "vars.x=1.10",
    "+vars.deep.er=text",
    "env_vars.OMP=1.10",
    "env_vars.OMP=true",
    "backend.env_vars.A=007",
    "~env_vars.LOG_LEVEL",
    "model.name=other",
    "model.parameters.wind_stress=0.2",
    "output_dir=elsewhere",
    "output_dir='${model.name}'",
    "backend.command=[echo,001]",
    "postprocess.options={a:1}",
    "on_existing=new",
    "site.partition=debug",
    "backend.timeout=120",
    "hydra.job.env_set.FOO=1",
    "hydra.sweep.dir=there",
    "sweep.jobs=2",
]


def test_no_group_of_the_shipped_configuration_needs_a_fallback() -> None:
    planner = planner_of()
    for group in GROUPS_OF_OURS:
        for option in options_of(group):
            for value in VALUES_OF_OURS:
                planner.composed([f"{group}={option}", value, "vars.y=1"], 0)
    assert not planner.counts.aside
    assert planner.counts.fast > 100


ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("example", sorted((ROOT / "multirun_examples").glob("*.[sy]*")), ids=lambda path: path.name)
def test_no_example_of_a_sweep_needs_a_fallback(example: Path) -> None:
    line = example.read_text().partition("\n")[0].removeprefix("# ")
    words = shlex.split(line)
    assert words[:3] == ["rompy-hydra", "run", "-m"]
    named = dict(itertools.pairwise(words))
    conf = [named["--config-dir"]] if "--config-dir" in named else []
    request = replace(
        request_of(*(word for word in words[3:] if "=" in word), sources=find_sources(conf, environ=EMPTY, cwd=ROOT)),
        config_name=named.get("--config-name", "config"),
    )
    sweep = sweep_plans.open_sweep(request, cwd=ROOT)
    assert all(isinstance(point, Point) for point in sweep.points())
    assert sweep.planner.counts.fallbacks == 0
    assert sweep.planner.counts.fast > 0


@pytest.mark.parametrize("value", VALUES_OF_OURS)
def test_a_plan_is_that_of_the_single_run(value: str) -> None:
    planner = planner_of()
    overrides = ["site=generic_slurm", value, "model=command", "vars.y=1"]
    wanted = single(planner, overrides)
    assert not isinstance(wanted, list), wanted
    for _ in range(2):
        assert planned(planner, overrides) == wanted
    assert not planner.counts.aside


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=command", "resources.threads=x"],
        ["model=command", "backend.tmeout=60"],
        ["bakend=docker", "resources.memory=plenty"],
        ["env=prodution"],
        ["model.parameters.wind_stress=-1", "model.parameters.run_length=soon"],
        ["model=command", "backend.type=nowhere"],
        ["model=command", "model.template=nowhere"],
        ["model=command", "output_dir='${nowhere}'"],
        ["model=command", "hydra.launcher=x"],
        ["model=command", "hydra.job.env_copy=[NOT_SET_ANYWHERE]"],
        ["model=command", "vars.a=???"],
        ["resources.threads=[1"],
    ],
)
def test_a_wrong_point_is_told_as_the_single_run_is(overrides: list[str]) -> None:
    planner = planner_of()
    wanted = single(planner, overrides)
    assert isinstance(wanted, list)
    for _ in range(2):
        assert planned(planner, overrides) == wanted
    assert planner.counts.refused


@settings(max_examples=8, suppress_health_check=SLOW)
@given(
    st.lists(st.sampled_from([f"{g}={o}" for g in GROUPS_OF_OURS for o in options_of(g)]), max_size=2, unique=True),
    st.lists(st.sampled_from([*VALUES_OF_OURS, "resources.threads=x", "resources.cpus=3", "vars={x:2}"]), max_size=4),
)
def test_any_plan_over_the_shipped_configuration_is_that_of_the_single_run(
    groups: list[str], values: list[str]
) -> None:
    planner = planner_of()
    for overrides in ([*groups, *values], [*values, *groups]):
        assert planned(planner, overrides) == single(planner, overrides)


def test_rompy_env_picks_the_environment_of_every_point() -> None:
    planner = planner_of(environ={"ROMPY_ENV": "hpc"})
    points = list(plan_points([["vars.a=1"], ["env=dev"], ["backend=local"]], planner))
    assert [p.plan.choices["env"] for p in points if isinstance(p, Point)] == ["hpc", "dev", "hpc"]


def test_the_number_of_a_point_can_be_read_and_costs_no_composition() -> None:
    planner = planner_of()
    points = list(
        plan_points([["model=command", "run_id='p-${hydra:job.num}'", f"vars.a={n}"] for n in range(3)], planner)
    )
    assert [p.plan.run_id for p in points if isinstance(p, Point)] == ["p-0", "p-1", "p-2"]
    assert not planner.counts.aside


@pytest.mark.parametrize(
    ("subdir", "wanted"),
    [
        (None, None),
        ("'${hydra.job.num}'", "0"),
        ("'n-${hydra.job.num}/${model.name}'", "n-0/command"),
        ("'${hydra.job.override_dirname}'", None),
        ("'${oc.decode:\"x${vars.a}\"}'", "x1"),
    ],
)
def test_the_directory_of_a_point_is_what_hydra_s_key_says(subdir: str | None, wanted: str | None) -> None:
    planner = planner_of()
    overrides = ["model=command", "vars.a=1", *([f"hydra.sweep.subdir={subdir}"] if subdir else [])]
    (point,) = plan_points([overrides], planner)
    assert isinstance(point, Point)
    if subdir and wanted is None:
        wanted = "model=command,vars.a=1"
    assert point.subdir == wanted


def test_a_value_that_a_file_asks_for_can_be_swept(tmp_path: Path) -> None:
    write(tmp_path, {"model/mine.yaml": {"defaults": ["/packaged/model/command", "_self_"], "description": "???"}})
    planner = planner_of(str(tmp_path))
    points = list(plan_points([["model=mine", f"model.description=d{n}"] for n in range(3)], planner))
    assert [p.plan.spec.model.description for p in points if isinstance(p, Point)] == ["d0", "d1", "d2"]
    assert not planner.counts.aside
    assert isinstance(planned(planner, ["model=mine"]), list)


def test_what_two_points_share_in_their_plans_is_not_copied() -> None:
    planner = planner_of()
    one, two = plan_points([["resources.threads=1"], ["resources.threads=2"]], planner)
    assert isinstance(one, Point)
    assert isinstance(two, Point)
    assert one.plan.spec.model is two.plan.spec.model
    assert one.plan.spec.resources.threads != two.plan.spec.resources.threads


def test_memory_does_not_grow_with_the_number_of_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staged_loader, "_KEPT_OVERRIDES", 50)
    monkeypatch.setattr(sweep_plans, "_KEPT_TEXTS", 50)
    planner = planner_of()
    points = plan_points((["model=command", f"vars.x={n}.5", f"run_id=r{n}"] for n in range(1200)), planner)
    for _ in range(200):  # every cache is full
        next(points)
    tracemalloc.start()
    try:
        for _ in range(100):
            next(points)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        assert sum(1 for _ in points) == 900
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 50_000


@settings(max_examples=200)
@given(
    st.sampled_from(["a", "vars.a_b.c1", "a-b", "1.a", "a.1", "$a", "+a", "~a", "a@b", "a/b", ""]),
    st.one_of(
        st.from_regex(r"[+-]?[0-9]{1,3}(_?[0-9])?(\.[0-9]{0,3})?([eE][+-]?[0-9]{1,2})?", fullmatch=True),
        st.from_regex(r"'?[ A-Za-z_0-9.,-]{0,6}'?", fullmatch=True),
        st.sampled_from(
            ["null", "NULL", "true", "False", "inf", "-inf", "NaN", "info", "'it\\'s'", "'${a}'", "'\\'", "é"]
        ),
    ),
)
def test_an_override_that_is_read_at_once_is_read_as_hydra_s_parser_reads_it(key: str, value: str) -> None:
    found = staged_loader.read_simple(f"{key}={value}")
    if found is not None:
        (wanted,) = OverridesParser.create().parse_overrides([f"{key}={value}"])
        assert repr(found) == repr(wanted)


def test_a_copied_tree_is_a_deep_copy_of_it() -> None:
    tree = OmegaConf.create({"typed": Typed(), "a": {"b": [1, {"c": "${a}"}], "n": None, 1: "x"}})
    OmegaConf.set_struct(tree.a, value=False)
    OmegaConf.set_readonly(tree.typed, value=True)
    copy = copied(tree)
    assert OmegaConf.to_yaml(copy) == OmegaConf.to_yaml(tree)
    assert _structure(copy) == _structure(deepcopy(tree))
    copy.a.b[1].c = "changed"
    assert "changed" not in OmegaConf.to_yaml(tree)


def _structure(node: Any) -> Any:
    metadata = {**vars(node._metadata), "resolver_cache": dict(node._metadata.resolver_cache)}
    content = node.__dict__.get("_content", node.__dict__.get("_val"))
    if isinstance(content, dict):
        content = {key: _structure(child) for key, child in content.items()}
    elif isinstance(content, list):
        content = [_structure(child) for child in content]
    own = {name for name in node.__dict__ if name not in ("_flags_cache", "_parent")}
    return type(node), metadata, repr(content), own, type(node._parent)
