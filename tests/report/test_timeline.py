from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rompy_hydra.report import timeline
from rompy_hydra.report.timeline import Span, cpus_in_use, had_company, most_at_a_time, slots_of

spans_of = st.lists(
    st.builds(
        lambda start, length, cpus, host, number: Span(number, float(start), float(start + length), cpus, "", host),
        st.integers(0, 60), st.integers(0, 20), st.integers(1, 4), st.sampled_from("ab"), st.integers(0, 9),
    ),
    max_size=40,
)  # fmt: skip


@given(spans_of)
def test_no_two_spans_lie_on_the_same_cpu_at_the_same_time(spans: list[Span]) -> None:
    slots = slots_of(spans)
    for i, a in enumerate(spans):
        for j, b in enumerate(spans[:i]):
            together = a.start_s < b.end_s and b.start_s < a.end_s
            apart = slots[i] + a.cpus <= slots[j] or slots[j] + b.cpus <= slots[i]
            assert apart or not together


@given(spans_of)
def test_cpus_in_use_are_the_sum_of_what_runs(spans: list[Span]) -> None:
    for when, level in zip(*cpus_in_use(spans), strict=True):
        assert level == sum(s.cpus for s in spans if s.start_s <= when < s.end_s)


@given(spans_of)
def test_company_is_who_ran_on_the_same_host_at_the_same_time(spans: list[Span]) -> None:
    real = [span for span in spans if span.end_s > span.start_s]
    expected = {
        a.number
        for a in real
        for b in real
        if a.host == b.host and a.number != b.number and max(a.start_s, b.start_s) < min(a.end_s, b.end_s)
    }
    assert had_company(real) == expected


@given(spans_of)
def test_how_many_ran_together(spans: list[Span]) -> None:
    real = [span for span in spans if span.end_s > span.start_s]
    most = max((sum(s.start_s <= t.start_s < s.end_s for s in real) for t in real), default=0)
    assert most_at_a_time(real) == most


def test_many_changes_are_averaged_and_keep_their_area() -> None:
    spans = [Span(n, n * 0.7, n * 0.7 + 1.9, 1 + n % 3, "succeeded") for n in range(5000)]
    times, levels = cpus_in_use(spans)
    assert len(times) == timeline.MOST_STEPS + 1
    area = sum(level * (b - a) for level, a, b in zip(levels, times, times[1:], strict=False))
    assert abs(area - sum(s.cpus * 1.9 for s in spans)) < 1e-3 * area
