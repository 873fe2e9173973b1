"""URIs: §19.1, RFC 3966."""

from __future__ import annotations

import pytest

from bridge.sip.uri import OtherUri, SipUri, TelUri, is_uri, parse_uri


def sip(text: str) -> SipUri:
    uri = parse_uri(text)
    assert isinstance(uri, SipUri)
    return uri


def test_every_part_of_a_sip_uri() -> None:
    uri = sip("sips:alice:secret@gateway.example.com:5061;transport=tcp;lr?subject=a%20b&priority=urgent")
    assert uri == SipUri(
        scheme="sips",
        user="alice",
        password="secret",
        host="gateway.example.com",
        port=5061,
        params=(("transport", "tcp"), ("lr", None)),
        headers="subject=a%20b&priority=urgent",
    )
    assert (uri.transport, uri.is_lr, uri.param("maddr")) == ("tcp", True, None)


@pytest.mark.parametrize(
    "text",
    [
        "sip:example.com",
        "sip:alice@example.com",
        "sip:alice:@example.com",
        "sip:alice@192.0.2.1:5060",
        "sip:[2001:db8::10]:5070",
        "sip:alice@[2001:db8::10]",
        "sip:+12125551212@example.com;user=phone",
        "sip:user;par=u%40example.net@example.com",
        "sip:what?ever@example.com",
        "sip:*21#@example.com",
        "sip:host_with_line.local;lr",
        "sip:example.com?to=a",
        "sip:a@b;x=",
        "tel:+12125551212;phone-context=example.com",
        "urn:service:sos",
        "mailto:alice@example.com",
    ],
)
def test_a_uri_is_printed_as_it_was(text: str) -> None:
    assert str(parse_uri(text)) == text
    assert is_uri(text)


def test_a_semicolon_before_the_at_belongs_to_the_user() -> None:
    assert sip("sip:user;par=u%40example.net@example.com").user == "user;par=u%40example.net"
    assert sip("sip:user;par=u%40example.net@example.com").params == ()


def test_scheme_and_parameter_names_are_case_insensitive() -> None:
    uri = sip("SIP:Alice@Example.com;Transport=TCP;LR")
    assert (uri.scheme, uri.user, uri.host) == ("sip", "Alice", "Example.com")
    assert (uri.transport, uri.is_lr) == ("tcp", True)


def test_a_parameter_is_known_by_its_name_however_that_is_escaped() -> None:
    uri = sip("sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31")  # RFC 4475 §3.1.1.3
    assert uri.is_lr
    assert uri.param("name") == "value%41"  # once, and no further
    assert str(uri) == "sip:cal%6Cer@host5.example.net;%6c%72;n%61me=v%61lue%25%34%31"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sip",
        "sip:",
        "sip:@example.com",
        "sip:alice@",
        "sip:a@b@c",
        "sip:alice@example.com:",
        "sip:alice@example.com:port",
        "sip:alice@example.com:65536",
        "sip:2001:db8::10",
        "sip:[2001:db8::10",
        "sip:al ice@example.com",
        "sip:alice@exam ple.com",
        "<sip:alice@example.com>",
        "sip:alice@example.com;;lr",
        "sip:alice@example.com;",
        "sip:alice@example.com;=x",
        "sip:alice@example.com; lr",
        'sip:"alice"@example.com',
        "sip:example.com" + ";a" * 129,
        "tel:",
        "tel:alice",
        "tel:1;a b",
        "tel:1;;",
        "1nn:x",
        ":x",
        "http:",
        "http:a b",
    ],
)
def test_malformed(text: str) -> None:
    assert parse_uri(text) is None
    assert not is_uri(text)


def test_a_telephone_number_loses_its_visual_separators() -> None:
    assert parse_uri("tel:+1-(212)-555.1212;ext=7") == TelUri("+12125551212", (("ext", "7"),))


def test_other_schemes_stay_closed() -> None:
    assert parse_uri("UNKNOWN:what;ever@this:is?") == OtherUri("unknown", "what;ever@this:is?")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:alice@atlanta.com;%54ransport=%74cp;n%61me=%25", "sip:alice@atlanta.com;transport=tcp;name=%25"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
        ("sip:biloxi.com;transport=tcp;method=REGISTER?to=a", "sip:biloxi.com;method=REGISTER;transport=tcp?to=a"),
        ("sip:alice@atlanta.com?subject=x&priority=y", "sip:alice@atlanta.com?priority=y&subject=x"),
    ],
)
def test_equivalent(one: str, other: str) -> None:
    assert sip(one).equivalent(sip(other))
    assert sip(other).equivalent(sip(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sip:ALICE@atlanta.com", "sip:alice@atlanta.com"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;maddr=192.0.2.1"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:carol@chicago.com", "sips:carol@chicago.com"),
        ("sip:carol@chicago.com", "sip:carol:pass@chicago.com"),
        ("sip:chicago.com", "sip:carol@chicago.com"),
    ],
)
def test_not_equivalent(one: str, other: str) -> None:
    assert not sip(one).equivalent(sip(other))
    assert not sip(other).equivalent(sip(one))
