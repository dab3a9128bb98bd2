"""Whether the files that Veros wrote hold what they must: every field, a record of the averages, no NaN.  Prints what is wrong.

Land is masked by the fill value (-1e18) in the NetCDF files and is zero in the restart file: a NaN or an infinity is a fault anywhere.
"""

import glob
import sys

import h5py
import numpy as np

FIELDS = {
    "*.averages.nc": ("temp", "salt", "u", "v", "w", "psi", "surface_taux", "surface_tauy"),
    "*.overturning.nc": ("trans", "vsf_iso", "vsf_depth", "bolus_iso", "bolus_depth", "zarea"),
    "*.restart.h5": ("core/temp", "core/salt", "core/u", "core/v", "core/w", "core/psi"),
}
WITH_RECORDS = "*.averages.nc"  # the first record of the overturning comes after 7.6 days, which a run may not reach


def faults_of(path, pattern):
    with h5py.File(path, "r") as file:
        for name in FIELDS[pattern]:
            if name not in file:
                yield f"{path}: the variable {name} is missing"
        if pattern == WITH_RECORDS and len(file.get("Time", ())) == 0:
            yield f"{path}: holds no record in time"
        datasets = {}
        file.visititems(lambda name, item: datasets.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        for name, data in datasets.items():
            if data.dtype.kind != "f" or data.size == 0:
                continue
            values = data[()]
            bad = np.count_nonzero(~np.isfinite(values))
            if bad:
                yield f"{path}: {bad} of {data.size} values of {name} are NaN or infinite"
            elif "_FillValue" in data.attrs and np.all(values == data.attrs["_FillValue"]):
                yield f"{path}: {name} holds nothing but its fill value"


def main():
    faults = []
    for pattern in FIELDS:
        paths = sorted(glob.glob(pattern))
        if not paths:
            faults.append(f"there is no {pattern}")
        for path in paths:
            try:
                faults.extend(faults_of(path, pattern))
            except OSError as error:
                faults.append(f"{path}: cannot be read: {error}")
    for fault in faults[1:]:
        print(fault)
    if faults:  # the first comes last: the last line is the one that the run's record quotes
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        print(faults[0] + more)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
