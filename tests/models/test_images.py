"""The models' images: built from images/*/Dockerfile on a base made here, they give what the local backend gives."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.conftest import ROOT, module_or_none
from tests.run.docker_support import containers_in, docker
from tests.services import debian_image

h5py, netcdf, np = module_or_none("h5py"), module_or_none("netCDF4"), module_or_none("numpy")

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.xdist_group("docker"), pytest.mark.timeout(600)]
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def base() -> str:
    if (reason := debian_image.missing()) is not None:
        pytest.skip(reason)
    return debian_image.ensure_debian_image()


def context(tmp_path_factory: pytest.TempPathFactory, model: str, *packages: str) -> Path:
    """The image's own directory with the wheels beside its Dockerfile: a closed network has no index."""
    directory = tmp_path_factory.mktemp("context") / model
    shutil.copytree(ROOT / "images" / model, directory)
    shutil.copytree(debian_image.ensure_wheels(*packages), directory / "wheels")
    return directory


def in_the_image(directory: Path, base: str) -> list[str]:
    return [
        "backend=docker",
        "backend.image=null",
        f"backend.build_context={directory}",
        "backend.dockerfile=Dockerfile",
        f"backend.build_args={{BASE: '{base}', PIP_OPTIONS: '--no-index'}}",
    ]


@pytest.fixture(scope="module")
def veros_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return context(tmp_path_factory, "veros", "veros>=1.7,<2", "h5netcdf>=1.3")


@pytest.fixture(scope="module")
def anuga_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return context(tmp_path_factory, "anuga", "anuga>=4.1", "mpi4py>=4")


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert containers_in(tmp_path) == []


def fields(path: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


@pytest.mark.veros
def test_the_demo_in_its_image_gives_the_same_fields(rompy, base: str, veros_context: Path) -> None:
    inside = rompy("inside", *in_the_image(veros_context, base))
    here = rompy("here")
    assert inside.record["state"] == here.record["state"] == "succeeded", inside.said
    assert inside.record["provenance"]["image"]["id"].startswith("sha256:")
    assert inside.record["science_id"] != here.record["science_id"]
    for name in ("acc_basic.averages.nc", "acc_basic.overturning.nc"):
        ours, theirs = fields(inside.directory / name), fields(here.directory / name)
        assert ours.keys() == theirs.keys()
        for key in ours:
            if np.asarray(ours[key]).dtype.kind == "f":
                np.testing.assert_allclose(ours[key], theirs[key], rtol=TOLERANCE, atol=TOLERANCE, err_msg=key)


@pytest.mark.anuga
def test_two_ranks_in_a_container_give_the_same_water(rompy, base: str, anuga_context: Path) -> None:
    mpi = "backend.mpiexec='mpirun -np 2'"
    inside = rompy("ranks", "model=anuga_dambreak", *in_the_image(anuga_context, base), mpi)
    here = rompy("ranks_here", "model=anuga_dambreak", "backend.mpiexec='mpirun -np 2 --oversubscribe'")
    assert inside.record["state"] == here.record["state"] == "succeeded", inside.said
    assert inside.record["command"][:3] == ["mpirun", "-np", "2"]
    assert "-n" not in inside.record["command"]
    for name in ("stage_c", "xmomentum_c", "ymomentum_c"):
        ours, theirs = (centroids(run.directory / "dambreak.sww", name) for run in (inside, here))
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)


def centroids(path: Path, name: str) -> object:
    """A field in the order of its triangles' positions: the ranks may hand them over in any."""
    with netcdf.Dataset(path) as file:
        corners = file["volumes"][:]
        x, y = (np.asarray(file[axis][:], dtype=float)[corners].mean(1).round(3) for axis in ("x", "y"))
        return np.asarray(file[name][:], dtype=float)[..., np.lexsort((x, y))]


@pytest.mark.veros
def test_a_second_run_finds_the_image_that_was_built(rompy, base: str, veros_context: Path) -> None:
    again = rompy("again", *in_the_image(veros_context, base), "model.parameters.run_length=1d")
    assert again.record["state"] == "succeeded", again.said
    assert "build_log" not in again.record["provenance"]["image"]
    assert docker("images", "-q", again.record["provenance"]["image"]["name"]) != ""
