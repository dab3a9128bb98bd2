"""A dam breaks off a beach: the water behind it runs up the shore (ANUGA, on one process or under MPI).

Reads parameters.json and bathymetry.asc (ESRI ASCII grid, m, positive up) and writes dambreak.sww (NetCDF). The domain is
what the grid's cell centres cover; x and y are counted from its south-west corner. All four sides are walls, so no water is lost.
"""

import json
import sys
import traceback

import anuga
import numpy as np
from scipy.interpolate import RegularGridInterpolator

NAME = "dambreak"


def read_grid(path):
    """The grid's cell size and its elevations, south to north, west to east."""
    with open(path, encoding="ascii") as file:
        lines = file.read().split("\n")
    head = {}
    while lines and lines[0][:1].isalpha():
        key, value = lines.pop(0).split()
        head[key.lower()] = float(value)
    elevation = np.array(" ".join(lines).split(), dtype=float).reshape(int(head["nrows"]), int(head["ncols"]))[::-1]
    if np.any(elevation == head.get("nodata_value", np.nan)) or not np.all(np.isfinite(elevation)):
        sys.exit(f"{path}: the grid has cells without data")
    return head["cellsize"], elevation


def make_domain(parameters):
    cell, grid = read_grid("bathymetry.asc")
    length, width = cell * (grid.shape[1] - 1), cell * (grid.shape[0] - 1)
    if parameters["dam_position"] >= length:
        sys.exit(f"the dam at {parameters['dam_position']} m stands outside the domain, which is {length} m long")
    nx, ny = (max(1, round(side / parameters["resolution"])) for side in (length, width))
    domain = anuga.rectangular_cross_domain(nx, ny, len1=length, len2=width)
    domain.set_name(NAME)
    bed = RegularGridInterpolator((np.arange(grid.shape[0]) * cell, np.arange(grid.shape[1]) * cell), grid)

    def elevation(x, y):
        return bed(np.column_stack([np.clip(y, 0, width), np.clip(x, 0, length)]))

    def stage(x, y):
        water = np.where(x < parameters["dam_position"], parameters["dam_stage"], parameters["sea_level"])
        return np.maximum(water, elevation(x, y))

    domain.set_quantity("elevation", elevation, location="centroids")
    domain.set_quantity("stage", stage, location="centroids")
    domain.set_quantity("friction", parameters["friction"])
    return domain


def main():
    with open("parameters.json", encoding="utf-8") as file:
        parameters = json.load(file)
    domain = make_domain(parameters) if anuga.myid == 0 else None
    domain = anuga.distribute(domain)  # on one process this hands back the domain
    wall = anuga.Reflective_boundary(domain)
    domain.set_boundary({side: wall for side in ("left", "right", "top", "bottom")})
    for _ in domain.evolve(yieldstep=parameters["output_interval"], duration=parameters["final_time"]):
        if anuga.myid == 0:
            print(domain.timestepping_statistics(), flush=True)
    domain.sww_merge(delete_old=True)
    if anuga.myid == 0:
        print(f"{NAME}: finished at {domain.get_time()} s", flush=True)
    anuga.finalize()


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        if anuga.numprocs > 1:  # the other ranks would wait for this one for ever
            traceback.print_exc()
            from mpi4py import MPI

            MPI.COMM_WORLD.Abort(1)
        raise
