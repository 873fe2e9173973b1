"""The path of a packet, on real sockets and an invented clock."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from bridge.media.ports import Pair
from bridge.media.session import Session
from tests.media.conftest import Phone

HOST = "127.92.7.4"


@pytest.fixture
def session() -> Iterator[Session]:
    pair = Pair(HOST, 21000)
    yield Session("call_1", pair, now=0.0)
    pair.close()


def take(session: Session, *, now: float = 1.0) -> None:
    """Let the session read all that has come."""
    while _waiting(session):
        session.receive(bytearray(2048), now)


def _waiting(session: Session) -> bool:
    try:
        session.pair.rtp.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True


US = (HOST, 21000)


def test_packets_are_counted(session: Session, phone: Phone) -> None:
    session.apply(phone.rule(), now=0.0)
    phone.speak(US, packets=3)
    phone.sequence += 2
    phone.speak(US)
    take(session)
    quality = session.counters.quality()
    assert (quality.packets_received, quality.bytes_received, quality.packets_lost) == (4, 4 * 172, 2)
    assert (quality.strangers, quality.invalid) == (0, 0)
    assert session.heard_at == 1.0


def test_before_the_first_rule_everybody_is_a_stranger(session: Session, phone: Phone) -> None:
    phone.speak(US)
    take(session)
    assert session.counters.strangers == 1
    assert session.heard_at == 0.0


def test_strangers_are_counted_and_change_nothing(session: Session, phone: Phone, stranger: Phone) -> None:
    """rtpbleed: whoever sends to an open port gets neither a hearing nor the other side's voice."""
    session.apply(phone.rule(silence_payload_type=0), now=0.0)
    stranger.speak(US, packets=5)
    take(session)
    session.send_silence(elapsed_s=0.0)
    assert len(phone.listen()) == 172
    assert stranger.has_heard_nothing()
    phone.speak(US)
    take(session)
    other_port = Phone(phone.host)
    other_port.speak(US, packets=2)  # the same machine, but the latch holds a port
    take(session)
    other_port.socket.close()
    quality = session.counters.quality()
    assert (quality.packets_received, quality.strangers) == (1, 7)


def test_what_is_no_rtp_of_a_negotiated_type_is_invalid_and_holds_no_latch(session: Session, phone: Phone) -> None:
    session.apply(phone.rule(), now=0.0)
    phone.socket.sendto(b"", US)
    phone.socket.sendto(b"OPTIONS sip:x SIP/2.0", US)
    phone.speak(US, payload_type=18)
    phone.socket.sendto(struct.pack("!BBHIIQQ", 0x80, 200, 6, 1, 0, 0, 0), US)  # RTCP
    take(session)
    assert session.counters.invalid == 4
    assert session.latch is not None
    assert session.latch.source is None
    assert session.heard_at == 0.0


def test_behind_a_nat_silence_waits_for_the_first_packet(session: Session, phone: Phone) -> None:
    """The phone names a private address; its packets come from where its signalling came from."""
    rule = phone.rule(
        remote_host="10.0.0.5",
        remote_port=9999,
        sources=("10.0.0.5", phone.host),
        behind_nat=True,
        silence_payload_type=8,
    )
    session.apply(rule, now=0.0)
    session.send_silence(elapsed_s=0.0)
    assert session.counters.packets_sent == 0
    phone.speak(US)
    take(session)
    session.send_silence(elapsed_s=15.0)
    assert phone.listen()[12:] == b"\xd5" * 160
    assert session.counters.packets_sent == 1


def test_silence_follows_the_streams_own_clock(session: Session, phone: Phone) -> None:
    session.apply(phone.rule(silence_payload_type=0), now=0.0)
    for elapsed in (0.0, 15.0, 15.0):
        session.send_silence(elapsed_s=elapsed)
    heads = [struct.unpack("!BBHII", phone.listen()[:12]) for _ in range(3)]
    first = heads[0]
    assert [(head[2] - first[2]) & 0xFFFF for head in heads] == [0, 1, 2]
    assert [(head[3] - first[3]) & 0xFFFFFFFF for head in heads] == [0, 120_000, 240_000]
    assert {head[4] for head in heads} == {first[4]}


def test_a_destination_that_cannot_be_reached_harms_nothing(session: Session, phone: Phone) -> None:
    session.apply(phone.rule(remote_host="255.255.255.255", silence_payload_type=0), now=0.0)
    session.send_silence(elapsed_s=0.0)
    assert session.counters.packets_sent == 0


def test_an_older_rule_is_ignored(session: Session, phone: Phone) -> None:
    newer = phone.rule(generation=2)
    session.apply(newer, now=0.0)
    session.apply(phone.rule(generation=1, payload_types=(8,)), now=0.0)
    assert session.rule == newer


def test_a_new_generation_waits_for_media_anew_and_opens_the_latch(session: Session, phone: Phone) -> None:
    session.apply(phone.rule(expects_media=True), now=0.0)
    phone.speak(US)
    take(session, now=2.0)
    session.timed_out = True
    session.apply(phone.rule(expects_media=True), now=3.0)  # the same again
    assert (session.heard_at, session.timed_out) == (2.0, True)
    session.apply(phone.rule(generation=2, payload_types=(8,), expects_media=True), now=4.0)
    assert (session.heard_at, session.timed_out) == (4.0, False)
    elsewhere = Phone(phone.host)
    elsewhere.speak(US, payload_type=8)
    take(session)
    elsewhere.socket.close()
    assert session.counters.packets_received == 2


def test_only_a_codec_we_can_be_silent_in_is_kept_alive(session: Session, phone: Phone) -> None:
    assert not session.wants_keep_alive
    for payload_type, wanted in ((None, False), (18, False), (8, True), (0, True)):
        session.apply(phone.rule(silence_payload_type=payload_type), now=0.0)
        assert session.wants_keep_alive == wanted
