"""Pictures: the data that they draw, a few of them pixel by pixel within a tolerance, the page, and real models.

The images in `baseline/` are renewed by `RENEW_PICTURES=1 python -m pytest tests/postprocess -k test_picture_of`;
look at them before you commit them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from PIL import Image

from rompy_hydra.postprocess import VisualizePostprocessorConfig
from rompy_hydra.postprocess.analysis import reading, spectra, stations
from rompy_hydra.postprocess.analysis.fields import Field
from rompy_hydra.postprocess.analysis.summary import course_of
from rompy_hydra.postprocess.pictures import animation, choice, gallery, lines, maps, sections, style
from rompy_hydra.postprocess.pictures.scene import Look, Scene
from rompy_hydra.postprocess.products import Pictured, products_of
from rompy_hydra.postprocess.visualize import VisualizePostprocessor
from tests.models.conftest import ROOT
from tests.postprocess import results_kit as kit

BASELINE = Path(__file__).parent / "baseline"
RENEW = bool(os.environ.get("RENEW_PICTURES"))
LOOK = Look(dpi=50)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "runs" / "tide"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def ocean(tmp_path: Path) -> Iterator[dict[str, Any]]:
    kit.write_ocean(tmp_path / "ocean.nc")
    yield from _opened(tmp_path, "ocean.nc")


@pytest.fixture
def beach(tmp_path: Path) -> Iterator[dict[str, Any]]:
    kit.write_sww(tmp_path / "beach.sww")
    yield from _opened(tmp_path, "beach.sww")


def _opened(directory: Path, name: str) -> Iterator[dict[str, Any]]:
    with reading.opened([directory / name], top=directory) as fields, style.drawing():
        yield {field.name: field for field in fields}


def process(directory: Path, record: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    run = SimpleNamespace(run_id=directory.name, output_dir=directory.parent, record=record or {})
    return VisualizePostprocessor().process(run, **options)


def figure_of(scene: Scene) -> Figure:
    assert scene.draw is not None
    return scene.draw()


def drawn(figure: Figure, kind: Any) -> Any:
    return next(artist for artist in figure.axes[0].collections if isinstance(artist, kind))


def bar(figure: Figure) -> Any:
    return figure.axes[0].child_axes[0]


# ---- maps --------------------------------------------------------------------------------------------------------


def test_a_map_draws_the_last_record_at_the_surface_with_land_in_grey(ocean: dict[str, Any]) -> None:
    temp = ocean["temp"]
    figure = figure_of(maps.scene(maps.layer_of(temp), LOOK))
    mesh, axes = drawn(figure, QuadMesh), figure.axes[0]
    values = temp.read(time=3, depth=0)
    np.testing.assert_array_equal(np.ma.filled(mesh.get_array(), np.nan), values)
    assert np.ma.getmaskarray(mesh.get_array())[3, 5]
    assert style.LAND == "#d9d5cd"
    assert axes.get_facecolor()[:3] == pytest.approx((0xD9 / 255, 0xD5 / 255, 0xCD / 255))
    assert mesh.get_coordinates()[0, :, 0].tolist() == [-5, 5, 15, 25, 35, 45, 55]
    assert axes.get_title(loc="left") == "Temperature 2020-01-01 18:00, at 5 m"
    assert bar(figure).get_ylabel() == "Temperature [°C]"
    assert axes.get_aspect() == pytest.approx(1.0)  # symmetric about the equator
    assert {text.get_text() for text in axes.get_xticklabels()} & {"20°E", "0°"}


def test_a_field_with_a_sign_has_symmetric_limits_about_white(ocean: dict[str, Any]) -> None:
    mesh = drawn(figure_of(maps.scene(maps.layer_of(ocean["u"], time=0, level=60), LOOK)), QuadMesh)
    assert mesh.norm.vmin == -mesh.norm.vmax
    assert mesh.get_cmap().name == "RdBu_r"
    np.testing.assert_array_equal(np.ma.filled(mesh.get_array(), np.nan), ocean["u"].read(time=0, depth=2))
    assert drawn(figure_of(maps.scene(maps.layer_of(ocean["temp"]), LOOK)), QuadMesh).get_cmap().name == "viridis"


def test_a_few_outliers_do_not_take_all_the_colours(ocean: dict[str, Any]) -> None:
    values = np.linspace(10, 11, 1000)
    values[0] = 900
    scale = style.scale_of(values, ocean["temp"])
    assert scale.extend == "max"
    assert scale.high == pytest.approx(11, abs=0.02)


def test_triangles_are_coloured_by_their_centroids_and_dry_ones_are_land(beach: dict[str, Any]) -> None:
    depth = maps.wet_only(beach["depth"], 0.001)
    figure = figure_of(maps.scene(maps.layer_of(depth, time=1), LOOK, bed=beach["elevation"].read()))
    triangles = drawn(figure, PolyCollection)
    shown = np.ma.filled(triangles.get_array(), np.nan)
    expected = np.where(kit.STAGE[1] - kit.BED > 0.001, kit.STAGE[1] - kit.BED, np.nan)
    np.testing.assert_allclose(shown, expected)
    assert figure.axes[0].get_aspect() == 1.0
    assert figure.axes[0].get_xlabel() == "x [m]"
    # contour lines of the bed, through its corners' heights
    lines_drawn = [c for c in figure.axes[0].collections if type(c).__name__ == "TriContourSet"]
    assert len(lines_drawn) == 1


def test_the_greatest_value_is_that_of_all_records(beach: dict[str, Any]) -> None:
    layer = maps.greatest_of(beach["depth"])
    np.testing.assert_allclose(layer.values, (kit.STAGE - kit.BED).max(axis=0))
    assert layer.field.title == "Greatest water depth"


def test_heights_at_corners_are_means_of_the_triangles_around(beach: dict[str, Any]) -> None:
    mesh = beach["stage"].mesh
    heights = maps.at_nodes(mesh, kit.BED)
    assert heights[0] == kit.BED[0]  # a corner of one triangle
    assert heights[6] == pytest.approx(np.mean(kit.BED[[1, 2, 3]]))


# ---- sections ----------------------------------------------------------------------------------------------------


def test_a_section_is_the_zonal_mean_or_lies_where_it_is_told(ocean: dict[str, Any]) -> None:
    temp = ocean["temp"]
    mean = sections.cut_of(temp)
    np.testing.assert_allclose(mean.values, np.nanmean(temp.read(time=3), axis=-1))
    assert mean.where == "2020-01-01 18:00, zonal mean"
    at = sections.cut_of(temp, time=0, at={"lat": 21})
    np.testing.assert_array_equal(at.values, temp.read(time=0, lat=2))
    assert at.where == "2020-01-01 00:00, at 20°N"
    figure = figure_of(sections.scene(mean, LOOK))
    assert figure.axes[0].yaxis_inverted()  # depth counts downwards
    np.testing.assert_allclose(np.ma.filled(drawn(figure, QuadMesh).get_array(), np.nan), mean.values)


def test_thin_layers_at_the_surface_get_room(ocean: dict[str, Any]) -> None:
    figure = figure_of(sections.scene(sections.cut_of(ocean["temp"]), LOOK))
    assert figure.axes[0].get_yscale() == "linear"  # 12.5 m above, 40 m below: not that thin
    layers = sections.cut_of(ocean["temp"]).layers
    axes = figure.axes[0]
    sections._stretch(axes, layers.__class__("z", "depth", layers.values, "m", edges=np.array([0.0, 5, 40, 200])))
    assert axes.get_yscale() == "function"


def test_a_section_of_a_mesh_shows_the_water_above_its_bed(beach: dict[str, Any]) -> None:
    figure = figure_of(sections.profile_scene(beach["stage"], kit.BED, LOOK))
    bed, *levels = figure.axes[0].get_lines()
    assert [line.get_label() for line in levels] == ["0 s", "10 s", "20 s", "30 s"]
    assert np.all(np.diff(np.asarray(bed.get_xdata(), dtype=float)) >= 0)
    for line, stage in zip(levels, kit.STAGE, strict=True):
        water = np.asarray(line.get_ydata(), dtype=float)
        assert np.nanmax(water) == pytest.approx(stage[stage > kit.BED].max())
        assert np.all(np.isnan(water) | (water >= np.asarray(bed.get_ydata(), dtype=float)))
    assert "outside" in _error(lambda: figure_of(sections.profile_scene(beach["stage"], kit.BED, LOOK, {"y": 99})))


def _error(call: Any) -> str:
    with pytest.raises(Exception) as caught:
        call()
    return str(caught.value)


# ---- lines -------------------------------------------------------------------------------------------------------


def test_a_series_shows_the_weighted_mean_and_beside_it_the_extremes(ocean: dict[str, Any]) -> None:
    u = ocean["u"]
    course = course_of(u, most=20)
    values = u.read()
    weights = np.broadcast_to(u.weight((slice(None),) * 4), values.shape)
    by_hand = np.nansum(values * weights, axis=(1, 2, 3)) / (weights * np.isfinite(values)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(course.mean, by_hand)
    np.testing.assert_array_equal(course.high, np.nanmax(values, axis=(1, 2, 3)))
    figure = figure_of(lines.course_scene(u, course, LOOK))
    line = figure.axes[0].get_lines()[0]
    np.testing.assert_allclose(np.asarray(line.get_ydata(), dtype=float), by_hand)
    band = np.asarray(figure.axes[1].collections[0].get_paths()[0].vertices)
    assert (np.min(band[:, 1]), np.max(band[:, 1])) == (np.nanmin(values), np.nanmax(values))
    days = (np.datetime64("2020-01-01") - np.datetime64("1970-01-01")).astype(float) + np.arange(4) / 4
    np.testing.assert_allclose(np.asarray(line.get_xdata(), dtype=float), days)


def test_series_at_points_are_named(ocean: dict[str, Any]) -> None:
    found = stations.sample(ocean["temp"], {"pier": (20.0, 20.0)})
    figure = figure_of(lines.stations_scene(ocean["temp"], found, LOOK))
    line = figure.axes[0].get_lines()[0]
    assert line.get_label() == "pier (20, 20)"
    np.testing.assert_array_equal(line.get_ydata(), ocean["temp"].read(depth=0, lat=2, lon=2))


def test_a_spectrum_tells_hs_and_tp(tmp_path: Path) -> None:
    kit.write_waves(tmp_path / "waves.nc", seconds=1800)
    for fields in _opened(tmp_path, "waves.nc"):
        eta = fields["eta"]
        found = stations.sample(eta, {"a": (0.0, 0.0)})
        spectrum = spectra.welch(reading.seconds_axis(eta.axes[0]), found[0].values)
        figure = figure_of(lines.spectra_scene(eta, [(found[0], spectrum)], LOOK))
        line = figure.axes[0].get_lines()[0]
        np.testing.assert_array_equal(line.get_ydata(), spectrum.density)
        assert line.get_label() == f"a: Hs {spectrum.hs:.3g} m, Tp {spectrum.tp:.3g} s"
        assert figure.axes[0].get_ylabel() == "Density [m²/Hz]"


# ---- animation ---------------------------------------------------------------------------------------------------


def test_an_animation_has_a_picture_for_each_record_up_to_the_limit(beach: dict[str, Any], tmp_path: Path) -> None:
    for limit, count in ((60, 4), (3, 3)):
        scene = animation.scene(beach["speed"], LOOK, frames=limit)
        assert scene.write is not None
        scene.write(tmp_path / "a.gif")
        with Image.open(tmp_path / "a.gif") as picture:
            assert picture.format == "GIF"
            assert getattr(picture, "n_frames", 1) == count
        first = (tmp_path / "a.gif").read_bytes()
        scene.write(tmp_path / "a.gif")
        assert (tmp_path / "a.gif").read_bytes() == first


def test_records_are_chosen_evenly_with_the_first_and_the_last() -> None:
    assert choice.spread_out(10, 4) == [0, 3, 6, 9]
    assert choice.spread_out(3, 60) == [0, 1, 2]


# ---- pixels ------------------------------------------------------------------------------------------------------


def _pictured(name: str, ocean: dict[str, Any], beach: dict[str, Any]) -> Scene:
    look = Look(dpi=40)
    if name == "map":
        return maps.scene(maps.layer_of(ocean["temp"]), look)
    if name == "section":
        return sections.scene(sections.cut_of(ocean["u"]), look)
    if name == "series":
        return lines.course_scene(ocean["temp"], course_of(ocean["temp"]), look)
    if name == "profile":
        return sections.profile_scene(beach["stage"], kit.BED, look)
    return maps.scene(maps.layer_of(maps.wet_only(beach["depth"], 0.001), time=1), look, bed=kit.BED)


@pytest.mark.parametrize("name", ["map", "section", "series", "triangles", "profile"])
def test_picture_of(name: str, ocean: dict[str, Any], beach: dict[str, Any], tmp_path: Path) -> None:
    made = tmp_path / f"{name}.png"
    style.save(figure_of(_pictured(name, ocean, beach)), made)
    if RENEW:
        BASELINE.mkdir(exist_ok=True)
        shutil.copy(made, BASELINE / made.name)
    # Fonts and lines differ by a pixel between versions of matplotlib; another colour map does not pass (below).
    assert compare_images(str(BASELINE / made.name), str(made), tol=6) is None


def test_a_picture_with_other_colours_is_told_from_its_baseline(
    ocean: dict[str, Any], beach: dict[str, Any], tmp_path: Path
) -> None:
    style.save(
        figure_of(maps.scene(maps.layer_of(ocean["temp"]), Look(dpi=40, colormap="cividis"))), tmp_path / "map.png"
    )
    assert compare_images(str(BASELINE / "map.png"), str(tmp_path / "map.png"), tol=6) is not None


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_data_make_the_same_bytes(suffix: str, ocean: dict[str, Any], tmp_path: Path) -> None:
    found = []
    for number in range(2):
        path = tmp_path / f"{number}{suffix}"
        style.save(figure_of(maps.scene(maps.layer_of(ocean["temp"]), LOOK)), path)
        found.append(path.read_bytes())
    assert found[0] == found[1]
    assert b"Matplotlib v" not in found[0]
    assert b"<dc:date>" not in found[0]


# ---- style -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "pretty"),
    [
        ("m^3/s", "m³/s"),
        ("deg C", "°C"),
        ("1", ""),
        ("N/m^2", "N/m²"),
        ("m s-1", "m s⁻¹"),
        ("g/kg", "g/kg"),
        ("m**2", "m²"),
    ],
)
def test_units_are_written_as_people_write_them(units: str, pretty: str) -> None:
    assert style.pretty_units(units) == pretty


def test_large_and_small_numbers_get_a_factor() -> None:
    assert style.units_for("m^3/s", 3e7) == (1e6, "Sv")
    factor, units = style.units_for("m/s", 1.5e-5)
    assert (units, round(factor * 1e5, 9)) == ("10⁻⁵ m/s", 1.0)
    assert style.units_for("m", 12.0) == (1.0, "m")


def test_places_are_told_with_their_side() -> None:
    assert [style.degrees_east(v) for v in (0, 30, 190, -20, 180)] == ["0°", "30°E", "170°W", "20°W", "180°"]
    assert [style.degrees_north(v) for v in (-40, 0, 12.5)] == ["40°S", "0°", "12.5°N"]


def test_colour_maps_of_cmocean_are_had_by_name(ocean: dict[str, Any]) -> None:
    pytest.importorskip("cmocean")
    assert style.colormap_of("cmo.thermal").name == "thermal"
    assert "it has algae" in _error(lambda: style.colormap_of("cmo.magic"))
    assert "no colour map 'magic'" in _error(lambda: style.colormap_of("magic"))


def test_matplotlib_is_left_as_it_was(ocean: dict[str, Any]) -> None:
    """In a process of its own: neither pyplot nor the settings of the caller, and nothing in the user's home."""
    code = (
        "import sys, os, matplotlib; from rompy_hydra.postprocess.visualize import VisualizePostprocessor as V\n"
        "from types import SimpleNamespace as N; matplotlib.rcParams['font.size'] = 33\n"
        "from pathlib import Path; p = Path(sys.argv[1])\n"
        "print(V().process(N(run_id=p.name, output_dir=p.parent, record={}), pictures='maps')['message'])\n"
        "assert matplotlib.rcParams['font.size'] == 33; assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'MPLCONFIGDIR' not in os.environ\n"
    )
    home = Path(next(iter(ocean.values())).file and os.environ["XDG_CACHE_HOME"]).parent / "home"
    run_dir = home.parent / "runs" / "r"
    home.mkdir(parents=True)
    run_dir.mkdir(parents=True)
    kit.write_ocean(run_dir / "ocean.nc")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "MPL"))}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(run_dir)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "3 pictures" in done.stdout
    assert [str(path) for path in home.rglob("*") if path.is_file()] == []


# ---- choice ------------------------------------------------------------------------------------------------------


def test_what_is_the_same_everywhere_is_not_drawn_and_what_people_look_at_comes_first(ocean: dict[str, Any]) -> None:
    found, flat = choice.worth_drawing(list(ocean.values()), 8)
    assert [field.name for field in found] == ["eta", "temp", "u"]
    assert [field.name for field in flat] == ["flat"]
    assert [field.name for field in choice.worth_drawing(list(ocean.values()), 1)[0]] == ["eta"]


def test_no_more_is_read_than_is_needed_to_know_that_a_field_varies(ocean: dict[str, Any]) -> None:
    read = []

    def part(index: Any) -> Any:
        read.append(index)
        return np.arange(np.prod([s.stop - s.start for s in index]), dtype=float)

    long = replace(ocean["temp"].axes[0], values=np.arange(1000.0))
    wide = replace(ocean["temp"].axes[-1], values=np.arange(100_000.0))
    assert choice.varies(Field("large", (long, wide), part))
    assert len(read) == 1


def test_momenta_and_friction_are_drawn_when_they_are_named(beach: dict[str, Any]) -> None:
    fields = list(beach.values())
    names = [field.name for field in choice.worth_drawing(fields, 8)[0]]
    assert names == ["depth", "stage", "speed", "wet_area", "elevation", "water_volume"]
    assert "xmomentum" in [field.name for field in choice.worth_drawing(fields, None)[0]]


# ---- the whole ---------------------------------------------------------------------------------------------------


def test_a_run_gets_pictures_and_a_page_and_products_of_finds_them(run_dir: Path) -> None:
    kit.write_ocean(run_dir / "ocean.nc")
    (run_dir / "metrics.json").write_text('{"temp.mean": 12.5, "bad": "x", "flag": true}')
    answer = process(run_dir, {"model": "ocean", "state": "succeeded"}, dpi=50)
    assert answer["success"] is True, answer
    found = products_of(run_dir)
    assert [str(picture.path) for picture in found.pictures] == answer["pictures"]
    assert found.gallery == run_dir / "pictures" / "index.html"
    assert found.metrics == {"temp.mean": 12.5}
    names = {picture.path.name for picture in found.pictures}
    assert {"map_temp.png", "section_temp.png", "timeseries_u.png", "animation_eta.gif"} <= names
    assert all(picture.alt and picture.title for picture in found.pictures)
    assert VisualizePostprocessor.is_still_done(answer)
    (run_dir / "pictures" / "map_temp.png").unlink()
    assert not VisualizePostprocessor.is_still_done(answer)


def test_pictures_of_before_go_and_files_of_others_stay(run_dir: Path) -> None:
    kit.write_ocean(run_dir / "ocean.nc")
    process(run_dir, dpi=50)
    (run_dir / "pictures" / "mine.png").write_bytes(b"x")
    process(run_dir, dpi=50, variables="temp", pictures="maps", output_format="svg")
    assert sorted(path.name for path in (run_dir / "pictures").iterdir()) == [
        "index.html",
        "map_temp.svg",
        "mine.png",
        "pictures.json",
    ]
    assert "<svg" in (run_dir / "pictures" / "map_temp.svg").read_text()


def test_a_failure_leaves_the_pictures_of_before(run_dir: Path) -> None:
    kit.write_ocean(run_dir / "ocean.nc")
    process(run_dir, dpi=50, pictures="maps")
    before = {path.name: path.read_bytes() for path in (run_dir / "pictures").iterdir()}
    for options, says in (
        ({"colormap": "magic"}, "no colour map"),
        ({"variables": "flat"}, "same everywhere"),
        ({"pictures": "spectra"}, "nothing could be drawn (spectra)"),
        ({"pictures": "maps", "time": 9}, "time=9 is none of them"),
        ({"pictures": "sections", "section": {"x": 3}}, "no 'x' to be cut at; it has lat, lon"),
    ):
        answer = process(run_dir, dpi=50, **options)
        assert answer["success"] is False
        assert says in answer["error"]
    assert {path.name: path.read_bytes() for path in (run_dir / "pictures").iterdir()} == before
    assert not [path for path in run_dir.iterdir() if "partial" in path.name]


def test_a_point_of_a_sweep_gets_one_file_with_all_in_it(run_dir: Path) -> None:
    kit.write_ocean(run_dir / "ocean.nc")
    answer = process(run_dir, {"sweep": {"directory": "s"}}, dpi=50, pictures="maps")
    assert (answer["pictures"], Path(answer["gallery"]).name) == ([], "pictures.html")
    assert sorted(path.name for path in run_dir.iterdir()) == ["ocean.nc", "pictures.html"]
    text = (run_dir / "pictures.html").read_text()
    assert text.count('src="data:image/png;base64,') == 3
    assert products_of(run_dir).gallery == run_dir / "pictures.html"


class Tags(HTMLParser):
    """Which tags a page has, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_escapes_whatever_it_shows_and_needs_no_network(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&"
    (tmp_path / "a b#.png").write_bytes(b"x")
    picture = Pictured(tmp_path / "a b#.png", "map", evil, evil)
    for embedded in (True, False):
        tags = Tags(gallery.page(evil, [evil], [picture], {evil: 1.0}, embedded=embedded)).found
        assert "script" not in {name for name, _ in tags}
        images = [attributes for name, attributes in tags if name == "img"]
        assert [image["alt"] for image in images] == [evil]
        sources = [a.get("src") or a.get("href") for _, a in tags if "src" in a or "href" in a]
        assert all(source and source.startswith(("#", "data:image/png", "a%20b%23.png")) for source in sources)
    assert any(attributes.get("name") == "viewport" for _, attributes in tags)


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("separate", [True, False])
def test_the_page_shows_its_pictures_on_a_phone_without_a_complaint(
    run_dir: Path, browser: Any, separate: bool
) -> None:
    kit.write_ocean(run_dir / "ocean.nc")
    (run_dir / "metrics.json").write_text(json.dumps({"a_rather_long_variable_name.of_a_station.scatter_index": 1 / 3}))
    answer = process(run_dir, dpi=50, pictures="maps,animation", variables="temp", separate_files=separate)
    page = browser.open(Path(answer["gallery"]), width=360, is_phone=True)
    page.js("for (const image of document.images) image.loading = 'eager'")
    page.until(lambda: page.js("return [...document.images].every((i) => i.complete && i.naturalWidth > 100)"))
    assert page.js("return document.images.length") == 2
    assert page.js("return document.documentElement.scrollWidth") <= 360
    assert page.complaints() == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pictures": [3, {"file": "../../x.png"}, {"file": "gone.png"}]}'])
def test_a_listing_that_is_damaged_or_points_elsewhere_shows_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "pictures.json").write_text(text)
    (tmp_path / "metrics.json").write_text("[1]")
    found = products_of(tmp_path)
    assert (found.pictures, found.gallery, found.metrics) == ([], None, {})


def test_odd_grids_are_drawn_or_left_out_and_stop_nothing(run_dir: Path) -> None:
    """A curvilinear grid without coordinates on land, an ensemble, a speed with layers, a file without records."""
    import xarray as xr

    random = np.random.default_rng(2)
    lon, lat = np.meshgrid(np.linspace(0, 20, 6), np.linspace(40, 60, 5))
    lon, lat = lon + 0.2 * lat, lat - 0.1 * lon
    for places in (lon, lat):
        places[0, :2] = np.nan
    zeta = random.normal(size=(3, 5, 6))
    zeta[:, 0, :2] = np.nan
    members = (("time", "member", "y", "x"), random.normal(size=(3, 2, 5, 6)))
    coords = {"lon": (("y", "x"), lon), "lat": (("y", "x"), lat), "time": np.arange(3.0)}
    xr.Dataset({"zeta": (("time", "y", "x"), zeta), "odd": members}, coords=coords).to_netcdf(run_dir / "roms.nc")
    speed = (("time", "depth", "lat", "lon"), random.normal(size=(3, 2, 4, 5)))
    axes = {"depth": [5.0, 10.0], "lat": np.arange(4.0), "lon": np.arange(5.0), "time": np.arange(3.0)}
    xr.Dataset({"speed": speed}, coords=axes).to_netcdf(run_dir / "layers.nc")
    empty = (("time", "lat", "lon"), np.zeros((0, 4, 5)))
    xr.Dataset({"none": empty}, coords={**axes, "time": np.zeros(0)}).to_netcdf(run_dir / "later.nc")
    answer = process(run_dir, dpi=50)
    assert answer["success"] is True, answer
    names = {Path(path).stem for path in answer["pictures"]}
    assert {"map_zeta", "map_speed", "section_speed", "timeseries_odd"} <= names
    assert not names & {"map_odd", "map_speed_greatest", "map_none"}


def test_what_a_killed_call_left_behind_goes_after_an_hour(run_dir: Path) -> None:
    kit.write_ocean(run_dir / "ocean.nc")
    for name in (".pictures.old.partial", ".pictures.new.partial"):
        (run_dir / name).mkdir()
    (run_dir / ".analysis_summary.nc.77.partial").write_bytes(b"x")
    for name in (".pictures.old.partial", ".analysis_summary.nc.77.partial"):
        os.utime(run_dir / name, (0, 0))
    process(run_dir, dpi=50, pictures="maps", variables="temp")
    assert [path.name for path in run_dir.iterdir() if "partial" in path.name] == [".pictures.new.partial"]


def test_hostile_names_of_variables_become_plain_files_and_titles(run_dir: Path) -> None:
    import xarray as xr

    data = np.random.default_rng(1).normal(size=(4, 5))
    name = "a$x_{/<b>"
    dims = {"lat": np.arange(4.0), "lon": np.arange(5.0)}
    xr.Dataset(
        {name.replace("/", "|"): (("lat", "lon"), data, {"long_name": "100 % $<i> \\frac"})}, coords=dims
    ).to_netcdf(run_dir / "a.nc", engine="h5netcdf")
    answer = process(run_dir, dpi=50)
    assert answer["success"] is True, answer
    assert [Path(path).name for path in answer["pictures"]] == ["map_a_x____b_.png"]
    assert "<i>" not in (run_dir / "pictures" / "index.html").read_text()


def test_options_are_typed() -> None:
    assert VisualizePostprocessorConfig(pictures="maps, sections").pictures == ["maps", "sections"]
    for wrong in ({"pictures": "map"}, {"section": {"lon": 1, "lat": 2}}, {"dpi": 1}, {"frames": 1}):
        with pytest.raises(ValueError):
            VisualizePostprocessorConfig(**wrong)


# ---- real models -------------------------------------------------------------------------------------------------


def _again(run_dir: Path) -> list[Any]:
    command = [sys.executable, "-m", "rompy_hydra", "postprocess", str(run_dir), "processor=visualize", "dpi=60"]
    done = subprocess.run(
        command,
        cwd=run_dir.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((run_dir / "run.json").read_text())
    assert (record["state"], record["postprocess"]["success"]) == ("succeeded", True)
    pictures = products_of(run_dir).pictures
    for picture in pictures:
        with Image.open(picture.path) as image:
            assert image.width > 200
            colours = image.convert("RGB").getcolors(1 << 24) or []
            assert len(colours) > 50, picture.path  # something is drawn
    return [picture.path.stem for picture in pictures]


@pytest.mark.veros
@pytest.mark.xdist_group("postprocess-veros")
def test_veros_is_drawn_out_of_the_box(veros_run: Path) -> None:
    names = _again(veros_run)
    assert {"map_temp", "map_psi", "map_u", "section_temp", "section_vsf_depth", "timeseries_temp"} <= set(names)
    assert names[-1] == "animation_temp"
    assert "map_salt" not in names  # the same everywhere


@pytest.mark.anuga
@pytest.mark.xdist_group("postprocess-anuga")
def test_anuga_is_drawn_out_of_the_box(anuga_run: Path) -> None:
    names = _again(anuga_run)
    expected = {
        "map_depth",
        "map_depth_greatest",
        "map_stage",
        "map_speed",
        "section_water_level",
        "timeseries_wet_area",
    }
    assert expected <= set(names)
    assert names[-1] == "animation_depth"
