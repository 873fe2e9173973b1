"""Frames: what goes in comes out, however it is cut; what was touched on its way does not."""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cluster import Envelope, frames
from bridge.cluster.frames import Answer, Ask, Broken, Cutting, Ping, Seal, Unknown, decode
from bridge.errors import LocalProtocolError
from bridge.sip.flow import Flow, Send

KEY = b"k" * 32
FLOW = Flow("udp", "udp:0.0.0.0:5060", "192.0.2.1", 5060)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
flows = st.builds(Flow, texts, texts, texts, st.integers(0, 0xFFFF), st.just(""), texts)
payloads = st.lists(st.binary(min_size=1, max_size=300), max_size=8)


def cutting(key: bytes = KEY) -> Cutting:
    made = Cutting()
    made.demand_proof(Seal(key))
    return made


def taken(cut: Cutting) -> list[bytes | Broken]:
    got: list[bytes | Broken] = []
    while (each := cut.take()) is not None:
        got.append(each)
    return got


def read(stream: bytes) -> list[bytes | Broken]:
    cut = cutting()
    cut.feed(stream)
    return taken(cut)


# What payloads carry


@given(node=texts, flow=flows, data=st.binary(max_size=2000))
def test_a_message_arrives_as_it_was_with_its_flow(node: str, flow: Flow, data: bytes) -> None:
    assert decode(frames.envelope(node, flow, data)) == Envelope(node, flow, data)
    assert decode(frames.send(node, flow, data)) == Send(flow, data)


@given(number=st.integers(0, 0xFFFFFFFF), left_ms=st.integers(0, 10**7), data=st.binary(max_size=2000))
def test_a_question_and_its_answer(number: int, left_ms: int, data: bytes) -> None:
    asked = decode(frames.ask(number, left_ms / 1000, data))
    assert isinstance(asked, Ask)
    assert (asked.number, asked.question) == (number, data)
    assert asked.timeout_s == pytest.approx(left_ms / 1000, abs=0.0011)
    assert decode(frames.answer(number, data)) == Answer(number, data)
    assert decode(frames.answer(number, None)) == Answer(number, None)


def test_a_ping_is_one_and_a_pong_says_nothing() -> None:
    assert decode(frames.PING) == Ping()
    assert decode(frames.PONG) == Unknown()


@given(st.binary(min_size=1, max_size=400))
def test_no_payload_makes_reading_raise(payload: bytes) -> None:
    decode(payload)


@given(kind=st.integers(1, 5), rest=st.binary(max_size=12))
def test_no_short_payload_does_either(kind: int, rest: bytes) -> None:
    decode(bytes((kind,)) + rest)


def test_whom_a_connection_leads_to_is_said_where_there_is_one() -> None:
    named = Flow("tls", "tls:0.0.0.0:5061", "192.0.2.1", 5061, name="example.com")
    assert decode(frames.envelope("a:1", named, b"data")) == Envelope("a:1", named, b"data")
    assert frames.envelope("a:1", FLOW, b"").endswith(b"\x005060")  # what the release before TLS has written


def test_what_a_later_version_adds_is_stepped_over() -> None:
    text = b"a:1\0udp\0udp:0.0.0.0:5060\x00192.0.2.1\x005060\0\0something new"
    assert decode(struct.pack(">BH", 1, len(text)) + text + b"data") == Envelope("a:1", FLOW, b"data")
    assert decode(b"\xf0anything") == Unknown()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"a:1\0udp\0udp:0.0.0.0:5060\x00192.0.2.1",
        b"a:1\0udp\0l\0h\x00",
        b"a:1\0udp\0l\0h\x0065536",
        b"a:1\0udp\0l\0h\x00-1",
        "a:1\0udp\0l\0h\0\u0665".encode(),  # a digit, but none of ASCII
        b"a:1\0udp\0l\0h\x00" + b"9" * 4000,
        b"\xff\0udp\0l\0h\x001",
    ],
)
def test_what_is_no_flow(text: bytes) -> None:
    assert decode(struct.pack(">BH", 1, len(text)) + text + b"data") == Broken("a flow could not be read")


def test_a_flow_that_is_longer_than_its_frame() -> None:
    assert decode(struct.pack(">BH", 1, 500) + b"a:1\0udp\0l\0h\x001") == Broken("a flow could not be read")


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda data: frames.envelope("a:1", FLOW, data), frames.MAX_DATA),
        (lambda data: frames.ask(1, 1.0, data), frames.MAX_CONTENT),
        (lambda data: frames.answer(1, data), frames.MAX_CONTENT),
    ],
    ids=["envelope", "ask", "answer"],
)
def test_what_fits_no_frame_is_our_own_mistake(make: Callable[[bytes], bytes], size: int) -> None:
    (got,) = read(Seal(KEY).frames([make(b"x" * size)]))
    assert isinstance(got, bytes)
    with pytest.raises(LocalProtocolError):
        make(b"x" * (size + 1))


@pytest.mark.parametrize("flow", [FLOW._replace(host="a\0b"), FLOW._replace(listener="x" * 5000)])
def test_a_flow_that_no_listener_has(flow: Flow) -> None:
    with pytest.raises(LocalProtocolError):
        frames.envelope("a:1", flow, b"")


# Frames


@given(said=payloads, cuts=st.lists(st.integers(0, 3000), max_size=10))
def test_frames_are_whole_however_they_come(said: list[bytes], cuts: list[int]) -> None:
    stream = Seal(KEY).frames(said)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    cut = cutting()
    got: list[bytes | Broken] = []
    for begin, end in pairwise(edges):
        cut.feed(stream[begin:end])
        got += taken(cut)
    assert got == said
    assert not cut.is_incomplete


def test_the_largest_frame_byte_by_byte() -> None:
    payload = b"x" * (frames.MAX_FRAME - frames.PROOF_BYTES)
    stream = Seal(KEY).frames([payload, b"last"])
    cut = cutting()
    got: list[bytes | Broken] = []
    for at in range(len(stream)):
        cut.feed(stream[at : at + 1])
        got += taken(cut)
    assert got == [payload, b"last"]


@given(said=payloads.filter(bool), data=st.data())
def test_nothing_touched_is_taken_for_what_was_said(said: list[bytes], data: st.DataObject) -> None:
    stream = bytearray(Seal(KEY).frames(said))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= data.draw(st.integers(1, 255))
    got = read(bytes(stream))
    whole = [each for each in got if isinstance(each, bytes)]
    assert whole == said[: len(whole)]
    assert len(whole) < len(said)


@pytest.mark.parametrize(
    "order", [(1, 0), (0, 0), (0, 2), (1,)], ids=["reordered", "repeated", "left out", "first lost"]
)
def test_only_the_next_frame_is(order: tuple[int, ...]) -> None:
    seal = Seal(KEY)
    one_by_one = [seal.frames([b"%d" % number]) for number in range(3)]
    got = read(b"".join(one_by_one[number] for number in order))
    assert isinstance(got[-1], Broken)
    assert got[:-1] == [b"0"] * (order[0] == 0)


@given(key=st.binary(min_size=1, max_size=64), said=payloads)
def test_the_proof_is_the_beginning_of_an_hmac(key: bytes, said: list[bytes]) -> None:
    seal = Seal(key)
    for number, payload in enumerate(said):
        assert seal.proof(payload) == hmac.digest(key, struct.pack(">Q", number) + payload, "sha256")[:16]


def test_a_frame_of_another_key_is_none_of_ours() -> None:
    assert isinstance(read(Seal(b"other").frames([b"x"]))[0], Broken)


@pytest.mark.parametrize("size", [0, 1, frames.PROOF_BYTES, frames.MAX_FRAME + 1, 0xFFFFFFFF])
def test_a_size_that_no_frame_has_is_told_before_it_has_come(size: int) -> None:
    cut = cutting()
    cut.feed(struct.pack(">I", size))
    assert taken(cut) == [Broken(f"a frame of {size} bytes")]
    cut.feed(Seal(KEY).frames([b"x"]))
    assert taken(cut) == []
    assert not cut.is_incomplete


def test_who_has_proven_nothing_gets_little_room() -> None:
    cut = Cutting()
    most = b"x" * frames.MAX_UNPROVEN
    cut.feed(frames.unproven_frame(most) + frames.unproven_frame(most + b"x"))
    assert taken(cut) == [most, Broken(f"a frame of {frames.MAX_UNPROVEN + 1} bytes")]
