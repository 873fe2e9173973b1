"""STUN on the SIP port: a Binding request is answered with where it came from, and nothing else is answered."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.stun import binding_answer

COOKIE = b"\x21\x12\xa4\x42"
ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")  # of RFC 5769, whose addresses the first two tests have


def request(*attributes: bytes, kind: int = 1, cookie: bytes = COOKIE, length: int | None = None) -> bytes:
    body = b"".join(attributes)
    return struct.pack("!HH", kind, len(body) if length is None else length) + cookie + ID + body


def test_an_address_comes_back_as_rfc_5769_has_it() -> None:
    answer = binding_answer(request(), "192.0.2.1", 32853)
    assert answer == bytes.fromhex("0101000c") + COOKIE + ID + bytes.fromhex("002000080001a147e112a643")


def test_an_address_of_ipv6_comes_back_as_rfc_5769_has_it() -> None:
    answer = binding_answer(request(), "2001:db8:1234:5678:11:2233:4455:6677", 32853)
    xored = bytes.fromhex("002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9")
    assert answer == bytes.fromhex("01010018") + COOKIE + ID + xored


def test_what_has_to_be_understood_and_is_not_is_named() -> None:
    answer = binding_answer(request(b"\0\3\0\4\0\0\0\2", b"\x80\x22\0\3abc\0"), "192.0.2.1", 1)
    assert answer is not None
    assert answer[:2] == b"\x01\x11"
    assert struct.unpack("!H", answer[2:4])[0] == len(answer) - 20
    assert b"\0\0\x04\x14" in answer
    assert answer.endswith(b"\0\x0a\0\2\0\3\0\0")


def test_what_may_be_passed_over_is() -> None:
    answer = binding_answer(request(b"\x80\x22\0\3abc\0"), "192.0.2.1", 1)
    assert answer is not None
    assert answer[:2] == b"\x01\x01"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\1",
        request()[:-1],
        request(kind=0x0011),
        request(kind=0x0101),
        request(cookie=b"\0\0\0\0"),
        request(length=4),
        request(b"\0\3\0\x08\0\0\0\0"),
        request(b"\0\3\0\0" * 200),
        request(b"\0\3"),
    ],
)
def test_nothing_else_is_answered(data: bytes) -> None:
    assert binding_answer(data, "192.0.2.1", 1) is None


@given(st.binary(max_size=64))
def test_no_bytes_break_it_or_are_answered_at_length(body: bytes) -> None:
    for data in (body, request(body)):
        answer = binding_answer(data, "fe80::1%eth0", 65535)
        assert answer is None or len(answer) <= len(data) + 44
