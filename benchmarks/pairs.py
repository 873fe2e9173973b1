"""Pairs of phones that talk while nodes come and go: `python -m benchmarks.pairs TARGET HOST PORT PAIRS TALKING SECONDS` prints one
JSON object.

Callers call their numbers at TARGET; whoever is dialled at HOST and PORT is the callee of that number. All of them are in this
one process, so it must not be what is measured: TALKING pairs, spread over all, send a packet of G.711 each 40 ms either way,
the others one each second, and the kernel says when a packet has arrived (SO_TIMESTAMPNS). What a phone hears is told apart by
what it carries: whose it is, so a packet that comes to the wrong one is none. Requests and 200s are repeated as RFC 3261 has it.

It makes the file READY when all are joined and hear each other, begins to watch their silences at GO, and ends them at HANG_UP, half by
callers, half by callees. SECONDS bound its life. Standard library only.
"""

from __future__ import annotations

import contextlib
import gc
import json
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.messages import Address, Message, address_of, contact_of, media_of, read_message, user_of, write_message
from benchmarks.probe import SO_TIMESTAMPNS, arrival_ns

READY, GO, HANG_UP = "ready", "go", "hang-up"  # files in our directory
TICK_S = 0.005
TALKING_TICKS, OTHER_TICKS = 8, 200  # from a packet to the next
PLACED_PER_S = 50.0  # pairs
ENDED_PER_S = 100.0  # pairs
PATIENCE_S = 20.0  # for all to be up, or over
DEAF_S = 3.0  # without a word, where one each second is said
SOCKETS = 16  # for RTP: what one of them may hold back is bounded
T1_S, T2_S = 0.5, 4.0
SO_RCVBUFFORCE = 33  # root may have more than net.core.rmem_max
BUFFER_BYTES = 4 * 2**20
PACKET = struct.Struct("!BBHIIIQ")  # an RTP header, and for whom: magic, and the number of who speaks
MAGIC = 0x50414952
SAMPLES = 320  # 40 ms of G.711
FILLING = b"\xff" * (SAMPLES - 12)


class PairsError(Exception):
    """The pairs cannot be made."""


@dataclass(slots=True)
class Leg:
    """One phone, and what has become of its call. Number 2n is the caller of pair n, 2n + 1 the callee."""

    number: int
    call_id: str
    local: str  # From as we say it, with our tag
    remote: str
    target: str  # the far end's Contact
    is_talking: bool
    sequence: int = 0
    answers: dict[tuple[str, int], bytes] = field(default_factory=dict)  # what we have said to its requests
    is_up: bool = False  # the ACK has come, or gone
    speaks_to: Address | None = None
    said: int = 0
    heard_ns: int = 0
    silence_ns: int = 0  # the longest, since silences are watched
    reinvited_ns: int = 0  # when the ACK of our answer to the last re-INVITE came; 0: never
    hung_up_early: bool = False
    is_over: bool = False  # by a BYE that was answered with 200, at the end


@dataclass(slots=True)
class Repeated:
    """What is sent again until something comes of it."""

    data: bytes
    to: Address
    due: float
    pause_s: float


class Pairs:
    """All phones, on one SIP socket and a few for RTP."""

    def __init__(self, target: str, host: str, port: int, pairs: int, talking: int, seconds: float) -> None:
        self._target: Address = (target, 5060)
        self._host, self._port, self._pairs, self._talking = host, port, pairs, talking
        self._sip = _open(host, port)
        self._rtp = [_open(host, 0) for _ in range(SOCKETS)]
        self._rtp_ports = [each.getsockname()[1] for each in self._rtp]
        self._waiting = selectors.DefaultSelector()
        for place, each in enumerate((self._sip, *self._rtp)):
            self._waiting.register(each, selectors.EVENT_READ, place)
        self.legs: dict[str, Leg] = {}  # by Call-ID
        self._by_number: dict[int, Leg] = {}
        self._turns: list[list[Leg]] = [[] for _ in range(OTHER_TICKS)]
        self._repeated: dict[tuple[str, str, int], Repeated] = {}
        self._ticks, self._began = 0, time.monotonic()
        self._deadline = self._began + seconds
        self._ending_since_ns = 0
        self.behind_s = 0.0
        self.steady_ns = 0
        self.byes: dict[int, int] = {}  # the status of the answer to each of our own, by leg; 0: none yet

    def run(self) -> dict[str, Any]:
        """From the first INVITE to the last BYE; what was found."""
        self._place_all()
        Path(READY).touch()
        self._watch()
        self._until(Path(GO).exists)
        self.steady_ns = max(leg.silence_ns for leg in self.legs.values() if leg.is_talking)
        self.behind_s = 0.0
        self._watch()
        self._until(Path(HANG_UP).exists)
        behind_s = self.behind_s
        self._ending_since_ns = time.time_ns()
        self._end_all()
        return self._findings(behind_s)

    def close(self) -> None:
        self._waiting.close()
        for each in (self._sip, *self._rtp):
            each.close()

    # The phases

    def _place_all(self) -> None:
        began = time.monotonic()
        for number in range(self._pairs):
            self._until(lambda due=began + number / PLACED_PER_S: time.monotonic() >= due)  # type: ignore[misc]
            self._place(number)
        deadline = time.monotonic() + PATIENCE_S
        self._until(lambda: self._all_up() or time.monotonic() > deadline)
        if not self._all_up():
            up = sum(leg.is_up for leg in self.legs.values())
            heard = sum(leg.heard_ns > 0 for leg in self.legs.values())
            raise PairsError(f"of {2 * self._pairs} phones {up} are up and {heard} hear somebody")

    def _all_up(self) -> bool:
        legs = self.legs.values()
        return len(legs) == 2 * self._pairs and all(leg.is_up and leg.heard_ns for leg in legs)

    def _watch(self) -> None:
        for leg in self.legs.values():
            leg.silence_ns = 0

    def _end_all(self) -> None:
        """Silences end here."""
        for leg in self.legs.values():
            leg.silence_ns = max(leg.silence_ns, self._ending_since_ns - leg.heard_ns)
        began = time.monotonic()
        for pair in range(self._pairs):
            self._until(lambda due=began + pair / ENDED_PER_S: time.monotonic() >= due)  # type: ignore[misc]
            first, second = (self._by_number[2 * pair + role] for role in (pair % 2, 1 - pair % 2))
            self._hang_up(second if first.hung_up_early else first)
        deadline = time.monotonic() + PATIENCE_S
        self._until(
            lambda: all(leg.is_over or leg.hung_up_early for leg in self.legs.values()) or time.monotonic() > deadline
        )

    def _hang_up(self, leg: Leg) -> None:
        if leg.hung_up_early:
            return
        self.byes[leg.number] = 0
        leg.sequence += 1
        self._ask(leg, "BYE", leg.sequence, self._request(leg, "BYE", leg.sequence), address_of(leg.target))

    def _findings(self, behind_s: float) -> dict[str, Any]:
        legs = [
            {
                "talking": leg.is_talking,
                "silence_ns": leg.silence_ns,
                "reinvited_ns": leg.reinvited_ns,
                "early": leg.hung_up_early,
                "over": leg.is_over,
                "deaf": self._ending_since_ns - leg.heard_ns > DEAF_S * 1e9,
            }
            for leg in self.legs.values()
        ]
        return {
            "legs": legs,
            "byes": sorted(self.byes.values()),
            "steady_ms": self.steady_ns / 1e6,
            "behind_ms": behind_s * 1e3,
        }

    # The loop

    def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._turn()
            if time.monotonic() > self._deadline:
                raise PairsError("out of time")

    def _turn(self) -> None:
        """Hear until the next tick is due, then speak."""
        due = self._began + (self._ticks + 1) * TICK_S
        for key, _ in self._waiting.select(max(0.0, due - time.monotonic())):
            if key.data:
                self._listen(key.fileobj, key.data - 1)
            else:
                self._read()
        now = time.monotonic()
        if now < due:
            return
        self.behind_s = max(self.behind_s, now - due)
        self._ticks += 1
        for leg in self._turns[self._ticks % OTHER_TICKS]:
            self._speak(leg)
        if self._ticks % 10 == 0:
            self._repeat(now)

    def _repeat(self, now: float) -> None:
        for each in self._repeated.values():
            if now >= each.due:
                self._send(each.data, each.to)
                each.pause_s = min(2 * each.pause_s, T2_S)
                each.due = now + each.pause_s

    def _send(self, data: bytes, to: Address) -> None:
        with contextlib.suppress(BlockingIOError):  # then it is lost, as datagrams are
            self._sip.sendto(data, to)

    # RTP

    def _add(self, leg: Leg) -> None:
        self.legs[leg.call_id] = self._by_number[leg.number] = leg
        every = TALKING_TICKS if leg.is_talking else OTHER_TICKS
        for tick in range(leg.number % every, OTHER_TICKS, every):
            self._turns[tick].append(leg)

    def _speak(self, leg: Leg) -> None:
        if leg.speaks_to is None or leg.is_over:
            return
        leg.said += 1
        stamp = leg.said * SAMPLES & 0xFFFFFFFF
        head = PACKET.pack(0x80, 0, leg.said & 0xFFFF, stamp, MAGIC + leg.number, MAGIC, leg.number)
        with contextlib.suppress(BlockingIOError):
            self._rtp[leg.number % SOCKETS].sendto(head + FILLING, leg.speaks_to)

    def _listen(self, heard: Any, place: int) -> None:
        while True:
            try:
                data, notes, _, _ = heard.recvmsg(2048, 128)
            except BlockingIOError:
                return
            self._heard(data, arrival_ns(notes), place)

    def _heard(self, data: bytes, arrived_ns: int, place: int) -> None:
        if len(data) < PACKET.size:
            return
        *_, magic, number = PACKET.unpack_from(data)
        leg = self._by_number.get(number ^ 1)
        if magic != MAGIC or leg is None or leg.number % SOCKETS != place:
            return
        if leg.heard_ns:
            leg.silence_ns = max(leg.silence_ns, arrived_ns - leg.heard_ns)
        leg.heard_ns = max(leg.heard_ns, arrived_ns)

    # SIP: what we ask

    def _place(self, pair: int) -> None:
        number = 2 * pair
        user = f"{pair}@{self._target[0]}"
        call_id = f"pair-{pair}-{self._port}@{self._host}"
        local = f"<sip:caller{pair}@{self._host}>;tag=c{pair}"
        leg = Leg(number, call_id, local, f"<sip:{user}>", f"sip:{user}", self.is_talking(pair), sequence=1)
        self._add(leg)
        self._ask(leg, "INVITE", 1, self._request(leg, "INVITE", 1, self._sdp(leg)), self._target)

    def is_talking(self, pair: int) -> bool:
        """Of every so many one: who is handed over first is as good as who is last."""
        return (pair + 1) * self._talking // self._pairs > pair * self._talking // self._pairs

    def _ask(self, leg: Leg, method: str, sequence: int, data: bytes, to: Address) -> None:
        self._repeated[leg.call_id, method, sequence] = Repeated(data, to, time.monotonic() + T1_S, T1_S)
        self._send(data, to)

    def _request(self, leg: Leg, method: str, sequence: int, body: str = "") -> bytes:
        lines = [
            f"{method} {leg.target} SIP/2.0",
            f"Via: SIP/2.0/UDP {self._host}:{self._port};branch=z9hG4bK-{leg.number}-{sequence}-{method}",
            "Max-Forwards: 70",
            f"From: {leg.local}",
            f"To: {leg.remote}",
            f"Call-ID: {leg.call_id}",
            f"CSeq: {sequence} {method}",
            f"Contact: <sip:{leg.number}@{self._host}:{self._port}>",
        ]
        return write_message(lines, body)

    def _sdp(self, leg: Leg) -> str:
        return (
            f"v=0\r\no=pair {leg.number} 1 IN IP4 {self._host}\r\ns=-\r\nc=IN IP4 {self._host}\r\nt=0 0\r\n"
            f"m=audio {self._rtp_ports[leg.number % SOCKETS]} RTP/AVP 0\r\na=ptime:40\r\n"
        )

    # SIP: what we are told

    def _read(self) -> None:
        while True:
            try:
                data, source = self._sip.recvfrom(65536)
            except BlockingIOError:
                return
            if data.strip():
                self._take(read_message(data), source)

    def _take(self, message: Message, source: Address) -> None:
        leg = self.legs.get(message.first("call-id"))
        if message.status:
            if leg is not None:
                self._answered(leg, message)
        elif leg is not None:
            self._asked(leg, message, source)
        elif message.method == "INVITE":
            self._asked(self._called(message), message, source)

    def _called(self, invite: Message) -> Leg:
        user = user_of(invite.start)
        pair = int(user) if user.isdigit() else -1
        if 2 * pair not in self._by_number or 2 * pair + 1 in self._by_number:
            raise PairsError(f"nobody is to be called so, or not again: {invite.start}")
        local = f"{invite.first('to')};tag=e{pair}"
        call_id = invite.first("call-id")
        leg = Leg(2 * pair + 1, call_id, local, invite.first("from"), contact_of(invite), self.is_talking(pair))
        self._add(leg)
        return leg

    def _answered(self, leg: Leg, response: Message) -> None:
        method, status = response.method, response.status
        if status >= 200 or method == "INVITE":
            self._repeated.pop((leg.call_id, method, response.sequence), None)
        if status < 200:
            return
        if method == "BYE":
            self.byes[leg.number] = status
            leg.is_over = status == 200
        elif method == "INVITE":
            if status >= 300:
                raise PairsError(f"pair {leg.number // 2} was answered {response.start}")
            leg.remote, leg.target = response.first("to"), contact_of(response)
            leg.speaks_to = media_of(response.body) or leg.speaks_to
            leg.is_up = True
            self._send(self._request(leg, "ACK", response.sequence), address_of(leg.target))

    def _asked(self, leg: Leg, request: Message, source: Address) -> None:
        method, key = request.method, (request.method, request.sequence)
        if method == "ACK":
            if self._repeated.pop((leg.call_id, "200", request.sequence), None) and leg.is_up:
                leg.reinvited_ns = time.time_ns()
            leg.speaks_to = media_of(request.body) or leg.speaks_to
            leg.is_up = True
            return
        if key in leg.answers:
            self._send(leg.answers[key], source)
            return
        body = ""
        if method == "INVITE":
            leg.target, leg.speaks_to = contact_of(request), media_of(request.body) or leg.speaks_to
            body = self._sdp(leg)
            if not leg.is_up:
                self._send(self._response(leg, request, "180 Ringing"), source)
        answer = leg.answers[key] = self._response(leg, request, "200 OK", body)
        self._send(answer, source)
        if method == "INVITE":
            self._repeated[leg.call_id, "200", request.sequence] = Repeated(
                answer, source, time.monotonic() + T1_S, T1_S
            )
        elif method == "BYE":
            leg.is_over = self._ending_since_ns > 0
            leg.hung_up_early = not leg.is_over

    def _response(self, leg: Leg, request: Message, status: str, body: str = "") -> bytes:
        lines = [f"SIP/2.0 {status}", *(f"Via: {each}" for each in request.headers["via"])]
        lines += [f"From: {request.first('from')}", f"To: {leg.local}", f"Call-ID: {leg.call_id}"]
        lines += [f"CSeq: {request.first('cseq')}", f"Contact: <sip:{leg.number}@{self._host}:{self._port}>"]
        return write_message(lines, body)


def _open(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    try:
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    except PermissionError:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    made.bind((host, port))
    return made


if __name__ == "__main__":
    gc.disable()
    _, given_target, given_host, *given = sys.argv
    port_, pairs_, talking_ = map(int, given[:3])
    print(json.dumps(Pairs(given_target, given_host, port_, pairs_, talking_, float(given[3])).run()))
