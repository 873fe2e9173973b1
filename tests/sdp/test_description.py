"""RFC 8866: what is read, what is kept, what is refused."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sdp.description import (
    MAX_BYTES,
    Connection,
    MalformedSdp,
    MediaDescription,
    Origin,
    SessionDescription,
    parse,
)

FULL = (
    b"v=0\r\n"
    b"o=jdoe 3724394400 3724394405 IN IP4 198.51.100.1\r\n"
    b"s=Call to John Smith\r\n"
    b"i=SDP Offer #1\r\n"
    b"u=http://www.jdoe.example.com/home.html\r\n"
    b"e=Jane Doe <jane@jdoe.example.com>\r\n"
    b"p=+1 617 555-6011\r\n"
    b"c=IN IP4 198.51.100.1\r\n"
    b"b=AS:128\r\n"
    b"t=0 0\r\n"
    b"r=7d 1h 0 25h\r\n"
    b"a=group:BUNDLE 0\r\n"
    b"m=audio 49170 RTP/AVP 0\r\n"
    b"m=video 51372/2 RTP/AVP 99 100\r\n"
    b"i=the picture\r\n"
    b"c=IN IP6 2001:db8::2\r\n"
    b"b=AS:64\r\n"
    b"a=rtpmap:99 h263-1998/90000\r\n"
    b"a=sendonly\r\n"
)


def read(data: bytes) -> SessionDescription:
    description = parse(data)
    assert isinstance(description, SessionDescription), description
    return description


def test_a_full_description_is_read() -> None:
    description = read(FULL)
    assert description.origin == Origin("jdoe", "3724394400", "3724394405", "IN", "IP4", "198.51.100.1")
    assert description.session_name == "Call to John Smith"
    assert description.connection == Connection("IN", "IP4", "198.51.100.1")
    assert description.times == ("0 0",)
    assert description.attribute("group") == "BUNDLE 0"
    audio, video = description.media
    assert audio == MediaDescription("audio", 49170, "RTP/AVP", ("0",))
    assert (video.port, video.port_count, video.formats) == (51372, 2, ("99", "100"))
    assert video.connection == Connection("IN", "IP6", "2001:db8::2")
    assert video.attribute("sendonly") == ""
    assert video.attribute("recvonly") is None
    assert list(video.values("rtpmap")) == ["99 h263-1998/90000"]


def test_canonical_text_is_printed_as_it_came() -> None:
    assert read(FULL).encode() == FULL


def test_unknown_letters_and_bytes_that_are_no_utf8_are_kept() -> None:
    data = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=caf\xe9\r\nt=0 0\r\nx=what is this\r\n"
    assert read(data).encode() == data


def test_bare_line_feeds_missing_name_and_blank_lines_are_forgiven() -> None:
    description = read(b"v=0\no=- 1 1 IN IP4 192.0.2.1\n\nm=audio 5004 RTP/AVP 0 8\n\n")
    assert description.session_name == "-"
    assert description.media[0].formats == ("0", "8")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "SDP does not begin with v=0"),
        (b"v=1\r\n", "SDP does not begin with v=0"),
        (b"m=audio 1 RTP/AVP 0\r\n", "SDP does not begin with v=0"),
        (b"v=0\r\ns=-\r\n", "SDP without o="),
        (b"v=0\r\no=- 1 1 IN IP4\r\n", "Bad SDP o= line"),
        (b"v=0\r\no=- 1 1 IN IP4 a\r\no=- 1 1 IN IP4 a\r\n", "Bad SDP o= line"),
        (b"v=0\r\no=- 1 1 IN IP4 a\r\nc=IN IP4\r\n", "Bad SDP c= line"),
        (b"v=0\r\no=- 1 1 IN IP4 a\r\nhello\r\n", "Bad SDP line"),
        (b"v=0\r\no=- 1 1 IN IP4 a\r\ns=\x00\r\n", "Control character in SDP"),
        (b"v=0\r\no=- 1 1 IN IP4 a\rs=-\r\n", "Control character in SDP"),
        (b"v=0\r\no=- 1 1 IN IP4 a\r\nm=audio 1 RTP/AVP\r\n", "Bad SDP m= line"),
        (b"v=0\r\no=- 1 1 IN IP4 a\r\nm=audio 65536 RTP/AVP 0\r\n", "Bad SDP port"),
        (b"v=0\r\no=- 1 1 IN IP4 a\r\nm=audio -1 RTP/AVP 0\r\n", "Bad SDP port"),
        (b"v=0\r\no=- 1 1 IN IP4 a\r\nm=audio 1/x RTP/AVP 0\r\n", "Bad SDP port"),
        ("v=0\r\no=- 1 1 IN IP4 a\r\nm=audio ٣ RTP/AVP 0\r\n".encode(), "Bad SDP port"),
        (b"v=0\r\no=- 1 1 IN IP4 a\r\nm=audio 1 RTP/AVP 0\r\nc=x\r\n", "Bad SDP c= line"),
        (b"v=0\r\no=- 1 1 IN IP4 a\r\nm=audio 1 RTP/AVP 0\r\n???\r\n", "Bad SDP line"),
        (b"v=0\r\no=- 1 1 IN IP4 a\r\n" + b"m=audio 1 RTP/AVP 0\r\n" * 65, "Too many SDP media lines"),
        (b"v=0\r\no=- 1 1 IN IP4 a\r\nm=audio 1 RTP/AVP" + b" 0" * 129 + b"\r\n", "Too many SDP formats"),
        (b"v=0\r\n" + b"a=\r\n" * 5000, "Too many SDP lines"),
        (b"v=0\r\n" + b"a" * MAX_BYTES, "SDP too large"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, reason: str) -> None:
    assert parse(data) == MalformedSdp(reason)


WORD = st.text("abcXYZ0123456789-./:", min_size=1, max_size=8)
VALUE = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\n\0"), max_size=12)
CONNECTION = st.none() | st.builds(Connection, WORD, WORD, WORD)
MEDIA = st.builds(
    MediaDescription,
    kind=WORD,
    port=st.integers(0, 65535),
    protocol=WORD,
    formats=st.lists(WORD, min_size=1, max_size=5).map(tuple),
    connection=CONNECTION,
    attributes=st.lists(VALUE, max_size=4).map(tuple),
    other=st.lists(st.tuples(st.sampled_from("bkx"), VALUE), max_size=3).map(tuple),
    port_count=st.integers(1, 9),
)
SESSION = st.builds(
    SessionDescription,
    origin=st.builds(Origin, WORD, WORD, WORD, WORD, WORD, WORD),
    session_name=VALUE,
    connection=CONNECTION,
    attributes=st.lists(VALUE, max_size=4).map(tuple),
    media=st.lists(MEDIA, max_size=3).map(tuple),
    other=st.lists(st.tuples(st.sampled_from("btrzkx"), VALUE), max_size=4).map(tuple),
)


@given(SESSION)
def test_printing_then_reading_is_identity(description: SessionDescription) -> None:
    assert parse(description.encode()) == description


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: FULL[:400] + tail))
def test_no_bytes_ever_raise(data: bytes) -> None:
    parse(data)


@pytest.mark.parametrize(
    "filler",
    [b"a=rtpmap:0 PCMU/8000\r\n", b"a=\r\n", b"x=1\r\n", b"m=audio 1 RTP/AVP 0\r\n", b"c=" + b"IN " * 20000, b"\n"],
)
def test_hostile_input_is_read_in_linear_time(filler: bytes) -> None:
    head = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n"
    data = (head + filler * (MAX_BYTES // len(filler)))[:60_000]
    best = min(_seconds(data) for _ in range(5))
    assert best < 0.010


def _seconds(data: bytes) -> float:
    start = time.process_time()
    parse(data)
    return time.process_time() - start
