"""What an INVITE makes of a call, and what its answer says."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Answer
from bridge.calls.answering import our_codecs, party_of, shown_headers
from bridge.calls.call import Phase, Plan
from bridge.calls.effects import Accept, CloseMedia, Emit, OpenMedia, SetMedia
from bridge.calls.events import CallAnswered, CallIncoming
from bridge.calls.facts import Party, Source
from bridge.calls.inputs import AcceptSent, CancelReceived, MediaGone, MediaOpened
from bridge.sip.headers import NameAddr
from tests.calls.bench import Bench, accepted, answered, delayed, message, sent, unanswered
from tests.engine.world import OFFER, request, sdp


def test_the_first_event() -> None:
    bench = unanswered()
    (event,) = bench.events
    assert event == CallIncoming(
        "INVITE", "sip:100@192.0.2.10", {"X-Ticket": ("7",)}, ("PCMU/8000", "PCMA/8000", "telephone-event/8000")
    )
    assert bench.call.source == Source("192.0.2.1", 5062, "udp")


def test_a_delayed_offer_has_no_codecs_yet() -> None:
    (event,) = Bench(sdp=None).events
    assert isinstance(event, CallIncoming)
    assert event.codecs == ()


@pytest.mark.parametrize(
    ("address", "party"),
    [
        (NameAddr("Ann", "sip:ann@a.example"), Party("sip:ann@a.example", "ann", "a.example", "Ann")),
        (NameAddr(None, "sip:a.example"), Party("sip:a.example", None, "a.example", None)),
        (NameAddr(None, "tel:+4930123"), Party("tel:+4930123", "+4930123", None, None)),
        (NameAddr(None, "urn:service:sos"), Party("urn:service:sos", None, None, None)),
    ],
)
def test_parties(address: NameAddr, party: Party) -> None:
    assert party_of(address) == party


def test_which_headers_an_application_sees() -> None:
    extra = "X-One: 1\r\nx-one: 2\r\nSubject: s\r\nDiversion: <sip:d@x>\r\nServer: no\r\n"
    shown = shown_headers(message(request("INVITE", extra=extra)))
    assert shown == {"X-One": ("1",), "x-one": ("2",), "Subject": ("s",), "Diversion": ("<sip:d@x>",)}


def test_headers_of_strangers_are_bounded() -> None:
    many = "".join(f"X-{number}: {'v' * 1100}\r\n" for number in range(50))
    shown = shown_headers(message(request("INVITE", extra=many)))
    assert len(shown) == 32
    assert max(len(value) for values in shown.values() for value in values) == 1024


def test_the_plan_chooses_the_codecs() -> None:
    assert [codec.name for codec in our_codecs(Plan("p", codecs=("PCMA", "OPUS")))] == ["PCMA", "telephone-event"]
    bench = Bench(plan=Plan("p", codecs=("PCMA",)))
    bench.decide(Answer())
    bench.give(MediaOpened("192.0.2.10", 20000))
    assert bench.call.media is not None
    assert bench.call.media.codec == "PCMA/8000"


def test_ports_come_first_and_the_200_waits_for_its_write() -> None:
    bench = unanswered()
    assert [type(effect) for effect in bench.decide(Answer())][-1] is OpenMedia
    effects = bench.give(MediaOpened("192.0.2.10", 20000))
    assert [type(effect) for effect in effects] == [SetMedia, Accept]
    assert bench.call.phase is Phase.ACCEPTED
    assert not bench.call.accept_sent


def test_a_delayed_offer_is_all_we_have_until_the_ack() -> None:
    bench = delayed()
    assert bench.all(SetMedia) == []
    assert bench.call.media is None
    bench.give(AcceptSent())
    effects = bench.ack(sdp(4444))
    assert [type(effect) for effect in effects][:2] == [SetMedia, Emit]
    assert bench.call.media is not None
    assert bench.call.media.remote == "192.0.2.1:4444"


def test_ports_that_were_lost_meanwhile_get_no_rule() -> None:
    bench = delayed()
    bench.give(AcceptSent())
    bench.give(MediaGone())
    bench.ack(sdp(4444))
    assert bench.all(SetMedia) == []
    assert bench.types[-1] == "call.ended"


def test_what_answering_needed_is_let_go_with_the_ack() -> None:
    call = answered().call
    assert (call.invite, call.offer, call.invite_key, call.answer_action, call.list) == (None, None, None, None, None)


def test_the_call_counts_as_answered_from_the_ack() -> None:
    bench = sent()
    bench.now += 2.5
    bench.ack()
    assert bench.call.answered_at == bench.now
    assert CallAnswered(ring_s=2.5) in bench.events


def test_a_cancel_that_comes_too_late_changes_nothing() -> None:
    assert sent().give(CancelReceived(None)) == []
    assert answered().give(CancelReceived(None)) == []
    assert accepted().give(CancelReceived(None)) != []


def test_ports_that_open_for_a_call_that_is_over_are_closed() -> None:
    bench = unanswered()
    bench.decide(Answer())
    bench.give(CancelReceived(None))
    assert bench.give(MediaOpened("192.0.2.10", 20000)) == [CloseMedia()]


def test_the_session_id_is_the_calls_own_and_fits_63_bits() -> None:
    line = next(line for line in (accepted().call.local_sdp or b"").decode().split("\r\n") if line.startswith("o="))
    _, session_id, version, *_ = line.split(" ")
    assert 0 < int(session_id) < 2**63
    assert version == "1"


def test_an_ipv6_address_is_shown_with_brackets() -> None:
    offered = OFFER.replace("IP4 192.0.2.1", "IP6 2001:db8::1")
    bench = Bench(sdp=offered)
    bench.decide(Answer())
    bench.give(MediaOpened("2001:db8::10", 20000))
    assert bench.call.media is not None
    assert (bench.call.media.local, bench.call.media.remote) == ("[2001:db8::10]:20000", "[2001:db8::1]:4000")
