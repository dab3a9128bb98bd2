"""`explain`: complete for every key, equal to what is composed, and each place it names is where the value stands."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.config_store import ConfigStore
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rompy_hydra.compose.composer import Composition
from rompy_hydra.compose.explain import Explainer, Explanation
from rompy_hydra.compose.invocation import compose_command
from rompy_hydra.compose.sources import find_sources, packaged_dir
from rompy_hydra.errors import ConfigError

HERE = Path("/here")
KEY_BEFORE_COLON = r"^\s*(?:- )?[\"']?%s[\"']?\s*:"


def composed(*overrides: str, conf: Path | None = None, environ: dict[str, str] | None = None, name: str = "config"):
    sources = find_sources([str(conf)] if conf else [], environ={})
    return compose_command(overrides, sources, name, environ=environ or {})


def explainer(*overrides: str, conf: Path | None = None, environ: dict[str, str] | None = None) -> Explainer:
    return Explainer(composed(*overrides, conf=conf, environ=environ), cwd=HERE)


def only(key: str, *overrides: str, conf: Path | None = None, environ: dict[str, str] | None = None) -> Explanation:
    (found,) = explainer(*overrides, conf=conf, environ=environ).asked(key)
    return found


def places(found: Explanation) -> list[tuple[Any, str]]:
    return [(link.value, link.where) for link in found.chain]


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


# -- complete, and equal to what is composed -----------------------------------------------------------------------


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value of plain data, by nothing of ours; a list is one."""
    if isinstance(node, dict) and (node or not path):
        for key, inner in node.items():
            yield from leaves(inner, (*path, str(key)))
    else:
        yield path, node


def check_all(composition: Composition) -> list[Explanation]:
    """Every value is explained, as it is composed, by a chain whose last link is what stands there."""
    found = list(Explainer(composition, cwd=HERE).all())
    written = dict(leaves(OmegaConf.to_container(composition.config)))
    assert [e.path for e in found] == list(written)
    for e in found:
        assert e.chain, e.key
        assert e.winner is e.chain[-1]
        assert as_json(e.winner.value) == as_json(e.written)
        if not e.is_secret:
            assert as_json(e.written) == as_json(written[e.path]), e.key
        check_resolved(composition, e)
        check_line(e)
    return found


def check_resolved(composition: Composition, found: Explanation) -> None:
    node: Any = composition.config
    for part in found.path[:-1]:
        node = node[next(k for k in node if str(k) == part)]
    try:
        value = node[next(k for k in node if str(k) == found.path[-1])]
        value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException:
        assert found.problem
        return
    if not found.is_secret and found.problem is None:
        assert as_json(found.value) == as_json(value), found.key


def check_line(found: Explanation) -> None:
    """The line that is named holds the key."""
    winner = found.winner
    assert winner is not None
    file, _, line = winner.where.rpartition(":")
    if winner.kind in ("file", "template") and line.isdigit():
        text = Path(file).read_text().splitlines()[int(line) - 1]
        last = found.path[-1]
        assert re.search(rf"[\s{{,]?[\"']?{re.escape(last)}[\"']?\s*:", text) or "default:" in text, (
            winner.where,
            text,
        )


def as_json(value: Any) -> str:
    return json.dumps(value, default=str)


def options(group: str) -> list[str]:
    return sorted(p.stem for p in (packaged_dir("conf") / group).glob("*.yaml"))


SHIPPED = [
    *([f"env={e}", f"backend={b}"] for e in options("env") for b in options("backend")),
    *([f"env={e}"] for e in options("env")),
    *(
        [f"model={m}", *x]
        for m in options("model")
        for x in [*([f"experiment={o}"] for o in options("experiment")), []]
    ),
    *([f"{g}={o}"] for g in ("site", "postprocess", "resources") for o in options(g)),
]


@pytest.mark.parametrize("overrides", SHIPPED, ids=" ".join)
def test_every_value_of_the_shipped_configuration_is_explained_as_it_is_composed(overrides: list[str]) -> None:
    assert len(check_all(composed(*overrides))) > 80


def test_hydras_own_part_is_explained_too() -> None:
    asked = explainer("hydra.job.name=x", "model=command")
    found = {e.path: e for e in map(asked.explain, asked.paths(with_hydra=True)) if e.path[0] == "hydra"}
    assert len(found) > 60
    assert all(e.chain for e in found.values())
    assert places(found["hydra", "job", "name"])[-1] == ("x", "the override 'hydra.job.name=x'")
    (run_dir,) = asked.asked("hydra.run.dir")
    assert places(run_dir)[-1][1].startswith(f"{packaged_dir('conf')}/config.yaml:")


KEYS = st.sampled_from(["a", "b", "c"])
REFERENCES = st.sampled_from(["${one.a}", "${two.b}", "x ${one.a} y", "${.a}", "${one}", "${oc.env:NOT_SET,none}"])
SCALARS = st.one_of(
    st.integers(-3, 3), st.booleans(), st.none(), st.sampled_from(["text", "", "1", "null"]), st.floats(0, 1, width=16)
)
VALUES = st.recursive(
    st.one_of(SCALARS, REFERENCES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
TREES = st.dictionaries(KEYS, VALUES, max_size=3)
PACKAGES = st.sampled_from([None, "_global_", "one", "one.a", "two.b.c", "_group_"])
LAYERS = st.tuples(PACKAGES, TREES)
OVERRIDES = st.lists(
    st.sampled_from(
        [
            *["one.a=5", "++one.a=5", "+one.new=1", "~one.b", "++two.b={c:1}", "+two.l=[1,2]", "++one.a.b=7", "~two.c"],
            *["++two.b.0=x", "one=first", "two=second", "++one.c=null", "++two.a=${one.a}"],
        ]
    ),
    max_size=3,
    unique=True,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
@given(
    root=TREES,
    layers=st.fixed_dictionaries(dict.fromkeys(("one/first", "one/second", "two/first", "two/second"), LAYERS)),
    shadowed=LAYERS,
    node=TREES,
    overrides=OVERRIDES,
)
def test_every_value_of_a_random_tree_is_explained_as_it_is_composed(
    root: dict[str, Any],
    layers: dict[str, tuple[str | None, dict[str, Any]]],
    shadowed: tuple[str | None, dict[str, Any]],
    node: dict[str, Any],
    overrides: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    conf, other = (tmp_path_factory.mktemp("trees") / name / "conf" for name in ("mine", "other"))
    defaults = ["_self_", {"one": "second"}, {"two": "first"}, {"three": "node"}]
    write(conf, tree=yaml.safe_dump({"defaults": defaults, **root}))
    for name, (package, tree) in layers.items():
        write(conf, **{name.replace("/", "__"): layer(package, tree)})
    write(other, one__second=layer(*shadowed), two__other="{}")
    ConfigStore.instance().store(group="three", name="node", node=node, provider="a plug-in", package="one")
    try:
        sources = find_sources([str(conf), str(other)], environ={})
        composition = compose_command(overrides, sources, "tree", environ={})
    except ConfigError:
        assume(condition=False)
    finally:
        del ConfigStore.instance().repo["three"]
    assume(composition.is_sound)
    for found in check_all(composition):
        assert not any(str(other) in link.where for link in found.chain)


def layer(package: str | None, tree: dict[str, Any]) -> str:
    return (f"# @package {package}\n" if package else "") + yaml.safe_dump(tree)


# -- what a chain tells --------------------------------------------------------------------------------------------


def test_the_chain_goes_from_the_default_to_the_override() -> None:
    found = only("resources.time_limit", "env=hpc", "resources.time_limit=3h")
    conf = packaged_dir("conf")
    assert places(found) == [
        (None, "the default of Resources.time_limit"),
        ("12h", f"{conf}/env/hpc.yaml:9"),
        ("3h", "the override 'resources.time_limit=3h'"),
    ]
    assert found.chain[1].chosen == "env=hpc, chosen by the override 'env=hpc'"
    assert found.identity == "none"


def test_a_list_is_replaced_and_its_items_can_be_asked_for(tmp_path: Path) -> None:
    write(tmp_path, model__mine="defaults: [/packaged/model/command, _self_]\nabort_on:\n  - one\n  - two\n")
    write(tmp_path, experiment__e="# @package _global_\nmodel:\n  abort_on: [three, four]\n")
    asked = explainer("model=mine", "experiment=e", conf=tmp_path)
    (whole,) = asked.asked("model.abort_on")
    assert [v for v, _ in places(whole)] == [[], ["one", "two"], ["three", "four"]]
    (item,) = asked.asked("model.abort_on.1")
    assert places(item)[-2:] == [
        ("two", f"{tmp_path}/model/mine.yaml:4"),
        ("four", f"{tmp_path}/experiment/e.yaml:3"),
    ]


def test_an_override_of_an_item_is_told_of_the_list() -> None:
    found = only("model.command.1", "model.command.1=walk")
    assert [v for v, _ in places(found)] == ["run", "walk"]
    assert found.value == "walk"


def test_a_package_that_was_moved_is_followed(tmp_path: Path) -> None:
    write(tmp_path, ocean__deep="# @package vars.sea\ndepth: 4000\n")
    found = only("vars.sea.depth", "+ocean=deep", conf=tmp_path)
    assert places(found) == [(4000, f"{tmp_path}/ocean/deep.yaml:2")]
    found = only("vars.other.depth", "+ocean@vars.other=deep", conf=tmp_path)
    assert places(found)[-1] == (4000, f"{tmp_path}/ocean/deep.yaml:2")


def test_a_key_that_was_deleted_says_by_whom() -> None:
    found = only("env_vars.LOG_LEVEL", "~env_vars.LOG_LEVEL")
    assert found.winner is None
    assert found.chain[-1].where == "the override '~env_vars.LOG_LEVEL'"
    assert found.chain[-1].note == "takes it away"


def test_a_node_of_the_config_store_is_told_with_its_provider(tmp_path: Path) -> None:
    write(tmp_path, env__x="{}")
    ConfigStore.instance().store(group="ocean", name="n", node={"depth": 1}, provider="a plug-in", package="vars.o")
    try:
        found = only("vars.o.depth", "+ocean=n", conf=tmp_path)
    finally:
        del ConfigStore.instance().repo["ocean"]
    assert places(found) == [(1, "the node 'ocean/n' of a plug-in in Hydra's ConfigStore")]


def test_a_hidden_file_is_told_with_what_it_says(tmp_path: Path) -> None:
    write(tmp_path, env__dev="# @package _global_\nresources:\n  time_limit: 5h\n")
    found = only("resources.time_limit", conf=tmp_path)
    assert found.value == "5h"
    assert found.chain[-1].hides == ((f"{packaged_dir('conf')}/env/dev.yaml:7", "1h"),)


def test_an_anchor_that_is_merged_in_is_found(tmp_path: Path) -> None:
    text = "# @package _global_\nvars:\n  base: &base\n    x: 1\n  more:\n    <<: *base\n    y: 2\n"
    write(tmp_path, env__x=text)
    assert places(only("vars.more.x", "env=x", conf=tmp_path)) == [(1, f"{tmp_path}/env/x.yaml:4")]


def test_keys_that_are_no_plain_words_are_found(tmp_path: Path) -> None:
    write(tmp_path, env__x="# @package _global_\nvars:\n  2: two\n  yes: on\n  a.b: {c: 3}\n  a word: x\n")
    asked = explainer("env=x", conf=tmp_path)
    keys = ("vars.2", "vars.True", "vars[a.b].c", "vars.a word")
    lines = [asked.asked(key)[0].chain[-1].where.rpartition(":")[2] for key in keys]
    assert lines == ["3", "4", "5", "6"]


def test_the_environment_variable_that_chose_is_named() -> None:
    found = only("resources.time_limit", environ={"ROMPY_ENV": "hpc"})
    assert found.chain[-1].chosen == "env=hpc, chosen by the environment variable ROMPY_ENV=hpc"


def test_text_is_shown_as_it_was_typed() -> None:
    found = only("env_vars.VERSION", "env_vars.VERSION=1.10")
    assert places(found) == [("1.10", "the override 'env_vars.VERSION=1.10'")]


def test_a_template_s_parameter_is_found_in_its_declaration() -> None:
    found = only("model.parameters.wind_stress", "experiment=strong_wind")
    (first, second) = found.chain
    assert first.kind == "template"
    assert (
        "default: 0.1"
        in Path(first.where.rpartition(":")[0]).read_text().splitlines()[int(first.where.rpartition(":")[2]) - 1]
    )
    assert second.value == 0.15
    assert found.identity == "science"


def test_a_template_s_own_value_says_which_default_it_hides() -> None:
    found = only("model.requires.packages")
    assert [link.kind for link in found.chain] == ["default", "template"]


def test_interpolations_are_followed_to_their_end() -> None:
    found = only("backend.memory", "env=staging")
    assert found.value == "16g"
    (read,) = found.reads
    assert read.reference == "${resources.memory}"
    assert read.explanation is not None
    assert places(read.explanation)[-1] == ("16g", f"{packaged_dir('conf')}/env/staging.yaml:9")


def test_every_kind_of_interpolation_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPTH", "4")
    text = (
        "# @package _global_\nvars:\n  name: b\n  a: {b: 1}\n  one: ${vars.a.${vars.name}}\n"
        "  two: ${oc.env:DEPTH} ${.name}\n  three: ${oc.env:NOT_THERE,${vars.name}}\n  four: ${hydra:job.name}\n"
        "  five: ${host.cpus:}\n  six: ${secret:X}\n"
        "  seven: ${oc.select:vars.a.b,1}\n  eight: ${nowhere.at.all}\n"
    )
    write(tmp_path, env__x=text)
    asked = explainer("env=x", conf=tmp_path, environ={"DEPTH": "4"})

    def reads(key: str) -> list[str]:
        return [read.text for read in asked.asked(f"vars.{key}")[0].reads]

    assert reads("one") == ["vars.a.b", "vars.name"]
    assert reads("two") == ["the environment variable DEPTH, which is set", "vars.name"]
    assert reads("three") == ["the environment variable NOT_THERE, which is not set", "vars.name"]
    assert reads("four") == ["hydra.job.name"]
    assert reads("five") == ["the resolver host.cpus"]
    assert reads("six") == ["a reference, resolved where the run starts"]
    assert reads("seven") == ["vars.a.b"]
    assert reads("eight") == ["nowhere.at.all, which is not there"]
    (eight,) = asked.asked("vars.eight")
    assert "cannot be resolved" in (eight.problem or "")


def test_a_circle_of_interpolations_ends(tmp_path: Path) -> None:
    write(tmp_path, env__x="# @package _global_\nvars:\n  a: ${vars.b}\n  b: ${vars.a}\n")
    found = only("vars.a", "env=x", conf=tmp_path)
    inner = found.reads[0].explanation
    assert inner is not None
    assert inner.reads[0].text == "vars.a, which is above"
    assert found.problem


def test_a_key_below_an_interpolated_map_leads_to_where_it_is(tmp_path: Path) -> None:
    write(tmp_path, env__x="# @package _global_\nvars:\n  real: {deep: 3}\n  name: ${vars.real}\n")
    first, second = explainer("env=x", conf=tmp_path).asked("vars.name.deep")
    assert (first.key, second.key, second.value) == ("vars.name", "vars.real.deep", 3)


def test_what_became_a_copy_by_a_merge_says_so(tmp_path: Path) -> None:
    write(tmp_path, env__x="# @package _global_\nvars:\n  real: {deep: 3}\n  name: ${vars.real}\n")
    write(tmp_path, experiment__e="# @package _global_\nvars:\n  name: {more: 1}\n")
    found = only("vars.name.deep", "env=x", "experiment=e", conf=tmp_path)
    assert found.value == 3
    assert "vars.name was ${vars.real}" in (found.chain[-1].note or "")


def test_a_map_and_a_group_can_be_asked_for() -> None:
    asked = explainer("env=hpc")
    assert {e.path[0] for e in asked.asked("backend")} == {"backend"}
    choice = asked.choice("backend")
    conf = packaged_dir("conf")
    assert (choice.option, choice.where, choice.file) == (
        "slurm",
        f"{conf}/env/hpc.yaml:4",
        f"{conf}/backend/slurm.yaml",
    )
    assert asked.choice("postprocess").where == f"{conf}/config.yaml:9"


def test_an_unknown_key_has_a_neighbour() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'resources\.memory'"):
        explainer().asked("resources.memroy")


def test_a_wrong_override_is_told_and_nothing_explained() -> None:
    with pytest.raises(ConfigError) as error:
        explainer("backend.timeuot=3")
    (finding,) = error.value.findings
    assert finding.key == "backend.timeuot"


def test_no_credential_is_told_wherever_it_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "# @package _global_\nvars:\n  password: canary1\n  copy: ${vars.password}\n  url: https://me:${vars.copy}@host\n"
        "  whole: ${vars.inner}\n  inner: {api_key: canary2}\n  variable: ${oc.env:MY_TOKEN}\n"
        "  list: [{token: canary3}]\nbackend:\n  command: [run, '${vars.password}']\n"
    )
    write(tmp_path, env__x=text, env__dev=text.replace("canary", "canary4"))
    write(tmp_path / "other" / "conf", env__x=text.replace("canary", "canary5"))
    monkeypatch.setenv("MY_TOKEN", "canary6")
    environ = dict(os.environ)
    sources = find_sources([str(tmp_path), str(tmp_path / "other")], environ={})
    lines = ["env=x", "model=command", "+vars.secret_key=canary7", "vars.more={password:canary8}"]
    composition = compose_command(lines, sources, environ=environ)
    found = list(Explainer(composition, cwd=HERE).all())
    told = json.dumps([e.to_dict() for e in found], default=str) + repr([e.chain for e in found]) + repr(found)
    assert "canary" not in told
    by_key = {e.key: e for e in found}
    assert by_key["vars.copy"].value == by_key["vars.url"].value == by_key["backend.command"].value == "***"
