"""Many runs postprocessed, a few at a time, in processes of their own: one may crash, and the others go on.

A worker takes a run a line on its standard input and answers with a line.  It is no part of the terminal's group, so
that Ctrl-C reaches the driver alone; when the driver is gone, it ends after the run that it has in hands.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rompy_hydra.errors import RompyHydraError

_CODE = "import rompy_hydra.steps.processing_workers as workers; workers.serve()"
_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one run; `skipped`: it had been done before."""

    run_dir: Path
    answer: dict[str, Any]
    skipped: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the postprocessor succeeded, now or before."""
        return self.answer.get("success") is True


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be done with every run."""

    processor: str | None
    options: Mapping[str, Any]
    again: bool


class Workers:
    """A few processes that take one run after the other."""

    def __init__(self, wanted: Wanted, jobs: int) -> None:
        self._wanted = wanted
        self._jobs = jobs
        self._selector = selectors.DefaultSelector()
        self._running: dict[int, _Worker] = {}
        self._idle: list[_Worker] = []
        self.is_stopping = False

    @property
    def running(self) -> int:
        """How many runs are in hands."""
        return len(self._running)

    def stop(self) -> None:
        """Take no further run; what is in hands is finished."""
        self.is_stopping = True

    def kill(self) -> None:
        """End everything now."""
        for worker in [*self._running.values(), *self._idle]:
            worker.kill()

    def process(self, run_dirs: Iterable[Path], tick: Callable[[], None] = lambda: None) -> Iterator[Done]:
        """What came of each, in the order of their ends; `tick` is called now and then."""
        left = deque(run_dirs)
        while True:
            while left and not self.is_stopping and self.running < self._jobs:
                self._start(left.popleft())
            if not self._running:
                break
            for key, _ in self._selector.select(_LOOK_S):
                yield self._take(self._running.pop(key.fd))
            tick()

    def close(self) -> None:
        """Have the workers end."""
        for worker in self._idle:
            worker.dismiss()
        self._selector.close()

    def _start(self, run_dir: Path) -> None:
        worker = self._idle.pop() if self._idle else _Worker()
        worker.take(run_dir, self._wanted)
        self._running[worker.fileno()] = worker
        self._selector.register(worker.fileno(), selectors.EVENT_READ)

    def _take(self, worker: _Worker) -> Done:
        self._selector.unregister(worker.fileno())
        found = worker.answer()
        if found is not None:
            self._idle.append(worker)
            return found
        from rompy_hydra.steps.processing import note_failure

        error = f"the process of its postprocessor {worker.end()}"
        with contextlib.suppress(RompyHydraError):  # the record cannot be written: it is told all the same
            note_failure(worker.run_dir, self._wanted.processor, error)
        return Done(worker.run_dir, {"processor": self._wanted.processor, "success": False, "error": error})


class _Worker:
    """One of them, seen from the driver."""

    def __init__(self) -> None:
        self.run_dir = Path()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._say({"path": sys.path})

    def fileno(self) -> int:
        return self._from.fileno()

    def take(self, run_dir: Path, wanted: Wanted) -> None:
        self.run_dir = run_dir
        self._say(
            {
                "run": str(run_dir),
                "processor": wanted.processor,
                "options": dict(wanted.options),
                "again": wanted.again,
            }
        )

    def answer(self) -> Done | None:
        """None if it died instead."""
        line = self._from.readline()
        if not line.endswith(b"\n"):
            return None
        told = json.loads(line)
        return Done(self.run_dir, told["answer"], told["skipped"])

    def end(self) -> str:
        """How a dead one ended, in words."""
        code = self._process.wait()
        self._close()
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name
        return f"was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def dismiss(self) -> None:
        self._close()
        self._process.wait()

    def _say(self, data: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # it died: `answer` finds out
            self._to.write(json.dumps(data, default=str).encode() + b"\n")
            self._to.flush()

    def _close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._to.close()
        self._from.close()


def serve() -> None:
    """What a worker does: a line for every line, until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a postprocessor prints must not be taken for an answer
    orders = sys.stdin.buffer
    sys.path[:] = json.loads(orders.readline())["path"]
    from rompy_hydra.steps.processing import process_run

    for line in orders:
        order = json.loads(line)
        try:
            record = process_run(Path(order["run"]), order["processor"], order["options"], again=order["again"])
            answer, skipped = record.data["postprocess"], record.skipped
        except (RompyHydraError, OSError) as error:
            answer, skipped = {"processor": order["processor"], "success": False, "error": str(error)}, False
        answers.write(json.dumps({"answer": answer, "skipped": skipped}).encode() + b"\n")
        answers.flush()
