"""The multimap of header fields, and the values in it that have a structure."""

from __future__ import annotations

import pytest

from bridge.errors import LocalProtocolError
from bridge.sip import headers as fields
from bridge.sip.headers import CSeq, Headers, Malformed, NameAddr, Star, Via
from bridge.sip.message import Request
from bridge.sip.names import CANONICAL, canonical_name


def message(*lines: tuple[str, str]) -> Request:
    return Request("INVITE", "sip:bob@example.com", Headers(lines))


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelled", ["Call-ID", "call-id", "CALL-ID", "cAlL-iD", "i", "I"])
def test_names_are_the_same_however_they_are_spelled(spelled: str) -> None:
    headers = Headers([(spelled, "x")])
    assert list(headers) == [("Call-ID", "x")]
    assert headers.get("call-id") == headers.get("Call-ID") == headers.get("i") == "x"
    assert spelled in headers


@pytest.mark.parametrize(
    ("short", "name"),
    [("v", "Via"), ("f", "From"), ("t", "To"), ("m", "Contact"), ("l", "Content-Length"), ("c", "Content-Type"),
     ("k", "Supported"), ("s", "Subject"), ("e", "Content-Encoding"), ("x", "Session-Expires"), ("r", "Refer-To"),
     ("b", "Referred-By"), ("o", "Event"), ("u", "Allow-Events")],
)  # fmt: skip
def test_compact_forms(short: str, name: str) -> None:
    assert canonical_name(short) == name


def test_each_canonical_name_is_its_own() -> None:
    assert all(CANONICAL[name] == name for name in set(CANONICAL.values()))


def test_a_name_nobody_knows_keeps_its_spelling() -> None:
    headers = Headers([("X-fOO", "1"), ("x-foo", "2"), ("X-Bar", "3")])
    assert next(iter(headers)) == ("X-fOO", "1")
    assert headers.lines("X-FOO") == ["1", "2"]
    assert headers.get("x-foO") == "1"
    assert headers.get("x-baz") is None
    headers.set("x-FOO", "4")
    assert list(headers) == [("x-FOO", "4"), ("X-Bar", "3")]
    headers.remove("X-BAR")
    assert "X-Bar" not in headers


# --- the multimap --------------------------------------------------------------------------------------------------


def test_lines_and_values() -> None:
    headers = Headers([("Route", "<sip:a;lr>, <sip:b>"), ("To", "x"), ("route", '"c, d" <sip:c>')])
    assert headers.get("Route") == "<sip:a;lr>, <sip:b>"
    assert headers.lines("route") == ["<sip:a;lr>, <sip:b>", '"c, d" <sip:c>']
    assert headers.values("ROUTE") == ["<sip:a;lr>", "<sip:b>", '"c, d" <sip:c>']
    assert headers.values("Contact") == headers.lines("Contact") == []


def test_changes_keep_the_order() -> None:
    headers = Headers([("Via", "b"), ("To", "x"), ("Via", "c")])
    headers.prepend("v", "a")
    headers.add("Subject", "s")
    assert list(headers) == [("Via", "a"), ("Via", "b"), ("To", "x"), ("Via", "c"), ("Subject", "s")]
    headers.set("Via", "only")
    assert list(headers) == [("Via", "only"), ("To", "x"), ("Subject", "s")]
    headers.set("Server", "new")
    headers.remove("To")
    headers.remove("Route")
    assert list(headers) == [("Via", "only"), ("Subject", "s"), ("Server", "new")]
    assert len(headers) == 3


def test_what_is_read_follows_what_is_changed() -> None:
    headers = Headers([("To", "1")])
    assert headers.get("To") == "1"
    headers.set("To", "2")
    assert headers.get("To") == "2"
    headers.prepend("To", "3")
    assert headers.get("To") == "3"
    headers.replace_first("To", "4")
    assert headers.get("To") == "4"
    headers.remove("To")
    assert headers.get("To") is None
    headers.add("To", "5")
    assert headers.get("To") == "5"


def test_the_first_of_several_values_on_a_line_is_replaced_alone() -> None:
    headers = Headers([("Via", "a, b"), ("Via", "c")])
    headers.replace_first("Via", "A")
    assert headers.lines("Via") == ["A, b", "c"]
    headers.replace_first("Subject", "new")
    assert headers.get("Subject") == "new"


def test_the_first_of_several_values_is_removed_alone() -> None:
    headers = Headers([("To", "x"), ("Via", 'a;p="1,2", b'), ("Via", "c")])
    left = [["b", "c"], ["c"], [], []]
    for expected in left:
        headers.remove_first("via")
        assert headers.lines("Via") == expected
        assert headers.get("Via") == (expected[0] if expected else None)
    assert list(headers) == [("To", "x")]


def test_a_copy_is_changed_apart() -> None:
    headers = Headers([("To", "x")])
    other = headers.copy()
    assert other == headers
    other.set("To", "y")
    assert headers.get("To") == "x"
    assert other != headers


@pytest.mark.parametrize(
    ("name", "value"), [("X", "a\r\nVia: b"), ("X", "a\n"), ("X", "\r"), ("X\r\nVia", "b"), ("", "b"), ("X Y", "b")]
)
def test_no_value_of_ours_can_begin_another_line(name: str, value: str) -> None:
    headers = Headers([("To", "x")])
    with pytest.raises(LocalProtocolError):
        Headers([(name, value)])
    for change in (headers.add, headers.set, headers.prepend, headers.replace_first):
        with pytest.raises(LocalProtocolError):
            change(name, value)
    assert list(headers) == [("To", "x")]


# --- name-addr -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<sip:a@b>", NameAddr(None, "sip:a@b")),
        ("<sip:a@b>;tag=1", NameAddr(None, "sip:a@b", (("tag", "1"),))),
        ("sip:a@b;tag=1", NameAddr(None, "sip:a@b", (("tag", "1"),))),
        ("sip:a@b", NameAddr(None, "sip:a@b")),
        ("Alice Smith <sip:a@b;lr?x=y>;q=0.5;tag=1", NameAddr("Alice Smith", "sip:a@b;lr?x=y", (("q", "0.5"), ("tag", "1")))),
        (' "Smith, \\"Al\\" \\\\ <x>"\t<sip:a@b> ; tag = 1 ', NameAddr('Smith, "Al" \\ <x>', "sip:a@b", (("tag", "1"),))),
        ('""<sip:a@b>', NameAddr("", "sip:a@b")),
        ("Zoë <sip:a@b>", NameAddr("Zoë", "sip:a@b")),
        ("<tel:+1-212>;TAG=X", NameAddr(None, "tel:+1-212", (("tag", "X"),))),
        ("a;b <sip:a@b>", None),
        ("<sip:a@b", None),
        ("sip:a@b>", None),
        ("<sip:a@b>>", None),
        ("< sip:a@b>", None),
        ("<>", None),
        ("<alice>", None),
        ("alice", None),
        ("", None),
        ('"Alice <sip:a@b>', None),
        ('"Alice" sip:a@b', None),
        ('Al"ice <sip:a@b>', None),
        ("Bell, Alexander <sip:a@b>", None),
        ("<sip:a@b>;;tag=1", None),
        ("<sip:a@b>;tag=1;", None),
        ("<sip:a@b> x", None),
        ("<sip:a@b>, <sip:c@d>", None),
        ("sip:a@b?x=y", None),
        ("sip:a@b, sip:c@d", None),
        ("sip:a @b", None),
    ],
)  # fmt: skip
def test_name_addr(text: str, value: NameAddr | None) -> None:
    assert fields.parse_name_addr(text) == value


@pytest.mark.parametrize(
    "value",
    [
        NameAddr(None, "sip:a@b"),
        NameAddr("", "sip:a@b"),
        NameAddr('Smith, "Al" \\', "sip:a@b;lr", (("tag", "1"), ("q", None), ("x", '"a;b"'))),
    ],
)
def test_a_name_addr_is_read_as_it_was_printed(value: NameAddr) -> None:
    assert fields.parse_name_addr(str(value)) == value


def test_parameters_of_a_name_addr() -> None:
    value = NameAddr(None, "sip:a@b", (("q", "0.5"), ("x", '"a;b"'), ("lr", None), ("tag", "")))
    assert (value.param("q"), value.param("x"), value.param("lr"), value.param("y")) == ("0.5", "a;b", "", None)
    assert value.tag is None


def test_format_name_addr() -> None:
    assert fields.format_name_addr(None, "sip:a@b") == "<sip:a@b>"
    assert fields.format_name_addr('Al "x"', "sip:a@b", tag="1", ob=None) == '"Al \\"x\\"" <sip:a@b>;tag=1;ob'


# --- Via -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("SIP/2.0/UDP h;branch=z9hG4bKx", Via("UDP", "h", None, (("branch", "z9hG4bKx"),))),
        ("SIP/2.0/UDP h:5070;branch=b;rport", Via("UDP", "h", 5070, (("branch", "b"), ("rport", None)))),
        ("SIP/2.0/tls h:5070;rport;branch=b", Via("TLS", "h", 5070, (("rport", None), ("branch", "b")))),
        ("SIP/2.0/TCP [2001:db8::9]:5060", Via("TCP", "[2001:db8::9]", 5060)),
        ("sip / 2.0 /\tUDP  h : 4000 ; ttl = 16", Via("UDP", "h", 4000, (("ttl", "16"),))),
        ("SIP/2.0/UDP h;received=[2001:db8::1];x=\"a,b\"", Via("UDP", "h", None, (("received", "[2001:db8::1]"), ("x", '"a,b"')))),
        ("SIP/2.0/X-OTHER h", Via("X-OTHER", "h", None)),
        ("SIP/2.0/UDP h:65536", None),
        ("SIP/2.0/UDP h:", None),
        ("SIP/2.0/UDP h;", None),
        ("SIP/2.0/UDP h;branch=b;;", None),
        ("SIP/2.0/UDP h;branch=b;", None),
        ("SIP/2.0/UDP h x", None),
        ("SIP/2.0/UDP", None),
        ("SIP/2.0/UDP 2001:db8::1", None),
        ("SIP/3.0/UDP h", None),
        ("", None),
    ],
)  # fmt: skip
def test_via(text: str, value: Via | None) -> None:
    assert fields.parse_via(text) == value


def test_what_a_via_tells() -> None:
    via = Via("UDP", "h", 5070, (("rport", None), ("branch", "b")))
    assert (via.sent_by, via.branch, via.param("rport"), via.param("received")) == ("h:5070", "b", "", None)
    assert Via("UDP", "h", None).branch is None
    assert str(via) == "SIP/2.0/UDP h:5070;rport;branch=b"
    filled = via.with_param("rport", "6000").with_param("received", "192.0.2.1")
    assert str(filled) == "SIP/2.0/UDP h:5070;rport=6000;branch=b;received=192.0.2.1"


# --- the others ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 INVITE", CSeq(1, "INVITE")),
        ("0009 \t INVITE", CSeq(9, "INVITE")),
        ("36893488147419103232 REGISTER", CSeq(36893488147419103232, "REGISTER")),
        ("8 NEWMETHOD", CSeq(8, "NEWMETHOD")),
        ("8 invite", CSeq(8, "invite")),
        ("1", None),
        ("INVITE", None),
        ("INVITE 1", None),
        ("-1 INVITE", None),
        ("² INVITE", None),
        ("1 INVITE x", None),
        ("1 INV,ITE", None),
        ("1" * 21 + " INVITE", None),
        ("", None),
    ],
)
def test_cseq(text: str, value: CSeq | None) -> None:
    assert fields.parse_cseq(text) == value


def test_contacts() -> None:
    assert fields.contacts(message()) == ()
    assert fields.contacts(message(("m", "*"))) is Star.ALL
    several = message(("Contact", '"a, b" <sip:a@b>, sip:c@d;q=1'), ("m", "<sip:e@f>"))
    assert fields.contacts(several) == (
        NameAddr("a, b", "sip:a@b"),
        NameAddr(None, "sip:c@d", (("q", "1"),)),
        NameAddr(None, "sip:e@f"),
    )


@pytest.mark.parametrize("text", ["*, <sip:a@b>", "sip:a@b?Route=%3Csip:c%3E", '"open <sip:a@b>', "nonsense"])
def test_malformed_contacts(text: str) -> None:
    assert fields.contacts(message(("Contact", text))) == Malformed("Malformed Contact")


def test_routes_are_bounded() -> None:
    assert fields.routes(message(("Route", "<sip:a;lr>"), ("Route", "<sip:b>")), "route") == (
        NameAddr(None, "sip:a;lr"),
        NameAddr(None, "sip:b"),
    )
    assert fields.routes(message(("Record-Route", "sip:")), "record-route") == Malformed("Malformed Record-Route")
    many = message(("Route", ",".join(["<sip:a>"] * 129)))
    assert fields.routes(many, "Route") == Malformed("Too Many Route Values")


def test_max_forwards() -> None:
    assert fields.max_forwards(message(("Max-Forwards", "0"))) == 0
    assert fields.max_forwards(message()) is None
    assert fields.max_forwards(message(("Max-Forwards", "many"))) is None


def test_option_tags() -> None:
    assert fields.option_tags(message(("k", "100rel, Timer"), ("Supported", "")), "Supported") == ("100rel", "timer")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('Q.850;cause=16;text="Terminated"', 16),
        ('SIP;cause=200;text="a, b", q.850 ; cause=31', 31),
        ("SIP;cause=200", None),
        ("Q.850", None),
        ("Q.850;cause=x", None),
        ("Q.850;cause=999", None),
        ("Q.850;;cause=16", None),
    ],
)
def test_reason_q850(text: str, cause: int | None) -> None:
    assert fields.reason_q850(message(("Reason", text))) == cause


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("application/sdp", "application/sdp"),
        ("Application/SDP;charset=utf-8", "application/sdp"),
        ("multipart / mixed ;boundary=x", "multipart/mixed"),
    ],
)
def test_content_type(text: str, kind: str) -> None:
    assert fields.content_type(message(("c", text))) == kind
    assert fields.content_type(message()) is None
