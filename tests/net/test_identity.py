"""Whom a certificate stands for: RFC 5922 §7.1 and §7.2, as tables."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from bridge.net.identity import identities, proves, shown, tls_failure


def certificate(*alternatives: tuple[str, str], common_name: str = "cn.example") -> dict[str, Any]:
    """As `getpeercert` tells it."""
    return {"subject": ((("commonName", common_name),),), **({"subjectAltName": alternatives} if alternatives else {})}


@pytest.mark.parametrize(
    ("alternatives", "expected"),
    [
        ([("DNS", "Example.COM")], {"example.com"}),
        ([("DNS", "a.example"), ("DNS", "b.example")], {"a.example", "b.example"}),
        ([("URI", "sip:example.com"), ("DNS", "host.example.com")], {"example.com"}),  # a URI shuts the DNS names out
        ([("URI", "sip:Example.com:5061;transport=tls"), ("URI", "sip:b.example")], {"example.com", "b.example"}),
        ([("URI", "sip:alice@example.com"), ("DNS", "host.example")], {"host.example"}),  # a user is no domain
        ([("URI", "sips:example.com"), ("DNS", "host.example")], {"host.example"}),  # nor is another scheme
        ([("URI", "https://example.com"), ("DNS", "host.example")], {"host.example"}),
        ([("IP Address", "192.0.2.1"), ("DNS", "host.example")], {"192.0.2.1", "host.example"}),
        ([("IP Address", "2001:DB8:0:0:0:0:0:1")], {"2001:db8::1"}),
        ([("email", "a@example.com")], set()),  # there is a subjectAltName, so the common name means nothing
        ([], {"cn.example"}),
    ],
)
def test_whom_it_stands_for(alternatives: list[tuple[str, str]], expected: set[str]) -> None:
    assert identities(certificate(*alternatives)) == expected


@pytest.mark.parametrize(
    ("alternative", "name", "expected"),
    [
        (("DNS", "example.com"), "example.com", True),
        (("DNS", "example.com"), "EXAMPLE.com.", True),
        (("DNS", "example.com"), "sip.example.com", False),  # §7.2: a part of a name is another name
        (("DNS", "sip.example.com"), "example.com", False),
        (("DNS", "*.example.com"), "sip.example.com", False),  # §7.2: no wildcards
        (("DNS", "*.example.com"), "*.example.com", False),
        (("DNS", "192.0.2.1"), "192.0.2.2", False),
        (("IP Address", "192.0.2.1"), "192.0.2.1", True),
        (("IP Address", "192.0.2.1"), "192.0.2.2", False),
        (("IP Address", "2001:DB8:0:0:0:0:0:1"), "2001:db8::1", True),
        (("IP Address", "FE80:0:0:0:0:0:0:1"), "fe80::1%eth0", True),
        (("URI", "sip:192.0.2.1"), "192.0.2.1", True),
    ],
)
def test_whether_that_is_who_was_meant(alternative: tuple[str, str], name: str, expected: bool) -> None:
    assert proves(certificate(alternative), name) is expected


def test_nothing_proves_nothing() -> None:
    assert not proves({}, "example.com")
    assert shown({}) == "nobody"


def test_many_names_are_not_all_shown() -> None:
    assert shown(certificate(*[("DNS", f"{each}.example") for each in "gfedcba"])) == (
        "a.example, b.example, c.example and 4 more"
    )


def test_what_a_stranger_has_written_cannot_break_out() -> None:
    """It stands in a reason phrase, which may be sent on."""
    evil = "a\r\nContact: <sip:evil@example.com>" + 100 * "x"
    said = shown(certificate(("DNS", evil), ("IP Address", "<invalid>")))
    assert said == "a??contact:??sip:evil?example.com?" + 30 * "x"


def test_only_tls_has_a_reason_of_its_own() -> None:
    assert tls_failure(None) == tls_failure(ConnectionRefusedError()) == ""
    error = ssl.SSLError()
    error.reason = "WRONG_VERSION_NUMBER"
    assert tls_failure(error) == "TLS Failed: wrong version number"
