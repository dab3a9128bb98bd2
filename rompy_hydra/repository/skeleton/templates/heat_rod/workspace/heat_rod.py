"""Heat in a rod: explicit finite differences; reads parameters.json, writes temperature.csv."""

import json
from pathlib import Path

p = json.loads(Path("parameters.json").read_text())
cells = p["cells"]
width = p["length"] / cells
step = 0.4 * width**2 / p["diffusivity"]  # half of that would be the limit of stability
steps = max(1, round(p["duration"] / step))
rod = [0.0] * cells
for _ in range(steps):
    ends = [p["hot"], *rod, 0.0]
    rod = [t + 0.4 * (ends[i] - 2 * t + ends[i + 2]) for i, t in enumerate(rod)]
lines = ["position_m,temperature_degc"]
lines += [f"{(i + 0.5) * width:.6g},{t:.6g}" for i, t in enumerate(rod)]
Path("temperature.csv").write_text("\n".join(lines) + "\n")
print(f"heat_rod: finished after {steps} steps, {rod[cells // 2]:.2f} degC in the middle")
