"""The media workers of one machine: ports that outlive the signalling process, rules, and whether anybody is heard.

What `bridge.media` does for a node, without packets: a phone that sends to an open port is heard. A worker that dies is
started again, and its sessions are opened again on their ports; sometimes another has taken one meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Protocol

from bridge.calls.facts import Quality
from bridge.engine.effects import ClosePorts, HeldPorts, OpenPorts, SetRule
from bridge.engine.inputs import Input, MediaLost, MediaTimedOut, NoPortLeft, PortsClosed, PortsOpened
from bridge.rtp.rules import Rule
from tests.sim.clock import VirtualClock
from tests.sim.network import Address, Network

FIRST_PORT = 20_000
LISTENS_EACH_S = 5.0
TIMEOUT_S = 30.0  # `media.timeout_s`
QUALITY = Quality(packets_received=7)


class Speakers(Protocol):
    """Everybody who sends media."""

    def speaks_to(self) -> set[Address]:
        """Where it goes."""
        ...

    @property
    def host(self) -> str: ...


class Session:
    """One pair of ports."""

    __slots__ = ("heard_at", "port", "rule", "told")

    def __init__(self, port: int, now: float) -> None:
        self.port = port
        self.rule: Rule | None = None
        self.heard_at = now
        self.told = False  # that nobody is heard


class Workers:
    """All workers of one machine. `hearer` is whatever process signals there now: only who has asked is answered."""

    def __init__(
        self,
        host: str,
        *,
        clock: VirtualClock,
        network: Network,
        chance: Random,
        hearer: Callable[[], Callable[[Input], None]],
        speakers: list[Speakers],
    ) -> None:
        self.host = host
        self.sessions: dict[str, Session] = {}
        self.opened = self.closed = 0
        self.room = 10_000  # sessions that fit
        self._clock = clock
        self._network = network
        self._chance = chance
        self._hearer = hearer
        self._speakers = speakers
        self._next = FIRST_PORT
        self._down = False
        clock.later(LISTENS_EACH_S, self._listen)

    def is_open(self, port: int) -> bool:
        return not self._down and any(session.port == port for session in self.sessions.values())

    # What a node asks

    def open_ports(self, wanted: OpenPorts) -> None:
        """`PortsOpened` or `NoPortLeft` comes back."""
        session = self.sessions.get(wanted.session)
        if session is None and (self._down or len(self.sessions) >= self.room):
            self._say(NoPortLeft(wanted.session))
            return
        if session is None:
            session = self._open(wanted.session, self._next)
            self._next += 2
        self._say(PortsOpened(wanted.session, self.host, session.port))

    def set_rule(self, wanted: SetRule) -> None:
        session = self.sessions.get(wanted.session)
        if session is not None:
            session.rule, session.heard_at, session.told = wanted.rule, self._clock.now(), False

    def close_ports(self, wanted: ClosePorts) -> None:
        """`PortsClosed` comes back, for a session nobody knows too."""
        known = wanted.session in self.sessions
        if known:
            self._close(wanted.session)
        self._say(PortsClosed(wanted.session, QUALITY if known else None))

    def reconcile(self, sessions: Mapping[str, HeldPorts]) -> None:
        """A new process keeps these and closes every other."""
        for name in [name for name in self.sessions if name not in sessions]:
            self._close(name)
        taken = {session.port for session in self.sessions.values()}
        for name, held in sessions.items():
            session = self.sessions.get(name)
            if session is None and held.port in taken:
                self._say(MediaLost((name,)))
                continue
            if session is None:
                session = self._open(name, held.port)
            session.rule = held.rule or session.rule
            if session.told:  # while nobody listened
                self._say(MediaTimedOut(name))

    def _open(self, name: str, port: int) -> Session:
        self.opened += 1
        session = self.sessions[name] = Session(port, self._clock.now())
        return session

    def _close(self, name: str) -> None:
        self.closed += 1
        del self.sessions[name]

    def _say(self, given: Input) -> None:
        self._clock.later(self._chance.uniform(0.0002, 0.004), partial(self._hearer(), given))

    # What befalls them

    def die(self, back_in_s: float) -> None:
        """Every worker is killed: silence, until the supervisor has started others."""
        self._down = True
        self._clock.later(back_in_s, self._back)

    def _back(self) -> None:
        self._down = False
        lost = [name for name in self.sessions if self._chance.random() < 0.1]  # somebody else has taken the port
        for name in lost:
            self._close(name)
            self._say(MediaLost((name,)))

    def _listen(self) -> None:
        """Who is heard, and who has not been for too long."""
        self._clock.later(LISTENS_EACH_S, self._listen)
        now = self._clock.now()
        if self._down or not self.sessions:
            return
        heard = {
            port
            for speaker in self._speakers
            if self._network.reaches(speaker.host, self.host)
            for host, port in speaker.speaks_to()
            if host == self.host
        }
        for name, session in self.sessions.items():
            if session.port in heard or session.rule is None or not session.rule.expects_media:
                session.heard_at = now
            elif now - session.heard_at > TIMEOUT_S and not session.told:
                session.told = True
                self._say(MediaTimedOut(name))
