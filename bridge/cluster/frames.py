"""What goes over a link: frames, what proves each one, and what they carry. No I/O.

    length    4 bytes: of all that follows
    payload   a byte for its kind, then
                  1  envelope   the flow's size (2 bytes), the flow, a SIP message
                  2  send       the same
                  3  ask        a number (4), milliseconds left for the answer (4), the question
                  4  answer     the number, the answer
                  5  failed     the number: no answer will come
                  6  ping       7  pong
    proof     16 bytes, once the nodes have proven who they are (`handshake`): HMAC-SHA256, cut, of the frame's number
              in its direction and the payload. What was injected, repeated, left out or reordered does not bear it.

A flow is text: node, transport, listener, host, port and, where there is one, name, between NULs. What a later minor version adds, a kind or a field of
the flow, is stepped over. What cannot be read is a value and the last one; reading costs as much as there is to read.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from bridge.cluster import Envelope
from bridge.errors import LocalProtocolError
from bridge.sip.flow import Flow, Send

MAX_FRAME: Final = 128 * 1024  # behind the length; a SIP message has half of that
MAX_UNPROVEN: Final = 1024  # the same for who has not proven anything
PROOF_BYTES: Final = 16
MAX_CONTENT: Final = MAX_FRAME - PROOF_BYTES - 9  # of a question or an answer
MAX_DATA: Final = 96 * 1024  # of a message
_BLOCK: Final = 64  # of SHA-256
_MAX_FLOW: Final = 4096
_FLOWS: Final = 4096  # read and written ones that are remembered: most messages come by one of a few thousand

_LENGTH: Final = struct.Struct(">I")
_COUNT: Final = struct.Struct(">Q")
_FLOW_SIZE: Final = struct.Struct(">BH")
_ASK: Final = struct.Struct(">BII")
_ANSWER: Final = struct.Struct(">BI")

ENVELOPE, SEND, ASK, ANSWER, FAILED, _PING, _PONG = range(1, 8)
PING: Final = bytes((_PING,))
PONG: Final = bytes((_PONG,))


class Ask(NamedTuple):
    """A question."""

    number: int  # the asker's
    timeout_s: float
    question: bytes


class Answer(NamedTuple):
    """Its answer; None: there will be none."""

    number: int
    answer: bytes | None


class Ping(NamedTuple):
    """Are you there?"""


class Unknown(NamedTuple):
    """Something that a later version says, or a pong, which says nothing but that it came."""


@dataclass(frozen=True, slots=True)
class Broken:
    """This link cannot go on."""

    reason: str


Message: TypeAlias = Envelope | Send | Ask | Answer | Ping | Unknown


# Payloads


def envelope(node: str, flow: Flow, data: bytes) -> bytes:
    """A message that came by this flow of `node`'s."""
    return _with_flow(ENVELOPE, node, flow, data)


def send(node: str, flow: Flow, data: bytes) -> bytes:
    """A message that shall leave by this flow of `node`'s."""
    return _with_flow(SEND, node, flow, data)


def ask(number: int, timeout_s: float, question: bytes) -> bytes:
    """LocalProtocolError for a question beyond `MAX_CONTENT`."""
    if len(question) > MAX_CONTENT:
        raise LocalProtocolError(f"a question of {len(question)} bytes fits no frame")
    return _ASK.pack(ASK, number, min(max(0, int(timeout_s * 1000)), 0xFFFFFFFF)) + question


def answer(number: int, data: bytes | None) -> bytes:
    """None: no answer will come. LocalProtocolError for an answer beyond `MAX_CONTENT`."""
    if data is None:
        return _ANSWER.pack(FAILED, number)
    if len(data) > MAX_CONTENT:
        raise LocalProtocolError(f"an answer of {len(data)} bytes fits no frame")
    return _ANSWER.pack(ANSWER, number) + data


def _with_flow(kind: int, node: str, flow: Flow, data: bytes) -> bytes:
    if len(data) > MAX_DATA:
        raise LocalProtocolError(f"a message of {len(data)} bytes fits no frame")
    return _written_flow(kind, node, flow) + data


@lru_cache(maxsize=_FLOWS)
def _written_flow(kind: int, node: str, flow: Flow) -> bytes:
    texts = [node, flow.transport, flow.listener, flow.host, str(flow.port)]
    if flow.name:
        texts.append(flow.name)
    text = "\0".join(texts).encode()
    if len(text) > _MAX_FLOW or any("\0" in each for each in texts):
        raise LocalProtocolError(f"no flow of a listener: {flow!r}")
    return _FLOW_SIZE.pack(kind, len(text)) + text


def decode(payload: bytes) -> Message | Broken:
    """What a payload says."""
    kind = payload[0]
    if kind in (ENVELOPE, SEND):
        return _read_message(payload)
    if kind == ASK and len(payload) >= _ASK.size:
        _, number, left_ms = _ASK.unpack_from(payload)
        return Ask(number, left_ms / 1000, payload[_ASK.size :])
    if kind in (ANSWER, FAILED) and len(payload) >= _ANSWER.size:
        _, number = _ANSWER.unpack_from(payload)
        return Answer(number, payload[_ANSWER.size :] if kind == ANSWER else None)
    if kind == _PING:
        return Ping()
    return Unknown() if kind not in (ASK, ANSWER, FAILED) else Broken("a frame was too short for its kind")


def _read_message(payload: bytes) -> Envelope | Send | Broken:
    begins = _FLOW_SIZE.size
    if len(payload) < begins:
        return Broken("a frame was too short for its kind")
    kind, size = _FLOW_SIZE.unpack_from(payload)
    ends = begins + size
    read = _read_flow(payload[begins:ends]) if ends <= len(payload) and size <= _MAX_FLOW else None
    if read is None:
        return Broken("a flow could not be read")
    node, flow = read
    return Envelope(node, flow, payload[ends:]) if kind == ENVELOPE else Send(flow, payload[ends:])


@lru_cache(maxsize=_FLOWS)
def _read_flow(text: bytes) -> tuple[str, Flow] | None:
    try:
        node, transport, listener, host, port, *later = text.decode().split("\0")
    except ValueError:  # too few, or no UTF-8
        return None
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 0xFFFF:
        return None
    return node, Flow(transport, listener, host, int(port), name=later[0] if later else "")


# Frames


class Seal:
    """Numbers the frames of one direction, and proves them.

    HMAC (RFC 2104) of its two digests, with the key taken up beforehand: 1.6 µs for a message, where hmac's own take 3.
    """

    __slots__ = ("_count", "_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        """`key`: at most 64 bytes."""
        padded = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))
        self._count = 0

    def proof(self, payload: bytes) -> bytes:
        """Of the next frame, which has this payload."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(_COUNT.pack(self._count))
        inner.update(payload)
        outer.update(inner.digest())
        self._count += 1
        return outer.digest()[:PROOF_BYTES]

    def frames(self, payloads: Iterable[bytes]) -> bytes:
        """These payloads as they go over the wire."""
        pieces: list[bytes] = []
        for payload in payloads:
            pieces += (_LENGTH.pack(len(payload) + PROOF_BYTES), payload, self.proof(payload))
        return b"".join(pieces)


def unproven_frame(payload: bytes) -> bytes:
    """One frame without a proof."""
    return _LENGTH.pack(len(payload)) + payload


class Cutting:
    """The receiving half of a link: payloads out of bytes. Holds less than one frame, and what was fed last."""

    __slots__ = ("_at", "_broken", "_buffer", "_seal")

    def __init__(self) -> None:
        self._buffer: bytes | bytearray = b""
        self._at = 0  # where the next frame begins
        self._broken = False
        self._seal: Seal | None = None

    @property
    def is_incomplete(self) -> bool:
        """Whether bytes wait for others. Meaningful when `take` has returned None."""
        return len(self._buffer) > self._at

    def demand_proof(self, seal: Seal) -> None:
        """From the next frame on."""
        self._seal = seal

    def feed(self, data: bytes) -> None:
        """What has come."""
        buffer, at = self._buffer, self._at
        if self._broken:
            return
        if at == len(buffer):
            self._buffer, self._at = data, 0
            return
        if not isinstance(buffer, bytearray):
            buffer = self._buffer = bytearray(buffer)
        del buffer[:at]
        self._at = 0
        buffer += data

    def take(self) -> bytes | Broken | None:
        """The next payload, at least one byte; Broken, once and for good; None: feed more."""
        buffer, seal = self._buffer, self._seal
        begins = self._at + _LENGTH.size
        if len(buffer) < begins:
            return None
        (size,) = _LENGTH.unpack_from(buffer, self._at)
        proof_bytes, most = (0, MAX_UNPROVEN) if seal is None else (PROOF_BYTES, MAX_FRAME)
        if not proof_bytes < size <= most:
            return self._break(f"a frame of {size} bytes")
        ends = begins + size
        if len(buffer) < ends:
            return None
        payload = bytes(buffer[begins : ends - proof_bytes])
        self._at = ends
        if seal is not None and not hmac.compare_digest(seal.proof(payload), bytes(buffer[ends - proof_bytes : ends])):
            return self._break("a frame is not the peer's, or not the next one")
        return payload

    def _break(self, reason: str) -> Broken:
        self._broken = True
        self._buffer, self._at = b"", 0
        return Broken(reason)
