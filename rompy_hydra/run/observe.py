"""What became of a run, as the truth stands now: its record, and the engine that goes on when its watchers have died.

Every reader of a record that may be open comes through here; `record.store.observe` knows files and processes only.
"""

from __future__ import annotations

import os
from typing import Any

from rompy_hydra.record import store
from rompy_hydra.record.states import RunState


def observe(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """`store.observe`; a container whose keeper has died is looked for at its engine, and its end is recorded.

    Of a run in a batch job its own words on the disk tell, and then the scheduler.
    """
    data = store.observe(run_dir)
    if data.get("slurm") and not RunState(data["state"]).is_final:
        from rompy_hydra.run import slurm_observe

        return slurm_observe.observe(run_dir, data)
    if data.get("unwatched") and data.get("container"):
        from rompy_hydra.run import docker

        return docker.observe(run_dir, data)
    return data
