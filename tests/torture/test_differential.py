"""The good messages of both RFCs, and two ordinary ones, read by two other parsers as well.

aiosipua and sipmessage are oracles, not authorities: where one of them reads something else or nothing, `DIFFERENCES`
says what and why. An entry that is no longer true fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import aiosipua
import pytest
import sipmessage

from bridge.sip.message import Request, Response
from bridge.sip.parser import parse
from bridge.sip.uri import SipUri, parse_uri
from tests.sip.wire import invite, ringing
from tests.torture.expectations import Taken
from tests.torture.test_rfc_messages import CASES

Reading: TypeAlias = dict[str, object]

MESSAGES = {name: data for name, (data, case) in CASES.items() if isinstance(case.parsed, Taken)}
MESSAGES |= {"an ordinary INVITE": invite(), "an ordinary response": ringing()}

SIMPLE_URIS = "its URIs are simpler: ; and ? end the user part wherever they stand"
ALL_HOST = "a URI of another scheme is all host to it"
NO_OTHER_URI = "it knows sip, sips and tel only"
NO_FOLDING = "it does not unfold"

DIFFERENCES: dict[tuple[str, str], tuple[Reading | None, str]] = {  # None: it gives the message up
    ("aiosipua", "rfc4475-intmeth"): (
        {"user": None, "host": "1_unusual.URI~(to-be!sure)&isn't+it$/crazy"},
        SIMPLE_URIS,
    ),
    ("aiosipua", "rfc4475-semiuri"): ({"user": None, "host": "user"}, SIMPLE_URIS),
    ("aiosipua", "rfc4475-unkscm"): ({"host": "nobodyKnowsThisScheme:totallyopaquecontent"}, ALL_HOST),
    ("aiosipua", "rfc4475-novelsc"): ({"host": "soap.beep://192.0.2.103"}, ALL_HOST),
    ("sipmessage", "rfc4475-wsinv"): (None, NO_FOLDING),
    ("sipmessage", "rfc4475-semiuri"): (None, NO_FOLDING),
    ("sipmessage", "rfc4475-esc01"): (
        {"user": "sips:user@example.com"},
        "it resolves escapes when it reads, we when we compare",
    ),
    ("sipmessage", "rfc4475-longreq"): ({"vias": 28}, "white space before a colon belongs to the name for it"),
    ("sipmessage", "rfc4475-escruri"): (None, "it refuses headers in a URI"),
    ("sipmessage", "rfc4475-unkscm"): (None, NO_OTHER_URI),
    ("sipmessage", "rfc4475-novelsc"): (None, NO_OTHER_URI),
    ("sipmessage", "rfc5118-via-received-param-no-delim"): (None, "it wants brackets in `received` (RFC 5118 §4.5)"),
    ("sipmessage", "rfc5118-ipv6-correct-abnf-2-colons"): (
        None,
        "it takes RFC 3261's faulty form only (RFC 5118 §4.10)",
    ),
}


def ours(data: bytes) -> Reading:
    message = parse(data)
    assert isinstance(message, Request | Response)
    reading: Reading = {
        "call_id": message.call_id,
        "cseq": (message.cseq.number, message.cseq.method),
        "vias": len(message.headers.values("Via")),
    }
    if isinstance(message, Request):
        uri = parse_uri(message.uri)
        user, host = (uri.user, uri.host) if isinstance(uri, SipUri) else (None, None)
        reading |= {"method": message.method, "user": user, "host": host}
    else:
        reading |= {"status": message.status}
    return reading


def aiosipua_reads(data: bytes) -> Reading:
    message = aiosipua.SipMessage.parse(data)
    cseq = message.cseq
    assert cseq is not None
    reading: Reading = {"call_id": message.call_id, "cseq": (cseq.seq, cseq.method), "vias": len(message.via)}
    if isinstance(message, aiosipua.SipRequest):
        uri = aiosipua.parse_uri(message.uri)
        reading |= {"method": message.method, "user": uri.user, "host": uri.host}
    else:
        reading |= {"status": message.status_code}
    return reading


def sipmessage_reads(data: bytes) -> Reading:
    message = sipmessage.Message.parse(data)
    cseq = message.cseq
    reading: Reading = {"call_id": message.call_id, "cseq": (cseq.sequence, cseq.method), "vias": len(message.via)}
    if isinstance(message, sipmessage.Request):
        reading |= {"method": message.method, "user": message.uri.user, "host": message.uri.host}
    else:
        reading |= {"status": message.code}
    return reading


ORACLES: dict[str, Callable[[bytes], Reading]] = {"aiosipua": aiosipua_reads, "sipmessage": sipmessage_reads}


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("oracle", ORACLES)
def test_another_parser_reads_the_same(oracle: str, name: str) -> None:
    different, _ = DIFFERENCES.get((oracle, name), ({}, ""))
    data = MESSAGES[name]
    try:
        theirs = ORACLES[oracle](data)
    except ValueError:
        theirs = None  # that is how both say that a message is malformed
    assert theirs == (None if different is None else ours(data) | different)


def test_every_difference_is_of_a_message_there_is() -> None:
    assert {oracle for oracle, _ in DIFFERENCES} <= ORACLES.keys()
    assert {name for _, name in DIFFERENCES} <= MESSAGES.keys()
    assert all(why for _, why in DIFFERENCES.values())
