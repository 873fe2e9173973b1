"""Framing: whatever the pieces are in which a stream comes, the same messages come out, and no byte is looked at twice."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sip.framing import BrokenStream, Frame, Framing
from bridge.sip.parser import MAX_MESSAGE_BYTES, KeepAlive
from tests.sip.wire import SDP, invite

CRLF = KeepAlive(b"")
PING = KeepAlive(b"\r\n")

PLAIN = invite({"Content-Length": "0"})
WITH_BODY = invite({"Content-Length": str(len(SDP))}, SDP)
COMPACT = invite({"l": f"  {len(SDP)} \t"}, SDP)
FOLDED = invite({"CONTENT-length \t": f"\r\n\t{len(SDP)}"}, SDP)
ZEROS = invite({"Content-Length": "000000000000000000000003"}, b"\r\n\r")
TWICE = invite({"Content-Length": "3", "l": "3"}, b"abc")
DECEPTIVE = invite(
    {"Subject": "Content-Length: 7", "X-Content-Length": "9", "Content-Length": "36"}, b"\r\n\r\nl: 5\r\n\r\n" * 3
)
WHOLE = [PLAIN, WITH_BODY, COMPACT, FOLDED, ZEROS, TWICE, DECEPTIVE]

BROKEN = {
    "Missing Content-Length": invite(),
    "Malformed Content-Length": invite({"Content-Length": "-1"}),
    "Several Content-Length": invite({"Content-Length": "0", "l": "1"}),
    "Message Too Large": invite({"Content-Length": "65536"}),
    "Stray CR or LF": invite({"Subject": "a\nContent-Length: 5", "Content-Length": "0"}),
    "Not SIP": b"\x16\x03\x01\x02\x00",
}


def taken(framing: Framing) -> list[Frame]:
    found = []
    while (frame := framing.take()) is not None:
        found.append(frame)
    return found


def framed(*pieces: bytes) -> list[Frame]:
    framing, found = Framing(), []
    for piece in pieces:
        framing.feed(piece)
        found += taken(framing)
    return found


def bytewise(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


@pytest.mark.parametrize("message", WHOLE)
def test_a_message_ends_where_its_content_length_says(message: bytes) -> None:
    assert framed(message + PLAIN) == [message, PLAIN]
    assert framed(*bytewise(message)) == [message]


def test_the_largest_message_is_that_of_udp() -> None:
    size = MAX_MESSAGE_BYTES - len(invite({"Content-Length": "65000"}))
    largest, larger = (invite({"Content-Length": str(each)}, bytes(each)) for each in (size, size + 1))
    assert framed(largest) == [largest]
    assert [type(each) for each in framed(larger)] == [BrokenStream]


@pytest.mark.parametrize(("reason", "data"), BROKEN.items())
def test_what_cannot_be_cut_is_the_last_thing_said(reason: str, data: bytes) -> None:
    whole = framed(PLAIN + data + PLAIN)
    assert whole[0] == PLAIN
    (broken,) = whole[1:]
    assert isinstance(broken, BrokenStream)
    assert (broken.reason, broken.status) == (reason, 513 if reason == "Message Too Large" else 400)
    assert (PLAIN + data + PLAIN)[len(PLAIN) :].startswith(broken.data)


@pytest.mark.parametrize("value", ["", "+5", "5 5", "5;a", "0x5", "\u0663", "5,5", "1e3", "1_0", "NaN"])
def test_a_content_length_is_digits(value: str) -> None:
    (broken,) = framed(invite({"Content-Length": value}, b"12345"))
    assert isinstance(broken, BrokenStream)
    assert broken.reason == "Malformed Content-Length"


def test_a_number_beyond_all_bounds_is_too_large_and_nothing_else() -> None:
    for digits in ("65536", "9" * 20, "9" * 60_000):
        (broken,) = framed(invite({"Content-Length": digits}))
        assert isinstance(broken, BrokenStream)
        assert broken.status == 513


def test_header_fields_without_an_end_are_too_large() -> None:
    endless = b"INVITE sip:a@b SIP/2.0\r\n" + b"X: y\r\n" * 20_000
    assert [framed(endless), framed(*bytewise(endless))] == [
        [BrokenStream(endless[:65_535], "Message Too Large", 513)]
    ] * 2


def test_after_the_end_nothing_is_kept() -> None:
    framing = Framing()
    framing.feed(BROKEN["Not SIP"])
    assert framing.take() is not None
    framing.feed(PLAIN)
    assert (framing.take(), framing.is_incomplete) == (None, False)


# CRLFs


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (b"\r\n", [CRLF]),
        (b"\r\n\r\n", [CRLF, PING]),
        (b"\r\n" * 4, [CRLF, PING] * 2),
        (b"\r\n" + PLAIN + b"\r\n" + PLAIN, [CRLF, PLAIN, CRLF, PLAIN]),  # no ping: the two do not follow each other
        (b"\n\r" + PLAIN, [PLAIN]),
        (PLAIN + b"\n\r\n\r\n", [PLAIN, CRLF, PING]),
    ],
)
def test_line_ends_between_messages(data: bytes, frames: list[Frame]) -> None:
    assert framed(data) == framed(*bytewise(data)) == frames


def test_it_knows_whether_a_message_has_begun() -> None:
    framing = Framing()
    said = []
    for piece in (b"", b"\r", b"\n", b"\r\n", PLAIN[:1], PLAIN[1:-1], PLAIN[-1:], b"\r\n"):
        framing.feed(piece)
        taken(framing)
        said.append(framing.is_incomplete)
    assert said == [False, True, False, False, True, True, False, False]


# Whatever the pieces


STREAMS = st.lists(st.sampled_from([*WHOLE, *BROKEN.values(), b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"x"]), max_size=8)


@settings(max_examples=100, deadline=None)
@given(parts=STREAMS, cuts=st.lists(st.integers(0, 3000), max_size=20))
def test_any_chunking_gives_the_same(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[start:end] for start, end in pairwise(places)]
    at_once = framed(data)
    assert [*map(_comparable, framed(*pieces))] == [*map(_comparable, at_once)]
    assert [*map(_comparable, framed(*bytewise(data)))] == [*map(_comparable, at_once)]


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=10))
def test_no_bytes_whatever_raise(data: bytes, cuts: list[int]) -> None:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[start:end] for start, end in pairwise(places)]
    assert [*map(_comparable, framed(*pieces))] == [*map(_comparable, framed(data))]


def _comparable(frame: Frame) -> object:
    """Of what is no SIP as much is shown as has come: that depends on the pieces."""
    return (frame.reason, frame.status) if isinstance(frame, BrokenStream) else frame


# Work


class Counting(bytearray):
    """A buffer that counts the bytes which a search goes over and a copy takes."""

    work = 0

    def find(self, sought: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        found = super().find(sought, start, len(self) if end is None else end)
        self.work += (len(self) if found < 0 else found) - start
        return found

    def __getitem__(self, place: object) -> object:  # type: ignore[override]
        got = super().__getitem__(place)  # type: ignore[index]
        self.work += len(got) if isinstance(got, bytearray) else 1
        return got

    def __delitem__(self, place: object) -> None:  # type: ignore[override]
        before = len(self)
        super().__delitem__(place)  # type: ignore[arg-type]
        self.work += before


@pytest.mark.parametrize(
    "message",
    [
        invite({f"X-{number}": "y" * 50 for number in range(1000)} | {"Content-Length": "0"}),
        invite({"Content-Length": "60000"}, bytes(60_000)),
        invite({"X": "\r\n" + "\r\n ".join("y" for _ in range(15_000)), "Content-Length": "0"}),
        b"\r\n" * 30_000 + PLAIN,
    ],
    ids=["long head", "long body", "folded", "line ends"],
)
@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
def test_the_work_grows_with_the_bytes_and_not_with_the_pieces(message: bytes, size: int) -> None:
    framing = Framing()
    buffer = framing._buffer = Counting()
    for _ in range(2):
        for start in range(0, len(message), size):
            framing.feed(message[start : start + size])
            taken(framing)
    assert not framing.is_incomplete
    assert buffer.work < 20 * len(message) * 2, f"{buffer.work / len(message) / 2:.1f} looks at each byte"
