"""A link waits for nothing, forgets nothing, and gives up on an end that does not read."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from bridge.media.link import MAX_QUEUED, Link


class End:
    """A link and who watches its socket for writing."""

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(0)
        self.watched = False
        self.link = Link(connected, watch=lambda: self.watch(True), unwatch=lambda: self.watch(False))

    def watch(self, watched: bool) -> None:
        self.watched = watched


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    one, other = (End(part) for part in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    yield one, other
    one.link.close()
    other.link.close()


def drain(link: Link) -> list[object]:
    """All numbers that have come."""
    numbers: list[object] = []
    while messages := link.receive():
        numbers.extend(message["number"] for message in messages if message is not None)
    return numbers


def test_messages_arrive_in_order(ends: tuple[End, End]) -> None:
    one, other = ends
    one.link.send({"type": "a", "number": 1})
    one.link.send({"type": "a", "number": 2})
    assert drain(other.link) == [1, 2]
    assert not one.watched


def test_what_the_kernel_does_not_take_waits_and_keeps_its_order(ends: tuple[End, End]) -> None:
    one, other = ends
    for number in range(5000):
        one.link.send({"type": "a", "number": number})
    assert one.watched
    arrived = []
    while one.watched:
        arrived += drain(other.link)
        one.link.flush()
    arrived += drain(other.link)
    assert arrived == list(range(5000))


def test_an_end_that_never_reads_is_given_up(ends: tuple[End, End]) -> None:
    one, _other = ends
    number = 0
    while not one.link.closed:
        one.link.send({"type": "a", "number": number})
        number += 1
        assert number < MAX_QUEUED + 5000
    one.link.receive()
    assert one.link.closed


def test_the_other_end_hangs_up(ends: tuple[End, End]) -> None:
    one, other = ends
    other.link.send({"type": "a", "number": 7})
    other.link.close()
    assert drain(one.link) == [7]  # what was said before is heard
    assert one.link.closed
    one.link.send({"type": "a"})  # into nothing


def test_an_unreadable_packet_is_told_apart(ends: tuple[End, End]) -> None:
    one, other = ends
    one.link.socket.send(b"nonsense")
    one.link.send({"type": "a", "number": 1})
    assert other.link.receive() == [None, {"type": "a", "number": 1}]
