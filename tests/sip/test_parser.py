"""Bytes to messages: what is taken, and what is read of it. What is refused: tests/torture."""

from __future__ import annotations

import pytest

from bridge.sip.headers import CSeq, Via
from bridge.sip.message import Request, Response
from bridge.sip.parser import MAX_HEADER_LINES, MAX_MESSAGE_BYTES, KeepAlive, MalformedMessage, parse
from tests.sip.wire import SDP, invite, ringing, wire


def request(data: bytes) -> Request:
    parsed = parse(data)
    assert isinstance(parsed, Request), parsed
    return parsed


def response(data: bytes) -> Response:
    parsed = parse(data)
    assert isinstance(parsed, Response), parsed
    return parsed


def refused(data: bytes) -> MalformedMessage:
    parsed = parse(data)
    assert isinstance(parsed, MalformedMessage), parsed
    return parsed


def test_a_request() -> None:
    data = invite({"Content-Type": "application/sdp", "Content-Length": str(len(SDP))}, SDP)
    given = request(data)
    assert (given.method, given.uri, given.body) == ("INVITE", "sip:bob@example.com", SDP)
    assert (given.via.branch, given.from_tag, given.to_tag) == ("z9hG4bK-one", "a-tag", None)
    assert (given.call_id, given.cseq) == ("call-1@192.0.2.10", CSeq(1, "INVITE"))
    assert given.encode() == data


def test_a_response() -> None:
    data = ringing({"To": "<sip:bob@example.com>;tag=b-tag", "Content-Length": "0"})
    given = response(data)
    assert (given.status, given.reason, given.to_tag, given.body) == (180, "Ringing", "b-tag", b"")
    assert given.encode() == data


@pytest.mark.parametrize("method", ["OPTIONS", "NEWMETHOD", "x-.!%*_+`'~9"])
def test_any_token_is_a_method(method: str) -> None:
    assert request(wire(f"{method} sip:a@b SIP/2.0", {"CSeq": f"1 {method}"})).method == method


@pytest.mark.parametrize("uri", ["sip:[2001:db8::1]", "tel:+12125551212", "urn:service:sos", "unknown:thing"])
def test_any_scheme_is_a_request_uri(uri: str) -> None:
    assert request(wire(f"INVITE {uri} SIP/2.0")).uri == uri


@pytest.mark.parametrize("reason", ["", "OK", "= 2**3 * 52**2", "Невозможно", "Not: a, header"])
def test_any_text_is_a_reason_phrase(reason: str) -> None:
    assert response(wire(f"SIP/2.0 200 {reason}")).reason == reason


def test_a_status_line_without_its_last_space() -> None:
    assert response(wire("SIP/2.0 200")).reason == ""


def test_sip_is_case_insensitive_in_the_start_line() -> None:
    assert request(wire("INVITE sip:a@b sip/2.0"))
    assert response(wire("sip/2.0 200 OK"))


# --- bodies (§18.3, §20.14) ----------------------------------------------------------------------------------------


def test_without_content_length_the_body_is_the_rest_of_the_datagram() -> None:
    assert request(invite(body=b"a\r\n\r\nb")).body == b"a\r\n\r\nb"


def test_what_follows_content_length_is_cut_off() -> None:
    given = request(invite({"Content-Length": "4"}, b"bodyINVITE sip:x SIP/2.0\r\n"))
    assert given.body == b"body"


def test_content_length_may_have_leading_zeros() -> None:
    assert request(invite({"l": "0004"}, b"body")).body == b"body"


def test_a_body_cut_short() -> None:
    given = refused(invite({"Content-Length": "5"}, b"body"))
    assert given.reason == "Content-Length Exceeds Body"
    assert given.request is not None
    assert refused(ringing({"Content-Length": "5"}, b"body")).request is None


# --- keep-alives (RFC 5626) ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "answer"),
    [(b"\r\n\r\n", b"\r\n"), (b"\r\n", b""), (b"", b""), (b"\0", b""), (b"\0\0\0\0", b""), (b"\n", b"")],
)
def test_keep_alives(data: bytes, answer: bytes) -> None:
    assert parse(data) == KeepAlive(answer)


def test_empty_lines_before_a_message_are_skipped() -> None:
    assert parse(b"\r\n\r\n\r\n" + invite()) == parse(invite())


# --- bounds --------------------------------------------------------------------------------------------------------


def test_the_longest_message() -> None:
    room = MAX_MESSAGE_BYTES - len(invite({"Subject": ""}))
    assert request(invite({"Subject": "x" * room}))
    assert refused(invite({"Subject": "x" * (room + 1)})) == MalformedMessage("Message Too Large")


def test_the_most_header_lines() -> None:
    others = MAX_HEADER_LINES - len(request(invite()).headers)
    assert len(request(invite({f"X-{n}": "" for n in range(others)})).headers) == MAX_HEADER_LINES
    given = refused(invite({f"X-{n}": "" for n in range(others + 1)}))
    assert given.reason == "Too Many Header Fields"
    assert given.request is not None
    assert len(given.request.headers) == MAX_HEADER_LINES


def test_folded_lines_count_as_one() -> None:
    assert request(invite({"Subject": "a" + "\r\n b" * MAX_HEADER_LINES}))


# --- what can be answered ------------------------------------------------------------------------------------------


def test_a_malformed_request_can_be_answered() -> None:
    given = refused(invite({"To": '"open <sip:bob@example.com>', "CSeq": "99999999999 INVITE"})).request
    assert given is not None
    assert (given.method, given.via.branch, given.from_tag, given.to_tag) == ("INVITE", "z9hG4bK-one", "a-tag", None)
    assert given.cseq.number == 99999999999
    assert given.headers.get("To") == '"open <sip:bob@example.com>'


@pytest.mark.parametrize(
    "changes",
    [{"From": None}, {"To": None}, {"Call-ID": None}, {"Call-ID": ""}, {"From": None, "To": None, "Call-ID": None}],
)
def test_so_can_one_without_what_its_sender_does_not_find_it_by(changes: dict[str, str | None]) -> None:
    given = refused(invite(changes)).request
    assert given is not None
    assert (given.via.branch, given.cseq) == ("z9hG4bK-one", CSeq(1, "INVITE"))


@pytest.mark.parametrize(
    ("written", "via"),
    [
        ("SIP/2.0/UDP 192.0.2.1:5070;;branch=z9hG4bK1", Via("UDP", "192.0.2.1", 5070)),
        ("SIP / 2.1 / TCP [2001:db8::1];branch=z9hG4bK1", Via("TCP", "[2001:db8::1]", None, (("branch", "z9hG4bK1"),))),
        ('SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;x="open', Via("UDP", "192.0.2.1", None)),
    ],
)
def test_so_can_one_whose_via_says_where_it_came_from(written: str, via: Via) -> None:
    given = refused(invite({"Via": written, "Max-Forwards": "x"})).request
    assert given is not None
    assert given.via == via


@pytest.mark.parametrize(
    "changes", [{"Via": None}, {"CSeq": None}, {"Via": "no"}, {"CSeq": "no"}, {"Via": "SIP/2/UDP h"}]
)
def test_a_malformed_request_that_cannot(changes: dict[str, str | None]) -> None:
    assert refused(invite(changes)).request is None


def test_an_answer_to_a_malformed_request_has_no_line_it_should_not_have() -> None:
    given = refused(invite({"To": "<sip:bob@example.com>\nX-Smuggled: yes\rX-More: yes"})).request
    assert given is not None
    head = Response(400, "x", given.headers).encode()
    assert head.count(b"\n") == head.count(b"\r\n") == head.count(b"\r")


def test_another_version_has_its_own_answer() -> None:
    given = refused(wire("INVITE sip:a@b SIP/7.0"))
    assert (given.status, given.reason) == (505, "Version Not Supported")
    assert given.request is not None
