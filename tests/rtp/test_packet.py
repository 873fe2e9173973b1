"""RFC 3550 §5.1: what is an RTP packet, read in place."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rtp.packet import can_be_silent, payload_start, read_header, silence


def packet(first: int = 0x80, second: int = 0, body: bytes = b"\xff" * 160) -> bytes:
    return struct.pack("!BBHII", first, second, 7, 1600, 0xDECAFBAD) + body


def read(data: bytes) -> tuple[int, int, int, int] | None:
    return read_header(data, len(data))


@pytest.mark.parametrize(
    ("data", "payload_type"),
    [
        (packet(), 0),
        (packet(second=0x80 | 101), 101),  # the marker is no part of the payload type
        (packet(first=0x82, body=b"c" * 8 + b"voice"), 0),  # two contributing sources
        (packet(first=0x90, body=b"\xbe\xde\x00\x01" + b"eeee" + b"voice"), 0),  # an extension of one word
        (packet(first=0xA0, body=b"voice\x00\x00\x03"), 0),  # three bytes of padding
        (packet(body=b""), 0),
    ],
)
def test_rtp_is_recognised(data: bytes, payload_type: int) -> None:
    assert read(data) == (payload_type, 7, 1600, 0xDECAFBAD)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80" * 11,
        packet(first=0x00),  # STUN looks so
        packet(first=0x40),  # version 1
        packet(first=0x16),  # DTLS looks so
        packet(first=0x8F, body=b"c" * 59),  # fifteen contributing sources do not fit
        packet(first=0x90, body=b"\xbe\xde\x00"),  # not even the extension's head fits
        packet(first=0x90, body=b"\xbe\xde\x00\x02" + b"eeee"),  # the extension is longer than the packet
        packet(first=0xA0, body=b"voice\x00"),  # padding of zero bytes is none
        packet(first=0xA0, body=b"voice\xff"),  # more padding than packet
    ],
)
def test_everything_else_is_not(data: bytes) -> None:
    assert read(data) is None


def test_only_the_given_length_is_looked_at() -> None:
    buffer = bytearray(packet(first=0xA0, body=b"\x01") + b"\xff" * 100)
    assert read_header(buffer, 13) is not None
    assert read_header(buffer, 11) is None


@given(st.binary(max_size=40))
def test_no_bytes_ever_raise(data: bytes) -> None:
    read(data)


def test_silence_is_a_packet_of_twenty_milliseconds() -> None:
    data = silence(8, 0x1FFFF, 0x1_0000_0005, 77)
    assert read(data) == (8, 0xFFFF, 5, 77)
    assert data[1] & 0x80  # the start of a talkspurt
    assert data[12:] == b"\xd5" * 160
    assert silence(0, 0, 0, 0)[12:] == b"\xff" * 160


def test_only_g711_can_be_silent() -> None:
    assert [number for number in range(128) if can_be_silent(number)] == [0, 8]


@pytest.mark.parametrize(
    "data",
    [
        packet(body=b"voice"),
        packet(first=0x82, body=b"c" * 8 + b"voice"),
        packet(first=0x90, body=b"\xbe\xde\x00\x01" + b"eeee" + b"voice"),
        packet(first=0x91, body=b"c" * 4 + b"\xbe\xde\x00\x00" + b"voice"),
    ],
)
def test_the_payload_begins_behind_everything(data: bytes) -> None:
    assert data[payload_start(data) :] == b"voice"
