"""A caller with a good clock: places calls of its own beside SIPp's, to measure how long INVITE → 200 takes.

`python -m benchmarks.probe TARGET SOURCE RATE SECONDS` prints one JSON object. SIPp's own response times are steps of the
kernel's coarse clock (4 ms where HZ is 250), too coarse for a target of 5 ms. Here an INVITE's time is taken right before
it is sent, the 200's by the kernel when it arrives (SO_TIMESTAMPNS), so that the probe's own waiting for a core counts for
nothing. Its calls come at random moments (exponential gaps): what they see is what any caller would see.
Standard library only; UDP; it repeats nothing, so a call that loses a packet is a failed one.
"""

from __future__ import annotations

import gc
import json
import re
import selectors
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

PATIENCE_S = 5.0
SO_TIMESTAMPNS = 35
_CALL = re.compile(rb"^(?:Call-ID|i)\s*:\s*probe-(\d+)-", re.MULTILINE | re.IGNORECASE)
_TO = re.compile(rb"^(?:To|t)\s*:\s*(.*?)\r?$", re.MULTILINE | re.IGNORECASE)
_CSEQ = re.compile(rb"^CSeq\s*:\s*\d+\s+(\w+)", re.MULTILINE | re.IGNORECASE)


@dataclass(slots=True)
class Findings:
    """What became of the calls."""

    placed: int = 0
    completed: int = 0  # INVITE and BYE answered with 200
    failed: int = 0
    milliseconds: list[float] = field(default_factory=list)  # INVITE to 200, one for each answered call

    def to_data(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


def request(method: str, call: int, *, target: str, source: str, port: int, to: str, body: str = "") -> bytes:
    """One request of a call, as SIPp's `-sn uac` would write it."""
    sequence = 2 if method == "BYE" else 1
    lines = [
        f"{method} sip:service@{target}:5060 SIP/2.0",
        f"Via: SIP/2.0/UDP {source}:{port};branch=z9hG4bK-probe-{call}-{method}",
        f"From: probe <sip:probe@{source}:{port}>;tag=probe{call}",
        f"To: {to}",
        f"Call-ID: probe-{call}-{port}@{source}",
        f"CSeq: {sequence} {method}",
        f"Contact: sip:probe@{source}:{port}",
        "Max-Forwards: 70",
        "Subject: Performance Test",
        *(["Content-Type: application/sdp"] if body else []),
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


class Probe:
    """One run of it."""

    def __init__(self, target: str, source: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 2**20)
        self._socket.bind((source, 0))
        self._target = target
        self._source = source
        self._port = self._socket.getsockname()[1]
        self._sent_ns: dict[int, int] = {}  # calls that wait for their 200, or for that of their BYE
        self._to: dict[int, str] = {}  # calls that are being ended
        self.findings = Findings()

    def run(self, rate: float, seconds: float) -> Findings:
        """Place calls for `seconds`, then wait for the last."""
        chance = Random(1)
        waiting = selectors.DefaultSelector()
        waiting.register(self._socket, selectors.EVENT_READ)
        began = time.monotonic()
        due = began + chance.expovariate(rate)
        while True:
            now = time.monotonic()
            if now >= due and due < began + seconds:
                self._place()
                due += chance.expovariate(rate)
                continue
            placing = due < began + seconds
            if not placing and (not self._sent_ns or now > began + seconds + PATIENCE_S):
                break
            until = due if placing else began + seconds + PATIENCE_S
            if waiting.select(min(max(0.0, until - now), 0.5)):
                self._read()
        self.findings.failed += len(self._sent_ns)
        self._socket.close()
        return self.findings

    def _place(self) -> None:
        call = self.findings.placed
        self.findings.placed += 1
        body = (
            f"v=0\r\no=probe 1 1 IN IP4 {self._source}\r\ns=-\r\nc=IN IP4 {self._source}\r\nt=0 0\r\n"
            "m=audio 6000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
        )
        data = self._request("INVITE", call, f"service <sip:service@{self._target}:5060>", body)
        self._sent_ns[call] = time.time_ns()
        self._socket.sendto(data, (self._target, 5060))

    def _request(self, method: str, call: int, to: str, body: str = "") -> bytes:
        return request(method, call, target=self._target, source=self._source, port=self._port, to=to, body=body)

    def _read(self) -> None:
        while True:
            try:
                data, notes, _, _ = self._socket.recvmsg(65536, 128)
            except BlockingIOError:
                return
            self._hear(data, arrival_ns(notes))

    def _hear(self, data: bytes, arrived_ns: int) -> None:
        named, method = _CALL.search(data), _CSEQ.search(data)
        call = int(named[1]) if named else -1
        if call not in self._sent_ns or method is None or data[8:9] == b"1":
            return  # a 100, or a repetition
        if data[8:11] != b"200":
            self.findings.failed += 1
            del self._sent_ns[call]
        elif method[1] == b"BYE":
            self.findings.completed += 1
            del self._sent_ns[call]
        elif call not in self._to:
            self.findings.milliseconds.append((arrived_ns - self._sent_ns[call]) / 1e6)
            to = _TO.search(data)
            self._to[call] = to[1].decode() if to else ""
            for following in ("ACK", "BYE"):
                self._socket.sendto(self._request(following, call, self._to[call]), (self._target, 5060))


def arrival_ns(notes: Sequence[tuple[int, int, bytes]]) -> int:
    """When the kernel has got a datagram, by what it has noted beside it."""
    return next(
        (_nanoseconds(note) for level, kind, note in notes if (level, kind) == (1, SO_TIMESTAMPNS)), time.time_ns()
    )


def _nanoseconds(note: bytes) -> int:
    seconds, nanoseconds = struct.unpack("qq", note[:16])
    return int(seconds * 1_000_000_000 + nanoseconds)


if __name__ == "__main__":
    gc.disable()
    _, given_target, given_source, given_rate, given_seconds = sys.argv
    found = Probe(given_target, given_source).run(float(given_rate), float(given_seconds))
    print(json.dumps(found.to_data()))
