"""Inputs before a run starts: which files are meant, what is missing, what identifies them."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.errors import ConfigError, SiteError
from rompy_hydra.plan.inputs import InputSpec
from rompy_hydra.record.store import write_record
from rompy_hydra.workspace.hashes import FileHashes
from rompy_hydra.workspace.inputs import (
    FoundInput,
    InputFile,
    clashes_with_files,
    find_inputs,
    identify,
    missing_inputs,
    science_part,
    template_names,
)

HOSTILE = ["with blank", "new\nline", "quo'te\"", "-rf", "ünï", os.fsdecode(b"\xff"), "$(x);&", "run[1].nc", "*"]


def spec(source: Any, **fields: Any) -> InputSpec:
    return InputSpec.model_validate(
        {"source": source, **({"as": fields.pop("name")} if "name" in fields else {}), **fields}
    )


@pytest.fixture
def data(tmp_path):
    """A directory of files, each of which holds its own name; base of relative sources."""
    directory = tmp_path / "data"
    for name in ("wind_01.nc", "wind_02.nc", "bathy.asc", "sub/deep/tide.nc"):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return directory


def found(specs: dict[str, InputSpec], base: Path, **more: Any) -> list[FoundInput]:
    items, findings = find_inputs(specs, base=base, **more)
    assert findings == []
    return items


def names(item_spec: InputSpec, base: Path) -> dict[str, str]:
    return {item.name.as_posix(): str(item.path.relative_to(base)) for item in found({"x": item_spec}, base)}


def the_finding(item_spec: InputSpec, base: Path, **more: Any):
    (finding,) = missing_inputs({"x": item_spec}, base=base, **more)
    return finding


def one(item_spec: InputSpec, base: Path, hashes: FileHashes | None = None) -> InputFile:
    (file,) = identify(found({"x": item_spec}, base), hashes or FileHashes())
    return file


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "name", "expected"),
    [
        ("bathy.asc", None, {"bathy.asc": "bathy.asc"}),
        ("bathy.asc", "b.asc", {"b.asc": "bathy.asc"}),
        ("bathy.asc", "in/b.asc", {"in/b.asc": "bathy.asc"}),
        ("bathy.asc", "in/", {"in/bathy.asc": "bathy.asc"}),
        ("sub", None, {"sub": "sub"}),
        ("wind_*.nc", None, {"wind_01.nc": "wind_01.nc", "wind_02.nc": "wind_02.nc"}),
        ("wind_*.nc", "wind", {"wind/wind_01.nc": "wind_01.nc", "wind/wind_02.nc": "wind_02.nc"}),
        ("bath*", "one", {"one/bathy.asc": "bathy.asc"}),
        ("**/tide*", None, {"tide.nc": "sub/deep/tide.nc"}),
        (["bathy.asc", "sub/**"], "all", {"all/bathy.asc": "bathy.asc", "all/tide.nc": "sub/deep/tide.nc"}),
        ("sub/../bathy.asc", None, {"bathy.asc": "bathy.asc"}),
        ("sub/deep/..", None, {"sub": "sub"}),
    ],
)
def test_names_in_the_workspace(data, source, name, expected):
    assert names(spec(source, **({} if name is None else {"name": name})), data) == expected


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_found_as_they_are(tmp_path, name):
    base = tmp_path / "base [1] *"
    base.mkdir()
    (base / name).write_bytes(b"x")
    assert names(spec(name, name="plain"), base) == {"plain": name}
    assert names(spec("?*"), base) == {name: name}


def test_template_prefix_means_the_templates_own_directory(data, tmp_path):
    items = found({"x": spec("template:sub/deep/*.nc")}, tmp_path, template_dir=data)
    assert [item.path for item in items] == [data / "sub/deep/tide.nc"]


def test_template_prefix_without_a_template_is_named(data):
    assert "the model has none" in the_finding(spec("template:a"), data).rule


def test_home_is_expanded(data, monkeypatch):
    monkeypatch.setenv("HOME", str(data))
    assert names(spec("~/bathy.asc"), data) == {"bathy.asc": "bathy.asc"}


def test_links_are_followed_to_the_file(data):
    (data / "latest").symlink_to("wind_01.nc")
    assert names(spec("latest"), data) == {"latest": "wind_01.nc"}


def test_templates_know_names_lists_and_absence(data):
    specs = {
        "one": spec("bathy.asc", name="b"),
        "many": spec("wind_*"),
        "none": spec("gone", required=False),
        "no_match": spec("gone*", required=False),
    }
    assert template_names(specs, found(specs, data)) == {
        "one": "b",
        "many": ["wind_01.nc", "wind_02.nc"],
        "none": None,
        "no_match": [],
    }


# ---- what is wrong ---------------------------------------------------------------------------------------------------


def test_every_missing_input_is_a_finding(data):
    specs = {"a": spec(["gone_1", "bathy.asc", "gone_2"]), "b": spec("gone*.nc"), "c": spec("wind_01.nc")}
    assert [(f.key, f.value) for f in missing_inputs(specs, base=data)] == [
        ("model.inputs.a.source", "gone_1"),
        ("model.inputs.a.source", "gone_2"),
        ("model.inputs.b.source", "gone*.nc"),
    ]


@pytest.mark.parametrize(
    ("source", "mend"), [("bathi.asc", "did you mean 'bathy.asc'?"), ("sup/deep/tide.nc", "did you mean 'sub'?")]
)
def test_missing_file_is_told_with_the_nearest_name(data, source, mend):
    assert mend in (the_finding(spec(source), data).mend or "")


def test_optional_input_that_is_not_there_is_no_finding(data):
    (data / "dangling").symlink_to("nowhere")
    specs = {name: spec(name, required=False) for name in ("gone", "gone*", "dangling")}
    assert find_inputs(specs, base=data) == ([], [])


def test_link_to_nothing_says_where_it_leads(data):
    (data / "dangling").symlink_to("nowhere")
    assert "link to nothing (nowhere)" in the_finding(spec("dangling"), data).rule


def test_link_that_leads_to_itself_is_told(data):
    (data / "loop").symlink_to("loop")
    assert "Too many levels of symbolic links" in the_finding(spec("loop"), data).rule


def test_pipe_is_no_input(data):
    os.mkfifo(data / "pipe")
    assert "neither a file nor a directory" in the_finding(spec("pipe"), data).rule


def test_name_too_long_is_told(data):
    assert "too long" in the_finding(spec("x" * 300), data).rule


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read_is_told(data):
    (data / "bathy.asc").chmod(0)
    assert "permission denied" in the_finding(spec("bathy.asc"), data).rule


@pytest.mark.parametrize("mode", ["link", "hardlink"])
def test_link_into_another_run_is_refused_with_the_mend(data, mode):
    write_record(data / "sub", {"run_id": "spin_up"})
    finding = the_finding(spec("sub/deep/tide.nc", mode=mode), data)
    assert f"belongs to the run {data}/sub" in finding.rule
    assert "model.inputs.x.mode=copy" in (finding.mend or "")


def test_link_through_a_link_into_another_run_is_refused(data):
    write_record(data / "sub", {"run_id": "spin_up"})
    (data / "alias").symlink_to("sub/deep/tide.nc")
    assert "belongs to the run" in the_finding(spec("alias"), data).rule


def test_copy_from_another_run_is_allowed(data):
    write_record(data / "sub", {"run_id": "spin_up"})
    assert missing_inputs({"x": spec("sub/deep/tide.nc", mode="copy")}, base=data) == []


def test_a_run_json_of_somebody_else_means_nothing(data):
    (data / "run.json").write_text('{"schema": "other"}')
    assert missing_inputs({"x": spec("bathy.asc")}, base=data) == []


@pytest.mark.parametrize("name", ["run.json", "logs/a", ".hydra"])
def test_names_that_the_run_directory_keeps_are_refused(data, name):
    finding = the_finding(spec("bathy.asc", name=name), data)
    assert (finding.key, finding.value) == ("model.inputs.x.as", name)


@pytest.mark.parametrize(
    ("one_spec", "other"),
    [
        (spec("wind_01.nc", name="w"), spec("wind_02.nc", name="w")),
        (spec("wind_01.nc", name="w"), spec("wind_02.nc", name="w/2")),
        (spec("bathy.asc"), spec("**/*.asc")),
    ],
)
def test_two_inputs_of_one_name_are_refused(data, one_spec, other):
    (finding,) = missing_inputs({"a": one_spec, "b": other}, base=data)
    assert "inputs: a, b" in finding.rule


def test_input_and_template_file_of_one_name_are_refused(data):
    items = found({"a": spec("bathy.asc", name="in/b"), "b": spec("wind_01.nc")}, data)
    findings = clashes_with_files(items, [Path("in"), Path("wind_01.nc"), Path("other/in")])
    assert sorted((f.key, f.value) for f in findings) == [("model.inputs.b.as", "wind_01.nc"), ("model.template", "in")]


# ---- identity --------------------------------------------------------------------------------------------------------


def test_record_keeps_where_how_large_when_and_who(data):
    os.utime(data / "bathy.asc", ns=(0, 1_700_000_000_123_456_789))
    file = one(spec("bathy.asc", name="b", identity="sha256"), data)
    assert file.entry() == {
        "name": "x",
        "as": "b",
        "path": str(data / "bathy.asc"),
        "bytes": 9,
        "mtime": "2023-11-14T22:13:20.123456Z",
        "identity": file.identity,
        "mode": "link",
    }


def test_sha256_is_that_of_sha256sum(data):
    assert (
        one(spec("bathy.asc", identity="sha256"), data).identity == f"sha256:{hashlib.sha256(b'bathy.asc').hexdigest()}"
    )


@pytest.mark.parametrize("kind", ["stat", "fast", "sha256"])
def test_identity_stays_while_the_file_does_and_changes_with_it(data, kind):
    item = spec("bathy.asc", identity=kind)
    before = one(item, data)
    assert one(item, data).identity == before.identity
    (data / "new").write_text("BATHY.ASC")
    (data / "new").replace(data / "bathy.asc")
    assert one(item, data).identity != before.identity
    assert one(item, data).identity.startswith(f"{kind}:")


def test_stat_tells_two_files_of_one_size_and_time_apart(data):
    """As an archive unpacks them; to take the one for the other would skip a run that is needed."""
    for name in ("wind_01.nc", "wind_02.nc"):
        os.utime(data / name, (1e9, 1e9))
    identities = {one(spec(name, name="wind.nc"), data).identity for name in ("wind_01.nc", "wind_02.nc")}
    assert len(identities) == 2


@pytest.mark.parametrize("kind", ["fast", "sha256"])
def test_fast_and_sha256_know_a_file_again_wherever_it_lies(data, kind):
    before = one(spec("bathy.asc", identity=kind), data).identity
    shutil.copy(data / "bathy.asc", data / "sub/other.asc")
    assert one(spec("sub/other.asc", identity=kind), data).identity == before


@pytest.mark.parametrize("place", [0, 5 << 20, (10 << 20) - 1])
def test_fast_sees_a_change_at_the_head_the_middle_and_the_tail(data, place):
    path = data / "large"
    with path.open("wb") as file:
        file.truncate(10 << 20)
    before = one(spec("large", identity="fast"), data).identity
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"x")
    assert one(spec("large", identity="fast"), data).identity != before


def test_fast_reads_three_megabytes_of_a_large_file(data):
    with (data / "large").open("wb") as file:
        file.truncate(1 << 40)
    hashes = FileHashes()
    one(spec("large", identity="fast"), data, hashes)
    assert hashes.read_bytes == 3 << 20


@pytest.mark.parametrize("kind", ["stat", "fast", "sha256"])
def test_identity_of_a_directory_is_that_of_its_files(data, kind):
    item = spec("sub", identity=kind)
    before = one(item, data)
    assert (before.is_directory, before.bytes) == (True, len("sub/deep/tide.nc"))
    (data / "sub/more").write_text("")
    assert one(item, data).identity != before.identity


def test_what_is_no_file_in_an_input_directory_is_named(data):
    (data / "sub/link").symlink_to(data)
    with pytest.raises(ConfigError, match="input of its own"):
        one(spec("sub"), data)


def test_pinned_value_that_is_met_is_the_identity(data):
    pin = one(spec("bathy.asc", identity="sha256"), data).identity
    assert one(spec("bathy.asc", identity=pin), data).identity == pin


def test_every_pinned_value_that_is_not_met_is_a_finding(data):
    pin = "sha256:" + "0" * 64
    items = found({name: spec(name, identity=pin) for name in ("bathy.asc", "wind_01.nc")}, data)
    with pytest.raises(ConfigError) as caught:
        identify(items, FileHashes())
    assert [f.key for f in caught.value.findings] == [
        "model.inputs.bathy.asc.identity",
        "model.inputs.wind_01.nc.identity",
    ]


def test_science_takes_in_names_in_the_workspace_and_identities_only(data):
    (file,) = identify(found({"x": spec("bathy.asc", name="b", mode="copy")}, data), FileHashes())
    assert science_part([file]) == [["b", file.identity]]


def test_file_that_went_after_it_was_found_is_named(data):
    items = found({"x": spec("bathy.asc")}, data)
    (data / "bathy.asc").unlink()
    with pytest.raises(SiteError, match=r"bathy\.asc"):
        identify(items, FileHashes())
