"""What is taken though it looks wrong: the valid messages of RFC 4475 §3.1.1, RFC 5118 §4, and habits of the field."""

from __future__ import annotations

import pytest

from bridge.sip import headers as fields
from bridge.sip.headers import CSeq, NameAddr
from bridge.sip.message import Request, Response
from bridge.sip.parser import parse
from bridge.sip.uri import SipUri, parse_uri
from tests.sip.wire import SDP, invite, ringing, wire


def request(data: bytes) -> Request:
    given = parse(data)
    assert isinstance(given, Request), given
    assert parse(given.encode()) == given
    return given


def response(data: bytes) -> Response:
    given = parse(data)
    assert isinstance(given, Response), given
    assert parse(given.encode()) == given
    return given


CROOKED = (
    b"INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\r\n"
    b"t  :\r\n\tsip:bob@example.com ;\t tag\t= 1998\r\n"
    b'fRoM :  "A. \\"Quoted\\" \\\\\r\n Name"\t  <sip:alice@example.com>\r\n  ;\r\n  tag = 98asjd8\r\n'
    b"mAX-fORWARDS: 0068\r\n"
    b"Call-ID: crooked.ndaksdj@192.0.2.1\r\n"
    b"Content-Length   : 150\r\n"
    b"cseq: 0009\r\n  INVITE\r\n"
    b"v: SIP  / 2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw\r\n"
    b"s :\r\n"
    b'X-Unknown: ;;,,;;,; "\r\n'
    b"Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n"
    b"vIA  : SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  , SIP  /    2.0   / UDP  192.168.255.111 \r\n"
    b'm:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n  secondparam ; q = 0.33\r\n'
    b"\r\n" + b"x" * 150
)


def test_white_space_folding_and_compact_forms() -> None:
    given = request(CROOKED)  # as §3.1.1.1 tortures
    assert given.uri == "sip:vivekg@chair-dnrc.example.com;unknownparam"
    assert given.from_ == NameAddr('A. "Quoted" \\ Name', "sip:alice@example.com", (("tag", "98asjd8"),))
    assert given.to == NameAddr(None, "sip:bob@example.com", (("tag", "1998"),))
    assert given.cseq == CSeq(9, "INVITE")
    assert (given.via.host, given.via.branch) == ("192.0.2.2", "390skdjuw")
    assert [str(via) for text in given.headers.values("Via") if (via := fields.parse_via(text))] == [
        "SIP/2.0/UDP 192.0.2.2;branch=390skdjuw",
        "SIP/2.0/TCP spindle.example.com;branch=z9hG4bK9ikj8",
        "SIP/2.0/UDP 192.168.255.111",
    ]
    assert fields.max_forwards(given) == 68
    assert fields.contacts(given) == (
        NameAddr(
            'Quoted string ""',
            "sip:jdrosen@example.com",
            (("newparam", "newvalue"), ("secondparam", None), ("q", "0.33")),
        ),
    )
    assert given.headers.get("Subject") == ""
    assert len(given.body) == 150


def test_a_wide_range_of_characters() -> None:
    method = "!interesting-Method0123456789_*+`.%indeed'~"  # §3.1.1.2
    uri = "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com"
    given = request(
        wire(
            f"{method} {uri} SIP/2.0",
            {"CSeq": f"139122385 {method}", "Call-ID": "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"},
        )
    )
    assert given.method == given.cseq.method == method
    read = parse_uri(given.uri)
    assert isinstance(read, SipUri)
    assert read.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert read.host == "example.com"
    assert given.call_id.endswith("}{")


@pytest.mark.parametrize(
    ("uri", "user"),
    [
        ("sip:sips%3Auser%40example.com@example.net", "sips%3Auser%40example.com"),  # §3.1.1.3
        ("sip:null-%00-null@example.com", "null-%00-null"),  # §3.1.1.4
        ("sip:user;par=u%40example.net@example.com", "user;par=u%40example.net"),  # §3.1.1.9
        ("sip:%Z%45@example.com", "%Z%45"),
        ("sip:*43#@example.com", "*43#"),
    ],
)
def test_escapes_and_separators_in_a_user(uri: str, user: str) -> None:
    given = request(
        invite({"To": f"<{uri}>", "Contact": f"<{uri}>;expires=5"}).replace(b"sip:bob@example.com", uri.encode(), 1)
    )
    read = parse_uri(given.uri)
    assert isinstance(read, SipUri)
    assert read.user == user
    assert given.to.uri == uri
    assert fields.contacts(given) == (NameAddr(None, uri, (("expires", "5"),)),)


def test_percent_signs_that_escape_nothing() -> None:
    given = request(
        wire(
            "RE%47IST%45R sip:example.com SIP/2.0", {"CSeq": "29344 RE%47IST%45R", "To": '"%Z%45" <sip:r@example.com>'}
        )
    )  # §3.1.1.5
    assert given.method == "RE%47IST%45R"
    assert given.to.display_name == "%Z%45"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("caller<sip:caller@example.com>", "caller"),  # no white space before the bracket (§3.1.1.6)
        ('"caller"<sip:caller@example.com>', "caller"),
        ('"" <sip:caller@example.com>', ""),
        ('"a, b; <c>" <sip:caller@example.com>', "a, b; <c>"),
        ('"\\"\\\\\\x" <sip:caller@example.com>', '"\\x'),
        ("  a   b  <sip:caller@example.com>", "a   b"),
        ("Jürgen [7] @home <sip:caller@example.com>", "Jürgen [7] @home"),
        ('"\\\0" <sip:caller@example.com>', "\0"),
    ],
)
def test_display_names(written: str, name: str) -> None:
    given = request(invite({"From": written + ";tag=1"}))
    assert given.from_ == NameAddr(name, "sip:caller@example.com", (("tag", "1"),))


def test_long_values() -> None:
    name, tag = "I have a user name of " + "extreme " * 40, "f" * 512  # §3.1.1.7
    given = request(
        invite({
            "To": f'"{name}" <sip:user@example.com:6000;unknownparam1={"very" * 50}>;tag=12',
            "From": f"sip:{'amazinglylong' * 40}@example.net;tag={tag};unknown={'x' * 300};bare",
            "Call-ID": "longreq.one" + "really" * 90 + "longcallid",
            "Unknown-" + "Long" * 80 + "-Name": "unknown" * 50,
            "Via": ", ".join(f"SIP/2.0/TCP sip{n}.example.com;branch=z9hG4bK{n}" for n in range(40)),
        })
    )  # fmt: skip
    assert given.from_tag == tag
    assert given.to.display_name == name
    assert given.via.host == "sip0.example.com"
    assert len(given.headers.values("Via")) == 40


def test_what_follows_the_body_is_ignored() -> None:
    given = request(
        invite({"Content-Length": str(len(SDP))}, SDP + wire("INVITE sip:other@example.com SIP/2.0"))
    )  # §3.1.1.8
    assert given.body == SDP


def test_a_body_of_any_bytes() -> None:
    body = bytes(range(256)) + b"\r\n\r\nINVITE"
    assert request(invite({"c": "multipart/mixed;boundary=7a9c", "l": str(len(body))}, body)).body == body  # §3.1.1.11


@pytest.mark.parametrize("reason", ["= 2**3 * 52**2 но сто девяносто", ""])
def test_unusual_reason_phrases(reason: str) -> None:
    assert response(wire(f"SIP/2.0 200 {reason}")).reason == reason  # §3.1.1.12, §3.1.1.13


def test_bytes_that_are_no_utf8() -> None:
    data = ringing({"Content-Length": "0"}).replace(b"Alice", b"\xc1lice \xff")
    assert response(data).encode() == data


def test_unknown_transports_and_odd_dates() -> None:
    given = request(wire("OPTIONS sip:user@example.com SIP/2.0", {  # §3.1.1.10, §3.1.2.12
        "Via": "SIP/2.0/UDP t1.example.com;branch=z9hG4bK1, SIP/2.0/SCTP t2.example.com, SIP/2.0/UNKNOWN t3.example.com",
        "CSeq": "8 OPTIONS", "Date": "Fri, 01 Jan 2010 16:00:00 EST",
    }))  # fmt: skip
    vias = [fields.parse_via(text) for text in given.headers.values("Via")]
    assert [via.transport for via in vias if via] == ["UDP", "SCTP", "UNKNOWN"]


def test_no_hops_left_is_a_good_message() -> None:
    assert fields.max_forwards(request(invite({"Max-Forwards": "0"}))) == 0  # §3.3.11: the proxy's affair


def test_the_most_hops() -> None:
    assert fields.max_forwards(request(invite({"Max-Forwards": "255"}))) == 255


def test_no_max_forwards_no_branch_no_tag_as_rfc_2543_had_it() -> None:
    given = request(
        invite({"Max-Forwards": None, "Via": "SIP/2.0/UDP 192.0.2.10", "From": "sip:alice@example.com"})
    )  # §3.4.1
    assert (given.via.branch, given.from_tag) == (None, None)


def test_parameters_of_a_contact_are_of_the_side_of_the_bracket_they_stand_on() -> None:
    inside = request(invite({"Contact": "<sip:user@example.com;unknownparam>"}))  # §3.3.6, §3.3.7
    outside = request(invite({"Contact": "sip:user@example.com;unknownparam"}))
    assert fields.contacts(inside) == (NameAddr(None, "sip:user@example.com;unknownparam"),)
    assert fields.contacts(outside) == (NameAddr(None, "sip:user@example.com", (("unknownparam", None),)),)


def test_a_route_escaped_into_a_contact_stays_there() -> None:
    uri = "sip:user@example.com?Route=%3Csip:sip.example.com%3E"  # §3.3.8
    given = request(invite({"Contact": f"<{uri}>"}))
    assert fields.contacts(given) == (NameAddr(None, uri),)
    assert given.headers.get("Route") is None


@pytest.mark.parametrize(
    ("via", "host", "port", "received"),
    [
        ("SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3", "[2001:db8::9:1]", None, "[2001:db8::9:255]"),
        ("SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas3", "[2001:db8::9:1]", None, "2001:db8::9:255"),
        ("SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bKbh19", "[::ffff:192.0.2.10]", 19823, None),
        ("SIP/2.0/UDP [2001:db8:::192.0.2.1];branch=z9hG4bK1", "[2001:db8:::192.0.2.1]", None, None),
    ],
)  # fmt: skip
def test_ipv6_in_a_via(via: str, host: str, port: int | None, received: str | None) -> None:
    given = request(invite({"Via": via})).via  # RFC 5118 §4.5, §4.9, §4.10
    assert (given.host, given.port, given.param("received")) == (host, port, received)


@pytest.mark.parametrize(
    ("uri", "host", "port"),
    [
        ("sip:[2001:db8::10]", "[2001:db8::10]", None),
        ("sip:[2001:db8::10:5070]", "[2001:db8::10:5070]", None),
        ("sip:[2001:db8::10]:5070", "[2001:db8::10]", 5070),
        ("sip:user@[::ffff:192.0.2.10]:5060;lr", "[::ffff:192.0.2.10]", 5060),
    ],
)
def test_ipv6_in_a_uri(uri: str, host: str, port: int | None) -> None:
    read = parse_uri(request(wire(f"INVITE {uri} SIP/2.0")).uri)  # RFC 5118 §4.1, §4.3, §4.4, §4.9
    assert isinstance(read, SipUri)
    assert (read.host, read.port) == (host, port)
