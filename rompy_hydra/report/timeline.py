"""What ran when: spans laid out on CPUs, so that those that ran together lie above each other, and the CPUs in use."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_STEPS = 2000


@dataclass(frozen=True, slots=True)
class Span:
    """One attempt of a point: from, to (seconds since the epoch), on how many CPUs, and how it ended."""

    number: int
    start_s: float
    end_s: float
    cpus: int
    state: str
    host: str = ""


def most_at_a_time(spans: Sequence[Span]) -> int:
    """How many ever ran together."""
    ends: list[float] = []
    most = 0
    for span in sorted(spans, key=lambda s: s.start_s):
        while ends and ends[0] <= span.start_s:
            heapq.heappop(ends)
        heapq.heappush(ends, span.end_s)
        most = max(most, len(ends))
    return most


def slots_of(spans: Sequence[Span]) -> list[int]:
    """The first of the neighbouring CPUs of each span: the lowest that are free when it starts.

    A picture and no claim: which CPUs of which host a run really had is not in a journal.
    """
    slots = [0] * len(spans)
    busy: list[tuple[int, int, float]] = []  # from, to, until; in order of their CPUs
    for index in sorted(range(len(spans)), key=lambda i: (spans[i].start_s, spans[i].end_s, spans[i].number)):
        span = spans[index]
        busy = [one for one in busy if one[2] > span.start_s]
        first = place = 0
        for place, (begin, end, _) in enumerate(busy):  # noqa: B007  # where the gap is, is needed below
            if begin - first >= span.cpus:
                break
            first = end
        else:
            place = len(busy)
        slots[index] = first
        busy.insert(place, (first, first + span.cpus, span.end_s))
    return slots


def cpus_in_use(spans: Sequence[Span]) -> tuple[list[float], list[float]]:
    """(times, CPUs from that time on); above `MOST_STEPS` changes the mean of as many equal pieces of time."""
    changes: dict[float, int] = {}
    for span in spans:
        if span.end_s > span.start_s:
            changes[span.start_s] = changes.get(span.start_s, 0) + span.cpus
            changes[span.end_s] = changes.get(span.end_s, 0) - span.cpus
    times = sorted(changes)
    levels, level = [], 0
    for time in times:
        level += changes[time]
        levels.append(float(level))
    return (times, levels) if len(times) <= MOST_STEPS else _averaged(times, levels)


def had_company(spans: Sequence[Span]) -> set[int]:
    """The points that ran on the same host at the same time as another one."""
    by_host: dict[str, list[Span]] = {}
    for span in spans:
        by_host.setdefault(span.host, []).append(span)
    found: set[int] = set()
    for group in by_host.values():
        group.sort(key=lambda span: span.start_s)
        found |= _with_earlier(group) | _with_later(group)
    return found


def _with_earlier(spans: Sequence[Span]) -> set[int]:
    """Those that began while another one ran; `spans` in the order of their starts."""
    found: set[int] = set()
    last, last_of_others = Span(-1, 0, -math.inf, 0, ""), -math.inf  # who ends last, and when the others do
    for span in spans:
        if (last_of_others if span.number == last.number else last.end_s) > span.start_s:
            found.add(span.number)
        if span.number == last.number:
            last = max(last, span, key=lambda one: one.end_s)
        elif span.end_s > last.end_s:
            last, last_of_others = span, last.end_s
        else:
            last_of_others = max(last_of_others, span.end_s)
    return found


def _with_later(spans: Sequence[Span]) -> set[int]:
    """Those that ran when another one began; `spans` in the order of their starts."""
    found: set[int] = set()
    first, first_of_others = Span(-1, math.inf, 0, 0, ""), math.inf  # who begins next, and when the others do
    for span in reversed(spans):
        if (first_of_others if span.number == first.number else first.start_s) < span.end_s:
            found.add(span.number)
        if span.number != first.number:
            first_of_others = first.start_s
        first = span
    return found


def _averaged(times: list[float], levels: list[float]) -> tuple[list[float], list[float]]:
    begin, width = times[0], (times[-1] - times[0]) / MOST_STEPS
    sums = [0.0] * MOST_STEPS
    for index in range(len(times) - 1):
        start, end, level = times[index] - begin, times[index + 1] - begin, levels[index]
        piece = min(int(start / width), MOST_STEPS - 1)
        while start < end:
            edge = end if piece == MOST_STEPS - 1 else min(end, (piece + 1) * width)
            sums[piece] += level * max(0.0, edge - start)
            start, piece = edge, piece + 1
            if piece == MOST_STEPS:
                break
    means = [total / width for total in sums]
    return [begin + index * width for index in range(MOST_STEPS)] + [times[-1]], [*means, 0.0]
