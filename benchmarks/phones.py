"""Phones that register, or only ask, with a good clock: `python -m benchmarks.phones TARGET SOURCE RATE SECONDS USERS METHOD` prints
one JSON object. METHOD is REGISTER or OPTIONS.

Each of USERS first registers by a challenge; then, at RATE and in turn, they renew their bindings. A phone uses the nonce that it
has, with the next count, and answers a challenge with the same REGISTER once more, as phones do: so most of them cost one request,
and each nonce that is too old costs two. With OPTIONS nobody registers, and each phone asks what the server can do. From the first
request to its 200 the time is taken as `probe` takes it. Standard library only; it repeats nothing, so a request that loses a packet
has failed.
"""

from __future__ import annotations

import gc
import json
import re
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path

from benchmarks.probe import PATIENCE_S, SO_TIMESTAMPNS, Findings, arrival_ns

PASSWORD = "secret"
READY, GO = "ready", "go"  # files in our directory: everybody has registered; begin
REALM = "bench.example"
REGISTER, OPTIONS = "REGISTER", "OPTIONS"
_WHO = re.compile(rb"^Call-ID: phone-(\d+)@\S+\r\nCSeq: (\d+) ", re.MULTILINE)
_CHALLENGE = re.compile(rb"^WWW-Authenticate: Digest ([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
_NONCE = re.compile(rb'nonce="([^"]+)"')
_ALGORITHM = re.compile(rb"algorithm=\"?([A-Za-z0-9-]+)")


def username(number: int) -> str:
    """What a phone is called."""
    return f"u{number}"


@dataclass(slots=True)
class Phone:
    """One of them."""

    number: int
    ha1: str
    sequence: int = 0
    nonce: str = ""
    count: int = 0
    began_ns: int = 0  # of the REGISTER under way; 0: none is


class Phones:
    """All of them on one socket: a port for each would only cost us files."""

    def __init__(self, target: str, source: str, users: int, method: str = REGISTER) -> None:
        self.method = method
        self.target = target
        self.source = source
        self.users = users
        self.findings = Findings()
        self.phones: list[Phone] = []
        self.challenged = 0
        self.took_s = 0.0  # placing them: more than it should be where the load could not keep up
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 2**20)
        self._socket.bind((self.source, 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        for number in range(self.users):
            a1 = f"{username(number)}:{REALM}:{PASSWORD}".encode()
            self.phones.append(Phone(number, md5(a1, usedforsecurity=False).hexdigest()))

    def run(self, rate: float, seconds: float) -> Findings:
        """Everybody registers; then `rate` renewals a second for so long. What the first do is in no figure."""
        if self.method == REGISTER:
            self._at(min(rate, 200.0), self.users)
        self.findings, self.challenged = Findings(), 0
        Path(READY).touch()
        while not Path(GO).exists():
            time.sleep(0.005)
        self._at(rate, round(rate * seconds))
        return self.findings

    def _at(self, rate: float, wanted: int) -> None:
        began = time.monotonic()
        for turn in range(wanted):
            due = began + turn / rate
            while (now := time.monotonic()) < due:
                self._hear(due - now)
            phone = self.phones[turn % self.users]
            self.findings.placed += 1
            if phone.began_ns:
                self.findings.failed += 1  # the one before has not come to its end: too slow for this rate
            phone.began_ns = time.time_ns()
            self._send(phone)
            self._hear(0.0)
        self.took_s = time.monotonic() - began
        patience = time.monotonic() + PATIENCE_S
        while any(phone.began_ns for phone in self.phones) and time.monotonic() < patience:
            self._hear(0.05)
        for phone in self.phones:
            self.findings.failed += phone.began_ns > 0
            phone.began_ns = 0

    def _send(self, phone: Phone) -> None:
        phone.sequence += 1
        user, port = username(phone.number), self._socket.getsockname()[1]
        aor = f"<sip:{user}@{REALM}>"
        registers = self.method == REGISTER
        lines = [
            f"{self.method} sip:{REALM if registers else self.target} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.source}:{port};branch=z9hG4bK-{phone.number}-{phone.sequence};rport",
            "Max-Forwards: 70",
            f"From: {aor};tag=p{phone.number}",
            f"To: {aor}",
            f"Call-ID: phone-{phone.number}@{self.source}",
            f"CSeq: {phone.sequence} {self.method}",
            f"Contact: <sip:{user}@{self.source}:{port};line={phone.number}>",
            "Expires: 600" if registers else "Accept: application/sdp",
            "User-Agent: phones",
            *([self._proof(phone, user)] if phone.nonce else []),
            "Content-Length: 0",
        ]
        self._socket.sendto(("\r\n".join(lines) + "\r\n\r\n").encode(), (self.target, 5060))

    def _proof(self, phone: Phone, user: str) -> str:
        phone.count += 1
        a2 = md5(f"REGISTER:sip:{REALM}".encode(), usedforsecurity=False).hexdigest()
        text = f"{phone.ha1}:{phone.nonce}:{phone.count:08x}:c:auth:{a2}"
        response = md5(text.encode(), usedforsecurity=False).hexdigest()
        return (
            f'Authorization: Digest username="{user}", realm="{REALM}", nonce="{phone.nonce}", uri="sip:{REALM}", '
            f'algorithm=MD5, qop=auth, nc={phone.count:08x}, cnonce="c", response="{response}"'
        )

    def _hear(self, timeout_s: float) -> None:
        if not self._selector.select(timeout_s):
            return
        while True:
            try:
                data, notes, _, _ = self._socket.recvmsg(65536, 128)
            except BlockingIOError:
                return
            self._heard(data, arrival_ns(notes))

    def _heard(self, data: bytes, arrived_ns: int) -> None:
        who = _WHO.search(data)
        phone = self.phones[int(who[1])] if who else None
        if who is None or phone is None or int(who[2]) != phone.sequence or not phone.began_ns:
            return
        nonce = _nonce(data) if data[8:11] == b"401" else None
        if nonce is not None and nonce != phone.nonce:
            self.challenged += 1
            phone.nonce, phone.count = nonce, 0
            self._send(phone)
            return
        if data[8:11] == b"200":
            self.findings.completed += 1
            self.findings.milliseconds.append((arrived_ns - phone.began_ns) / 1e6)
        else:
            self.findings.failed += 1
        phone.began_ns = 0


def _nonce(data: bytes) -> str | None:
    """That of the challenge for MD5, which is also meant where no algorithm is named (RFC 3261 §22.4)."""
    for challenge in _CHALLENGE.findall(data):
        algorithm, nonce = _ALGORITHM.search(challenge), _NONCE.search(challenge)
        if nonce is not None and (algorithm is None or algorithm[1] == b"MD5"):
            return nonce[1].decode()
    return None


def main(target: str, source: str, rate: float, seconds: float, users: int, method: str) -> None:
    """Run, and print what was found."""
    phones = Phones(target, source, users, method)
    gc.disable()
    findings = phones.run(rate, seconds)
    print(json.dumps(findings.to_data() | {"challenged": phones.challenged, "took_s": phones.took_s}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
