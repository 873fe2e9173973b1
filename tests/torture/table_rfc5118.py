"""RFC 5118: each of its messages, and what it must get.

The bodies of three of them are not as long as their Content-Length says. As they stand, one is a datagram cut short
(§18.3) and two lose the end of their last line; `COUNTED` says what they get with their true length.
"""

from __future__ import annotations

from tests.torture.expectations import Answer, Case, Refused, Table, taken
from tests.torture.table_rfc4475 import ALLOW, CHALLENGED

SECTIONS = tuple(f"4.{number}" for number in range(1, 11))

CALLER = (("Caller", "sip:caller@[2001:db8::1]", ()),)

MESSAGES: Table = {
    "ipv6-good": Case(
        "4.1",
        "references in brackets",
        taken(
            start="REGISTER sip:[2001:db8::10]",
            user=None,
            host="[2001:db8::10]",
            port=None,
            vias=["SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111"],
            contacts=CALLER,
        ),
        CHALLENGED,
    ),
    "ipv6-bad": Case("4.2", "no brackets in the Request-URI", Refused("Malformed Request-URI"), Answer(400)),
    "port-ambiguous": Case(
        "4.3",
        "a port inside the brackets is part of the address",
        taken(start="REGISTER sip:[2001:db8::10:5070]", host="[2001:db8::10:5070]", port=None, contacts=CALLER),
        CHALLENGED,
    ),
    "port-unambiguous": Case(
        "4.4",
        "a port outside is a port",
        taken(start="REGISTER sip:[2001:db8::10]:5070", host="[2001:db8::10]", port=5070, contacts=CALLER),
        CHALLENGED,
    ),
    "via-received-param-with-delim": Case(
        "4.5",
        "brackets in `received`, which the grammar does not allow; a BYE in a dialog that we do not know",
        taken(
            start="BYE sip:[2001:db8::10]",
            vias=["SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3-111"],
        ),
        Answer(481),
    ),
    "via-received-param-no-delim": Case(
        "4.5",
        "no brackets in `received`, as the grammar has it",
        taken(
            start="OPTIONS sip:[2001:db8::10]",
            vias=["SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas3"],
            contacts=(("Caller", "sip:caller@[2001:db8::9:1]", ()),),
        ),
        Answer(200, ALLOW),
    ),
    "ipv6-in-sdp": Case(
        "4.6",
        "no brackets in SDP; its length is 17 too large",
        Refused("Content-Length Exceeds Body"),
        Answer(400),
    ),
    "mult-ip-in-header": Case(
        "4.7",
        "Vias of both families; a BYE in a dialog that we do not know",
        taken(
            start="BYE sip:user@host.example.net",
            vias=[
                "SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKas3-111",
                "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKjhja8781hjuaij65144",
                "SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bK451jj;received=192.0.2.200",
            ],
        ),
        Answer(481),
    ),
    "mult-ip-in-sdp": Case(
        "4.8",
        "a family for each m-line: the audio is IPv4, as we are; its length is 8 too small",
        taken(start="INVITE sip:user@[2001:db8::10]", user="user", host="[2001:db8::10]", body_size=181),
        Answer(200),
    ),
    "ipv4-mapped-ipv6": Case(
        "4.9",
        "mapped addresses, of the other family than our media; its length is 9 too small",
        taken(
            start="INVITE sip:user@example.com",
            vias=[
                "SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bKbh19",
                "SIP/2.0/UDP [::ffff:192.0.2.2];branch=z9hG4bKas3-111",
            ],
            contacts=(("T. desk phone", "sip:ted@[::ffff:192.0.2.2]", ()),),
            body_size=236,
        ),
        Answer(488, (("Warning", "301"),)),
    ),
    "ipv6-bug-abnf-3-colons": Case(
        "4.10",
        "a colon too many, which RFC 3261 allows",
        taken(
            start="OPTIONS sip:user@[2001:db8:::192.0.2.1]",
            host="[2001:db8:::192.0.2.1]",
            to=(None, "sip:user@[2001:db8:::192.0.2.1]", ()),
        ),
        Answer(200, ALLOW),
    ),
    "ipv6-correct-abnf-2-colons": Case(
        "4.10",
        "as it should be",
        taken(start="OPTIONS sip:user@[2001:db8::192.0.2.1]", host="[2001:db8::192.0.2.1]"),
        Answer(200, ALLOW),
    ),
}

COUNTED: Table = {
    "ipv6-in-sdp": Case(
        "4.6",
        "media of the other family than ours",
        taken(
            start="INVITE sip:user@[2001:db8::10]",
            contacts=(("Caller", "sip:caller@[2001:db8::20]", ()),),
            body_size=251,
        ),
        Answer(488, (("Warning", "301"),)),
    ),
    "mult-ip-in-sdp": Case(
        "4.8", "as above", taken(start="INVITE sip:user@[2001:db8::10]", body_size=189), Answer(200)
    ),
    "ipv4-mapped-ipv6": Case(
        "4.9",
        "as above",
        taken(start="INVITE sip:user@example.com", body_size=245),
        Answer(488, (("Warning", "301"),)),
    ),
}
