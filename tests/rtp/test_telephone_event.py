"""Keys from the packets that repeat them (RFC 4733), whichever of these are lost."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rtp.telephone_event import SILENT_S, Digit, DigitAssembler

SSRC = 7
END = 0x80


def payload(event: int, duration: int, *, end: bool = False) -> bytes:
    return struct.pack("!BBH", event, (END if end else 0) | 10, duration)


def press(event: int) -> list[bytes]:
    """A key held for 100 ms, in packets 20 ms apart: five updates, the last as the end, and that twice more."""
    return [payload(event, 160 * number) for number in (1, 2, 3, 4)] + [payload(event, 800, end=True)] * 3


def heard(packets: Iterable[tuple[int, bytes]], digits: DigitAssembler | None = None) -> list[Digit]:
    """What comes of packets with their timestamps, 20 ms apart."""
    digits = digits or DigitAssembler(8000)
    found: list[Digit] = []
    for number, (timestamp, data) in enumerate(packets):
        found += digits.hear(data, timestamp, SSRC, now=number * 0.02)
    return found


@pytest.mark.parametrize(("event", "digit"), list(enumerate("0123456789*#ABCD")))
def test_each_key_is_told_once(event: int, digit: str) -> None:
    assert heard((1000, data) for data in press(event)) == [Digit(digit, 100)]


@pytest.mark.parametrize("arrived", [(0, 4), (3, 5), (4,), (6,), (0, 1, 2, 3, 6), (4, 6)])
def test_any_end_packet_is_enough(arrived: tuple[int, ...]) -> None:
    packets = press(5)
    assert heard((1000, packets[number]) for number in arrived) == [Digit("5", 100)]


def test_keys_in_a_row_even_the_same() -> None:
    packets = [(timestamp, data) for timestamp, key in ((1000, 1), (3000, 1), (5000, 2)) for data in press(key)]
    assert heard(packets) == [Digit("1", 100), Digit("1", 100), Digit("2", 100)]


def test_the_next_key_ends_one_whose_end_was_lost() -> None:
    packets = [(1000, data) for data in press(1)[:4]] + [(3000, data) for data in press(2)]
    assert heard(packets) == [Digit("1", 80), Digit("2", 100)]


def test_silence_ends_one_whose_end_was_lost_and_stragglers_do_not_repeat_it() -> None:
    digits = DigitAssembler(8000)
    assert digits.deadline is None
    digits.hear(press(9)[0], 1000, SSRC, now=0.0)
    digits.hear(press(9)[1], 1000, SSRC, now=0.02)
    assert digits.deadline == 0.02 + SILENT_S
    assert digits.expire(now=0.02 + SILENT_S - 0.001) == ()
    assert digits.expire(now=0.02 + SILENT_S) == (Digit("9", 40),)
    assert digits.deadline is None
    assert digits.expire(now=9.0) == ()
    assert heard([(1000, press(9)[6])], digits) == []


def test_packets_out_of_order() -> None:
    first, second = press(1), press(2)
    packets = [(1000, first[1]), (1000, first[0]), (1000, first[4]), (3000, second[0])]
    packets += [(1000, first[5]), (3000, second[4]), (1000, first[6]), (3000, second[3])]
    assert heard(packets) == [Digit("1", 100), Digit("2", 100)]


def test_timestamps_wrap_around() -> None:
    packets = [(0xFFFFFF00, data) for data in press(1)] + [(0x00000700, data) for data in press(2)]
    assert heard(packets) == [Digit("1", 100), Digit("2", 100)]


def test_a_key_held_for_longer_than_a_duration_can_say() -> None:
    """Segments (§2.5.1.3): no end between them, each with a timestamp of its own."""
    packets = [(1000, payload(3, 0xFFFF)), (1000 + 0xFFFF, payload(3, 160))]
    packets += [(1000 + 0xFFFF, payload(3, 8000, end=True))] * 3
    assert heard(packets) == [Digit("3", (0xFFFF + 8000) // 8)]


def test_a_sender_that_begins_anew_is_heard() -> None:
    digits = DigitAssembler(8000)
    assert heard([(900_000, data) for data in press(1)], digits) == [Digit("1", 100)]
    found = [digits.hear(data, 5, SSRC + 1, now=1.0) for data in press(1)]
    assert [digit for each in found for digit in each] == [Digit("1", 100)]


def test_another_source_ends_a_key_that_is_down() -> None:
    digits = DigitAssembler(8000)
    digits.hear(press(1)[0], 1000, SSRC, now=0.0)
    assert digits.hear(press(2)[0], 1000, SSRC + 1, now=0.02) == (Digit("1", 20),)


def test_durations_are_in_the_stream_s_unit_of_time() -> None:
    digits = DigitAssembler(8000)
    digits.set_clock_rate(16000)
    assert heard([(1000, payload(0, 1600, end=True))], digits) == [Digit("0", 100)]


@pytest.mark.parametrize("data", [b"", b"\x01\x80\x00", payload(16, 800, end=True), payload(255, 0, end=True)])
def test_what_is_no_key_is_nothing(data: bytes) -> None:
    assert heard([(1000, data), (2000, data)]) == []


@given(st.lists(st.tuples(st.integers(0, 0xFFFFFFFF), st.binary(max_size=6)), max_size=30))
def test_no_packets_ever_raise_or_tell_more_keys_than_came(packets: list[tuple[int, bytes]]) -> None:
    assert len(heard(packets)) <= len(packets)
