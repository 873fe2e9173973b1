"""The far end of a phone's call: a UDP socket that answers and asks by hand, and one that hears and says RTP.

Shares no code with `bridge`.
"""

from __future__ import annotations

import asyncio
import struct

from tests.support.phone import Message, read_message
from tests.support.waiting import until


class FarEnd(asyncio.DatagramProtocol):
    """What it was sent, and short ways to answer."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = 0
        self.came: list[Message] = []
        self.raw: list[bytes] = []
        self.rtp = 0  # packets heard
        self.rtp_port = 0
        self._source: tuple[str, int] = ("", 0)
        self._transports: list[asyncio.DatagramTransport] = []

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        signalling, _ = await loop.create_datagram_endpoint(lambda: self, (self.host, 0))
        ear, _ = await loop.create_datagram_endpoint(lambda: _Ear(self), (self.host, 0))
        self._transports = [signalling, ear]
        self.port, self.rtp_port = (each.get_extra_info("sockname")[1] for each in self._transports)

    def close(self) -> None:
        for each in self._transports:
            each.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.raw.append(data)
        self.came.append(read_message(data))
        self._source = addr

    @property
    def shown(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def uri(self) -> str:
        return f"sip:100@{self.shown}"

    def sdp(self, *, direction: str = "sendrecv", formats: str = "0", more: str = "") -> str:
        kind = "IP6" if ":" in self.host else "IP4"
        return (
            f"v=0\r\no=far 7 1 IN {kind} {self.host}\r\ns=-\r\nc=IN {kind} {self.host}\r\nt=0 0\r\n"
            f"m=audio {self.rtp_port} RTP/AVP {formats}\r\n{more}a={direction}\r\n"
        )

    # What came

    def all(self, method: str) -> list[Message]:
        """Requests of this method, repetitions included."""
        return [message for message in self.came if not message.status and message.method == method]

    async def asked(self, method: str, number: int = 1) -> Message:
        """Wait for the `number`-th different request of this method: repetitions have its CSeq."""

        def different() -> list[Message]:
            found = {message.sequence: message for message in reversed(self.all(method))}
            return [found[sequence] for sequence in sorted(found)]

        await until(lambda: len(different()) >= number, lambda: f"{method} {number}: {[m.start for m in self.came]}")
        return different()[number - 1]

    async def responds(self, sequence: int, method: str) -> Message:
        """Wait for the phone's response to a request of ours."""

        def found() -> list[Message]:
            return [each for each in self.came if each.status and (each.sequence, each.method) == (sequence, method)]

        return (await until(found, f"an answer to our {method}"))[-1]

    # What is said

    def say(self, text: str | bytes) -> None:
        self._transports[0].sendto(text if isinstance(text, bytes) else text.encode(), self._source)

    def answer(
        self,
        request: Message,
        status: int,
        reason: str = "Whatever",
        *,
        sdp: str = "",
        tag: str = "far",
        headers: str = "",
        contact: str | None = None,
    ) -> None:
        """Respond. `headers`: whole lines, each with its CRLF."""
        vias = "".join(f"Via: {via}\r\n" for via in request.all("via"))
        typed = "Content-Type: application/sdp\r\n" if sdp else ""
        to = request["to"] if ";tag=" in request["to"] or status == 100 else f"{request['to']};tag={tag}"
        shown = contact or f"<sip:far@{self.shown}>"
        self.say(
            f"SIP/2.0 {status} {reason}\r\n{vias}From: {request['from']}\r\nTo: {to}\r\nCall-ID: {request['call-id']}\r\n"
            f"CSeq: {request['cseq']}\r\nContact: {shown}\r\n{headers}{typed}Content-Length: {len(sdp)}\r\n\r\n{sdp}"
        )

    def turn_to(self, port: int) -> None:
        """Talk to the phone at that port, which has said nothing yet."""
        self._source = (self.host, port)

    def request(
        self,
        method: str,
        invite: Message | None,
        sequence: int = 1,
        *,
        tag: str = "far",
        headers: str = "",
        sdp: str = "",
        branch: str = "",
    ) -> None:
        """A request of ours: within the dialog of this INVITE, or outside any."""
        caller = invite["from"] if invite else "<sip:phone@nowhere>"
        call_id = invite["call-id"] if invite else "unheard-of@far"
        self._ask(method, sequence, caller, call_id, tag=tag, headers=headers, sdp=sdp, branch=branch)

    def invite(self, *, sdp: str = "", call_id: str = "one@far", headers: str = "") -> None:
        """Call the phone."""
        self._ask("INVITE", 1, "<sip:phone@nowhere>", call_id, tag="far", headers=headers, sdp=sdp, branch="first")

    def follow_up(
        self, method: str, answer: Message, sequence: int = 1, *, sdp: str = "", branch: str = "", headers: str = ""
    ) -> None:
        """A request within the dialog that the phone's answer to our INVITE has made, or the ACK of that."""
        to, call_id = answer["to"], answer["call-id"]
        self._ask(method, sequence, to, call_id, tag="far", headers=headers, sdp=sdp, branch=branch)

    def speak(self, port: int, packets: int) -> None:
        """So many packets of silence to that RTP port."""
        for number in range(packets):
            header = struct.pack("!BBHII", 0x80, 0, number, number * 160, 7)
            self._transports[1].sendto(header + b"\xff" * 160, (self.host, port))

    def _ask(
        self, method: str, sequence: int, to: str, call_id: str, *, tag: str, headers: str, sdp: str, branch: str
    ) -> None:
        typed = "Content-Type: application/sdp\r\n" if sdp else ""
        via = f"SIP/2.0/UDP {self.shown};branch=z9hG4bK{branch or f'{method}{sequence}'}"
        self.say(
            f"{method} sip:phone@{self.shown} SIP/2.0\r\nVia: {via}\r\n"
            f"Max-Forwards: 70\r\nFrom: <{self.uri}>;tag={tag}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n"
            f"CSeq: {sequence} {method}\r\nContact: <sip:far@{self.shown}>\r\n{headers}{typed}"
            f"Content-Length: {len(sdp)}\r\n\r\n{sdp}"
        )


class _Ear(asyncio.DatagramProtocol):
    def __init__(self, far: FarEnd) -> None:
        self._far = far

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._far.rtp += 1
