"""The phones of the benchmark against an authenticator of ours: they prove who they are, and count what became of it."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.phones import GO, OPTIONS, PASSWORD, READY, REALM, Phones
from benchmarks.processes import private_loopback
from bridge.ambient import SystemClock
from bridge.sip.authenticator import Authenticator, Verified
from bridge.sip.digest import Algorithm, make_ha1
from bridge.sip.message import Request
from bridge.sip.parser import parse
from bridge.sip.user_agent import respond


class Registrar(threading.Thread):
    """Lets in who knows the password."""

    def __init__(self, host: str) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 5060))
        self._made = 0
        self.refusing = False
        self.verified = 0
        self.heard: Counter[str] = Counter()
        self.authenticator = Authenticator(secret=b"benchmark", realm=REALM, algorithms=(Algorithm.MD5,))

    def run(self) -> None:
        while data := self._socket.recvfrom(65536):
            request = parse(data[0])
            if not isinstance(request, Request):
                return  # `stop`
            self._socket.sendto(self._answer(request), data[1])

    def _answer(self, request: Request) -> bytes:
        self.heard[request.method] += 1
        if request.method == OPTIONS:
            return respond(request, 200).encode()
        now, given = SystemClock().now(), self.authenticator.credentials(request)
        if self.refusing:
            return respond(request, 503).encode()
        if given is not None:
            ha1 = make_ha1(given.username, REALM, PASSWORD)
            if isinstance(self.authenticator.verify(given, ha1, method="REGISTER", now=now), Verified):
                self.verified += 1
                return respond(request, 200).encode()
        self._made += 1
        return respond(request, 401, headers=self.authenticator.challenge(f"u{self._made}", now=now)).encode()

    def stop(self) -> None:
        self._socket.sendto(b"\r\n", self._socket.getsockname())
        self.join()
        self._socket.close()


@pytest.fixture
def registrar() -> Iterator[tuple[str, Registrar]]:
    host = private_loopback()
    made = Registrar(host)
    made.start()
    yield host, made
    made.stop()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the signals lie: everybody may begin at once."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / GO).touch()
    return tmp_path


def test_they_register_once_and_then_renew_with_the_nonce_they_have(
    registrar: tuple[str, Registrar], directory: Path
) -> None:
    host, server = registrar
    phones = Phones(host, host, 3)
    found = phones.run(200, 0.05)
    assert (directory / READY).exists()
    assert (found.placed, found.completed, found.failed) == (10, 10, 0)
    assert len(found.milliseconds) == 10
    assert phones.challenged == 0
    assert server.verified == 13


def test_a_refusal_is_a_failure(registrar: tuple[str, Registrar], directory: Path) -> None:
    host, server = registrar
    server.refusing = True
    found = Phones(host, host, 2).run(200, 0.02)
    assert (found.placed, found.completed, found.failed) == (4, 0, 4)


def test_who_only_asks_does_not_register_before(registrar: tuple[str, Registrar], directory: Path) -> None:
    host, server = registrar
    phones = Phones(host, host, 3, OPTIONS)
    found = phones.run(200, 0.05)
    assert (found.placed, found.completed, found.failed) == (10, 10, 0)
    assert server.heard == {OPTIONS: 10}
    assert phones.took_s > 0
