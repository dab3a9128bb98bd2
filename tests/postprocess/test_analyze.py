"""Numbers from results, held against computations of their own: NumPy by hand, seas of known height, real models."""

from __future__ import annotations

import importlib.util
import json
import os
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from rompy_hydra.cli import main
from rompy_hydra.errors import MissingToolError
from rompy_hydra.postprocess import AnalyzePostprocessorConfig, check_options
from rompy_hydra.postprocess.analysis import compare, fields, reading, spectra, stations, summary, times
from rompy_hydra.postprocess.analysis.errors import NothingToProcessError
from rompy_hydra.postprocess.analyze import AnalyzePostprocessor
from tests.postprocess import results_kit as kit


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "runs" / "tide"
    directory.mkdir(parents=True)
    return directory


def process(directory: Path, record: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    run = SimpleNamespace(run_id=directory.name, output_dir=directory.parent, record=record or {})
    return AnalyzePostprocessor().process(run, **options)


def metrics(directory: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((directory / "metrics.json").read_text())
    return found


def opened(directory: Path, *names: str, **options: Any) -> Any:
    return reading.opened([directory / name for name in names], top=directory, **options)


# ---- blocks ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(1, 50))
def test_blocks_cover_a_field_in_order_and_are_no_larger_than_asked(shape: list[int], most: int) -> None:
    whole = np.arange(np.prod(shape)).reshape(shape)
    parts = [whole[index] for index in fields.split(shape, most)]
    assert all(part.size <= most for part in parts)
    assert np.array_equal(np.concatenate([part.ravel() for part in parts] or [np.array([])]), whole.ravel())


def test_a_summary_is_the_same_in_blocks_of_any_size(tmp_path: Path) -> None:
    kit.write_ocean(tmp_path / "ocean.nc")
    with opened(tmp_path, "ocean.nc") as found:
        temp = found[0]
        whole = summary.summarise(temp, [5, 50])
        for most in (1, 7, 24, 100):
            part = summary.summarise(temp, [5, 50], most=most)
            assert part.mean == pytest.approx(whole.mean, rel=1e-12)
            assert part.std == pytest.approx(whole.std, rel=1e-12)
            assert (part.min, part.max, part.count, part.percentiles) == (
                whole.min,
                whole.max,
                whole.count,
                whole.percentiles,
            )


def test_a_large_file_is_read_in_pieces(run_dir: Path) -> None:
    """160 MB on disk as zeros and ones; what Python and NumPy hold at once is a fraction of that."""
    lat, lon = np.linspace(-80, 80, 500), np.linspace(0, 359, 1000)
    data = np.zeros((40, 500, 1000), dtype="f8")
    data[::2] = 1
    coords = {"lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})}
    big = xr.Dataset({"temp": (("time", "lat", "lon"), data)}, coords={**coords, "time": np.arange(40.0)})
    big.to_netcdf(
        run_dir / "big.nc", engine="h5netcdf", encoding={"temp": {"zlib": True, "chunksizes": (1, 500, 1000)}}
    )
    del data, big
    process(run_dir)  # everything is imported by now
    tracemalloc.start()
    try:
        assert process(run_dir)["success"] is True
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert metrics(run_dir)["temp.mean"] == pytest.approx(0.5)
    assert peak < 80e6, f"{peak / 1e6:.0f} MB"


# ---- summary -----------------------------------------------------------------------------------------------------


def test_the_mean_is_weighted_by_the_volume_of_cells_and_the_rest_is_numpys(run_dir: Path) -> None:
    temp = kit.write_ocean(run_dir / "ocean.nc")["temp"].to_numpy()
    assert process(run_dir)["success"] is True
    found = metrics(run_dir)
    # by hand: cells end halfway to their neighbours; the first layer begins at the surface
    south_north = np.sin(np.deg2rad([-80.0, -40.0, 0.0, 40.0, 80.0]))
    layers = np.array([0.0, 12.5, 40.0, 80.0])
    weights = np.diff(layers)[:, None, None] * np.diff(south_north)[:, None] * np.full(6, 10.0)
    there = np.isfinite(temp)
    weights = np.broadcast_to(weights, temp.shape)[there]
    mean = np.average(temp[there], weights=weights)
    assert found["temp.mean"] == pytest.approx(mean, rel=1e-12)
    assert found["temp.std"] == pytest.approx(np.sqrt(np.average((temp[there] - mean) ** 2, weights=weights)))
    assert (found["temp.min"], found["temp.max"]) == (np.nanmin(temp), np.nanmax(temp))
    assert found["temp.missing"] == pytest.approx(1 / 24)
    with xr.open_dataset(run_dir / "analysis_summary.nc", engine="h5netcdf") as told:
        np.testing.assert_allclose(told.temp_percentile, np.nanpercentile(temp, [1, 5, 50, 95, 99]))
        assert list(told.temp_time_range.to_numpy()) == ["2020-01-01 00:00", "2020-01-01 18:00"]


def test_percentiles_of_what_is_too_large_are_right_within_a_bin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temp = kit.write_ocean(tmp_path / "ocean.nc")["temp"].to_numpy()
    monkeypatch.setattr(summary, "EXACT_VALUES", 10)
    asked = [1, 25, 50, 99]
    with opened(tmp_path, "ocean.nc") as found:
        told = summary.summarise(found[0], asked).percentiles
    ordered = np.sort(temp[np.isfinite(temp)])
    width = (ordered[-1] - ordered[0]) / 65_536
    for percentile, value in zip(asked, told, strict=True):
        # between the two values that the percentile lies between
        position = percentile / 100 * len(ordered)
        assert (
            ordered[max(0, int(position) - 1)] - width
            <= value
            <= ordered[min(int(position) + 1, len(ordered) - 1)] + width
        )


def test_the_edges_of_cells_come_from_bounds_or_a_staggered_axis(tmp_path: Path) -> None:
    zt, zw = [-50.0, -20.0, -5.0], [-30.0, -10.0, 0.0]  # as Veros writes them: w points above
    dataset = xr.Dataset(
        {"t": (("zt", "lat"), np.zeros((3, 2))), "w": (("zw",), np.zeros(3))},
        coords={
            "zt": ("zt", zt, {"units": "m", "positive": "up"}),
            "zw": ("zw", zw, {"units": "m", "positive": "up"}),
            "lat": ("lat", [10.0, 30.0], {"units": "degrees_north", "bounds": "lat_bnds"}),
            "lat_bnds": (("lat", "two"), [[5.0, 25.0], [25.0, 35.0]]),
        },
    )
    dataset.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with opened(tmp_path, "a.nc") as found:
        by_name = {field.name: field for field in found}
        assert set(by_name) == {"t", "w"}
        edges = {axis.name: axis.edges.tolist() for axis in (*by_name["t"].axes, *by_name["w"].axes)}
    assert edges == {"zt": [-70, -30, -10, 0], "lat": [5, 25, 35], "zw": [-50, -20, -5, 0]}


def test_files_that_follow_each_other_are_one_and_members_of_an_ensemble_are_not(run_dir: Path) -> None:
    first = kit.write_ocean(run_dir / "a.0001.nc", begin=0)
    second = kit.write_ocean(run_dir / "a.0002.nc", begin=24)
    assert process(run_dir, variables="temp")["success"] is True
    together = np.concatenate([first.temp, second.temp])
    assert metrics(run_dir)["temp.max"] == np.nanmax(together)
    with opened(run_dir, "a.0001.nc", "a.0002.nc") as found:
        temp = next(field for field in found if field.name == "temp")
        np.testing.assert_array_equal(temp.read(time=slice(2, 6)), together[2:6])
        assert temp.shape[0] == 8
    kit.write_ocean(run_dir / "a.0002.nc", begin=0)
    with opened(run_dir, "a.0001.nc", "a.0002.nc") as found:
        assert {field.name for field in found} >= {"a.0001.temp", "a.0002.temp"}


# ---- which files -------------------------------------------------------------------------------------------------


def test_inputs_restarts_and_our_own_results_are_no_results(run_dir: Path) -> None:
    for name in ("ocean.nc", "ocean.restart.nc", "analysis_summary.nc", "forcing.nc"):
        kit.write_ocean(run_dir / name)
    (run_dir / "linked.nc").symlink_to(run_dir / "ocean.nc")
    record = {"outputs": [{"path": name} for name in ("ocean.nc", "ocean.restart.nc")]}
    answer = process(run_dir, record, analysis_type="timeseries")
    assert answer["success"] is True
    with xr.open_dataset(run_dir / "analysis_timeseries.nc", engine="h5netcdf") as told:
        assert told.attrs["source"] == "ocean.nc"
    assert "no file" in process(run_dir, record, files="*.xyz")["error"]


def test_the_library_is_chosen_by_the_first_bytes(run_dir: Path) -> None:
    kit.write_ocean(run_dir / "old.nc", engine="scipy")
    assert process(run_dir)["success"] is True
    (run_dir / "old.nc").write_bytes(b"hello world")
    assert "is no NetCDF file" in process(run_dir)["error"]


def test_a_file_that_is_cut_off_is_named_and_nothing_is_written(run_dir: Path) -> None:
    kit.write_ocean(run_dir / "ocean.nc")
    os.truncate(run_dir / "ocean.nc", 3000)
    answer = process(run_dir)
    assert answer["success"] is False
    assert "ocean.nc cannot be read" in answer["error"]
    assert [path.name for path in run_dir.iterdir()] == ["ocean.nc"]


def test_an_unknown_variable_is_told_with_the_nearest(run_dir: Path) -> None:
    kit.write_ocean(run_dir / "ocean.nc")
    assert "did you mean 'temp'" in process(run_dir, variables="tempp")["error"]


# ---- forms of output ---------------------------------------------------------------------------------------------


def test_every_form_holds_the_same_numbers(run_dir: Path) -> None:
    kit.write_ocean(run_dir / "ocean.nc")
    tables = {}
    for form, name, read in (
        ("csv", "analysis_summary.csv.gz", pd.read_csv),
        ("parquet", "analysis_summary.parquet", pd.read_parquet),
    ):
        answer = process(run_dir, output_format=form)
        assert Path(answer["results"]).name == name
        tables[form] = read(answer["results"]).set_index("variable")
    plain = process(run_dir, output_format="csv", compress=False)["results"]
    assert Path(plain).name == "analysis_summary.csv"
    pd.testing.assert_frame_equal(pd.read_csv(plain).set_index("variable"), tables["csv"])
    process(run_dir)
    with xr.open_dataset(run_dir / "analysis_summary.nc", engine="h5netcdf") as told:
        for name in ("min", "max", "mean", "std", "missing"):
            value = metrics(run_dir)[f"temp.{name}"]
            assert tables["csv"].loc["temp", name] == pytest.approx(value, rel=1e-12)
            assert tables["parquet"].loc["temp", name] == value
            assert float(told[f"temp_{name}"]) == value
        assert told.attrs["Conventions"] == "CF-1.11"
        assert told.temp_mean.attrs["units"] == "deg C"
        assert "mean" in told.temp_mean.attrs["cell_methods"]


def test_compression_is_a_choice_and_the_same_results_make_the_same_bytes(run_dir: Path) -> None:
    kit.write_waves(run_dir / "waves.nc")
    for compress in (True, False):
        path = Path(process(run_dir, analysis_type="spectral", compress=compress)["results"])
        first = path.read_bytes()
        process(run_dir, analysis_type="spectral", compress=compress)
        assert path.read_bytes() == first
        with xr.open_dataset(path, engine="h5netcdf") as told:
            assert bool(told.eta_density.encoding.get("zlib")) is compress


def test_figures_of_several_analyses_stand_together_and_old_ones_go(run_dir: Path) -> None:
    kit.write_ocean(run_dir / "ocean.nc")
    process(run_dir, variables="temp")
    process(run_dir, variables="temp", analysis_type="timeseries", points={"buoy": [21, 18]})
    assert {"temp.mean", "temp.buoy.series_mean"} <= metrics(run_dir).keys()
    process(run_dir, variables="u")
    assert "temp.mean" not in metrics(run_dir)
    assert {"u.mean", "temp.buoy.series_mean"} <= metrics(run_dir).keys()
    os.utime(run_dir / "metrics.json", (0, 0))  # of a run that was in this directory before
    process(run_dir, {"started_at": "2026-01-01T00:00:00.000Z"}, variables="u")
    assert "temp.buoy.series_mean" not in metrics(run_dir)


def test_a_place_that_cannot_be_written_is_a_failure_that_leaves_nothing_half(run_dir: Path) -> None:
    kit.write_ocean(run_dir / "ocean.nc")
    (run_dir / "analysis_summary.nc").mkdir()
    answer = process(run_dir)
    assert answer["success"] is False
    assert "analysis_summary.nc" in answer["error"]
    assert sorted(path.name for path in run_dir.iterdir()) == ["analysis_summary.nc", "ocean.nc"]


def test_figures_that_are_not_finite_are_left_out(run_dir: Path) -> None:
    nothing = xr.Dataset({"gone": (("time",), np.full(3, np.nan))}, coords={"time": np.arange(3.0)})
    nothing.to_netcdf(run_dir / "a.nc", engine="h5netcdf")
    assert process(run_dir)["success"] is True
    assert metrics(run_dir) == {"gone.missing": 1.0}


# ---- series at points --------------------------------------------------------------------------------------------


def test_a_point_gets_the_nearest_cell_that_is_no_land(run_dir: Path) -> None:
    ocean = kit.write_ocean(run_dir / "ocean.nc")
    points = {"near": [351, 19], "land": [50, 60]}
    process(run_dir, analysis_type="timeseries", points=points, variables="temp", level=22)
    with xr.open_dataset(run_dir / "analysis_timeseries.nc", engine="h5netcdf") as told:
        assert told.attrs["featureType"] == "timeSeries"
        assert told.time.dtype.kind == "M"
        # 351° E is 9° from 0° E, not 301° from 50° E; the land at 60° N, 50° E is nearest to 40° E there
        assert told.lon.to_numpy().tolist() == [0, 40]
        np.testing.assert_array_equal(told.temp.sel(station="near"), ocean.temp[:, 1, 2, 0])
        np.testing.assert_array_equal(told.temp.sel(station="land"), ocean.temp[:, 1, 3, 4])
        assert "20 m" in told.temp.attrs["comment"]


def test_a_point_outside_of_a_mesh_is_an_error_that_tells_its_extent(run_dir: Path) -> None:
    kit.write_sww(run_dir / "beach.sww")
    answer = process(run_dir, analysis_type="timeseries", points=[[100, 5]])
    assert answer["success"] is False
    assert "goes from (0, 0) to (40, 10)" in answer["error"]


@given(st.floats(0, 40), st.floats(0, 10))
def test_the_triangle_of_a_point_holds_it(x: float, y: float) -> None:
    mesh = fields.Mesh(kit.NODES_X, kit.NODES_Y, np.array(kit.CORNERS))
    cell = mesh.triangle_at(x, y)
    assert cell is not None
    assert cell // 2 in (int(x // 10), int(np.ceil(x / 10)) - 1)
    assert mesh.triangle_at(x + 41, y) is None


# ---- ANUGA -------------------------------------------------------------------------------------------------------


def test_depth_speed_area_and_volume_of_a_mesh_are_those_by_hand(run_dir: Path) -> None:
    kit.write_sww(run_dir / "beach.sww")
    assert process(run_dir)["success"] is True
    found = metrics(run_dir)
    depth = kit.STAGE - kit.BED
    assert found["depth.max"] == pytest.approx(depth.max())
    assert found["depth.mean"] == pytest.approx(depth.mean())  # all triangles have 50 m²
    assert found["speed.max"] == pytest.approx((kit.XMOMENTUM[depth > 0] / depth[depth > 0]).max())
    assert found["wet_area.max"] == 50 * (depth > 0.001).sum(axis=1).max()
    assert found["water_volume.min"] == pytest.approx(50 * depth.sum(axis=1).min())
    assert found["stage.missing"] == pytest.approx((depth <= 0.001).mean())


def test_the_files_of_ranks_are_one_mesh_without_the_copies_of_neighbours(run_dir: Path) -> None:
    kit.write_sww(run_dir / "beach.sww")
    process(run_dir)
    whole = metrics(run_dir)
    (run_dir / "beach.sww").unlink()
    kit.write_sww(run_dir / "beach_P2_0.sww", [0, 1, 2, 3], ghosts=[4, 5])
    kit.write_sww(run_dir / "beach_P2_1.sww", [4, 5, 6, 7], ghosts=[2, 3])
    process(run_dir)
    assert metrics(run_dir) == pytest.approx(whole, rel=1e-6)
    (run_dir / "beach_P2_1.sww").unlink()
    assert "the files of [1] are missing" in process(run_dir)["error"]


def test_a_run_on_ranks_agrees_with_one_that_wrote_its_triangles_in_another_order(run_dir: Path) -> None:
    kit.write_sww(run_dir / "beach.sww")
    other = run_dir.parent / "other"
    other.mkdir()
    kit.write_sww(other / "beach_P2_0.sww", [6, 0, 4, 2], ghosts=[5])
    kit.write_sww(other / "beach_P2_1.sww", [7, 1, 3, 5], ghosts=[4])
    assert process(run_dir, analysis_type="compare", reference=str(other))["success"] is True
    found = metrics(run_dir)
    assert found["depth.rmse"] == 0
    assert found["depth.skill"] == 1
    assert found["stage.n"] == (kit.STAGE - kit.BED > 0.001).sum()


# ---- spectra -----------------------------------------------------------------------------------------------------


def test_a_sea_of_known_height_and_period_is_found_again(run_dir: Path) -> None:
    kit.write_waves(run_dir / "waves.nc", hs=2.0, tp=10.0)
    answer = process(run_dir, analysis_type="spectral", points={"a": [0, 0], "b": [200, 100]}, segment=512)
    assert answer["success"] is True, answer
    found = metrics(run_dir)
    for name in "ab":
        assert found[f"eta.{name}.hs"] == pytest.approx(2.0, rel=0.04)
        assert found[f"eta.{name}.tp"] == pytest.approx(10.0, rel=0.06)
        assert found[f"eta.{name}.tm02"] < found[f"eta.{name}.tm01"] < found[f"eta.{name}.tp"]
        assert found[f"eta.{name}.hs"] == pytest.approx(4 * np.sqrt(found[f"eta.{name}.m0"]))


def test_a_sine_has_the_variance_and_period_that_it_has() -> None:
    time = np.arange(0, 1000, 0.5)
    found = spectra.welch(time, 0.7 * np.sin(2 * np.pi * time / 12.5) + 3)
    assert found.m0 == pytest.approx(0.7**2 / 2, rel=0.02)
    assert found.tp == pytest.approx(12.5, rel=0.02)


@pytest.mark.parametrize("segment", [64, 256, 1000])
def test_the_spectrum_holds_the_variance_of_the_series(segment: int) -> None:
    """Parseval: the integral of the density is the variance, for noise within what windows and chance leave."""
    noise: Any = np.random.default_rng(5).normal(0, 1.3, 20_000)
    time: Any = np.arange(20_000) * 0.25
    found = spectra.welch(time, noise, segment=segment)
    assert found.m0 == pytest.approx(noise.var(), rel=0.05)
    step = found.frequency[1] - found.frequency[0]
    assert found.density.sum() * step == pytest.approx(found.m0)


def test_gaps_and_uneven_times_are_interpolated_and_short_series_refused() -> None:
    time: Any = np.arange(0, 2000, 1.0)
    eta = np.sin(2 * np.pi * time / 40)
    eta[100:103] = np.nan
    uneven = np.delete(time, 500)
    assert spectra.welch(time, eta).tp == pytest.approx(40, rel=0.03)
    assert spectra.welch(uneven, np.sin(2 * np.pi * uneven / 40)).tp == pytest.approx(40, rel=0.03)
    with pytest.raises(NothingToProcessError, match="needs 8 values or more, this series has 5"):
        spectra.welch(time[:5], eta[:5])


@pytest.fixture
def written_spectra(run_dir: Path) -> Path:
    frequency = np.arange(0.03, 0.5, 0.005)
    direction = np.arange(0.0, 360.0, 10.0)
    spread = np.cos(np.deg2rad(direction - 90) / 2) ** 8
    spread /= spread.sum() * 10
    seas = [kit.jonswap(frequency, hs, tp)[:, None] * spread for hs, tp in ((1.0, 6.0), (3.0, 12.0))]
    dims = ("time", "frequency", "direction")
    dataset = xr.Dataset(
        {"efth": (dims, np.array(seas), {"units": "m2 s degree-1"})},
        coords={"time": [0.0, 3600.0], "frequency": frequency, "direction": direction},
    )
    dataset.time.attrs["units"] = "seconds since 2020-01-01"
    dataset.to_netcdf(run_dir / "spec.nc", engine="h5netcdf")
    return run_dir


@pytest.mark.parametrize("with_library", [True, False])
def test_spectra_that_a_model_wrote_give_their_height_and_period(
    written_spectra: Path, with_library: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if with_library:
        pytest.importorskip("wavespectra")
    else:
        monkeypatch.setattr(spectra, "through_wavespectra", lambda _: None)
    answer = process(written_spectra, analysis_type="spectral")
    assert answer["success"] is True, answer
    assert ("by wavespectra" in answer["notes"][0]) is with_library
    with xr.open_dataset(answer["results"], engine="h5netcdf") as told:
        np.testing.assert_allclose(told.efth_hs, [1.0, 3.0], rtol=0.02)
        np.testing.assert_allclose(told.efth_tp, [6.0, 12.0], rtol=0.04)
    assert metrics(written_spectra)["efth.hs_max"] == pytest.approx(3, rel=0.02)


# ---- comparison --------------------------------------------------------------------------------------------------


def test_the_figures_of_agreement_are_those_by_hand() -> None:
    model, seen = np.array([1.0, 2.5, 3.0, np.nan, 4.2]), np.array([1.2, 2.0, 3.3, 5.0, 4.0])
    found = compare.agreement(lambda: [(model[:2], seen[:2]), (model[2:], seen[2:])])
    m, o = np.delete(model, 3), np.delete(seen, 3)
    assert found.n == 4
    assert found.bias == pytest.approx(m.mean() - o.mean())
    assert found.rmse == pytest.approx(np.sqrt(((m - o) ** 2).mean()))
    assert found.correlation == pytest.approx(np.corrcoef(m, o)[0, 1])
    assert found.scatter_index == pytest.approx(found.rmse / o.mean())
    potential = ((np.abs(m - o.mean()) + np.abs(o - o.mean())) ** 2).sum()
    assert found.skill == pytest.approx(1 - ((m - o) ** 2).sum() / potential)


def test_observations_in_csv_are_met_in_time_and_place(run_dir: Path, tmp_path: Path) -> None:
    ocean = kit.write_ocean(run_dir / "ocean.nc")
    series = ocean.temp[:, 0, 2, 3].to_numpy()
    (tmp_path / "buoys.csv").write_text(
        "time,station,lon,lat,temp\n"
        f"2020-01-01T03:00,pier,31,21,{(series[0] + series[1]) / 2 + 0.25}\n"  # between two records
        f"2020-01-01T12:00:00Z,pier,31,21,{series[2] + 0.25}\n"
        "2020-01-09T12:00,pier,31,21,99\n"  # after the run: not counted
        "2020-01-01T06:00,pier,31,21,\n"
    )
    answer = process(run_dir, analysis_type="compare", reference=str(tmp_path / "buoys.csv"))
    assert answer["success"] is True, answer
    found = metrics(run_dir)
    assert found["temp.pier.n"] == 2
    assert found["temp.pier.bias"] == pytest.approx(-0.25)
    assert found["temp.pier.rmse"] == pytest.approx(0.25)


def test_our_own_series_are_observations_too(run_dir: Path) -> None:
    kit.write_ocean(run_dir / "ocean.nc")
    for form in ("csv", "netcdf"):
        reference = process(run_dir, analysis_type="timeseries", output_format=form, points={"a": [20, 20]})["results"]
        answer = process(run_dir, analysis_type="compare", reference=reference, files="ocean.nc")
        assert answer["success"] is True, answer
        assert metrics(run_dir)["temp.a.rmse"] == pytest.approx(0, abs=1e-12)
        assert metrics(run_dir)["temp.a.n"] == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("when,temp\n1,2\n", "has no column 'time'"),
        ("time,temp\n2020-01-01,5\n", "does not say where 'station' is"),
        ("time,lon,lat,temp\nyesterday,20,20,5\n", "times that are no dates such as"),
        ("time,lon,lat,tempo\n2020-01-01,20,20,5\n", "it has none of the variables temp, u, eta, flat"),
        ("time,lon,lat,temp\n1990-01-01,20,20,5\n", "no times in common"),
    ],
)
def test_observations_that_cannot_be_used_say_why(run_dir: Path, tmp_path: Path, text: str, says: str) -> None:
    kit.write_ocean(run_dir / "ocean.nc")
    (tmp_path / "obs.csv").write_text(text)
    answer = process(run_dir, analysis_type="compare", reference=str(tmp_path / "obs.csv"))
    assert answer["success"] is False
    assert says in answer["error"]


def test_dates_meet_model_seconds_by_the_time_origin(run_dir: Path, tmp_path: Path) -> None:
    kit.write_sww(run_dir / "beach.sww")
    (tmp_path / "gauge.csv").write_text("time,x,y,stage\n2021-05-01T12:00:10Z,2,5,0.5\n2021-05-01T12:00:20Z,2,5,0.25\n")
    options: Any = {"analysis_type": "compare", "reference": str(tmp_path / "gauge.csv")}
    assert "add time_origin" in process(run_dir, **options)["error"]
    assert process(run_dir, **options, time_origin="2021-05-01T12:00")["success"] is True
    assert metrics(run_dir)["stage.station.rmse"] == pytest.approx(0, abs=1e-6)


def test_compare_without_a_reference_is_refused_before_the_run() -> None:
    with pytest.raises(ValueError, match="compare needs one"):
        AnalyzePostprocessorConfig(analysis_type="compare")


def test_two_runs_on_other_grids_say_in_what_they_differ(run_dir: Path) -> None:
    kit.write_ocean(run_dir / "ocean.nc")
    other = run_dir.parent / "other"
    other.mkdir()
    kit.write_ocean(other / "ocean.nc", records=3)
    answer = process(run_dir, analysis_type="compare", reference=str(other))
    assert "'temp' has the shape (4, 3, 4, 6) here and (3, 3, 4, 6) in the reference" in answer["error"]


# ---- times -------------------------------------------------------------------------------------------------------


def test_times_are_told_as_dates_where_the_units_say_since_when() -> None:
    assert times.text_of(1.5, "days since 2001-02-27") == "2001-02-28 12:00"
    assert times.text_of(1, "days since 2001-02-30", "360_day") == "2001-03-01 00:00"
    assert times.text_of(10, "days") == "10 days"
    assert times.text_of(1, "days") == "1 day"
    assert times.text_of(3, "months since yesterday") == "3 months since yesterday"
    assert times.seconds_per_unit("hours since 2000-01-01") == 3600
    assert times.seconds_per_unit("months") is None


# ---- tools, command line -----------------------------------------------------------------------------------------


def test_a_missing_package_is_told_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "xarray" else real(name))
    with pytest.raises(MissingToolError, match="package xarray is missing: pip install 'rompy-hydra\\[analysis\\]'"):
        check_options("analyze", {})
    words = ["run", "model=command", "backend.command=true", "postprocess=analyze", "run_id=r"]
    assert main(words) == 3
    assert "rompy-hydra[analysis]" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "r" / "run.json").exists()


def test_options_are_typed_on_the_command_line_too(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, says in (
        ({"points": {"a b": [1, 2]}}, "points"),
        ({"percentiles": [101]}, "100"),
        ({"analysis_type": "magic"}, "analysis_type"),
    ):
        with pytest.raises(Exception, match=says):
            check_options("analyze", options)
    assert AnalyzePostprocessorConfig(points=[1, 2]).points == {"point1": (1, 2)}
    assert AnalyzePostprocessorConfig(percentiles="5, 95").percentiles == [5, 95]


def test_stations_of_a_mesh_and_of_a_grid_are_chosen_alike_when_none_is_given(tmp_path: Path) -> None:
    kit.write_sww(tmp_path / "beach.sww")
    with opened(tmp_path, "beach.sww") as found:
        assert stations.usual_points(found[0]) == {"west": (10, 5), "centre": (20, 5), "east": (30, 5)}


# ---- real models -------------------------------------------------------------------------------------------------


@pytest.mark.veros
@pytest.mark.xdist_group("postprocess-veros")
def test_veros_is_analysed_out_of_the_box(veros_run: Path) -> None:
    record = json.loads((veros_run / "run.json").read_text())
    assert record["postprocess"]["success"] is True, record["postprocess"]
    found = metrics(veros_run)
    with xr.open_dataset(veros_run / "acc_basic.averages.nc", engine="h5netcdf", decode_times=False) as told:
        temp, zt, zw, yt = (told[name].to_numpy() for name in ("temp", "zt", "zw", "yt"))
    assert found["temp.max"] == np.nanmax(temp)
    # Veros' own cells: as high as its w points lie apart, the lowest one symmetric about its middle
    heights = np.diff(np.concatenate([[2 * zt[0] - zw[0]], zw]))
    weights = heights[:, None, None] * (np.sin(np.deg2rad(yt + 1)) - np.sin(np.deg2rad(yt - 1)))[:, None]
    there = np.isfinite(temp)
    mean = np.average(temp[there], weights=np.broadcast_to(weights, temp.shape)[there])
    assert found["temp.mean"] == pytest.approx(mean, rel=1e-9)
    assert "vsf_depth.max" in found
    assert "no spectrum" in process(veros_run, record, analysis_type="spectral")["error"]


@pytest.mark.anuga
@pytest.mark.xdist_group("postprocess-anuga")
def test_anuga_is_analysed_out_of_the_box(anuga_run: Path) -> None:
    record = json.loads((anuga_run / "run.json").read_text())
    assert record["postprocess"]["success"] is True, record["postprocess"]
    found = metrics(anuga_run)
    with xr.open_dataset(anuga_run / "dambreak.sww", engine="scipy", decode_times=False) as told:
        stage, bed = told.stage_c.to_numpy().astype(float), told.elevation_c.to_numpy().astype(float)
        xm, ym = told.xmomentum_c.to_numpy().astype(float), told.ymomentum_c.to_numpy().astype(float)
    depth = np.maximum(stage - bed, 0)
    wet = depth > 0.001
    assert found["depth.max"] == depth.max()
    assert found["speed.max"] == pytest.approx((np.hypot(xm, ym)[wet] / depth[wet]).max())
    assert found["water_volume.max"] == pytest.approx(found["water_volume.min"], rel=1e-6)
    assert found["wet_area.max"] > found["wet_area.min"]
    answer = process(anuga_run, record, analysis_type="spectral")
    assert answer["success"] is True, answer
