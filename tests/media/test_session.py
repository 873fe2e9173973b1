"""The path of a packet, on real sockets and an invented clock."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from bridge.media.ports import Descriptors, Pair
from bridge.media.readers import Readers
from bridge.media.session import Session
from bridge.rtp.telephone_event import SILENT_S, Digit
from tests.media.conftest import Phone

HOST = f"127.93.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"  # one for each process that runs tests
US = (HOST, 21000)
US_REPORTS = (HOST, 21001)


@pytest.fixture
def digits() -> list[Digit]:
    """The keys that sessions have told of."""
    return []


@pytest.fixture
def readers() -> Iterator[Readers]:
    readers = Readers()
    yield readers
    readers.close()


@pytest.fixture
def begin(readers: Readers, digits: list[Digit]) -> Iterator[Callable[..., Session]]:
    """Open a session at this port of ours."""
    begun: list[Session] = []

    def begin(name: str, port: int, *, descriptors: int = 100) -> Session:
        pair = Pair(HOST, port, Descriptors(descriptors))
        session = Session(name, pair, readers=readers, on_digits=lambda _, heard: digits.extend(heard), now=0.0)
        begun.append(session)
        session.open()
        return session

    yield begin
    for session in begun:
        session.close()
        session.pair.close()


@pytest.fixture
def session(begin: Callable[..., Session]) -> Session:
    return begin("call_1", 21000)


@pytest.fixture
def other(begin: Callable[..., Session], other_phone: Phone) -> Session:
    """Who hears the session: its far end is the other phone."""
    other = begin("call_2", 21002)
    other.apply(other_phone.rule(), now=0.0)
    return other


def take(session: Session, *, now: float = 1.0) -> None:
    """Let the session, and whoever else is open, read all that has come."""
    readers, buffer = session._readers, memoryview(bytearray(2048))
    while ready := readers.epoll.poll(0):
        for descriptor, _ in ready:
            readers.by_descriptor[descriptor](buffer, now)


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
    session.send_silence(now=1.0)
    assert len(phone.listen()) == 172
    assert stranger.has_heard_nothing()
    phone.speak(US)
    take(session)
    other_port = Phone(phone.host)
    other_port.speak(US, packets=2)  # the same machine, but the latch holds a port
    take(session)
    other_port.close()
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
    session.send_silence(now=1.0)
    assert session.counters.packets_sent == 0
    phone.speak(US)
    take(session)
    session.send_silence(now=16.0)
    assert phone.listen()[12:] == b"\xd5" * 160
    assert session.counters.packets_sent == 1


def test_silence_follows_the_streams_own_clock(session: Session, phone: Phone) -> None:
    session.apply(phone.rule(silence_payload_type=0), now=0.0)
    for now in (7.0, 22.0, 37.0):
        session.send_silence(now=now)
    heads = [struct.unpack("!BBHII", phone.listen()[:12]) for _ in range(3)]
    first = heads[0]
    assert [(head[2] - first[2]) & 0xFFFF for head in heads] == [0, 1, 2]
    assert [(head[3] - first[3]) & 0xFFFFFFFF for head in heads] == [0, 120_000, 240_000]
    assert {head[4] for head in heads} == {first[4]}


def test_a_destination_that_cannot_be_reached_harms_nothing(session: Session, phone: Phone) -> None:
    session.apply(phone.rule(remote_host="255.255.255.255", silence_payload_type=0), now=0.0)
    session.send_silence(now=1.0)
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
    elsewhere.close()
    assert session.counters.packets_received == 2


def test_only_a_codec_we_can_be_silent_in_is_kept_alive(session: Session, phone: Phone) -> None:
    assert not session.wants_keep_alive
    for payload_type, wanted in ((None, False), (18, False), (8, True), (0, True)):
        session.apply(phone.rule(silence_payload_type=payload_type), now=0.0)
        assert session.wants_keep_alive == wanted


# Relaying


def join(session: Session, other: Session, phone: Phone, **changes: object) -> None:
    fields: dict[str, object] = {
        "relay_to": other.name,
        "payload_map": ((0, 0), (101, 96)),
        "dtmf_payload_types": (101,),
    }
    session.apply(phone.rule(**fields | changes), now=0.0)
    session.exit = other


def test_a_packet_leaves_from_the_other_session_under_the_other_s_type(
    session: Session, other: Session, phone: Phone, other_phone: Phone
) -> None:
    join(session, other, phone, payload_map=((0, 110),))
    sent = struct.pack("!BBHII", 0x80, 0x80, 9, 1440, 77) + bytes(range(160))
    phone.socket.sendto(sent, US)
    take(session, now=3.0)
    heard, source = other_phone.socket.recvfrom(2048)
    assert heard == sent[:1] + bytes([0x80 | 110]) + sent[2:]  # marker, numbers and payload are as they were
    assert source == (HOST, 21002)
    assert (session.quality().packets_relayed, session.quality().packets_sent) == (1, 0)
    assert (other.quality().packets_sent, other.quality().bytes_sent, other.quality().packets_received) == (1, 172, 0)
    assert other.sent_at == 3.0


def test_a_type_that_the_other_does_not_know_is_received_and_goes_no_further(
    session: Session, other: Session, phone: Phone, other_phone: Phone
) -> None:
    join(session, other, phone, payload_types=(0, 8), payload_map=((0, 0),))
    phone.speak(US, payload_type=8)
    phone.speak(US, payload_type=18)
    take(session)
    quality = session.quality()
    assert (quality.packets_received, quality.packets_relayed, quality.invalid) == (1, 0, 1)
    assert other_phone.has_heard_nothing()


def test_one_who_is_muted_is_counted_and_not_heard(
    session: Session, other: Session, phone: Phone, other_phone: Phone, digits: list[Digit]
) -> None:
    join(session, other, phone, muted=True)
    phone.speak(US)
    phone.press(US, 5)
    take(session)
    assert session.quality().packets_received == 5
    assert other_phone.has_heard_nothing()
    assert digits == [Digit("5", 40)]  # what it presses is no sound
    join(session, other, phone)  # the same exchange of offer and answer
    phone.speak(US)
    take(session)
    assert len(other_phone.listen()) == 172


def test_strangers_are_not_relayed(
    session: Session, other: Session, phone: Phone, other_phone: Phone, stranger: Phone
) -> None:
    join(session, other, phone)
    stranger.speak(US, packets=3)
    stranger.report(US_REPORTS)
    take(session)
    quality = session.quality()
    assert (quality.packets_relayed, quality.packets_received, quality.strangers) == (0, 0, 4)
    assert quality.remote_packets_lost is None
    assert other_phone.has_heard_nothing()
    phone.speak(US)
    take(session)
    assert len(other_phone.listen()) == 172


def test_nobody_to_hear_it(session: Session, phone: Phone) -> None:
    session.apply(phone.rule(relay_to="gone", payload_map=((0, 0),)), now=0.0)
    phone.speak(US)
    phone.report(US_REPORTS)
    take(session)
    assert (session.quality().packets_received, session.quality().packets_relayed) == (1, 0)


def test_nothing_is_sent_to_an_end_that_is_on_hold_or_has_no_rule(
    session: Session, begin: Callable[..., Session], phone: Phone, other_phone: Phone
) -> None:
    other = begin("call_3", 21004)
    join(session, other, phone)
    for number in range(2):
        phone.speak(US)
        phone.report(US_REPORTS)
        take(session)
        other.apply(other_phone.rule(remote_host="0.0.0.0", generation=number), now=0.0)
    assert other_phone.has_heard_nothing()
    assert session.quality().packets_relayed == 0


def test_behind_a_nat_it_hears_nothing_before_it_was_heard(
    session: Session, begin: Callable[..., Session], phone: Phone, other_phone: Phone
) -> None:
    other = begin("call_3", 21004)
    private = other_phone.rule(
        remote_host="10.0.0.5", remote_port=4000, sources=("10.0.0.5", other_phone.host), behind_nat=True
    )
    other.apply(private, now=0.0)
    join(session, other, phone)
    phone.speak(US)
    phone.report(US_REPORTS)
    take(session)
    assert other.quality().packets_sent == session.quality().packets_relayed == 0
    other_phone.speak((HOST, 21004))
    take(other)
    phone.speak(US)
    phone.report(US_REPORTS)
    take(session)
    assert len(other_phone.listen()) == 172
    assert not _waiting_for_reports(other_phone)  # where its reports come from is not known yet
    other_phone.report((HOST, 21005))
    take(other)
    report = phone.report(US_REPORTS)
    take(session)
    assert other_phone.control.recv(2048) == report


def _waiting_for_reports(phone: Phone) -> bool:
    phone.control.setblocking(False)
    try:
        return bool(phone.control.recv(2048, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        phone.control.settimeout(10.0)


def test_keys_are_relayed_and_told(
    session: Session, other: Session, phone: Phone, other_phone: Phone, digits: list[Digit]
) -> None:
    join(session, other, phone)
    phone.press(US, 11)
    take(session)
    assert digits == [Digit("#", 40)]
    heard = [other_phone.listen() for _ in range(4)]
    assert [packet[1] for packet in heard] == [96] * 4
    assert {packet[12] for packet in heard} == {11}


def test_keys_of_a_type_that_the_other_has_not_are_told_only(
    session: Session, other: Session, phone: Phone, other_phone: Phone, digits: list[Digit]
) -> None:
    join(session, other, phone, payload_map=((0, 0),))
    phone.press(US, 0)
    take(session)
    assert digits == [Digit("0", 40)]
    assert other_phone.has_heard_nothing()


def test_a_key_whose_end_is_lost(session: Session, phone: Phone, digits: list[Digit]) -> None:
    session.apply(phone.rule(dtmf_payload_types=(101,)), now=0.0)
    phone.press(US, 7, ends=0)
    take(session, now=4.0)
    assert session.digits_deadline == 4.0 + SILENT_S
    session.expire_digits(now=4.0 + SILENT_S)
    assert digits == [Digit("7", 20)]
    assert session.digits_deadline is None


def test_a_key_behind_an_extension_of_the_header(session: Session, phone: Phone, digits: list[Digit]) -> None:
    session.apply(phone.rule(dtmf_payload_types=(101,)), now=0.0)
    packet = struct.pack("!BBHIIHHI", 0x90, 101, 1, 160, 9, 0xBEDE, 1, 0) + struct.pack("!BBH", 3, 0x80, 800)
    phone.socket.sendto(packet, US)
    take(session)
    assert digits == [Digit("3", 100)]


def test_reports_go_from_and_to_the_port_above(
    session: Session, other: Session, phone: Phone, other_phone: Phone
) -> None:
    join(session, other, phone)
    report = phone.report(US_REPORTS)
    take(session)
    assert other_phone.control.recvfrom(2048) == (report, (HOST, 21003))
    assert session.quality().packets_received == 0  # reports are no media ...
    assert session.heard_at == 0.0  # ... and a far end that only reports is silent


def test_reports_that_are_not_to_be_relayed_are_read(
    session: Session, other: Session, phone: Phone, other_phone: Phone
) -> None:
    join(session, other, phone, relays_rtcp=False)
    phone.report(US_REPORTS, lost=3)
    take(session)
    assert session.quality().remote_packets_lost == 3
    assert not _waiting_for_reports(other_phone)


def test_what_is_no_report_is_invalid_and_holds_no_latch(session: Session, phone: Phone) -> None:
    session.apply(phone.rule(), now=0.0)
    for data in (b"", b"\x80\x00", struct.pack("!BBHIIQQ", 0x80, 0, 6, 1, 0, 0, 0)):
        phone.control.sendto(data, US_REPORTS)
    take(session)
    assert session.quality().invalid == 3
    assert session.latch is not None
    assert session.latch.report_source is None


def test_the_far_end_says_how_it_hears_us(session: Session, other: Session, phone: Phone, other_phone: Phone) -> None:
    join(session, other, phone)
    phone.report(US_REPORTS)
    take(session, now=10.0)
    other_phone.report((HOST, 21003), heard=phone.ssrc, lost=4, last=phone.reported_at, delay=65536 // 2)
    take(other, now=10.6)
    quality = other.quality()
    assert (quality.remote_packets_lost, quality.remote_jitter_ms, quality.round_trip_ms) == (4, 5.0, 100.0)
    assert session.quality().round_trip_ms is None  # nobody has reported to it


def test_a_destination_that_cannot_be_reached_costs_only_its_packets(
    session: Session, other: Session, phone: Phone, other_phone: Phone
) -> None:
    join(session, other, phone)
    other.apply(other_phone.rule(remote_host="255.255.255.255"), now=0.0)
    phone.speak(US)
    phone.report(US_REPORTS)
    take(session)
    assert session.quality().packets_relayed == other.quality().packets_sent == 0


def test_a_session_can_hear_itself(session: Session, phone: Phone) -> None:
    join(session, session, phone)
    phone.speak(US)
    take(session)
    assert len(phone.listen()) == 172


# Held to one source


def test_once_held_strangers_have_a_queue_of_their_own(
    session: Session, other: Session, phone: Phone, other_phone: Phone, stranger: Phone
) -> None:
    """A flood of the port cannot push the voice out of it."""
    join(session, other, phone)
    phone.speak(US)
    take(session)
    assert session.pair.held is not None
    stranger.speak(US, packets=2000)  # many times what a port holds
    phone.speak(US, packets=3)
    take(session)
    quality = session.quality()
    assert (quality.packets_received, quality.packets_relayed) == (4, 4)
    assert 0 < quality.strangers < 2000


def test_a_new_offer_and_answer_lets_the_source_go(session: Session, phone: Phone) -> None:
    session.apply(phone.rule(silence_payload_type=0), now=0.0)
    phone.speak(US)
    take(session)
    session.apply(phone.rule(silence_payload_type=0, generation=2), now=0.0)
    assert session.pair.held is None
    session.send_silence(now=1.0)  # where it was last heard
    assert len(phone.listen()) == 172
    moved = Phone(phone.host)
    moved.speak(US, packets=2)
    take(session)
    session.send_silence(now=2.0)
    heard, source = moved.socket.recvfrom(2048)
    assert (len(heard), source) == (172, US)
    assert phone.has_heard_nothing()
    assert session.quality().packets_received == 3
    moved.close()


def test_without_a_descriptor_every_packet_is_looked_at(
    begin: Callable[..., Session], other: Session, phone: Phone, other_phone: Phone, stranger: Phone
) -> None:
    session = begin("call_3", 21004, descriptors=2)
    join(session, other, phone)
    for _ in range(3):
        phone.speak((HOST, 21004))
        stranger.speak((HOST, 21004))
        take(session)
    assert session.pair.held is None
    quality = session.quality()
    assert (quality.packets_received, quality.packets_relayed, quality.strangers) == (3, 3, 3)
    assert len(other_phone.listen()) == 172


def test_a_far_end_whose_port_is_closed_harms_nothing(session: Session, other: Session, phone: Phone) -> None:
    """Then the kernel tells the socket so, once for each packet that came back."""
    session.apply(phone.rule(), now=0.0)
    join(other, session, phone)
    gone = Phone(phone.host)
    session.apply(gone.rule(generation=2), now=0.0)
    gone.speak(US)
    take(session)
    gone.close()
    for _ in range(4):
        phone.speak((HOST, 21002))
        take(session)
    assert other.quality().packets_received == 4
    assert session.quality().packets_received == 1
    back = Phone(phone.host)
    session.apply(back.rule(generation=3), now=0.0)
    phone.speak((HOST, 21002))
    take(session)
    assert len(back.listen()) == 172
    back.close()
