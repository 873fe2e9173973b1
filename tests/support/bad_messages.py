"""What bad input gets (contract §6), as messages on the wire and the answers they shall get.

`{port}`, `{branch}`, `{call_id}`, `{tag}` are filled in by `Caller.ask`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Bad:
    """A request, and the answer's status, a word of its reason phrase, and headers it must have (a word of each value)."""

    name: str
    text: str
    status: int
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()


_SDP = """v=0
o=tests 1 1 IN IP4 127.0.0.1
s=-
c=IN IP4 {address}
t=0 0
m=audio 40000 RTP/AVP {formats}
{more}"""


def sdp(*, address: str = "127.0.0.1", formats: str = "0", more: str = "") -> str:
    """An offer of one audio stream."""
    return _SDP.replace("{address}", address).replace("{formats}", formats).replace("{more}", more)


def request(
    method: str = "INVITE",
    uri: str = "sip:100@127.0.0.1",
    *,
    more: str = "",
    body: str = "",
    cseq: str = "",
    to_tag: str = "",
    contact: str = "Contact: <sip:tests@127.0.0.1:{port}>\n",
    length: int | None = None,
    max_forwards: str = "70",
) -> str:
    """A request as text; `more`: header lines, each with its line end."""
    kind = "Content-Type: application/sdp\n" if body and "Content-Type" not in more else ""
    size = len(body.replace("\n", "\r\n").encode()) if length is None else length
    return (
        f"{method} {uri} SIP/2.0\n"
        "Via: SIP/2.0/UDP 127.0.0.1:{port};branch={branch};rport\n"
        f"Max-Forwards: {max_forwards}\n"
        "From: <sip:tests@127.0.0.1>;tag={tag}\n"
        f"To: <sip:100@127.0.0.1>{to_tag}\n"
        "Call-ID: {call_id}\n"
        f"CSeq: {cseq or '1 ' + method}\n"
        f"{contact}{kind}{more}Content-Length: {size}\n\n{body}"
    )


BAD: tuple[Bad, ...] = (
    Bad("unknown method", request("DANCE"), 405, headers=(("allow", "INVITE"),)),
    Bad("a method we do not do", request("SUBSCRIBE", more="Event: presence\n"), 405, headers=(("allow", "BYE"),)),
    Bad(
        "unknown extension", request(more="Require: 100rel, bogus\n", body=sdp()), 420, "", (("unsupported", "bogus"),)
    ),
    Bad(
        "unknown body type",
        request(more="Content-Type: text/plain\n", body="hello"),
        415,
        headers=(("accept", "application/sdp"),),
    ),
    Bad(
        "encoded body",
        request(more="Content-Encoding: gzip\n", body=sdp()),
        415,
        headers=(("accept-encoding", "identity"),),
    ),
    Bad("no session description wanted", request(more="Accept: text/plain\n", body=sdp()), 406),
    Bad("unknown scheme", request(uri="http://127.0.0.1/"), 416),
    Bad("tel without a number plan", request(uri="tel:+4930123"), 416),
    Bad("CSeq of another method", request(cseq="1 OPTIONS"), 400, "CSeq"),
    Bad("CSeq beyond 2**31", request(cseq="2147483648 INVITE"), 400, "CSeq"),
    Bad("body shorter than it says", request(body=sdp(), length=4000), 400, "Content-Length"),
    Bad("Max-Forwards that is no number", request(max_forwards="many"), 400, "Max-Forwards"),
    Bad("no Contact", request(contact="", body=sdp()), 400, "Contact"),
    Bad("a wildcard Contact", request(contact="Contact: *\n", body=sdp()), 400, "Contact"),
    Bad("an offer that is no SDP", request(body="this is no session description\n"), 400, "SDP"),
    Bad("no codec of ours", request(body=sdp(formats="9 18")), 488, headers=(("warning", "305"),)),
    Bad("multicast", request(body=sdp(address="239.1.1.1/127")), 488, headers=(("warning", "330"),)),
    Bad("re-INVITE in no dialog", request(to_tag=";tag=nobody", body=sdp()), 481),
    Bad("BYE in no dialog", request("BYE", to_tag=";tag=nobody", cseq="2 BYE"), 481),
    Bad("CANCEL of nothing", request("CANCEL"), 481),
    Bad("BYE outside any dialog", request("BYE"), 481),
)


def garbage(count: int, seed: int) -> list[bytes]:
    """Datagrams that are no SIP, or begin like it: random bytes, cut and damaged messages, text of other protocols."""
    dice = random.Random(seed)
    whole = request(body=sdp()).replace("\n", "\r\n").encode()
    others = (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x80\x00\x00\x01" * 43,
    )
    found = []
    for number in range(count):
        match number % 5:
            case 0:
                found.append(dice.randbytes(dice.randint(1, 1400)))
            case 1:
                found.append(whole[: dice.randint(1, 60)])
            case 2:  # no Via, no Call-ID to answer to
                found.append(b"INVITE sip:x SIP/2.0\r\n" + dice.randbytes(200))
            case 3:
                found.append(dice.choice(others))
            case _:
                found.append(b"SIP/2.0 " + dice.randbytes(50) + b"\r\n\r\n")
    return found
