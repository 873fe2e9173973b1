"""Which session hears which: each session's exit, found by the name in its rule, here or in a neighbouring worker.

A rule may name a session that is not there yet, or not any more. Then what comes goes nowhere, until it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bridge.media.neighbours import NAME_BYTES, Neighbour, Outside
from bridge.media.session import Exit, Session


class _Way(NamedTuple):
    name: str  # of the session that hears
    via: str | None  # the path of the worker it lives in; None: in this one


class Exits:
    """The exits of all sessions of one worker."""

    __slots__ = ("_heard_by", "_neighbours", "_sessions", "_ways")

    def __init__(self, sessions: Mapping[str, Session]) -> None:
        """`sessions`: those of this worker by name, as they are at any moment."""
        self._sessions = sessions
        self._ways: dict[Session, _Way] = {}
        self._heard_by: dict[str, set[Session]] = {}  # by name of the session that hears
        self._neighbours: dict[str, Neighbour] = {}

    def lead(self, session: Session, via: str | None) -> None:
        """A rule has come into force; `via` came with it."""
        self._forget(session)
        name = None if session.rule is None else session.rule.relay_to
        if name is None:
            session.exit = None
            return
        way = self._ways[session] = _Way(name, via)
        self._heard_by.setdefault(name, set()).add(session)
        session.exit = self._find(way)

    def opened(self, session: Session) -> None:
        """It is among the sessions now: those that were waiting for it find it."""
        for heard in self._heard_by.get(session.name, ()):
            heard.exit = session

    def closed(self, session: Session) -> None:
        """It is not among the sessions any more."""
        self._forget(session)
        session.exit = None  # two that hear each other would hold each other in memory
        for heard in self._heard_by.get(session.name, ()):
            heard.exit = self._find(self._ways[heard])

    def close(self) -> None:
        """Hang up on all neighbours."""
        for neighbour in self._neighbours.values():
            neighbour.close()

    def _forget(self, session: Session) -> None:
        way = self._ways.pop(session, None)
        if way is not None:
            heard = self._heard_by[way.name]
            heard.discard(session)
            if not heard:
                del self._heard_by[way.name]

    def _find(self, way: _Way) -> Exit | None:
        here = self._sessions.get(way.name)
        name = way.name.encode()
        if here is not None or way.via is None or len(name) > NAME_BYTES:
            return here
        neighbour = self._neighbours.get(way.via)
        if neighbour is None:
            neighbour = self._neighbours[way.via] = Neighbour(way.via)
        return Outside(neighbour, name)
