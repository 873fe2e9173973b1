"""What a phone of our own is made of: a SIP socket, an RTP socket, and one end of any number of dialogs on them.

Shares no code with `bridge`, so that the two cannot be wrong together. Messages are written as text and read by splitting;
only what the tests need of RFC 3261 is here: an INVITE is repeated until something answers (§17.1.1.2), a BYE until its final
answer (§17.1.2.2), a 2xx of ours until its ACK (§13.3.1.4); a 2xx of the far end is acknowledged each time it comes
(§13.2.2.4). Requests of the far end get 200, a re-INVITE with an answer to its offer.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from tests.support.lossy import LossyWay
from tests.support.namespaces import LOOPBACK, Host
from tests.support.waiting import PATIENCE_S, until

T1, T2 = 0.5, 4.0
SAMPLES = 160  # 20 ms of G.711
PACKET_S = 0.02
PCMU = 0
SSRC = 0x5EED  # of what we say, not of what fills a silence
BUFFER = 4 * 1024 * 1024  # a second of a hundred calls, should this process be held up so long

Address = tuple[str, int]
_ANSWERS = {"sendonly": "recvonly", "recvonly": "sendonly"}  # of a direction; the other two answer themselves


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

    def media_host(self) -> str:
        found = re.search(r"^c=IN IP[46] ([0-9a-f:.]+)", self.body, re.MULTILINE)
        return found.group(1) if found else ""

    def formats(self) -> list[str]:
        """The payload types of its audio, in its order."""
        found = re.search(r"^m=audio \d+ \S+ (.*?)\r?$", self.body, re.MULTILINE)
        return found.group(1).split() if found else []

    def direction(self) -> str:
        found = re.search(r"^a=(sendrecv|sendonly|recvonly|inactive)", self.body, re.MULTILINE)
        return found.group(1) if found else "sendrecv"


def read_message(data: bytes) -> Message:
    head, _, body = data.decode("utf-8", "surrogateescape").partition("\r\n\r\n")
    start, *lines = head.split("\r\n")
    headers = tuple((name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return Message(start, headers, body)


def address_of(uri: str) -> Address:
    """Where this is. Every host here is an address."""
    found = re.search(r"sips?:(?:[^@>]*@)?([\d.]+|\[[0-9a-f:]+\])(?::(\d+))?", uri)
    assert found is not None, uri
    return found.group(1).strip("[]"), int(found.group(2) or 5060)


def token(length: int = 12) -> str:
    return os.urandom(length).hex()[:length]


class Rtp(asyncio.DatagramProtocol):
    """Sends and counts packets. One socket for all calls: the far end's port tells them apart."""

    def __init__(self) -> None:
        self.transport: asyncio.DatagramTransport | None = None
        self.port = 0
        self.heard: Counter[int] = Counter()  # by the far end's port, whatever it was
        self.said: defaultdict[int, list[int]] = defaultdict(list)  # likewise: the numbers of what a phone of ours said
        self.hosts: dict[int, str] = {}  # by port, where that is not on loopback
        self._sequence: Counter[int] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        self.port = transport.get_extra_info("sockname")[1]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if len(data) >= 12 and data[0] >> 6 == 2:
            self.heard[addr[1]] += 1
            _, _, sequence, _, source = struct.unpack_from("!BBHII", data)
            if source == SSRC:
                self.said[addr[1]].append(sequence)

    def speak(self, port: int, packets: int = 1, *, payload_type: int = PCMU) -> None:
        """Send so many packets of silence to this port at once."""
        assert self.transport is not None
        for _ in range(packets):
            self._sequence[port] += 1
            number = self._sequence[port]
            header = struct.pack("!BBHII", 0x80, payload_type, number & 0xFFFF, (number * SAMPLES) & 0xFFFFFFFF, SSRC)
            self.transport.sendto(header + b"\xff" * SAMPLES, (self.hosts.get(port, LOOPBACK.address), port))

    async def talk(self, ports: Iterable[int], packets: int) -> None:
        """Say so many packets to each of these ports, one every 20 ms."""
        listening, begun = list(ports), time.monotonic()
        for number in range(packets):
            await asyncio.sleep(max(0.0, begun + number * PACKET_S - time.monotonic()))
            for port in listening:
                self.speak(port)


class Phone(asyncio.DatagramProtocol):
    """A SIP socket and an RTP socket at one place, and any number of calls on them."""

    via = "UDP"
    scheme = "sip"

    def __init__(self, host: Host = LOOPBACK) -> None:
        self.host = host
        self.port = 0
        self.rtp: Rtp = Rtp()
        self.strays: list[Message] = []  # what belongs to no call here
        self.way: LossyWay | None = None  # that its SIP messages take, in both directions
        self._transport: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=self.host.datagram_socket())
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]
        await loop.create_datagram_endpoint(lambda: self.rtp, sock=self.host.datagram_socket())

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for each in (self._transport, self.rtp.transport):
            if each is not None:
                each.close()

    def send_to(self, data: bytes | str, to: Address) -> None:
        packet = data if isinstance(data, bytes) else data.encode()
        if self.way is None:
            self._leave(packet, to)
        else:
            self.way.take(lambda: self._leave(packet, to))

    def _leave(self, packet: bytes, to: Address) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():  # what is late may come too late
            self._transport.sendto(packet, to)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if not data.strip():
            return
        message = read_message(data)
        if self.way is None:
            self.take(message, addr)
        else:
            self.way.take(lambda: self.take(message, addr))

    def take(self, message: Message, source: Address) -> None:
        """A message has come."""
        raise NotImplementedError

    async def repeat_until_acknowledged(self, response: str, to: Address, leg: Leg, sequence: int) -> None:
        pause, deadline = T1, time.monotonic() + 64 * T1
        while time.monotonic() < deadline and sequence not in leg.acknowledged:
            self.send_to(response, to)
            await asyncio.sleep(pause)
            pause = min(2 * pause, T2)

    def begin(self, leg: Leg, response: str, to: Address, sequence: int) -> None:
        """Send a 2xx to an INVITE, again and again."""
        task = asyncio.create_task(self.repeat_until_acknowledged(response, to, leg, sequence))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@dataclass
class Leg:
    """Our end of one dialog: what is said within it, either way."""

    phone: Phone
    call_id: str
    sequence: int = 0
    target: str = ""  # the far end's Contact
    routes: list[str] = field(default_factory=list)
    responses: list[Message] = field(default_factory=list)
    requests: list[Message] = field(default_factory=list)  # of the far end, each once
    acknowledged: set[int] = field(default_factory=set)  # the numbers of its INVITEs whose ACK has come
    acknowledges: bool = True
    codecs: str = "0 8"
    branch: str = ""  # of our last INVITE
    sdp_version: int = 0
    described: Message | None = None  # the far end's last message with an SDP
    heard_from: set[int] = field(default_factory=set)  # the ports that the far end has named
    _acks: dict[int, str] = field(default_factory=dict)
    _answers: dict[tuple[str, int], str] = field(default_factory=dict)  # what we have said to its requests

    # What the two kinds of a call differ in

    @property
    def local(self) -> str:
        """We, as From says it, with our tag."""
        raise NotImplementedError

    @property
    def remote(self) -> str:
        """The far end, as To says it, with its tag where there is one."""
        raise NotImplementedError

    @property
    def way(self) -> Address:
        """Where our requests go."""
        raise NotImplementedError

    @property
    def media_port(self) -> int:
        """Where the bridge hears us, as of its last SDP."""
        raise NotImplementedError

    @property
    def here(self) -> str:
        return f"{self.phone.host.shown}:{self.phone.port}"

    @property
    def is_over(self) -> bool:
        """The far end has said BYE."""
        return any(each.method == "BYE" for each in self.requests)

    def asked(self, method: str) -> list[Message]:
        """The far end's requests of this method, each once."""
        return [each for each in self.requests if each.method == method]

    # What it says

    async def reinvite(self, direction: str, *, sdp: str | None = None) -> Message:
        """Change the session. `sdp` replaces the offer."""
        self.sequence += 1
        self.branch = f"z9hG4bK{token()}"
        request = self.write("INVITE", self.branch, body=sdp or self.offer(direction))
        self.send(request)
        return await self.answer(request)

    async def answer(self, request: str, *, within_s: float = PATIENCE_S) -> Message:
        """The final response to an INVITE, repeated until something answers it."""
        return await self._repeat(request, "INVITE", self.sequence, ceiling=64 * T1, within_s=within_s)

    async def bye(self, *, within_s: float = PATIENCE_S) -> Message:
        """Hang up; the final answer."""
        return await self.request("BYE", within_s=within_s)

    async def request(self, method: str, *, headers: str = "", body: str = "", within_s: float = PATIENCE_S) -> Message:
        """A request in the dialog; its final answer."""
        self.sequence += 1
        request = self.write(method, f"z9hG4bK{token()}", headers=headers, body=body)
        self.send(request)
        return await self._repeat(request, method, self.sequence, ceiling=T2, within_s=within_s)

    async def cancel(self) -> Message:
        """Give up before the answer; the answer to the CANCEL."""
        request = self.write("CANCEL", self.branch)
        self.send(request)
        return await self._repeat(request, "CANCEL", self.sequence, ceiling=T2, within_s=PATIENCE_S)

    def offer(self, direction: str, *, codecs: str | None = None) -> str:
        """An SDP of ours."""
        self.sdp_version += 1
        host = self.phone.host.address
        place = f"IN IP{6 if ':' in host else 4} {host}"
        return (
            f"v=0\r\no=tests 1 {self.sdp_version} {place}\r\ns=-\r\nc={place}\r\nt=0 0\r\n"
            f"m=audio {self.phone.rtp.port} RTP/AVP {codecs or self.codecs}\r\na={direction}\r\n"
        )

    def answer_for(self, offered: Message) -> str:
        """An SDP of ours that answers this message's."""
        shared = " ".join(each for each in offered.formats() if each in self.codecs.split())
        return self.offer(_ANSWERS.get(offered.direction(), offered.direction()), codecs=shared)

    async def hung_up(self, within_s: float = PATIENCE_S) -> Message:
        """Wait for the far end's BYE."""
        await until(lambda: self.is_over, f"the bridge hangs up on {self.call_id}", within_s=within_s)
        return self.asked("BYE")[0]

    # What it hears

    def received(self, message: Message, source: Address) -> None:
        if message.body:
            self.describe(message)
        if not message.status:
            self._asked(message, source)
            return
        self.responses.append(message)
        if message.method == "INVITE" and message.status >= 200:
            self._answered(message)

    def describe(self, message: Message) -> None:
        """The far end has said where it hears us, and speaks from."""
        self.described = message
        self.heard_from.add(message.media_port())
        self.phone.rtp.hosts[message.media_port()] = message.media_host()

    def _answered(self, response: Message) -> None:
        """A final response to an INVITE of ours."""
        if response.status < 300:
            self.target = response["contact"].strip("<>").partition(">")[0]
        if self.acknowledges:
            self.acknowledge(response)

    def acknowledge(self, response: Message) -> None:
        """The ACK of a final response, the same each time."""
        ack = self._acks.get(response.sequence)
        if ack is None:
            ack = self._acks[response.sequence] = self._ack_of(response)
        self.send(ack)

    def _ack_of(self, response: Message) -> str:
        if response.status >= 300:
            return self.write("ACK", self.branch, sequence=response.sequence, remote=response["to"])
        body = "" if self.sdp_version else self.offer("sendrecv", codecs="0")  # the answer to its offer
        return self.write("ACK", f"z9hG4bK{token()}", sequence=response.sequence, body=body)

    def _asked(self, request: Message, source: Address) -> None:
        key = (request.method, request.sequence)
        if all((each.method, each.sequence) != key for each in self.requests):
            self.requests.append(request)
        if request.method == "ACK":
            self.acknowledged.add(request.sequence)
        elif key in self._answers:
            self.phone.send_to(self._answers[key], source)
        elif request.method == "INVITE":
            self.target = request["contact"].strip("<>").partition(">")[0]
            self.respond(request, source, 200, body=self.answer_for(request))
        else:
            self.respond(request, source, 200)

    def respond(
        self, request: Message, source: Address, status: int, reason: str = "", *, headers: str = "", body: str = ""
    ) -> None:
        """Answer a request of the far end's; a 2xx to an INVITE until its ACK. `headers`: whole lines."""
        copied = [("Via", each) for each in request.all("via")]
        copied += [("Record-Route", each) for each in request.all("record-route")]
        copied += [(name, request[name.lower()]) for name in ("From", "Call-ID", "CSeq")]
        copied.append(("To", request["to"] if request.tag("to") or status == 100 else self.local))
        if status < 300:
            copied.append(("Contact", f"<{self.phone.scheme}:tests@{self.here}>"))
        typed = "Content-Type: application/sdp\r\n" if body else ""
        lines = "".join(f"{name}: {value}\r\n" for name, value in copied)
        response = (
            f"SIP/2.0 {status} {reason or 'As You Say'}\r\n{lines}"
            f"{headers}{typed}Content-Length: {len(body.encode())}\r\n\r\n{body}"
        )
        self._answers[request.method, request.sequence] = response
        if request.method == "INVITE" and 200 <= status < 300:
            self.phone.begin(self, response, source, request.sequence)
        else:
            self.phone.send_to(response, source)

    def final(self, method: str, sequence: int) -> Message | None:
        """The final response to a request of ours, if it has come."""
        for each in self.responses:
            if each.method == method and each.sequence == sequence and each.status >= 200:
                return each
        return None

    def send(self, request: str) -> None:
        self.phone.send_to(request, self.way)

    async def _repeat(self, request: str, method: str, sequence: int, *, ceiling: float, within_s: float) -> Message:
        deadline, pause, again = time.monotonic() + within_s, T1, time.monotonic() + T1
        while (final := self.final(method, sequence)) is None:
            now = time.monotonic()
            assert now < deadline, f"no final answer within {within_s:g} s to\n{request}\nbut {self.responses[-3:]}"
            heard = any(each.method == method and each.sequence == sequence for each in self.responses)
            if now >= again and not (heard and method == "INVITE"):
                self.send(request)
                pause = min(2 * pause, ceiling)
                again = now + pause
            await asyncio.sleep(0.005)
        return final

    def write(
        self,
        method: str,
        branch: str,
        *,
        headers: str = "",
        body: str = "",
        sequence: int | None = None,
        remote: str = "",
    ) -> str:
        """A request. `headers`: whole lines, each with its CRLF. `remote` replaces its To."""
        routes = "".join(f"Route: {route}\r\n" for route in self.routes)
        typed = "Content-Type: application/sdp\r\n" if body and "Content-Type:" not in headers else ""
        return (
            f"{method} {self.target} SIP/2.0\r\n"
            f"Via: SIP/2.0/{self.phone.via} {self.here};branch={branch};rport\r\n{routes}Max-Forwards: 70\r\n"
            f"From: {self.local}\r\nTo: {remote or self.remote}\r\n"
            f"Call-ID: {self.call_id}\r\nCSeq: {sequence or self.sequence} {method}\r\n"
            f"Contact: <{self.phone.scheme}:tests@{self.here}>\r\n{headers}{typed}Content-Length: {len(body.encode())}\r\n\r\n{body}"
        )
