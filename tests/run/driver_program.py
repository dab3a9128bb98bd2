"""A driver to be killed: runs the job that it is given as JSON, tells how far it is, waits for the end."""

from __future__ import annotations

import json
import sys

from rompy_hydra.run.base import Job, SuccessRules
from rompy_hydra.run.local import LocalExecutor


def main() -> None:
    asked = json.loads(sys.argv[1])
    job = Job(**{**asked, "success": SuccessRules(**asked["success"])})
    with LocalExecutor() as executor:
        print("ready", flush=True)
        running = executor.start(job, {"run_id": job.run_id})
        print("started", flush=True)
        outcome = running.wait()
        assert outcome is not None
        print(outcome.state, flush=True)


if __name__ == "__main__":
    main()
