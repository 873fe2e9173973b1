"""SIP over WebSocket, as a server (RFC 7118): one message in each, and connections that only the peer can make.

The handshake and the frames of RFC 6455 are the `websockets` library's, without its I/O; accepting, limits, TLS and sending
are `stream`'s. Here is what SIP asks for on top: the subprotocol `sip`, and of browsers an Origin that may come here, since a page
of anybody's can open a WebSocket to wherever its reader can reach.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import structlog
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from bridge.engine.inputs import FlowLost, Packet, StreamBroken
from bridge.net.certificates import Certificates
from bridge.net.connection import StreamLimits
from bridge.net.stream import StreamListener
from bridge.net.wire import Ending, Parting, Taken
from bridge.sip.flow import Flow, Send
from bridge.sip.parser import MAX_MESSAGE_BYTES, KeepAlive
from bridge.telemetry.flood import Flood

SUBPROTOCOL: Final = "sip"
ANY_ORIGIN: Final = "*"
# Browsers send no pings, and many a proxy on the way closes what is silent for a minute.
PING_S: Final = (25.0, 30.0)

_HEAD_MOST: Final = 16_384  # bytes of a handshake; cookies come along
_BITE: Final = 512  # bytes that are looked at in one go: at most 85 of the smallest frames, half a millisecond
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_NO_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_INVALID_TEXT: Final = 1007  # RFC 6455 §7.4.1
_SHOWN_LENGTH: Final = 128
_CODES: Final[dict[Ending, tuple[int, str]]] = {"shutdown": (1001, "stopping"), "idle": (1000, "idle")}
_silent = logging.getLogger("bridge.net.websocket")  # the library's word on each connection is ours to say
_silent.setLevel(logging.ERROR)
log = structlog.get_logger("bridge.net")


@dataclass(frozen=True, slots=True)
class Origins:
    """Which pages may connect (RFC 6454, RFC 6455 §10.2). Who says no Origin is no browser, and is let in."""

    listed: frozenset[str]  # "https://app.example.com", in lower case; "*": any
    hosts: frozenset[str]  # of ours: where nothing is listed, pages of these

    def admits(self, origin: str | None) -> bool:
        if origin is None or ANY_ORIGIN in self.listed:
            return True
        origin = origin.lower()
        if self.listed:
            return origin in self.listed
        try:
            return (urlsplit(origin).hostname or "") in self.hosts
        except ValueError:
            return False


class WebSocketWire:
    """Both halves of one WebSocket. `refused` is told the Origin of a handshake that was refused, and why."""

    __slots__ = (
        "_head",
        "_is_partial",
        "_origins",
        "_parts",
        "_protocol",
        "_ready",
        "_refused",
        "_scanned",
        "_unread",
        "_within",
    )

    asks_peers = True
    turn = 16

    def __init__(self, origins: Origins, refused: Callable[[str | None, str], None]) -> None:
        self._protocol = ServerProtocol(
            subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=MAX_MESSAGE_BYTES, logger=_silent
        )
        self._origins = origins
        self._refused = refused
        self._head = bytearray()  # of the handshake, until it is whole
        self._scanned = 0  # up to here it has no end
        self._unread = bytearray()  # what has come after it, and was not looked at yet
        self._ready: list[Taken] = []  # the next one last
        self._parts: bytearray | None = None  # of a message in several frames
        self._within: Opcode = Opcode.CONT  # what that one is, text or binary
        self._is_partial = False  # a frame has begun

    @property
    def is_ready(self) -> bool:
        return self._protocol.state is State.OPEN

    @property
    def is_incomplete(self) -> bool:
        return self._is_partial or self._parts is not None or bool(self._head)

    @property
    def is_within(self) -> bool:
        return self._parts is not None

    def feed(self, data: bytes) -> None:
        if self._protocol.state is State.CONNECTING:
            self._head += data
        else:
            self._unread += data

    def take(self) -> Taken | None:
        """The next message; a KeepAlive, with what is to be said to it, for everything else that is in order."""
        while not self._ready:
            if self._protocol.state is State.CONNECTING:
                if not self._shake_hands():
                    return None
            elif self._unread:
                self._look_at(bytes(self._unread[:_BITE]))
                del self._unread[:_BITE]
            else:
                return None
        return self._ready.pop()

    def message(self, data: bytes) -> bytes:
        """As text where it is that: browsers break off what claims to be and is not (RFC 6455 §8.1)."""
        if _is_text(data):
            self._protocol.send_text(data)
        else:
            self._protocol.send_binary(data)
        return self._said()

    def ping(self) -> bytes:
        self._protocol.send_ping(b"")
        return self._said()

    def parting(self, ending: Ending) -> bytes:
        if self._protocol.state is not State.OPEN or ending not in _CODES:
            return b""
        self._protocol.send_close(*_CODES[ending])
        return self._said()

    def _said(self) -> bytes:
        return b"".join(self._protocol.data_to_send())

    # The handshake

    def _shake_hands(self) -> bool:
        """Whether there is an answer to it."""
        end = self._head.find(b"\r\n\r\n", self._scanned) + 4
        self._scanned = max(0, len(self._head) - 3)
        if end < 4 and len(self._head) < _HEAD_MOST:
            return False
        if not 4 <= end <= _HEAD_MOST:
            self._refuse(None, "its handshake is too large", _TOO_LARGE)
            return True
        self._protocol.receive_data(bytes(self._head[:end]))
        self._unread += self._head[end:]
        self._head.clear()
        request = next((each for each in self._protocol.events_received() if isinstance(each, Request)), None)
        if request is None:
            self._refuse(None, f"it speaks no HTTP: {self._protocol.handshake_exc}", self._said() or _NO_REQUEST)
            return True
        origin = request.headers.get("Origin") if len(request.headers.get_all("Origin")) == 1 else None
        why = ""
        if not self._origins.admits(origin):
            why = "pages of this Origin may not connect: sip.websocket.origins names those that may"
            response = self._protocol.reject(HTTPStatus.FORBIDDEN, "This Origin may not connect.\n")
        else:
            response = self._protocol.accept(request)
            if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
                why = str(self._protocol.handshake_exc)
        self._protocol.send_response(response)
        if why:
            self._refuse(origin, why, self._said())
        else:
            self._ready.append(KeepAlive(self._said()))
        return True

    def _refuse(self, origin: str | None, why: str, answer: bytes) -> None:
        self._head.clear()
        self._unread.clear()
        self._refused(origin, why)
        self._ready.append(Parting(answer, "not_upgraded"))

    # Frames

    def _look_at(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        events = self._protocol.events_received()
        self._is_partial = not events or bool(self._protocol.reader.buffer)
        found: list[Taken] = []
        ended: Ending | None = None
        for frame in events:
            if not isinstance(frame, Frame):  # no second handshake comes
                continue
            if frame.opcode is Opcode.CLOSE:
                ended = "closed"
            elif (taken := self._taken(frame)) is not None:
                found.append(taken)
        if self._protocol.parser_exc is not None:
            ended = "violated"
        answer = self._said()
        if ended is not None:
            found.append(Parting(answer, ended))
            self._unread.clear()
        elif answer:  # pongs
            found.append(KeepAlive(answer))
        self._ready = found[::-1]

    def _taken(self, frame: Frame) -> Taken | None:
        """What this frame makes whole; None: nothing."""
        if frame.opcode is Opcode.PONG:
            return KeepAlive(b"")
        if frame.opcode is Opcode.PING:
            return None  # answered already
        if frame.opcode is not Opcode.CONT:
            self._within = frame.opcode
            if not frame.fin:
                self._parts = bytearray(frame.data)
                return None
            data = bytes(frame.data)
        elif self._parts is None:  # the protocol has told it as a violation
            return None
        else:
            self._parts += frame.data
            if not frame.fin:
                return None
            data, self._parts = bytes(self._parts), None
        if self._within is Opcode.TEXT and not _is_text(data):
            self._protocol.fail(_INVALID_TEXT, "text that is no UTF-8")
            return Parting(self._said(), "violated")
        if not data.strip(b"\r\n"):  # keep-alives of a stream, which some clients send here too
            return KeepAlive(self.message(b"\r\n") if data.startswith(b"\r\n\r\n") and self.is_ready else b"")
        return data


class WebSocketListener(StreamListener):
    """All WebSockets of one listener; with certificates those of `wss`. Makes no connections (RFC 7118 §5)."""

    transports = ("ws", "wss")

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        give: Callable[[Packet | StreamBroken | FlowLost], None],
        *,
        dropped: Callable[[str, Flow | None], None],
        origins: Collection[str] = (),
        hosts: Collection[str] = (),
        limits: StreamLimits | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        """`origins`, `hosts`: as of `Origins`; all others: as of `StreamListener`."""
        limits = replace(limits or StreamLimits(), ping_s=PING_S)
        super().__init__(name, host, port, give, dropped=dropped, limits=limits, certificates=certificates)
        self._origins = Origins(frozenset(each.lower() for each in origins), frozenset(each.lower() for each in hosts))
        self._refusals = Flood()

    def new_wire(self, flow: Flow) -> WebSocketWire:
        def refused(origin: str | None, why: str) -> None:
            self._tell_refusal(flow, origin, why)

        return WebSocketWire(self._origins, refused)

    def send(self, send: Send) -> None:
        """One message to the flow's peer, by the connection that it has made."""
        if self.is_connected(send.flow):
            super().send(send)
            return
        self.counts.not_sent += 1
        self._dropped("connection_unreachable", send.flow)
        self._give(FlowLost(send.flow))

    def _tell_refusal(self, flow: Flow, origin: str | None, why: str) -> None:
        withheld = self._refusals.admit(asyncio.get_running_loop().time())
        if withheld is None:
            return
        facts: dict[str, object] = {} if origin is None else {"origin": origin[:_SHOWN_LENGTH]}
        if withheld:
            facts["withheld_before"] = withheld
        log.warning("websocket_refused", flow=str(flow), detail=why[:_SHOWN_LENGTH], **facts)


def _is_text(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
