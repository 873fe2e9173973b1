"""A caller of our own on raw sockets, for what SIPp cannot await: many held calls, a message of any shape, a word at the right moment.

Shares no code with `bridge`, so that the two cannot be wrong together. Messages are written as text and read by splitting;
only what the tests need of RFC 3261 is here: an INVITE is repeated until something answers (§17.1.1.2), a BYE until its final
answer (§17.1.2.2), a 2xx is acknowledged each time it comes (§13.2.2.4), requests of the far end get 200.
"""

from __future__ import annotations

import asyncio
import os
import re
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

from tests.support.waiting import PATIENCE_S, until

T1, T2 = 0.5, 4.0
SAMPLES = 160  # 20 ms of G.711
PCMU = 0


@dataclass(frozen=True)
class Message:
    """A SIP message taken apart."""

    start: str
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body: str

    @property
    def status(self) -> int:
        """0 for a request."""
        return int(self.start.split()[1]) if self.start.startswith("SIP/") else 0

    @property
    def reason(self) -> str:
        return self.start.split(" ", 2)[2]

    @property
    def method(self) -> str:
        """Of a request, or of what a response answers."""
        return self["cseq"].split()[1] if self.status else self.start.split()[0]

    @property
    def sequence(self) -> int:
        return int(self["cseq"].split()[0])

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each == name]

    def __getitem__(self, name: str) -> str:
        """The first header of this name; empty without one."""
        return next(iter(self.all(name)), "")

    def tag(self, name: str) -> str:
        found = re.search(r";\s*tag=([^;>\s]+)", self[name].rpartition(">")[2] or self[name])
        return found.group(1) if found else ""

    def media_port(self) -> int:
        found = re.search(r"^m=audio (\d+)", self.body, re.MULTILINE)
        return int(found.group(1)) if found else 0

    def direction(self) -> str:
        found = re.search(r"^a=(sendrecv|sendonly|recvonly|inactive)", self.body, re.MULTILINE)
        return found.group(1) if found else "sendrecv"


def read_message(data: bytes) -> Message:
    head, _, body = data.decode("utf-8", "surrogateescape").partition("\r\n\r\n")
    start, *lines = head.split("\r\n")
    headers = tuple((name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return Message(start, headers, body)


def token(length: int = 12) -> str:
    return os.urandom(length).hex()[:length]


class Caller(asyncio.DatagramProtocol):
    """A SIP socket and an RTP socket on loopback, and any number of calls on them."""

    via = "UDP"

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.port = 0
        self.calls: dict[str, OutgoingCall] = {}
        self.strays: list[Message] = []  # what belongs to no call here
        self.rtp: Rtp = Rtp()
        self._transport: asyncio.DatagramTransport | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]
        await loop.create_datagram_endpoint(lambda: self.rtp, ("127.0.0.1", 0))

    def close(self) -> None:
        for each in (self._transport, self.rtp.transport):
            if each is not None:
                each.close()

    def call(self, user: str = "100") -> OutgoingCall:
        """A call that has not begun."""
        made = OutgoingCall(self, user)
        self.calls[made.call_id] = made
        return made

    def send(self, data: bytes | str) -> None:
        assert self._transport is not None
        self._transport.sendto(data if isinstance(data, bytes) else data.encode(), self.target)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not data.strip():
            return
        message = read_message(data)
        call = self.calls.get(message["call-id"])
        if call is None:
            self.strays.append(message)
        else:
            call.received(message, addr)

    async def ask(self, text: str, *, within_s: float = PATIENCE_S) -> Message:
        """Send a request as it is written, `{port}` and `{branch}` filled in, until something answers it. CRLFs are put in."""
        sent = text.replace("\n", "\r\n").format(
            port=self.port, branch=f"z9hG4bK{token()}", call_id=f"{token()}@tests", tag=token(), host=self.target[0]
        )
        call_id = re.search(r"^(?:Call-ID|i)\s*:\s*(\S+)", sent, re.MULTILINE | re.IGNORECASE)
        assert call_id is not None, "a request that wants an answer names its Call-ID"
        deadline, pause = time.monotonic() + within_s, T1
        while time.monotonic() < deadline:
            self.send(sent)
            waited = time.monotonic() + pause
            while time.monotonic() < waited:
                for message in self.strays:
                    if message["call-id"] == call_id.group(1) and message.status >= 200:
                        return message
                await asyncio.sleep(0.005)
            pause = min(2 * pause, T2)
        raise AssertionError(f"no answer to {sent}")


class Rtp(asyncio.DatagramProtocol):
    """Sends and counts packets. One socket for all calls: the far end's port tells them apart."""

    def __init__(self) -> None:
        self.transport: asyncio.DatagramTransport | None = None
        self.port = 0
        self.heard: Counter[int] = Counter()  # by the far end's port
        self._sequence: Counter[int] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) >= 12 and data[0] >> 6 == 2:
            self.heard[addr[1]] += 1

    def speak(self, port: int, packets: int = 1) -> None:
        """Send so many packets of silence to this port at once."""
        assert self.transport is not None
        for _ in range(packets):
            self._sequence[port] += 1
            number = self._sequence[port]
            header = struct.pack("!BBHII", 0x80, PCMU, number & 0xFFFF, (number * SAMPLES) & 0xFFFFFFFF, 0x5EED)
            self.transport.sendto(header + b"\xff" * SAMPLES, ("127.0.0.1", port))


@dataclass
class OutgoingCall:
    """One call of ours, from INVITE to BYE."""

    caller: Caller
    user: str
    call_id: str = field(default_factory=lambda: f"{token(20)}@tests")
    from_tag: str = field(default_factory=token)
    to_tag: str = ""
    sequence: int = 0
    acknowledges: bool = True
    responses: list[Message] = field(default_factory=list)
    requests: list[Message] = field(default_factory=list)  # of the far end, each once
    branch: str = ""
    target: str = ""  # the far end's Contact
    routes: list[str] = field(default_factory=list)
    sdp_version: int = 0
    _acks: dict[int, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        host, port = self.caller.target
        return f"sip:{self.user}@{host}:{port}"

    @property
    def media_port(self) -> int:
        """Where the bridge hears us, as of its last SDP."""
        return next((each.media_port() for each in reversed(self.responses) if each.body), 0)

    @property
    def is_over(self) -> bool:
        """The far end has said BYE."""
        return any(each.method == "BYE" for each in self.requests)

    # What it says

    async def invite(self, *, sdp: str | None = "sendrecv", headers: str = "", within_s: float = PATIENCE_S) -> Message:
        """Begin, and wait for the final response. `sdp` is a direction, None a delayed offer."""
        request = self.begin(sdp=sdp, headers=headers)
        return await self.answer(request, within_s=within_s)

    def begin(self, *, sdp: str | None = "sendrecv", headers: str = "") -> str:
        """The INVITE's text, sent once."""
        self.sequence += 1
        self.branch = f"z9hG4bK{token()}"
        request = self._write("INVITE", self.branch, headers=headers, body=self.offer(sdp) if sdp else "")
        self.caller.send(request)
        return request

    async def answer(self, request: str, *, within_s: float = PATIENCE_S) -> Message:
        """The final response to an INVITE, repeated until something answers it."""
        return await self._repeat(request, "INVITE", self.sequence, ceiling=64 * T1, within_s=within_s)

    async def reinvite(self, direction: str, *, sdp: str | None = None) -> Message:
        """Change the session. `sdp` replaces the offer."""
        self.sequence += 1
        self.branch = f"z9hG4bK{token()}"
        request = self._write("INVITE", self.branch, body=sdp or self.offer(direction))
        self.caller.send(request)
        return await self.answer(request)

    async def bye(self, *, within_s: float = PATIENCE_S) -> Message:
        """Hang up; the final answer."""
        return await self.request("BYE", within_s=within_s)

    async def request(self, method: str, *, headers: str = "", body: str = "", within_s: float = PATIENCE_S) -> Message:
        """A request in the dialog; its final answer."""
        self.sequence += 1
        request = self._write(method, f"z9hG4bK{token()}", headers=headers, body=body)
        self.caller.send(request)
        return await self._repeat(request, method, self.sequence, ceiling=T2, within_s=within_s)

    async def cancel(self) -> Message:
        """Give up before the answer; the answer to the CANCEL."""
        request = self._write("CANCEL", self.branch)
        self.caller.send(request)
        return await self._repeat(request, "CANCEL", self.sequence, ceiling=T2, within_s=PATIENCE_S)

    def offer(self, direction: str, *, codecs: str = "0 8") -> str:
        """An SDP of ours."""
        self.sdp_version += 1
        return (
            f"v=0\r\no=tests 1 {self.sdp_version} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=audio {self.caller.rtp.port} RTP/AVP {codecs}\r\na={direction}\r\n"
        )

    async def hung_up(self, within_s: float = PATIENCE_S) -> Message:
        """Wait for the far end's BYE."""
        await until(lambda: self.is_over, f"the bridge hangs up on {self.call_id}", within_s=within_s)
        return next(each for each in self.requests if each.method == "BYE")

    # What it hears

    def received(self, message: Message, source: tuple[str, int]) -> None:
        if not message.status:
            self._asked(message)
            return
        self.responses.append(message)
        if message.method != "INVITE" or message.status < 200:
            return
        if message.status < 300:
            if not self.to_tag:  # the route set stays as it was made (§12.2)
                self.routes = list(reversed(message.all("record-route")))
            self.to_tag = message.tag("to")
            self.target = message["contact"].strip("<>").partition(">")[0]
        if self.acknowledges:
            self.acknowledge(message)

    def acknowledge(self, response: Message) -> None:
        """The ACK of a final response, the same each time."""
        ack = self._acks.get(response.sequence)
        if ack is None:
            if response.status < 300:
                body = "" if self.sdp_version else self.offer("sendrecv", codecs="0")  # the answer to its offer
                ack = self._write("ACK", f"z9hG4bK{token()}", sequence=response.sequence, body=body)
            else:
                self_tag = self.to_tag
                self.to_tag = response.tag("to")
                ack = self._write("ACK", self.branch, sequence=response.sequence, to_first=not self_tag)
                self.to_tag = self_tag
            self._acks[response.sequence] = ack
        self.caller.send(ack)

    def _asked(self, request: Message) -> None:
        if all((each.method, each.sequence) != (request.method, request.sequence) for each in self.requests):
            self.requests.append(request)
        if request.method == "ACK":
            return
        copied = [("Via", each) for each in request.all("via")]
        copied += [(name, request[name.lower()]) for name in ("From", "To", "Call-ID", "CSeq")]
        lines = "".join(f"{name}: {value}\r\n" for name, value in copied)
        self.caller.send(f"SIP/2.0 200 OK\r\n{lines}Content-Length: 0\r\n\r\n")

    def final(self, method: str, sequence: int) -> Message | None:
        """The final response to a request of ours, if it has come."""
        for each in self.responses:
            if each.method == method and each.sequence == sequence and each.status >= 200:
                return each
        return None

    async def _repeat(self, request: str, method: str, sequence: int, *, ceiling: float, within_s: float) -> Message:
        deadline, pause, again = time.monotonic() + within_s, T1, time.monotonic() + T1
        while (final := self.final(method, sequence)) is None:
            now = time.monotonic()
            assert now < deadline, f"no final answer within {within_s:g} s to\n{request}\nbut {self.responses[-3:]}"
            heard = any(each.method == method and each.sequence == sequence for each in self.responses)
            if now >= again and not (heard and method == "INVITE"):
                self.caller.send(request)
                pause = min(2 * pause, ceiling)
                again = now + pause
            await asyncio.sleep(0.005)
        return final

    def _write(
        self,
        method: str,
        branch: str,
        *,
        headers: str = "",
        body: str = "",
        sequence: int | None = None,
        to_first: bool = False,
    ) -> str:
        """`headers`: whole lines, each with its CRLF. `to_first`: outside any dialog, whatever tag the To carries."""
        here = f"127.0.0.1:{self.caller.port}"
        within = bool(self.to_tag) and not to_first and bool(self.target)
        to_tag = f";tag={self.to_tag}" if self.to_tag else ""
        routes = "".join(f"Route: {route}\r\n" for route in self.routes) if within else ""
        typed = "Content-Type: application/sdp\r\n" if body else ""
        return (
            f"{method} {self.target if within else self.uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/{self.caller.via} {here};branch={branch};rport\r\n{routes}Max-Forwards: 70\r\n"
            f"From: <sip:tests@{here}>;tag={self.from_tag}\r\nTo: <{self.uri}>{to_tag}\r\n"
            f"Call-ID: {self.call_id}\r\nCSeq: {sequence or self.sequence} {method}\r\n"
            f"Contact: <sip:tests@{here}>\r\n{headers}{typed}Content-Length: {len(body.encode())}\r\n\r\n{body}"
        )
