"""RFC 3550 §6.4.1 and appendix A: loss and jitter of made-up streams."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bridge.rtp.quality import Counters, Quality

SSRC = 0xDECAFBAD


def heard(sequences: Iterable[int], *, start: int = 0) -> Counters:
    """Packets of 20 ms that arrive exactly in time, in this order of sequence numbers."""
    counters = Counters(8000)
    for turn, sequence in enumerate(sequences, start):
        counters.count(sequence & 0xFFFF, turn * 160, SSRC, 172, turn * 0.020)
    return counters


def test_an_undisturbed_stream() -> None:
    counters = heard(range(50))
    assert counters.quality() == Quality(packets_received=50, bytes_received=50 * 172)


@pytest.mark.parametrize(
    ("sequences", "lost"),
    [
        ([1, 2, 3], 0),
        ([1, 2, 5, 6], 2),
        ([1, 2, 4, 3, 5], 0),  # late is not lost
        ([1, 2, 2, 2], 0),  # a doubled packet is not less than none lost
        (range(65530, 65546), 0),  # across the wrap
        ([65534, 65535, 2, 3], 2),
        ([1, 2, 40000, 40001], 0),  # a restarted sender has lost nothing
        ([1, 3, 40000, 40002], 2),  # but what was lost before stays so
        ([65535, 0, 65534, 1], 0),  # late, across the wrap
    ],
)
def test_loss(sequences: Iterable[int], lost: int) -> None:
    assert heard(sequences).packets_lost == lost


def test_a_new_source_begins_a_new_count() -> None:
    counters = heard([10, 12])
    counters.count(60000, 0, SSRC + 1, 172, 1.0)
    counters.count(60001, 160, SSRC + 1, 172, 1.02)
    assert counters.packets_lost == 1
    assert counters.packets_received == 4


def test_jitter_follows_the_formula() -> None:
    counters = Counters(8000)
    expected = 0.0
    late = 0.0
    for turn in range(20):
        before, late = late, 0.005 if turn % 2 else 0.0
        counters.count(turn, turn * 160, SSRC, 172, turn * 0.020 + late)
        if turn:
            expected += (abs(late - before) * 1000 - expected) / 16
    assert counters.quality().jitter_ms == pytest.approx(expected, abs=0.001)
    assert expected > 2.0


def test_a_telephone_event_is_no_jitter() -> None:
    counters = heard(range(5))
    for turn in range(5, 20):  # its packets share one timestamp
        counters.count(turn, 5 * 160, SSRC, 16, turn * 0.020)
    assert counters.quality().jitter_ms == 0.0


def test_a_timestamp_set_anew_is_no_jitter() -> None:
    counters = heard(range(5))
    for turn in range(5, 10):
        counters.count(turn, 3_000_000_000 + turn * 160, SSRC, 172, turn * 0.020)
    assert counters.quality().jitter_ms == pytest.approx(0.0, abs=0.001)


def test_another_clock_rate_keeps_the_figures() -> None:
    counters = Counters(8000)
    for turn in range(10):
        counters.count(turn, turn * 160, SSRC, 172, turn * 0.020 + (turn % 2) * 0.004)
    before = counters.quality().jitter_ms
    counters.set_clock_rate(16000)
    assert counters.quality().jitter_ms == pytest.approx(before, abs=0.001)
    counters.count(10, 10 * 320, SSRC, 172, 0.2)
    assert counters.packets_lost == 0
