"""The probe against a server that does what the test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks.probe import Probe, request
from benchmarks.processes import private_loopback
from bridge.sip.message import Request
from bridge.sip.parser import parse
from bridge.sip.user_agent import respond

Answering = Callable[[Request], list[int]]


class Server(threading.Thread):
    """Answers each request with these codes, in their order."""

    def __init__(self, host: str, answering: Answering) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 5060))
        self._answering = answering
        self.heard: list[str] = []

    def run(self) -> None:
        while data := self._socket.recvfrom(65536):
            message = parse(data[0])
            if not isinstance(message, Request):
                return  # `stop`
            self.heard.append(message.method)
            for code in self._answering(message):
                answer = respond(message, code, to_tag=None if code == 100 else "far")
                self._socket.sendto(answer.encode(), data[1])

    def stop(self) -> None:
        self._socket.sendto(b"\r\n", self._socket.getsockname())
        self.join()
        self._socket.close()


@pytest.fixture
def host() -> str:
    return private_loopback()


@pytest.fixture
def serve(host: str) -> Iterator[Callable[[Answering], Server]]:
    servers: list[Server] = []

    def start(answering: Answering) -> Server:
        servers.append(Server(host, answering))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def test_every_answered_call_is_acknowledged_ended_and_measured_once(
    host: str, serve: Callable[[Answering], Server]
) -> None:
    server = serve(lambda message: {"INVITE": [100, 200, 200], "BYE": [200]}.get(message.method, []))
    found = Probe(host, host).run(200.0, 0.2)
    assert found.placed == found.completed == len(found.milliseconds) > 0
    assert found.failed == 0
    assert all(0 < each < 1000 for each in found.milliseconds)
    assert {method: server.heard.count(method) for method in ("INVITE", "ACK", "BYE")} == dict.fromkeys(
        ("INVITE", "ACK", "BYE"), found.placed
    )


def test_a_refused_call_has_failed_and_has_no_time(host: str, serve: Callable[[Answering], Server]) -> None:
    serve(lambda message: [503] if message.method == "INVITE" else [])
    found = Probe(host, host).run(200.0, 0.1)
    assert found.failed == found.placed > 0
    assert found.milliseconds == []


def test_its_requests_are_sip() -> None:
    made = parse(
        request("INVITE", 7, target="127.0.0.1", source="127.0.0.2", port=5070, to="<sip:a@b>", body="v=0\r\n")
    )
    assert isinstance(made, Request)
    assert (made.call_id, made.cseq.number, made.body) == ("probe-7-5070@127.0.0.2", 1, b"v=0\r\n")
