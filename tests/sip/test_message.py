"""Requests and responses as values."""

from __future__ import annotations

import pytest

from bridge.errors import LocalProtocolError
from bridge.sip.headers import CSeq, Headers, NameAddr, Via
from bridge.sip.message import Request, Response
from tests.sip.wire import PLAIN


def request(body: bytes = b"") -> Request:
    return Request("INVITE", "sip:bob@example.com", Headers(PLAIN.items()), body)


def test_what_every_message_tells() -> None:
    given = request()
    assert given.via == Via("UDP", "192.0.2.10", 5060, (("branch", "z9hG4bK-one"),))
    assert given.from_ == NameAddr("Alice", "sip:alice@example.com", (("tag", "a-tag"),))
    assert given.to == NameAddr(None, "sip:bob@example.com")
    assert given.cseq == CSeq(1, "INVITE")
    assert given.call_id == "call-1@192.0.2.10"
    assert (given.from_tag, given.to_tag) == ("a-tag", None)


def test_what_is_told_follows_the_headers() -> None:
    given = request()
    assert given.to_tag is None
    given.headers.set("To", "<sip:bob@example.com>;tag=b-tag")
    assert given.to_tag == "b-tag"
    assert given.cseq.number == 1
    given.headers.set("CSeq", "2 INVITE")
    assert given.cseq.number == 2
    given.headers.prepend("Via", "SIP/2.0/TCP first.example.com;branch=z9hG4bK-two, SIP/2.0/UDP h")
    assert given.via.branch == "z9hG4bK-two"


def test_the_top_via_is_replaced_alone() -> None:
    given = request()
    given.headers.set("Via", "SIP/2.0/UDP h;rport;branch=b, SIP/2.0/UDP i")
    given.replace_via(given.via.with_param("rport", "6000").with_param("received", "192.0.2.1"))
    assert given.headers.lines("Via") == ["SIP/2.0/UDP h;rport=6000;branch=b;received=192.0.2.1, SIP/2.0/UDP i"]
    assert given.via.param("rport") == "6000"


def test_a_message_of_ours_without_its_headers_is_our_mistake() -> None:
    empty = Response(200, "OK")
    for read in ("via", "from_", "to", "cseq", "call_id", "from_tag", "to_tag"):
        with pytest.raises(LocalProtocolError):
            getattr(empty, read)


def test_encode() -> None:
    headers = Headers([("v", "SIP/2.0/UDP h;branch=b"), ("X-Odd", "é"), ("Content-Type", "text/plain")])
    assert (
        Request("MESSAGE", "sip:bob@example.com", headers, b"hi").encode()
        == (
            "MESSAGE sip:bob@example.com SIP/2.0\r\n"
            "Via: SIP/2.0/UDP h;branch=b\r\n"
            "X-Odd: é\r\n"
            "Content-Type: text/plain\r\n"
            "Content-Length: 2\r\n"
            "\r\nhi"
        ).encode()
    )
    assert Response(200, "OK").encode() == b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"


def test_content_length_is_put_right_where_it_stands() -> None:
    given = Response(200, "", Headers([("l", "99"), ("Content-Length", "7"), ("Server", "s")]), b"abc")
    assert given.encode() == b"SIP/2.0 200 \r\nContent-Length: 3\r\nServer: s\r\n\r\nabc"
    assert given.headers.lines("Content-Length") == ["99", "7"]


def test_bytes_that_are_no_utf8_leave_as_they_came() -> None:
    name = b"Ren\xe9".decode("utf-8", "surrogateescape")
    assert b"Subject: Ren\xe9\r\n" in Response(200, "OK", Headers([("Subject", name)])).encode()


@pytest.mark.parametrize("text", ["a\r\nVia: b", "a\n", "\r"])
def test_no_start_line_of_ours_can_become_two(text: str) -> None:
    with pytest.raises(LocalProtocolError):
        Response(480, text).encode()
    with pytest.raises(LocalProtocolError):
        Request("INVITE", text).encode()


def test_equality_is_of_content() -> None:
    assert request() == request()
    assert request() != request(b"body")
    assert Response(200, "OK") != Response(200, "Fine")
    assert Request("BYE", "sip:a") != Request("BYE", "sip:b")
    assert Request("BYE", "sip:a") != Response(200, "OK")
    assert Response(200, "OK", Headers([("Content-Length", "0")])) == Response(200, "OK")
    assert Response(200, "OK", Headers([("Server", "s")])) != Response(200, "OK")
    assert repr(request()) == "<Request INVITE sip:bob@example.com>"
    assert repr(Response(200, "OK")) == "<Response 200 OK>"
