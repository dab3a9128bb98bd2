"""Whether dambreak.sww holds what it must: every triangle's water to the final time, no NaN, no water lost.  Prints what is wrong."""

import json
import sys

import numpy as np
from netCDF4 import Dataset

PATH = "dambreak.sww"
FIELDS = ("stage_c", "xmomentum_c", "ymomentum_c", "elevation_c")


def faults_of(file, final_time):
    missing = [name for name in ("time", "x", "y", "volumes", *FIELDS) if name not in file.variables]
    if missing:
        yield f"{PATH}: the variable {missing[0]} is missing"
        return
    times = file["time"][:]
    if len(times) == 0 or abs(times[-1] - final_time) > 1e-6 * final_time:
        yield f"{PATH}: ends at {times[-1] if len(times) else 'no time at all'} s instead of {final_time} s"
        return
    data = {name: np.ma.filled(file[name][:].astype(float), np.nan) for name in FIELDS}
    for name, values in data.items():
        if bad := np.count_nonzero(~np.isfinite(values)):
            yield f"{PATH}: {bad} of {values.size} values of {name} are NaN, infinite or missing"
            return
    corners = file["volumes"][:]
    x, y = (file[name][:].astype(float)[corners] for name in ("x", "y"))
    area = np.abs((x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])) / 2
    volume = (data["stage_c"] - data["elevation_c"]) @ area
    if np.any(np.abs(volume - volume[0]) > 1e-4 * volume[0]):  # all sides are walls; the file holds single precision
        yield f"{PATH}: the volume of water goes from {volume[0]:.6g} m3 to {volume[-1]:.6g} m3 although every side is a wall"


def main():
    with open("parameters.json", encoding="utf-8") as file:
        final_time = json.load(file)["final_time"]
    try:
        with Dataset(PATH) as file:
            faults = list(faults_of(file, final_time))
    except OSError as error:
        faults = [f"{PATH}: cannot be read: {error}"]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
