"""The journal of a sweep: text that is only appended to, by one writer, the holder of the lease.

    plan.jsonl      {"n": 12, "name": "12", "overrides": […], "swept": {…}, "science": …, "point": …, …}
    events.jsonl    {"t": …, "e": "driver", "host": …, "pid": …}     a driver took the sweep
                    {"t": …, "e": "start", "n": 12, "a": 1, …}       attempt 1 of point 12 is about to be handed over
                                                                     (`"by": {"batch": …}`: as a part of that job)
                    {"t": …, "e": "job", "batch": …, "id": …}        a scheduler has got a batch, under this id
                    {"t": …, "e": "back", "n": 12, "why": …}         it was never started after all
                    {"t": …, "e": "end", "n": 12, "a": 1, "state": …}
                    {"t": …, "e": "post", "n": 12, "ok": …}          its postprocessor has ended
                    {"t": …, "e": "invalid", "n": 12, "why": …}      it cannot run and was left out
                    {"t": …, "e": "changed", "n": 12}                it is another simulation now, and waits again
                    {"t": …, "e": "stop", "why": …}                  the driver left

A line takes at most 4 KB.  A line that a killed driver or a full disk tore is passed over: what it would have told had
not happened yet (`start`) or is in the run's own record (`end`).  On a full disk the ends go into `events.reserve`,
whose blocks were there before; the next driver moves them over.
"""

from __future__ import annotations

from typing import Any

from rompy_hydra.errors import SiteError
from rompy_hydra.record.store import utc
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.lines import LineFile, Reserve, dump_line, is_disk_full
from rompy_hydra.sweep.state import SweepState


class Journal:
    """The writer of `events.jsonl`; `state` is what all of it adds up to."""

    def __init__(self, layout: SweepLayout, state: SweepState) -> None:
        """`state` is the journal as it was read a moment ago, under the lease."""
        self.state = state
        self.is_dirty = False
        self._events = LineFile(layout.events)
        self._reserve = Reserve(layout.reserve)
        for line in self._reserve.take_over():
            self._events.append(line)
        self._reserve.renew(self._events.sync)

    def write(self, event: str, **fields: Any) -> None:
        """Append one event before what it says is done: where that fails (`SiteError`), it must not be done."""
        fields = {"t": utc(), "e": event, **fields}
        start = self._events.append(dump_line(fields))
        self.state.apply(fields, start, self._events.size)
        self.is_dirty = True

    def write_end(self, **fields: Any) -> None:
        """Append the end of a point; on a full disk into the reserve."""
        fields = {"t": utc(), "e": "end", **fields}
        line = dump_line(fields)
        try:
            start = self._events.append(line)
        except SiteError as error:
            if not is_disk_full(error) or not self._reserve.write(line):
                raise
            start = self.state.offset
            self.state.apply(fields, start, start)
        else:
            self.state.apply(fields, start, self._events.size)
        self.is_dirty = True

    def sync(self) -> None:
        """Have everything on the disk."""
        if self.is_dirty:
            self._events.sync()
            self.is_dirty = False

    def close(self) -> None:
        """Sync and end."""
        self.sync()
        self._events.close()
        self._reserve.close()
