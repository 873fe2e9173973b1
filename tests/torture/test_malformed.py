"""What is refused: contract.md §6, the upper rows, and the invalid messages of RFC 4475 §3.1.2 and RFC 5118 §4.

A datagram that is no SIP, or cannot be answered, is dropped; a request that can be answered gets the status and the
reason phrase given here.
"""

from __future__ import annotations

import pytest

from bridge.sip.parser import MalformedMessage, parse
from tests.sip.wire import PLAIN, SDP, invite, ringing, wire

ANSWERED: dict[str, tuple[bytes, str]] = {
    # the start line
    "two spaces in the request line": (wire("INVITE  sip:bob@example.com SIP/2.0"), "Malformed Request-URI"),
    "two spaces before the version": (wire("INVITE sip:bob@example.com  SIP/2.0"), "Malformed Request-URI"),
    "a space behind the version (§3.1.2.10)": (wire("INVITE sip:bob@example.com SIP/2.0 "), "Malformed Request Line"),
    "white space in the Request-URI (§3.1.2.8)": (wire("INVITE sip:bob@example.com; lr SIP/2.0"), "Malformed Request-URI"),
    "tabs in the request line": (wire("INVITE\tsip:bob@example.com\tSIP/2.0"), "Malformed Request Line"),
    "brackets around the Request-URI (§3.1.2.7)": (wire("INVITE <sip:bob@example.com> SIP/2.0"), "Malformed Request-URI"),
    "no Request-URI": (wire("INVITE  SIP/2.0"), "Malformed Request-URI"),
    "a Request-URI without scheme": (wire("INVITE bob@example.com SIP/2.0"), "Malformed Request-URI"),
    "a Request-URI with two hosts": (wire("INVITE sip:bob@example.com@example.net SIP/2.0"), "Malformed Request-URI"),
    "a Request-URI with a port out of range": (wire("INVITE sip:bob@example.com:70000 SIP/2.0"), "Malformed Request-URI"),
    "IPv6 without brackets in the Request-URI (RFC 5118 §4.2)": (wire("INVITE sip:2001:db8::10 SIP/2.0"), "Malformed Request-URI"),
    "a method that is no token": (wire("INV,ITE sip:bob@example.com SIP/2.0"), "Malformed Request Line"),
    "a folded request line": (
        invite().replace(b"\r\n", b"\r\n SIP/2.0\r\n", 1), "Folded Start Line"),
    "a stray CR in the request line": (wire("INVITE sip:bob\r@example.com SIP/2.0"), "Stray CR or LF"),
    # lines
    "a line without a colon": (invite({"Subject": "x\r\nnonsense"}), "Malformed Header Line"),
    "a name with a space": (invite({"Sub ject": "x"}), "Malformed Header Line"),
    "a name of nothing": (invite({"": "x"}), "Malformed Header Line"),
    "a name with odd letters": (invite({"Sübject": "x"}), "Malformed Header Line"),
    "a bare LF in a value": (invite({"Subject": "x\nVia: SIP/2.0/UDP evil"}), "Stray CR or LF"),
    "a bare CR in a value": (invite({"Subject": "x\rVia: SIP/2.0/UDP evil"}), "Stray CR or LF"),
    "no empty line": (invite()[:-2], "No Empty Line After Header Fields"),
    "cut in the middle of a line": (invite({"Subject": "x" * 20})[:-12], "No Empty Line After Header Fields"),
    "more header lines than anybody sends": (invite({f"X-{n}": "x" for n in range(1000)}), "Too Many Header Fields"),
    # what should be there once (§3.3.8)
    "two From": (invite({"f": "<sip:eve@example.com>;tag=1"}), "Several From"),
    "two To": (invite({"t": "<sip:eve@example.com>"}), "Several To"),
    "two Call-ID": (invite({"i": "another"}), "Several Call-ID"),
    "two CSeq": (invite({"cseq": "2 INVITE"}), "Several CSeq"),
    "two Max-Forwards": (invite({"max-forwards": "5"}), "Several Max-Forwards"),
    "two Content-Length (§3.3.9)": (invite({"l": "0", "Content-Length": "10"}), "Several Content-Length"),
    "two values of From in a line": (invite({"From": "<sip:a@b>;tag=1, <sip:c@d>;tag=2"}), "Malformed From"),
    # From and To
    "a quote that does not end (§3.1.2.6)": (invite({"To": '"Mr. Bob <sip:bob@example.com>'}), "Malformed To"),
    "an escaped quote at its end": (invite({"To": '"Mr. Bob\\" <sip:bob@example.com>'}), "Malformed To"),
    "a comma in a name without quotes (§3.1.2.15)": (invite({"From": "Bell, Alex <sip:a@b>;tag=1"}), "Malformed From"),
    "white space inside the brackets (§3.1.2.14)": (invite({"To": '"Bob" < sip:bob@example.com >'}), "Malformed To"),
    "brackets that do not close": (invite({"To": "<sip:bob@example.com"}), "Malformed To"),
    "empty parameters (§3.1.2.1)": (invite({"To": "sip:bob@example.com;x=1;;;"}), "Malformed To"),
    "extra separators (§3.1.2.1)": (invite({"To": "sip:bob@example.com;tag=98asdf;;,,;,,"}), "Malformed To"),
    "no URI": (invite({"From": "Alice;tag=1"}), "Malformed From"),
    "empty brackets": (invite({"From": "<>;tag=1"}), "Malformed From"),
    "a question mark without brackets": (invite({"To": "sip:bob@example.com?Route=%3Csip:x%3E"}), "Malformed To"),
    "thousands of parameters": (invite({"To": "<sip:bob@example.com>" + ";a=b" * 5000}), "Malformed To"),
    "no From": (invite({"From": None}), "Missing From"),
    "no To": (invite({"To": None}), "Missing To"),
    "an empty From": (invite({"From": ""}), "Malformed From"),
    "an empty To": (invite({"To": ""}), "Malformed To"),
    # Via
    "a Via with empty parameters": (invite({"Via": "SIP/2.0/UDP example.com;;branch=z9hG4bK1"}), "Malformed Via"),
    "a Via of another version": (invite({"Via": "SIP/3.0/UDP example.com;branch=z9hG4bK1"}), "Malformed Via"),
    "extra separators in a Via": (invite({"Via": PLAIN["Via"] + ",\r\nv: ;,;,,", "Max-Forwards": "x"}), "Malformed Max-Forwards"),
    # Call-ID, CSeq, Max-Forwards
    "no Call-ID": (invite({"Call-ID": None}), "Missing Call-ID"),
    "an empty Call-ID": (invite({"Call-ID": ""}), "Malformed Call-ID"),
    "white space in the Call-ID": (invite({"Call-ID": "one two"}), "Malformed Call-ID"),
    "a CSeq of another method (§3.1.2.17)": (invite({"CSeq": "1 OPTIONS"}), "CSeq Method Mismatch"),
    "a CSeq of another method than an unknown one (§3.1.2.18)": (
        wire("NEWMETHOD sip:bob@example.com SIP/2.0", {"CSeq": "1 INVITE"}), "CSeq Method Mismatch"),
    "a CSeq in another case": (invite({"CSeq": "1 invite"}), "CSeq Method Mismatch"),
    "a CSeq above 2**31 (§8.1.1.5)": (invite({"CSeq": "2147483648 INVITE"}), "Malformed CSeq"),
    "a CSeq above 2**64 (§3.1.2.4)": (invite({"CSeq": "36893488147419103232 INVITE"}), "Malformed CSeq"),
    "a Max-Forwards above 255 (§3.1.2.4)": (invite({"Max-Forwards": "256"}), "Malformed Max-Forwards"),
    "a negative Max-Forwards": (invite({"Max-Forwards": "-1"}), "Malformed Max-Forwards"),
    "an empty Max-Forwards": (invite({"Max-Forwards": ""}), "Malformed Max-Forwards"),
    "a Max-Forwards of other digits": (invite({"Max-Forwards": "٧٠"}), "Malformed Max-Forwards"),
    # Content-Length (§18.3)
    "a body shorter than it says (§3.1.2.2)": (invite({"Content-Length": "9999"}, SDP), "Content-Length Exceeds Body"),
    "a negative Content-Length (§3.1.2.3)": (invite({"Content-Length": "-999"}, SDP), "Malformed Content-Length"),
    "a Content-Length of words": (invite({"Content-Length": "five"}, SDP), "Malformed Content-Length"),
    "a Content-Length of two numbers": (invite({"Content-Length": "5, 5"}, SDP), "Malformed Content-Length"),
    "an empty Content-Length": (invite({"Content-Length": ""}), "Malformed Content-Length"),
    "a huge Content-Length": (invite({"Content-Length": "1" * 5000}, SDP), "Malformed Content-Length"),
    "a large Content-Length": (invite({"Content-Length": "18446744073709551615"}, SDP), "Content-Length Exceeds Body"),
}  # fmt: skip

DROPPED: dict[str, bytes] = {
    # no SIP
    "words": b"hello",
    "words with an empty line": b"hello\r\n\r\n",
    "HTTP": b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "an HTTP response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "STUN": bytes.fromhex("000100002112a442000102030405060708090a0b"),
    "RTP": bytes.fromhex("8000000100000001deadbeef") + b"\xff" * 160,
    "DTLS": bytes.fromhex("16feff0000000000000000006a"),
    "random bytes": bytes(range(256)),
    "zeros and words": b"\0\0\0hello\r\n\r\n",
    "spaces": b"   \r\n\r\n",
    "a request line alone": b"INVITE sip:bob@example.com SIP/2.0",
    "a request line and nothing else": b"INVITE sip:bob@example.com SIP/2.0\r\n\r\n",
    "a request line of one word": wire("INVITE"),
    "a request without a version": wire("INVITE sip:bob@example.com"),
    # requests that cannot be answered: what its sender finds a response's request by is missing or illegible
    "no Via": invite({"Via": None}),
    "no CSeq": invite({"CSeq": None}),
    "an illegible Via": invite({"Via": "UDP example.com"}),
    "a Via without host": invite({"Via": "SIP/2.0/UDP ;branch=z9hG4bK1"}),
    "a Via with IPv6 without brackets": invite({"Via": "SIP/2.0/UDP 2001:db8::9;branch=z9hG4bK1"}),
    "a Via with a port out of range": invite({"Via": "SIP/2.0/UDP example.com:123456"}),
    "an empty value before the first Via": invite({"Via": ", " + PLAIN["Via"]}),
    "a CSeq without number": invite({"CSeq": "INVITE"}),
    "a CSeq without method": invite({"CSeq": "1"}),
    "a negative CSeq": invite({"CSeq": "-1 INVITE"}),
    "a huge CSeq": invite({"CSeq": "9" * 5000 + " INVITE"}),
    "a stray LF behind the first line": invite().replace(b"\r\n", b"\n", 1),
    "bare LFs for line ends": invite().replace(b"\r\n", b"\n"),
    "too large": invite({"Subject": "x" * 65_535}),
    # responses: nobody answers those
    "a status too large (§3.1.2.19)": wire("SIP/2.0 4294967301 better not break the receiver"),
    "a status of two digits": wire("SIP/2.0 20 OK"),
    "a status below 100": wire("SIP/2.0 099 Early"),
    "a status above 699": wire("SIP/2.0 700 Odd"),
    "a status of other digits": wire("SIP/2.0 ٢٠٠ OK"),
    "a status and no space": wire("SIP/2.0 200OK"),
    "two spaces before the status": wire("SIP/2.0  200 OK"),
    "no status": wire("SIP/2.0 "),
    "a response of another version": wire("SIP/7.0 200 OK"),
    "a response with a CSeq out of range (§3.1.2.5)": ringing({"CSeq": "9292394834772304023312 OPTIONS"}),
    "a response without To": ringing({"To": None}),
    "a response with two From": ringing({"f": "<sip:eve@example.com>;tag=1"}),
    "a response cut short": ringing({"Content-Length": "10"}, b"123"),
    "a response with a stray CR": wire("SIP/2.0 200 O\rK"),
}


@pytest.mark.parametrize("what", ANSWERED)
def test_answered(what: str) -> None:
    data, reason = ANSWERED[what]
    given = parse(data)
    assert isinstance(given, MalformedMessage), given
    assert (given.status, given.reason) == (400, reason)
    assert given.request is not None


@pytest.mark.parametrize("what", DROPPED)
def test_dropped(what: str) -> None:
    given = parse(DROPPED[what])
    assert isinstance(given, MalformedMessage), given
    assert given.request is None


def test_another_version_is_answered_505() -> None:
    given = parse(
        wire("OPTIONS sip:bob@example.com SIP/7.0", {"Via": "SIP/2.0/UDP h", "CSeq": "1 OPTIONS"})
    )  # §3.1.2.16
    assert isinstance(given, MalformedMessage)
    assert (given.status, given.request is not None) == (505, True)
