"""What `sips:` promises, TLS on every hop of ours and for the whole dialog, and who a far end has to prove to be (§26.2.2, RFC 5630)."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.calls.actions import Hangup, Target
from bridge.engine.effects import Resolve
from bridge.engine.inputs import FlowLost, Packet, Resolved
from bridge.engine.settings import Listener
from bridge.sip.flow import Flow, Send
from bridge.sip.locating import Hop
from bridge.sip.message import Response
from tests.engine.callee import Callee
from tests.engine.test_originating import ended, originate
from tests.engine.test_registering import Phones
from tests.engine.world import ANSWER, CALLER, IDENTITY, OFFER, World, request, settings

SIP, SIPS = "<sip:192.0.2.10:5061;transport=tls>", "<sips:192.0.2.10:5061>"
LISTENERS = {
    **settings().listeners,
    "tls:5061": Listener(
        "tls:5061", "192.0.2.10:5061", type(IDENTITY)(SIP, IDENTITY.server, IDENTITY.allow), transport="tls"
    ),
}
PHONE = Flow("tls", "tls:5061", "192.0.2.1", 40000)
ALICE = "sip:alice@example.com"


def world(**changes: Any) -> World:
    made = World(settings(listeners=LISTENERS, **changes))
    made.reply = (ANSWER,)
    return made


def said(method: str, *, uri: str = "sips", contact: str = "<sips:caller@192.0.2.1:5062>", **written: Any) -> str:
    """A message of a caller's over TLS, to an address of this scheme."""
    text = request(method, contact=contact, **written)
    return text.replace("SIP/2.0/UDP", "SIP/2.0/TLS").replace(f"{method} sip:", f"{method} {uri}:", 1)


def answered(**how: Any) -> World:
    made = world()
    made.packet(said("INVITE", sdp=OFFER, **how), PHONE)
    made.packet(said("ACK", to_tag=made.tag(), **how), PHONE)
    assert made.call.state == "answered"
    return made


def contact(response: Response) -> str | None:
    return response.headers.get("Contact")


# Calls that come


@pytest.mark.parametrize(
    ("how", "ours"),
    [
        ({"uri": "sips"}, SIPS),
        ({"uri": "SIPS"}, SIPS),
        ({"uri": "sip", "contact": "<sip:caller@192.0.2.1:5062;transport=tls>"}, SIP),
        ({"uri": "sip", "contact": "<sips:caller@192.0.2.1:5062>"}, SIPS),  # §12.1.1: where there is no Record-Route
        ({"uri": "sip", "extra": "Record-Route: <sips:p.example;lr>\r\n"}, SIPS),
        ({"uri": "sip", "extra": "Record-Route: <sip:p.example;lr>\r\n"}, SIP),
    ],
)
def test_our_contact_is_what_the_caller_asks_for(how: dict[str, str], ours: str) -> None:
    made = world()
    made.packet(said("INVITE", sdp=OFFER, **how), PHONE)
    assert {contact(each) for each in made.responses(200)} == {ours}


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "REGISTER"])
def test_by_another_way_it_is_refused(method: str) -> None:
    made = world()
    made.packet(said(method, sdp=OFFER if method == "INVITE" else None), CALLER)
    (refused,) = made.responses(method=method)
    assert (refused.status, refused.headers.get("Warning")) == (480, '380 bridge "SIPS Not Allowed"')
    made.advance(64.0)
    assert made.leftovers() == {}


def test_so_is_a_contact_that_is_one() -> None:
    made = world()
    made.packet(said("INVITE", uri="sip", sdp=OFFER), CALLER)
    assert made.statuses == [480]


def test_a_dialog_stays_where_it_is() -> None:
    made = answered()
    made.packet(said("BYE", sequence=2, uri="sip", contact="<sip:caller@192.0.2.1>", to_tag=made.tag()), CALLER)
    assert [each.status for each in made.responses(method="BYE")] == [480]
    assert made.call.state == "answered"
    made.ask(Hangup())
    (bye,) = made.requests("BYE")
    assert (bye.uri, bye.via.transport) == ("sips:caller@192.0.2.1:5062", "TLS")


def test_it_is_the_same_after_a_restart() -> None:
    made = answered().restart()
    made.packet(said("INVITE", sequence=2, sdp=OFFER, to_tag=made.tag()), PHONE)
    assert {contact(each) for each in made.responses(200, sequence=2)} == {SIPS}


def test_a_lost_connection_leads_to_another_one_over_tls() -> None:
    """To the port of sent-by, or to that of `sips:`, and to nobody who does not prove to be there."""
    made = answered(contact="<sips:caller@192.0.2.1>")
    made.ask(Hangup())
    made.give(FlowLost(PHONE))
    ways = [each.flow for each in made.effects if isinstance(each, Send)]
    assert ways[-1] == PHONE._replace(port=5061, name="192.0.2.1")


# Calls that we make


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("sips:bob@Phones.example.", "phones.example"),
        ("sip:bob@phones.example;transport=tls", "phones.example"),
        ("sips:bob@[2001:db8::2]", "2001:db8::2"),
        ("sips:bob@192.0.2.2", "192.0.2.2"),
        ("sip:bob@phones.example", ""),
    ],
)
def test_whom_a_far_end_has_to_prove_to_be(uri: str, name: str) -> None:
    six = Listener("tls6:5061", "[2001:db8::10]:5061", IDENTITY, "tls", 6)
    made = World(settings(listeners={**LISTENERS, six.name: six}))
    originate(made, Target(uri))
    for asked in [effect for effect in made.effects if isinstance(effect, Resolve)]:
        made.give(Resolved(asked.reader, (Hop("tls" if name else "udp", "192.0.2.2", 5061),)))
    assert made.call.search is not None
    place = made.call.search.attempts[0].place
    assert place is not None
    assert place.flow is not None
    assert place.flow.name == name
    again = made.restart()
    assert again.call.search is not None
    assert again.call.search.attempts[0].place == place


@pytest.mark.parametrize(("scheme", "ours"), [("sips", SIPS), ("sip", SIP)])
def test_our_contact_is_what_we_ask_for(scheme: str, ours: str) -> None:
    made = world()
    bob = Callee(made)
    originate(made, Target(f"{scheme}:bob@{bob.host}:5060;transport=tls"))
    assert bob.invite.headers.get("Contact") == ours
    assert bob.invite.via.transport == "TLS"
    bob.answer(200)
    bob.within("INVITE", OFFER)  # theirs: our answer names us the same way
    assert [
        each.headers.get("Contact") for each in bob.responses if each.cseq.method == "INVITE" and each.status == 200
    ] == [ours]


def test_and_after_a_restart() -> None:
    made = world()
    bob = Callee(made)
    originate(made, Target(f"sips:bob@{bob.host}:5060"))
    bob.answer(200)
    again = made.restart()
    assert again.call.identity.contact == SIPS


def test_why_a_far_end_was_not_reached_is_told() -> None:
    made = world()
    bob = Callee(made)
    originate(made, Target(f"sips:bob@{bob.host}:5060"))
    assert bob.flow is not None
    made.give(FlowLost(bob.flow, "Certificate Not Valid For 192.0.2.2, But For nobody"))
    assert ended(made) == {"by": "network", "reason": "unreachable", "sip_code": 503}
    assert made.ended["sip_reason"] == "Certificate Not Valid For 192.0.2.2, But For nobody"
    assert bob.methods == ["INVITE"]  # and nothing else is tried
    made.advance(64.0)
    assert made.leftovers() == {}


@pytest.mark.parametrize(("scheme", "follows"), [("sip", False), ("sips", True)])
def test_a_redirect_leads_to_no_other_way(scheme: str, follows: bool) -> None:
    made = world()
    bob, carol = Callee(made, 2), Callee(made, 3)
    originate(made, Target(f"sips:bob@{bob.host}:5060"))
    bob.answer(302, extra=f"m: <{scheme}:carol@{carol.host}:5060;transport=tls>\r\n")
    assert carol.methods == (["INVITE"] if follows else [])


# Registrations


def registered(scheme: str, flow: Flow) -> tuple[Phones, Callee]:
    made = Phones(listeners=LISTENERS)
    made.register(f"<{scheme}:alice@10.0.0.2:5062>", flow=flow)
    return made, Callee(made, 2)


TLS, UDP = Flow("tls", "tls:5061", "192.0.2.2", 5060), Flow("udp", "udp:5060", "192.0.2.2", 5060)


@pytest.mark.parametrize(
    ("asked", "bound", "flow", "reached"),
    [
        ("sips", "sips", TLS, True),
        ("sips", "sip", TLS, False),  # RFC 5630: who did not register by sips: is not to be reached by it
        ("sips", "sip", UDP, False),
        ("sip", "sip", TLS, True),
        ("sip", "sips", TLS, True),
        ("sip", "sips", UDP, False),  # what it has asked for is not there
        ("sip", "sip", UDP, True),
    ],
)
def test_which_contacts_are_called(asked: str, bound: str, flow: Flow, reached: bool) -> None:
    made, phone = registered(bound, flow)
    originate(made, Target(f"{asked}:alice@example.com"))
    assert phone.methods == (["INVITE"] if reached else [])
    if not reached:
        assert (made.ended["sip_code"], made.ended["sip_reason"]) == (480, "No Contact To Be Reached By TLS")


def test_our_own_address_over_tls_is_ours() -> None:
    made = Phones(listeners=LISTENERS, domains=frozenset())
    originate(made, Target("sips:alice@192.0.2.10"))
    assert made.ended["sip_reason"] == "Not Registered"


def test_a_flow_is_given_back_as_it_came() -> None:
    made = world()
    named = PHONE._replace(name="example.com")
    made.give(Packet(said("INVITE", sdp=OFFER).encode(), named))
    again = made.restart()
    assert again.call.way == named
