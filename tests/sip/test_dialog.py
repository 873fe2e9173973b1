"""Dialogs: what both sides remember, what they send, what they admit (§12)."""

from __future__ import annotations

import json

import pytest

from bridge.errors import LocalProtocolError
from bridge.sip.dialog import Admit, Dialog, DialogState, StaleSequence
from bridge.sip.flow import Flow
from bridge.sip.message import Request, Response
from bridge.sip.parser import parse
from bridge.sip.user_agent import respond
from tests.sip.bench import request, response

FLOW = Flow("udp", "udp:0.0.0.0:5060", "192.0.2.4", 5070)
VIA = "SIP/2.0/UDP bridge.example;branch=z9hG4bKours;rport"
P1, P2 = "<sip:p1.example;lr>", "<sip:p2.example;lr>"
STRICT = "<sip:strict.example?Priority=urgent>"


def called(*record_route: str, **changed: str) -> Dialog:
    """Bob's side of Alice's INVITE."""
    invite = request(**changed)
    for each in record_route:
        invite.headers.add("Record-Route", each)
    return Dialog.as_server(invite, "ours", FLOW)


def answered(*record_route: str, contact: str = "<sip:bob@192.0.2.7>", status: int = 200) -> tuple[Request, Response]:
    """Alice's INVITE and Bob's answer."""
    invite = request()
    for each in record_route:
        invite.headers.add("Record-Route", each)
    return invite, respond(invite, status, to_tag="theirs", contact=contact or None)


def test_the_called_side_remembers_the_request() -> None:
    dialog = called()
    assert dialog.call_id == "a84b4c76e66710@pc33.atlanta.example"
    assert (dialog.local_tag, dialog.remote_tag) == ("ours", "1928301774")
    assert dialog.local_uri == "Bob <sip:bob@biloxi.example>;tag=ours"
    assert dialog.remote_uri == "Alice <sip:alice@atlanta.example>;tag=1928301774"
    assert (dialog.local_sequence, dialog.remote_sequence) == (0, 314159)
    assert dialog.remote_target == "sip:alice@pc33.atlanta.example:5070"
    assert dialog.route_set == ()
    assert (dialog.flow, dialog.state, dialog.secure) == (FLOW, DialogState.EARLY, False)


def test_the_calling_side_remembers_request_and_response() -> None:
    dialog = Dialog.as_client(*answered(), FLOW)
    assert (dialog.local_tag, dialog.remote_tag) == ("1928301774", "theirs")
    assert dialog.local_uri == "Alice <sip:alice@atlanta.example>;tag=1928301774"
    assert dialog.remote_uri == "Bob <sip:bob@biloxi.example>;tag=theirs"
    assert (dialog.local_sequence, dialog.remote_sequence) == (314159, None)
    assert dialog.remote_target == "sip:bob@192.0.2.7"
    assert dialog.state is DialogState.CONFIRMED


def test_a_provisional_response_makes_an_early_dialog_and_the_2xx_confirms_it() -> None:
    invite, ringing = answered(P1, contact="<sip:bob@early>", status=180)
    dialog = Dialog.as_client(invite, ringing, FLOW)
    assert (dialog.state, dialog.remote_target) == (DialogState.EARLY, "sip:bob@early")
    _, ok = answered(P1, P2, contact="<sip:bob@late>")
    dialog.confirm(ok)
    assert (dialog.state, dialog.remote_target) == (DialogState.CONFIRMED, "sip:bob@late")
    assert dialog.route_set == (P2, P1)


def test_the_route_set_is_recorded_in_order_and_by_the_calling_side_in_reverse() -> None:
    assert called(P1, P2).route_set == (P1, P2)
    assert called(f"{P1}, {P2}").route_set == (P1, P2)
    assert Dialog.as_client(*answered(P1, P2), FLOW).route_set == (P2, P1)


def test_a_record_route_that_cannot_be_read_is_no_route() -> None:
    assert called("<sip:p1.example;lr>, <<<").route_set == ()


def test_a_sips_call_over_tls_is_secure() -> None:
    invite = request(uri="sips:bob@biloxi.example")
    assert Dialog.as_server(invite, "ours", FLOW._replace(transport="tls")).secure
    assert not Dialog.as_server(invite, "ours", FLOW).secure


def test_a_dialog_cannot_be_made_of_an_unchecked_invite() -> None:
    for contact in ("", "*", "<<"):
        with pytest.raises(LocalProtocolError):
            called(Contact=contact)


def test_an_answer_without_contact_can_still_be_acknowledged_and_ended() -> None:
    dialog = Dialog.as_client(*answered(contact=""), FLOW)
    assert dialog.remote_target == "sip:bob@biloxi.example"


def test_a_request_within_the_dialog() -> None:
    dialog = called(P1, P2)
    bye = dialog.new_request("BYE", via=VIA, headers=(("Reason", "SIP;cause=200"),))
    assert bye.encode() == (
        b"BYE sip:alice@pc33.atlanta.example:5070 SIP/2.0\r\n"
        b"Via: SIP/2.0/UDP bridge.example;branch=z9hG4bKours;rport\r\n"
        b"Max-Forwards: 70\r\n"
        b"Route: <sip:p1.example;lr>\r\n"
        b"Route: <sip:p2.example;lr>\r\n"
        b"From: Bob <sip:bob@biloxi.example>;tag=ours\r\n"
        b"To: Alice <sip:alice@atlanta.example>;tag=1928301774\r\n"
        b"Call-ID: a84b4c76e66710@pc33.atlanta.example\r\n"
        b"CSeq: 1 BYE\r\n"
        b"Reason: SIP;cause=200\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    assert parse(bye.encode()) == bye


def test_each_request_has_the_next_number() -> None:
    dialog = Dialog.as_client(*answered(), FLOW)
    numbers = [dialog.new_request(method, via=VIA).cseq.number for method in ("OPTIONS", "INVITE", "BYE")]
    assert numbers == [314160, 314161, 314162]


def test_contact_and_body_go_along() -> None:
    made = called().new_request(
        "INVITE", via=VIA, contact="<sip:us.example>", headers=[("content-type", "application/sdp")], body=b"v=0"
    )
    assert made.headers.get("Contact") == "<sip:us.example>"
    assert made.headers.get("Content-Type") == "application/sdp"
    assert made.body == b"v=0"


def test_a_strict_router_finds_itself_in_the_request_uri() -> None:
    bye = called(STRICT, P2).new_request("BYE", via=VIA)
    assert bye.uri == "sip:strict.example"
    assert bye.headers.lines("Route") == [P2, "<sip:alice@pc33.atlanta.example:5070>"]


def test_a_loose_router_is_recognised_whatever_else_its_uri_says() -> None:
    bye = called("P <sip:p.example;transport=udp;LR;ftag=1>;x=y").new_request("BYE", via=VIA)
    assert bye.uri == "sip:alice@pc33.atlanta.example:5070"


def test_the_ack_of_a_2xx_has_its_invites_number_and_a_branch_of_its_own() -> None:
    invite, ok = answered(P1)
    dialog = Dialog.as_client(invite, ok, FLOW)
    dialog.new_request("OPTIONS", via=VIA)
    ack = dialog.ack_for(ok, via=VIA)
    assert (ack.method, ack.uri, str(ack.cseq)) == ("ACK", "sip:bob@192.0.2.7", "314159 ACK")
    assert ack.headers.lines("Route") == [P1]
    assert ack.headers.get("To") == "Bob <sip:bob@biloxi.example>;tag=theirs"
    assert dialog.ack_for(314159, via=VIA) == ack
    assert dialog.local_sequence == 314160


@pytest.mark.parametrize("method", ["ACK", "CANCEL"])
def test_ack_and_cancel_have_no_number_of_their_own(method: str) -> None:
    with pytest.raises(LocalProtocolError):
        called().new_request(method, via=VIA)


def test_a_dialog_that_is_over_sends_nothing() -> None:
    dialog = called()
    dialog.terminate()
    with pytest.raises(LocalProtocolError):
        dialog.new_request("BYE", via=VIA)


def test_line_ends_in_extra_headers_never_reach_the_wire() -> None:
    with pytest.raises(LocalProtocolError):
        called().new_request("BYE", via=VIA, headers=[("Reason", "x\r\nVia: evil")])


@pytest.mark.parametrize(
    ("number", "admitted"),
    [
        (314158, StaleSequence(314159)),
        (314159, StaleSequence(314159)),
        (314160, Admit()),
        (400000, Admit()),
        (1, StaleSequence(314159)),
    ],
)
def test_what_is_not_newer_is_refused(number: int, admitted: Admit | StaleSequence) -> None:
    assert called().admits(request("BYE", CSeq=f"{number} BYE")) == admitted


def test_what_is_refused_changes_nothing_and_what_is_admitted_counts() -> None:
    dialog = called()
    dialog.admits(request("BYE", CSeq="400000 BYE"))
    assert dialog.admits(request("BYE", CSeq="399999 BYE")) == StaleSequence(400000)
    assert dialog.remote_sequence == 400000


def test_the_first_request_to_the_calling_side_sets_the_number() -> None:
    dialog = Dialog.as_client(*answered(), FLOW)
    assert dialog.admits(request("BYE", CSeq="7 BYE")) == Admit()
    assert dialog.remote_sequence == 7


@pytest.mark.parametrize("method", ["ACK", "CANCEL"])
def test_ack_and_cancel_are_never_stale(method: str) -> None:
    dialog = called()
    dialog.admits(request("OPTIONS", CSeq="400000 OPTIONS"))
    assert dialog.admits(request(method)) == Admit()
    assert dialog.remote_sequence == 400000


def test_a_target_refresh_replaces_the_target() -> None:
    dialog = called()
    dialog.refresh_target(request(Contact="<sip:alice@new.example>"))
    assert dialog.remote_target == "sip:alice@new.example"
    dialog.refresh_target(response(200, request(Contact="")))
    assert dialog.remote_target == "sip:alice@new.example"


@pytest.mark.parametrize("make", [lambda: called(P1, P2), lambda: Dialog.as_client(*answered(STRICT), FLOW)])
def test_a_dialog_survives_as_json(make: object) -> None:
    assert callable(make)
    dialog = make()
    revived = Dialog.from_data(json.loads(json.dumps(dialog.to_data())))
    assert revived == dialog
    assert revived.new_request("BYE", via=VIA) == dialog.new_request("BYE", via=VIA)


def test_unknown_fields_of_a_newer_release_are_ignored() -> None:
    dialog = called()
    assert Dialog.from_data({**dialog.to_data(), "something": "new"}) == dialog


def test_a_peer_of_rfc_2543_may_have_no_tag() -> None:
    dialog = called(From="sip:alice@atlanta.example")
    assert dialog.remote_tag == ""
    assert dialog.new_request("BYE", via=VIA).headers.get("To") == "sip:alice@atlanta.example"
