"""NetCDF files compared by what they hold: real files in every format, block by block."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
xr = pytest.importorskip("xarray")

from rompy_hydra.record import fields  # noqa: E402
from rompy_hydra.record.fields import NotComparable, field_differences, is_netcdf  # noqa: E402

FORMATS = {"NETCDF4": "h5netcdf", "NETCDF3_CLASSIC": "scipy", "NETCDF3_64BIT": "scipy"}


def dataset(**attrs: Any) -> Any:
    time = np.arange(6, dtype="f8") + 40_000.0
    temperature = 10 + np.random.default_rng(0).random((6, 4, 5))
    temperature[0, 0, 0] = np.nan
    return xr.Dataset(
        {
            "temp": (("time", "y", "x"), temperature, {"units": "degC"}),
            "mask": (("y", "x"), np.ones((4, 5), "i4")),
            "name": (("y",), np.array(["a", "b", "c", "d"])),
        },
        coords={"time": ("time", time, {"units": "days since 1900-01-01"})},
        attrs={"title": "t", "history": "made now", "date_created": "today", **attrs},
    )


def write(data: Any, path: Path, kind: str = "NETCDF4", **options: Any) -> Path:
    data.to_netcdf(path, format=kind, engine=FORMATS[kind], **options)
    return path


def differences(one: Path, other: Path, tolerance: float = 0.0) -> list[str]:
    return list(field_differences(one, other, tolerance))


@pytest.mark.parametrize("kind", FORMATS)
def test_history_and_creation_times_do_not_count(kind: str, tmp_path: Path) -> None:
    one = write(dataset(), tmp_path / "a.nc", kind)
    other = write(dataset(history="made later", date_created="tomorrow", NCO="5"), tmp_path / "b.nc", kind)
    assert one.read_bytes() != other.read_bytes()
    assert is_netcdf(one)
    assert differences(one, other) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_a_tolerance_is_of_the_field_s_size(kind: str, tmp_path: Path) -> None:
    one = write(dataset(), tmp_path / "a.nc", kind)
    changed = dataset()
    changed["temp"][3, 2, 1] += 1e-5
    other = write(changed, tmp_path / "b.nc", kind)
    assert differences(one, other, 1e-5) == []
    (said,) = differences(one, other, 1e-7)
    assert said.startswith("temp: differs by up to 1e-05")
    assert len(differences(one, other)) == 1


def test_a_time_far_from_zero_is_measured_by_its_range(tmp_path: Path) -> None:
    changed = dataset()
    changed["time"] = ("time", changed["time"].values + 0.01, changed["time"].attrs)
    found = differences(write(dataset(), tmp_path / "a.nc"), write(changed, tmp_path / "b.nc"), 1e-4)
    assert found == ["time: differs by up to 0.01, which is 0.002 of its range"]


def test_missing_values_must_be_missing_in_both(tmp_path: Path) -> None:
    changed = dataset()
    changed["temp"][1, 1, 1] = np.nan
    one, other = write(dataset(), tmp_path / "a.nc"), write(changed, tmp_path / "b.nc")
    assert differences(one, other, 1.0) == ["temp: 1 values are missing or not finite in one of them only"]


def test_a_fill_value_is_no_size(tmp_path: Path) -> None:
    def filled(name: str, add: float) -> Path:
        data = dataset()
        data["temp"][2, 2, 2] += add
        return write(data, tmp_path / name, encoding={"temp": {"_FillValue": 1e30}})

    assert differences(filled("a.nc", 0), filled("b.nc", 0.1), 1e-6)[0].startswith("temp: differs by up to 0.1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.assign_attrs(title="u"), "the attribute title of the file: 't' here, 'u' there"),
        (lambda d: d.drop_vars("mask"), "mask is in one of them only"),
        (lambda d: d.isel(x=slice(0, 4)), "temp: float64 (time=6, y=4, x=5) here, float64 (time=6, y=4, x=4) there"),
        (lambda d: d.assign(mask=d["mask"].astype("f8")), "mask: int32 (y=4, x=5) here, float64 (y=4, x=5) there"),
        (lambda d: d.assign(mask=d["mask"] * 2), "mask: 20 values are others"),
        (lambda d: d.assign(name=("y", np.array(["a", "b", "c", "e"]))), "name: 1 values are others"),
        (
            lambda d: d.assign(temp=d.temp.assign_attrs(units="K")),
            "the attribute units of temp: 'degC' here, 'K' there",
        ),
    ],
)
def test_each_kind_of_difference_is_told(change: Any, said: str, tmp_path: Path) -> None:
    one, other = write(dataset(), tmp_path / "a.nc"), write(change(dataset()), tmp_path / "b.nc")
    assert said in differences(one, other)


def test_groups_are_compared(tmp_path: Path) -> None:
    for name, add in (("a", 0), ("b", 1), ("c", 0)):
        write(dataset(), tmp_path / f"{name}.nc")
        inner = dataset().assign(mask=dataset()["mask"] + add)
        inner.to_netcdf(tmp_path / f"{name}.nc", group="deep/er", mode="a", engine="h5netcdf")
    assert differences(tmp_path / "a.nc", tmp_path / "b.nc") == ["deep/er/mask: 20 values are others"]
    assert differences(tmp_path / "a.nc", tmp_path / "c.nc") == []
    (said,) = {s for s in differences(tmp_path / "a.nc", write(dataset(), tmp_path / "d.nc")) if "deep/er" in s}
    assert said == "the group /deep/er is in one of them only"


def test_blocks_cover_an_array_once() -> None:
    for shape in ((), (0, 3), (7,), (3, 2_500_000), (5, 700, 900), (2, 3, 4)):
        seen = np.zeros(shape, "i1")
        for block in fields._blocks(shape):
            seen[block] += 1
            assert seen[block].size <= fields._BLOCK_VALUES
        assert (seen == 1).all()


def test_a_file_that_is_larger_than_the_memory_allowed_is_compared(tmp_path: Path) -> None:
    """240 MB of values each, in a process that may take a third of that for them."""
    for name, value in (("a", 1.0), ("b", 1.0)):
        data = xr.Dataset({"v": (("t", "x"), np.full((30, 1_000_000), value))})
        data["v"][29, 999_999] += name == "b"
        packed = {"zlib": True, "complevel": 1, "chunksizes": (1, 1_000_000)}
        write(data, tmp_path / f"{name}.nc", encoding={"v": packed})
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom rompy_hydra.record.fields import field_differences\n"
        "import h5netcdf, numpy, scipy, xarray\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(list(field_differences(Path(sys.argv[1]), Path(sys.argv[2]), 0.1)))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "a.nc"), str(tmp_path / "b.nc")]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0] == "['v: differs by up to 1, which is 0.5 of its size']"
    assert int(said[1]) < 160


def test_what_is_no_netcdf_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.nc").write_bytes(b"\x89HDF\r\n\x1a\n torn")
    (tmp_path / "b.nc").write_text("text")
    assert not is_netcdf(tmp_path / "b.nc")
    assert not is_netcdf(tmp_path / "nowhere")
    with pytest.raises(NotComparable, match=r"a\.nc"):
        differences(tmp_path / "a.nc", tmp_path / "a.nc")


def test_without_xarray_it_is_said_what_to_install(tmp_path: Path) -> None:
    write(dataset(), tmp_path / "a.nc")
    script = (
        "import sys; sys.modules['xarray'] = None\nfrom pathlib import Path\n"
        "from rompy_hydra.record.fields import field_differences\n"
        "p = Path(sys.argv[1])\nlist(field_differences(p, p, 0))"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "a.nc")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "pip install 'rompy-hydra[analysis]'" in done.stderr
