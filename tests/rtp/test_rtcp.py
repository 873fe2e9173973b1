"""Reports (RFC 3550 §6.4), and what they say about the way to a far end."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rtp.rtcp import SOURCES_MAX, FarEnd, ReportBlock, Reports, read_reports

NTP = (0xE1234567, 0x89ABCDEF)
MIDDLE = 0x456789AB
GOODBYE = struct.pack("!BBHI", 0x81, 203, 1, 1)
BLOCK = ReportBlock(ssrc=2, packets_lost=5, jitter=80, last_sender_report=MIDDLE, delay=32768)


def block(report: ReportBlock = BLOCK) -> bytes:
    lost = report.packets_lost & 0xFFFFFF | 12 << 24
    return struct.pack("!IIIIII", report.ssrc, lost, 9, report.jitter, report.last_sender_report, report.delay)


def sender_report(*blocks: bytes, ssrc: int = 1) -> bytes:
    head = struct.pack("!BBHI", 0x80 | len(blocks), 200, 6 + 6 * len(blocks), ssrc)
    return head + struct.pack("!IIIII", *NTP, 1600, 10, 1720) + b"".join(blocks)


def receiver_report(*blocks: bytes, ssrc: int = 1) -> bytes:
    return struct.pack("!BBHI", 0x80 | len(blocks), 201, 1 + 6 * len(blocks), ssrc) + b"".join(blocks)


def read(data: bytes) -> Reports | None:
    return read_reports(data, len(data))


def test_a_sender_s_report() -> None:
    assert read(sender_report(block())) == Reports(1, MIDDLE, (BLOCK,))


def test_a_receiver_s_report_and_what_follows_it() -> None:
    source = struct.pack("!BBHI", 0x81, 202, 3, 1) + b"\x01\x04name\x00\x00"
    assert read(receiver_report(block()) + source + GOODBYE) == Reports(1, None, (BLOCK,))
    assert read(receiver_report()) == Reports(1, None, ())


def test_more_than_one_report_in_a_compound() -> None:
    other = ReportBlock(3, 0, 1, 0, 0)
    assert read(receiver_report(block()) + receiver_report(block(other))) == Reports(1, None, (BLOCK, other))


def test_a_packet_alone_that_is_no_report() -> None:
    ping = struct.pack("!BBHI4s", 0x80, 204, 2, 1, b"PING")  # what baresip opens a NAT's way with
    assert read(ping) == read(GOODBYE) == Reports(1, None, ())


def test_doubled_packets_are_a_loss_below_zero() -> None:
    doubled = ReportBlock(2, -3, 0, 0, 0)
    assert read(receiver_report(block(doubled))) == Reports(1, None, (doubled,))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        receiver_report()[:7],
        b"\x80\xd0" + GOODBYE[2:],  # a kind that nobody knows
        b"\x40" + receiver_report()[1:],  # version 1
        b"\xa0" + receiver_report()[1:],  # padded, though it is the first
        receiver_report() + b"\x80\xcb",  # half a head
        receiver_report() + b"\x00\xcb\x00\x00",  # version 0 within
        receiver_report()[:2] + b"\x00\x09" + receiver_report()[4:],  # longer than it is
        b"\x82" + receiver_report(block())[1:],  # two blocks where one is
        b"\x81" + sender_report()[1:],
        b"\x80\x00" + bytes(160),  # RTP
    ],
)
def test_everything_else_is_not(data: bytes) -> None:
    assert read(data) is None


@given(st.binary(max_size=80), st.booleans())
def test_no_bytes_ever_raise(data: bytes, like: bool) -> None:
    read((b"\x81\xc8" if like else b"") + data)


def test_nothing_is_known_before_it_has_reported() -> None:
    far_end = FarEnd()
    assert (far_end.packets_lost, far_end.jitter_s(8000), far_end.round_trip_s) == (None, None, None)
    far_end.said(Reports(1, MIDDLE, ()), now=1.0)
    assert far_end.packets_lost is None


def test_loss_and_jitter_are_its_last_word() -> None:
    far_end = FarEnd()
    far_end.said(Reports(1, None, (BLOCK,)), now=1.0)
    far_end.said(Reports(1, None, (ReportBlock(2, 7, 160, 0, 0),)), now=6.0)
    assert (far_end.packets_lost, far_end.jitter_s(8000)) == (7, 0.02)


def test_losses_of_all_that_it_was_sent_are_added() -> None:
    far_end = FarEnd()
    for ssrc in range(SOURCES_MAX + 5):  # more than are looked at: the older ones count as last said
        far_end.said(Reports(1, None, (ReportBlock(ssrc, 2, 0, 0, 0),)), now=1.0)
    far_end.said(Reports(1, None, (ReportBlock(SOURCES_MAX + 4, 3, 0, 0, 0),)), now=1.0)
    assert far_end.packets_lost == 2 * (SOURCES_MAX + 5) + 1
    doubled = FarEnd()
    doubled.said(Reports(1, None, (ReportBlock(2, -4, 0, 0, 0),)), now=1.0)
    assert doubled.packets_lost == 0


def test_the_round_trip_is_the_time_until_the_answer_less_its_delay() -> None:
    far_end = FarEnd()
    far_end.was_sent(Reports(2, MIDDLE, ()), now=10.0)
    far_end.said(Reports(1, None, (BLOCK,)), now=10.58)
    assert far_end.round_trip_s == pytest.approx(0.08)
    far_end.said(Reports(1, None, (BLOCK,)), now=10.4)  # its delay cannot be true
    assert far_end.round_trip_s == 0.0


def test_the_round_trip_is_not_known_where_nothing_was_sent_that_it_answers() -> None:
    far_end = FarEnd()
    far_end.was_sent(Reports(2, None, ()), now=10.0)
    far_end.was_sent(Reports(3, MIDDLE, ()), now=10.0)  # another source, at the same moment
    far_end.said(Reports(1, None, (BLOCK,)), now=10.6)
    assert far_end.round_trip_s is None


def test_old_reports_are_forgotten() -> None:
    far_end = FarEnd()
    far_end.was_sent(Reports(2, MIDDLE, ()), now=10.0)
    for number in range(SOURCES_MAX):
        far_end.was_sent(Reports(2, number, ()), now=11.0)
    far_end.said(Reports(1, None, (BLOCK,)), now=12.0)
    assert far_end.round_trip_s is None
