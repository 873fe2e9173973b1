"""The phones of W6 against a switch of ours: they are joined, hear each other, and say what they have lost."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.messages import MessageError, address_of, contact_of, media_of, read_message, user_of, write_message
from benchmarks.pairs import GO, HANG_UP, READY, Pairs, PairsError
from benchmarks.processes import private_loopback
from benchmarks.stacks import CALLEE_PORT, address_in
from benchmarks.survival import Heard, read_phones


class Switch(threading.Thread):
    """Puts every caller through to the number it has called, with the SDPs as they are: media goes from phone to phone."""

    def __init__(self, host: str, phones: tuple[str, int]) -> None:
        super().__init__(daemon=True)
        self.host, self.phones = host, phones
        self.refuses = self.is_deaf = False  # calls; BYEs
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 5060))
        self.invites: dict[str, Any] = {}  # of callers, by the Call-ID of their callees
        self._others: dict[str, str] = {}

    def run(self) -> None:
        while (data := self._socket.recvfrom(65536)[0]) != b"stop":
            message = read_message(data)
            if message.status:
                self._answered(message)
            elif message.method == "INVITE":
                self._called(message)
            elif message.method == "BYE" and not self.is_deaf:
                self._answer(message, "200 OK")
                call_id = message.first("call-id")
                self.ask("BYE", self._others[call_id], 2)

    def stop(self) -> None:
        self._socket.sendto(b"stop", (self.host, 5060))
        self.join()
        self._socket.close()

    def ask(self, method: str, call_id: str, sequence: int, body: str = "", user: str = "any") -> None:
        lines = [
            f"{method} sip:{user}@{self.phones[0]} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.host};branch=z9hG4bK{sequence}",
        ]
        lines += [f"From: <sip:{user}@{self.host}>;tag=s", "To: <sip:any@phones>", f"Call-ID: {call_id}"]
        lines += [f"CSeq: {sequence} {method}", f"Contact: <sip:switch@{self.host}>"]
        self._socket.sendto(write_message(lines, body), self.phones)

    def _called(self, invite: Any) -> None:
        call_id = invite.first("call-id")
        if self.refuses:
            self._answer(invite, "486 Busy Here")
        elif call_id not in self._others:
            callee = f"to-{call_id}"
            self.invites[callee] = invite
            self._others |= {call_id: callee, callee: call_id}
            self.ask("INVITE", callee, 1, invite.body, user_of(invite.start))

    def _answered(self, response: Any) -> None:
        callee = response.first("call-id")
        if response.status == 200 and response.method == "INVITE" and response.sequence == 1:
            self.ask("ACK", callee, 1)
            self._answer(self.invites[callee], "200 OK", response.body)
        elif response.status == 200 and response.method == "INVITE":
            self.ask("ACK", callee, response.sequence)

    def _answer(self, request: Any, status: str, body: str = "") -> None:
        lines = [f"SIP/2.0 {status}", f"Contact: <sip:switch@{self.host}>"]
        lines += [f"{name}: {request.first(name.lower())}" for name in ("Via", "From", "To", "Call-ID", "CSeq")]
        self._socket.sendto(write_message(lines, body), self.phones)


@pytest.fixture
def switch() -> Iterator[Switch]:
    host = private_loopback()
    made = Switch(host, (address_in(host, 9), CALLEE_PORT))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Found(threading.Thread):
    """Phones of three pairs, two of which talk."""

    def __init__(self, switch: Switch) -> None:
        super().__init__(daemon=True)
        self.pairs = Pairs(switch.host, *switch.phones, 3, 2, 60.0)
        self._found: dict[str, Any] | None = None
        self.start()

    def run(self) -> None:
        self._found = self.pairs.run()

    def watch(self, directory: Path) -> int:
        """From when on they are watched."""
        until((directory / READY).exists)
        (directory / GO).touch()
        return time.time_ns()

    def hang_up(self, directory: Path, ended_ns: int) -> Heard:
        (directory / HANG_UP).touch()
        self.join(60.0)
        assert self._found is not None
        return read_phones(json.dumps(self._found), ended_ns)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_pairs_are_joined_talk_are_asked_again_and_end(switch: Switch, directory: Path) -> None:
    phones = Found(switch)
    ended_ns = phones.watch(directory)
    for call_id, invite in switch.invites.items():
        switch.ask("INVITE", call_id, 2, invite.body)
    until(lambda: sum(leg.reinvited_ns > ended_ns for leg in phones.pairs.legs.values()) == 3)
    found = phones.hang_up(directory, ended_ns)
    assert (found.ended, found.lost, dict(found.byes)) == (6, 0, {200: 3})
    assert len(found.reinvited_ms) == 3
    assert len(found.silences_ms) == 4
    assert min(found.silences_ms) > 0


def test_who_talks_is_spread_over_all(switch: Switch) -> None:
    host, port = switch.phones
    for pairs, talking in ((10, 2), (3, 2), (4, 4)):
        phones = Pairs(switch.host, host, port, pairs, talking, 1.0)
        chosen = [pair for pair in range(pairs) if phones.is_talking(pair)]
        phones.close()
        assert len(chosen) == talking
        assert max(later - one for one, later in pairwise(chosen)) <= -(-pairs // talking)


def test_a_call_that_is_hung_up_on_is_lost(switch: Switch, directory: Path) -> None:
    phones = Found(switch)
    ended_ns = phones.watch(directory)
    switch.ask("BYE", next(iter(switch.invites)), 2)
    until(lambda: any(leg.hung_up_early for leg in phones.pairs.legs.values()))
    found = phones.hang_up(directory, ended_ns)
    assert (found.ended, found.lost, dict(found.byes)) == (5, 1, {200: 3})


def test_calls_whose_bye_nobody_answers_are_lost(
    switch: Switch, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phones = Found(switch)
    ended_ns = phones.watch(directory)
    switch.is_deaf = True
    monkeypatch.setattr("benchmarks.pairs.PATIENCE_S", 0.5)
    found = phones.hang_up(directory, ended_ns)
    assert (found.ended, found.lost, dict(found.byes)) == (0, 6, {0: 3})


def test_who_hears_nothing_any_more_is_lost(switch: Switch, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phones = Found(switch)
    ended_ns = phones.watch(directory)
    caller = next(leg for leg in phones.pairs.legs.values() if leg.number == 4)  # of a pair that talks
    caller.speaks_to = None
    monkeypatch.setattr("benchmarks.pairs.DEAF_S", 1.2)
    before = caller.heard_ns
    until(lambda: caller.heard_ns - before > 1.5e9)
    found = phones.hang_up(directory, ended_ns)
    assert (found.ended, found.lost) == (6, 1)
    assert max(found.silences_ms) > 1200


def test_pairs_that_cannot_be_made_are_an_error(switch: Switch, directory: Path) -> None:
    switch.refuses = True
    with pytest.raises(PairsError, match="486"):
        Pairs(switch.host, *switch.phones, 1, 1, 10.0).run()


def test_a_message_is_taken_apart_and_written() -> None:
    body = "v=0\r\nc=IN IP4 127.0.0.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
    data = write_message(
        ["INVITE sip:17@127.0.0.9:5070 SIP/2.0", "CSeq: 3 INVITE", "Contact: <sip:a@127.0.0.1>;x"], body
    )
    message = read_message(data)
    assert (message.status, message.sequence, message.method) == (0, 3, "INVITE")
    assert (user_of(message.start), contact_of(message)) == ("17", "sip:a@127.0.0.1")
    assert media_of(message.body) == ("127.0.0.9", 4000)
    assert media_of("m=audio 4002 RTP/AVP 0\r\nc=IN IP4 127.0.0.8\r\n") == ("127.0.0.8", 4002)
    assert media_of("") is None
    assert address_of("sip:127.0.0.1") == ("127.0.0.1", 5060)
    assert read_message(b"SIP/2.0 486 Busy Here\r\nCSeq: 1 BYE\r\n\r\n").status == 486
    with pytest.raises(MessageError):
        address_of("sip:somewhere")
