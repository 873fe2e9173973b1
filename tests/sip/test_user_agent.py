"""Responses, the checks of §8.2 in their order, and first requests."""

from __future__ import annotations

import pytest

from bridge.errors import LocalProtocolError
from bridge.sip.message import Request
from bridge.sip.parser import parse
from bridge.sip.user_agent import (
    Capabilities,
    Refused,
    check,
    new_invite,
    new_request,
    options_headers,
    refuse,
    respond,
    stateless_tag,
    via_value,
)
from tests.sip.bench import request

OURS = Capabilities(extensions=frozenset({"timer"}), server="bridge/1")
SDP = {"Content_Type": "application/sdp"}


def with_body(method: str = "INVITE", **headers: str) -> Request:
    made = request(method, **headers)
    made.body = b"v=0"
    return made


# Responses


def test_a_response_copies_what_it_answers() -> None:
    invite = request()
    invite.headers.set("Via", "SIP/2.0/UDP p1.example;branch=z9hG4bK1")
    invite.headers.add("v", "SIP/2.0/UDP p2.example;branch=z9hG4bK2, SIP/2.0/UDP p3.example;branch=z9hG4bK3")
    ok = respond(
        invite,
        200,
        to_tag="ours",
        contact="<sip:us.example>",
        headers=[("content-type", "application/sdp")],
        body=b"v=0",
    )
    assert ok.encode() == (
        b"SIP/2.0 200 OK\r\n"
        b"Via: SIP/2.0/UDP p1.example;branch=z9hG4bK1\r\n"
        b"To: Bob <sip:bob@biloxi.example>;tag=ours\r\n"
        b"From: Alice <sip:alice@atlanta.example>;tag=1928301774\r\n"
        b"Call-ID: a84b4c76e66710@pc33.atlanta.example\r\n"
        b"CSeq: 314159 INVITE\r\n"
        b"Via: SIP/2.0/UDP p2.example;branch=z9hG4bK2, SIP/2.0/UDP p3.example;branch=z9hG4bK3\r\n"
        b"Contact: <sip:us.example>\r\n"
        b"Content-Type: application/sdp\r\n"
        b"Content-Length: 3\r\n\r\nv=0"
    )
    assert parse(ok.encode()) == ok


def test_a_100_needs_no_tag_and_brings_the_timestamp_back() -> None:
    trying = respond(request(Timestamp="54"), 100)
    assert trying.to_tag is None
    assert trying.headers.get("Timestamp") == "54"
    assert "Timestamp" not in respond(request(Timestamp="54"), 180).headers
    assert respond(request(), 100, to_tag="ours").to_tag == "ours"


def test_within_a_dialog_the_tag_stays() -> None:
    ok = respond(request("BYE", To="<sip:bob@biloxi.example>;tag=there"), 200, to_tag="another")
    assert ok.headers.get("To") == "<sip:bob@biloxi.example>;tag=there"


def test_a_stateless_answer_has_the_same_tag_each_time() -> None:
    assert respond(request(), 404).to_tag == respond(request(), 404).to_tag == stateless_tag(request())
    assert respond(request(Call_ID="another"), 404).to_tag != stateless_tag(request())


def test_an_answer_can_only_repeat_what_is_there() -> None:
    answer = respond(request(From="", To="", Call_ID=""), 400, "Missing From").encode()
    assert answer == (
        b"SIP/2.0 400 Missing From\r\n"
        b"Via: SIP/2.0/UDP pc33.atlanta.example:5070;branch=z9hG4bK776asdhds\r\n"
        b"CSeq: 314159 INVITE\r\n"
        b"Content-Length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(("method", "status", "copied"), [
    ("INVITE", 180, True), ("INVITE", 200, True), ("INVITE", 100, False), ("INVITE", 486, False), ("BYE", 200, False),
])  # fmt: skip
def test_the_route_is_recorded_where_a_dialog_is_made(method: str, status: int, copied: bool) -> None:
    asked = request(method, Record_Route="<sip:p1.example;lr>")
    assert ("Record-Route" in respond(asked, status).headers) is copied


def test_the_reason_is_the_rfcs_or_ours() -> None:
    assert respond(request(), 486).reason == "Busy Here"
    assert respond(request(), 486, "Gone Fishing").reason == "Gone Fishing"
    assert respond(request(), 499).reason == ""


def test_line_ends_never_reach_the_wire() -> None:
    with pytest.raises(LocalProtocolError):
        respond(request(), 200, headers=[("X-Note", "a\r\nb")])
    with pytest.raises(LocalProtocolError):
        respond(request(), 486, "a\r\nb").encode()


# Checks


@pytest.mark.parametrize("method", ["INVITE", "BYE", "CANCEL", "OPTIONS", "ACK"])
def test_an_ordinary_request_passes(method: str) -> None:
    assert check(request(method), OURS) is None
    assert check(with_body(method, **SDP), OURS) is None


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        (
            request("PUBLISH"),
            Refused(
                405,
                "Method Not Allowed",
                (("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, NOTIFY, REFER"),),
            ),
        ),
        (
            request("invite"),
            Refused(
                405,
                "Method Not Allowed",
                (("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, NOTIFY, REFER"),),
            ),
        ),
        (request(uri="http://biloxi.example"), Refused(416, "Unsupported URI Scheme")),
        (request(uri="tel:+12125551212"), Refused(416, "Unsupported URI Scheme")),
        (request(Require="timer, 100rel,nosuch"), Refused(420, "Bad Extension", (("Unsupported", "100rel, nosuch"),))),
        (
            with_body(Content_Type="text/plain"),
            Refused(415, "Unsupported Media Type", (("Accept", "application/sdp"),)),
        ),
        (
            with_body(**SDP, Content_Encoding="gzip"),
            Refused(415, "Unsupported Media Type", (("Accept-Encoding", "identity"),)),
        ),
        (with_body(), Refused(400, "Missing Content-Type")),
        (request(Accept="text/plain, application/isup"), Refused(406, "Not Acceptable")),
        (request(Contact=""), Refused(400, "Exactly One Contact Wanted")),
        (request(Contact="*"), Refused(400, "Exactly One Contact Wanted")),
        (request(Contact="<sip:a@b>, <sip:c@d>"), Refused(400, "Exactly One Contact Wanted")),
        (request(Contact="<sip:a@b"), Refused(400, "Malformed Contact")),
    ],
)
def test_what_is_refused(asked: Request, refused: Refused) -> None:
    assert check(asked, OURS) == refused
    answer = refuse(asked, refused, to_tag="ours")
    assert (answer.status, answer.reason, answer.to_tag) == (refused.status, refused.reason, "ours")
    for name, value in refused.headers:
        assert answer.headers.get(name) == value


def test_the_checks_come_in_the_order_of_the_rfc() -> None:
    broken = {"uri": "http://x", "Require": "nosuch", "Content_Type": "text/plain", "Contact": ""}
    statuses = []
    for repair in ({}, {"uri": "sip:x"}, {"Require": ""}, SDP, {"Contact": "<sip:a@b>"}):
        broken |= repair
        refused = check(with_body(**broken), OURS)
        statuses.append(None if refused is None else refused.status)
    assert statuses == [416, 420, 415, 400, None]
    assert getattr(check(with_body("PUBLISH", **{**broken, "uri": "http://x"}), OURS), "status", None) == 405


@pytest.mark.parametrize("uri", ["sip:bob@biloxi.example", "sips:bob@biloxi.example", "SIP:bob@biloxi.example"])
def test_schemes_have_no_case(uri: str) -> None:
    assert check(request(uri=uri), OURS) is None


def test_a_known_extension_may_be_required_in_any_case() -> None:
    assert check(request(Require="Timer"), OURS) is None


def test_a_cancel_cannot_require_anything() -> None:
    assert check(request("CANCEL", Require="nosuch"), OURS) is None


def test_an_ack_is_never_refused() -> None:
    assert check(request("ACK", uri="http://x", Require="nosuch"), OURS) is None


def test_within_a_dialog_the_contact_may_be_left_out() -> None:
    assert check(request(To="<sip:bob@biloxi.example>;tag=there", Contact=""), OURS) is None


def test_an_optional_body_may_be_of_any_type() -> None:
    asked = with_body(Content_Type="application/pidf+xml", Content_Disposition="render; Handling = optional")
    assert check(asked, OURS) is None
    asked.headers.set("Content-Disposition", "render;handling=required")
    assert check(asked, OURS) is not None


def test_who_hangs_up_may_send_along_what_he_likes() -> None:
    assert check(with_body("BYE", Content_Type="application/isup"), OURS) is None


def test_content_types_have_no_case_and_their_parameters_do_not_count() -> None:
    assert check(with_body(Content_Type="Application/SDP;charset=utf-8"), OURS) is None


@pytest.mark.parametrize(
    "accept", ["application/sdp", "text/plain, Application / SDP ;level=1", "application/*;q=0.5", "text/html, */*"]
)
def test_whoever_accepts_a_session_description_gets_one(accept: str) -> None:
    assert check(request(Accept=accept), OURS) is None


def test_an_empty_accept_accepts_nothing() -> None:
    made = request()
    made.headers.set("Accept", "")
    assert getattr(check(made, OURS), "status", None) == 406  # §20.1


def test_only_an_invite_is_answered_with_a_body() -> None:
    assert check(request("OPTIONS", Accept="text/plain"), OURS) is None


def test_options_tell_what_we_can() -> None:
    assert options_headers(OURS) == [
        ("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, NOTIFY, REFER"),
        ("Accept", "application/sdp"),
        ("Accept-Encoding", "identity"),
        ("Accept-Language", "en"),
        ("Supported", "timer"),
        ("Server", "bridge/1"),
    ]


# Requests


def test_a_new_invite() -> None:
    invite = new_invite(
        "sip:bob@biloxi.example",
        from_="<sip:alice@atlanta.example>;tag=ours",
        to="<sip:bob@biloxi.example>",
        call_id="call-1",
        sequence=1,
        via=via_value("udp", "192.0.2.1:5060", "z9hG4bKours"),
        contact="<sip:alice@192.0.2.1>",
        offer=b"v=0",
        capabilities=OURS,
    )
    assert invite.encode() == (
        b"INVITE sip:bob@biloxi.example SIP/2.0\r\n"
        b"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKours;rport\r\n"
        b"Max-Forwards: 70\r\n"
        b"From: <sip:alice@atlanta.example>;tag=ours\r\n"
        b"To: <sip:bob@biloxi.example>\r\n"
        b"Call-ID: call-1\r\n"
        b"CSeq: 1 INVITE\r\n"
        b"Contact: <sip:alice@192.0.2.1>\r\n"
        b"Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, NOTIFY, REFER\r\n"
        b"Accept: application/sdp\r\n"
        b"Supported: timer\r\n"
        b"User-Agent: bridge/1\r\n"
        b"Content-Type: application/sdp\r\n"
        b"Content-Length: 3\r\n\r\nv=0"
    )
    assert check(invite, OURS) is None


def test_an_invite_without_an_offer_has_no_body() -> None:
    invite = new_invite(
        "sip:b@x.example",
        from_="<sip:a@x.example>;tag=1",
        to="<sip:b@x.example>",
        call_id="1",
        sequence=1,
        via="SIP/2.0/UDP a;branch=z9hG4bK1",
        contact="<sip:a@x.example>",
    )
    assert "Content-Type" not in invite.headers
    assert invite.body == b""


def test_a_new_request_reads_back() -> None:
    options = new_request(
        "OPTIONS",
        "sip:b@x.example",
        from_="<sip:a@x.example>;tag=1",
        to="<sip:b@x.example>",
        call_id="1",
        sequence=9,
        via="SIP/2.0/UDP a;branch=z9hG4bK1",
        headers=[("accept", "application/sdp")],
    )
    assert parse(options.encode()) == options
    assert str(options.cseq) == "9 OPTIONS"
