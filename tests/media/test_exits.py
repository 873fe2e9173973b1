"""Who hears whom, whichever of them is opened or closed first."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from bridge.media.exits import Exits
from bridge.media.neighbours import NAME_BYTES, Outside
from bridge.media.ports import Descriptors, Pair
from bridge.media.readers import Readers
from bridge.media.session import Session
from bridge.rtp.rules import Rule

# One for each process: tests that run beside these must not have it.
HOST = f"127.92.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
RULE = Rule("192.0.2.1", 4000, ("192.0.2.1",), "strict", False, (0,), None, 8000, 1, False, relay_to="b")


class Bench:
    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.exits = Exits(self.sessions)
        self._pair = Pair(HOST, 21000, Descriptors(2))
        self._readers = Readers()

    def open(self, name: str) -> Session:
        session = self.sessions[name] = Session(
            name, self._pair, readers=self._readers, on_digits=lambda _, heard: None, now=0.0
        )
        self.exits.opened(session)
        return session

    def rule(self, session: Session, relay_to: str | None, via: str | None = None) -> None:
        session.apply(Rule(**{name: getattr(RULE, name) for name in Rule.__slots__} | {"relay_to": relay_to}), now=0.0)
        self.exits.lead(session, via)

    def close(self, session: Session) -> None:
        del self.sessions[session.name]
        self.exits.closed(session)

    def give_back(self) -> None:
        self.exits.close()
        self._readers.close()
        self._pair.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.give_back()


def test_a_session_hears_another_as_long_as_the_rule_says_so(bench: Bench) -> None:
    a, b, c = bench.open("a"), bench.open("b"), bench.open("c")
    bench.rule(a, "b")
    assert a.exit is b
    bench.rule(a, "c")
    assert a.exit is c
    bench.close(b)
    assert a.exit is c
    bench.rule(a, None)
    assert a.exit is None


def test_who_is_not_there_yet_or_not_any_more_is_waited_for(bench: Bench) -> None:
    a, c = bench.open("a"), bench.open("c")
    bench.rule(a, "b")
    bench.rule(c, "b")
    assert a.exit is None
    b = bench.open("b")
    assert a.exit is c.exit is b
    bench.close(b)
    assert a.exit is c.exit is None
    bench.close(c)
    assert bench.open("b") is a.exit
    assert c.exit is None


def test_the_way_to_another_worker_is_taken_only_where_there_is_none_here(bench: Bench) -> None:
    a = bench.open("a")
    bench.rule(a, "b", via="/nowhere/media-1.sock.relay")
    assert isinstance(a.exit, Outside)
    b = bench.open("b")
    assert a.exit is b
    bench.close(b)
    assert isinstance(a.exit, Outside)
    bench.rule(a, "b")
    assert a.exit is None


def test_a_name_that_is_too_long_for_the_way_is_nobody_s(bench: Bench) -> None:
    a = bench.open("a")
    bench.rule(a, "b" * (NAME_BYTES + 1), via="/nowhere/media-1.sock.relay")
    assert a.exit is None


def test_two_that_heard_each_other_are_forgotten_without_a_garbage_collector(bench: Bench) -> None:
    """A worker runs without one."""
    gc.disable()
    try:
        a, b = bench.open("a"), bench.open("b")
        bench.rule(a, "b")
        bench.rule(b, "a")
        bench.close(a)
        bench.close(b)
        del a, b
        assert not [found for found in gc.get_objects() if isinstance(found, Session)]
    finally:
        gc.enable()
