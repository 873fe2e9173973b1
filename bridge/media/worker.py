"""A media worker: `python -m bridge.media.worker`, a process of its own that holds RTP ports and does as it is told.

One thread, one epoll, no garbage collector: what a packet costs is what `session` does with it. It obeys one connection
of signalling at a time (`protocol`); a newer one replaces the older. Left alone it goes on as told and begins nothing; after
`--grace-s` it closes what it has. Uses the standard library only, and knows nothing of SIP, calls or configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from time import monotonic

from bridge.agenda import Agenda
from bridge.media.exits import Exits
from bridge.media.link import Link, listen
from bridge.media.neighbours import SUFFIX, Entrance
from bridge.media.ports import Pair, PortPool, parse_ports
from bridge.media.protocol import (
    LISTED_AT_ONCE,
    MAJOR,
    MINOR,
    Message,
    quality_to_data,
    rule_from_data,
    rule_to_data,
)
from bridge.media.readers import PACKET_BYTES, Readers
from bridge.media.session import Session
from bridge.rtp.telephone_event import Digit

STATS_S = 1.0
EVENTS_AT_ONCE = 256
RESERVED_MOST = 256  # ports that signalling may hold in hand


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says."""

    socket: str  # path of the Unix socket to listen on
    bind: str  # address of the RTP ports
    ports: tuple[int, ...]  # RTP ports, even
    timeout_s: float = 60.0  # of an expected stream
    keepalive_s: float = 15.0
    cooldown_s: float = 5.0  # of a closed port
    heartbeat_s: float = 3.0  # without a word for so long, signalling is taken for away
    grace_s: float = 60.0  # and after so long, for gone


class Timer(Enum):
    """What a session or the worker waits for."""

    KEEP_ALIVE = auto()
    SILENT_FAR_END = auto()
    DIGITS = auto()
    STATS = auto()
    GRACE = auto()


class Worker:
    """The process: its ports, its sessions, its one connection to signalling."""

    def __init__(self, settings: Settings, *, now: float) -> None:
        """Binds the ports and the socket. Raises OSError where the socket cannot be had."""
        self._settings = settings
        self._identity = os.urandom(8).hex()
        self._readers = Readers()
        self._listener = listen(settings.socket)
        self._pool = PortPool(settings.bind, settings.ports, cooldown_s=settings.cooldown_s)
        self._link: Link | None = None
        self._greeted = False  # both ends of the connection speak the same version
        self._heard_of_signalling = now
        self._sessions: dict[str, Session] = {}
        self._reserved: dict[int, Pair] = {}  # by port: lent to signalling, which will name the session
        self._agenda: Agenda[tuple[Timer, Session | None]] = Agenda()
        self._agenda.arm((Timer.STATS, None), now + STATS_S)
        self._agenda.arm((Timer.GRACE, None), now + settings.grace_s)
        self._totals = dict.fromkeys(("received", "sent", "strangers", "invalid"), 0)  # of closed sessions
        self._stopping = False
        self._exits = Exits(self._sessions)
        self._entrance = Entrance(settings.socket + SUFFIX, readers=self._readers, sessions=self._sessions)
        self._wake_reader, self._wake_writer = socket.socketpair()
        for descriptor in (self._listener.fileno(), self._wake_reader.fileno()):
            self._readers.epoll.register(descriptor, select.EPOLLIN)
        self._commands: Mapping[str, Callable[[Message, float], None]] = {
            "hello": self._on_hello,
            "reserve": self._on_reserve,
            "open": self._on_open,
            "reopen": self._on_reopen,
            "rule": self._on_rule,
            "close": self._on_close,
            "list": self._on_list,
            "heartbeat": self._on_heartbeat,
        }

    @property
    def skipped(self) -> Sequence[tuple[int, str]]:
        """The ports that could not be bound, and why."""
        return self._pool.skipped

    @property
    def pairs(self) -> int:
        """How many pairs of ports were bound."""
        return len(self._pool)

    def stop(self) -> None:
        """Make `run` return. May be called from a signal handler."""
        self._stopping = True
        with contextlib.suppress(BlockingIOError):  # then a wake-up is on its way already
            self._wake_writer.send(b".", socket.MSG_DONTWAIT)

    def run(self) -> None:
        """Serve until `stop`."""
        poll, agenda, readers = self._readers.epoll.poll, self._agenda, self._readers.by_descriptor
        buffer = memoryview(bytearray(PACKET_BYTES))
        while not self._stopping:
            deadline = agenda.deadline()
            ready = poll(None if deadline is None else max(0.0, deadline - monotonic()), EVENTS_AT_ONCE)
            now = monotonic()
            for descriptor, events in ready:
                read = readers.get(descriptor)
                if read is not None:
                    read(buffer, now)
                else:
                    self._serve(descriptor, events, now)
            while (due := agenda.pop_due(now)) is not None:
                self._fire(*due, now=now)

    def close(self) -> None:
        """Give everything back."""
        if self._link is not None:
            self._link.close()
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._settings.socket)
        self._entrance.close()
        self._exits.close()
        self._pool.close()
        self._wake_reader.close()
        self._wake_writer.close()
        self._readers.close()

    # The connection to signalling

    def _serve(self, descriptor: int, events: int, now: float) -> None:
        link = self._link
        if descriptor == self._listener.fileno():
            self._accept(now)
        elif link is not None and descriptor == link.socket.fileno():
            if events & select.EPOLLOUT:
                link.flush()
            if events & ~select.EPOLLOUT:
                self._obey(link, now)
        # else: a session or connection that an earlier event of this round has closed

    def _accept(self, now: float) -> None:
        try:
            connected, _ = self._listener.accept()
        except OSError:
            return  # it has hung up before we came
        self._hang_up()
        connected.settimeout(0)
        descriptor, epoll = connected.fileno(), self._readers.epoll
        epoll.register(descriptor, select.EPOLLIN)
        self._link = Link(
            connected,
            watch=lambda: epoll.modify(descriptor, select.EPOLLIN | select.EPOLLOUT),
            unwatch=lambda: epoll.modify(descriptor, select.EPOLLIN),
        )
        self._greeted = False
        self._heard_of_signalling = now
        self._say(
            {
                "type": "hello",
                "v": MAJOR,
                "minor": MINOR,
                "worker": self._identity,
                "pid": os.getpid(),
                "ports": len(self._pool),
                "skipped": len(self._pool.skipped),
                "relay": self._entrance.path,
            }
        )

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        for pair in self._reserved.values():
            self._pool.take_back_unused(pair)
        self._reserved.clear()
        if link is not None:
            self._readers.epoll.unregister(link.socket.fileno())
            link.close()

    def _obey(self, link: Link, now: float) -> None:
        for message in link.receive():
            self._heard_of_signalling = now
            if message is None:
                self._refuse("not a JSON object with a type")
                continue
            command = self._commands.get(str(message["type"]))
            if command is None:
                continue  # of a later minor version
            if not self._greeted and command != self._on_hello:
                self._refuse("say hello first")
                continue
            command(message, now)
            if self._link is not link:
                return
        if link.closed:
            self._hang_up()

    def _say(self, message: Message) -> None:
        if self._link is not None:
            self._link.send(message)

    def _refuse(self, reason: str) -> None:
        self._say({"type": "error", "reason": reason})

    # What signalling says

    def _on_hello(self, message: Message, now: float) -> None:
        if message.get("v") != MAJOR:
            self._refuse(f"version {message.get('v')!r} is not understood, only {MAJOR}")
            self._hang_up()
            return
        self._greeted = True

    def _on_reserve(self, message: Message, now: float) -> None:
        count = message.get("count")
        if not isinstance(count, int):
            self._refuse("reserve without a count")
            return
        ports: list[int] = []
        while len(ports) < min(count, RESERVED_MOST - len(self._reserved)):
            pair = self._pool.lend(now=now)
            if pair is None:
                break
            self._reserved[pair.port] = pair
            ports.append(pair.port)
        self._say({"type": "reserved", "ports": ports, "free": self._pool.free(now=now)})

    def _on_open(self, message: Message, now: float) -> None:
        name = message.get("session")
        if not isinstance(name, str):
            self._refuse("open without a session")
            return
        session, port = self._sessions.get(name), message.get("port")
        if session is None:
            pair = self._reserved.pop(port, None) if isinstance(port, int) else self._pool.lend(now=now)
            if pair is None:
                self._say({"type": "no_port", "session": name})
                return
            pair.drain()
            session = self._begin(name, pair, now)
        if port is None:
            self._say({"type": "opened", "session": name, "port": session.pair.port})
        if message.get("rule") is not None:
            self._on_rule(message, now)

    def _on_reopen(self, message: Message, now: float) -> None:
        name, port = message.get("session"), message.get("port")
        if not isinstance(name, str) or not isinstance(port, int):
            self._refuse("reopen without a session and a port")
            return
        session = self._sessions.get(name)
        if session is None:
            pair = self._pool.lend_again(port, now=now)
            if pair is None:
                self._say({"type": "no_port", "session": name})
                return
            session = self._begin(name, pair, now)
        self._say({"type": "opened", "session": name, "port": session.pair.port})
        if message.get("rule") is not None:
            self._on_rule(message, now)

    def _begin(self, name: str, pair: Pair, now: float) -> Session:
        session = self._sessions[name] = Session(
            name, pair, readers=self._readers, on_digits=self._hear_digits, now=now
        )
        session.open()
        self._exits.opened(session)
        return session

    def _on_rule(self, message: Message, now: float) -> None:
        session = self._sessions.get(str(message.get("session")))
        if session is None:
            return  # closed meanwhile; the list that follows a reconnection tells
        rule = rule_from_data(message.get("rule"))
        if rule is None:
            self._refuse(f"rule of session {session.name} not understood")
            return
        session.apply(rule, now=now)
        if session.rule is not rule:
            return  # a newer one is in force
        via = message.get("via")
        self._exits.lead(session, via if isinstance(via, str) else None)
        keep_alive = Timer.KEEP_ALIVE, session
        if not session.wants_keep_alive:
            self._agenda.disarm(keep_alive)
        elif keep_alive not in self._agenda:
            # The first at once: it opens the way through a firewall on the far side.
            session.send_silence(now=now)
            self._agenda.arm(keep_alive, now + self._settings.keepalive_s)
        if not session.expects_media:
            self._agenda.disarm((Timer.SILENT_FAR_END, session))
        elif not session.timed_out:
            self._agenda.arm((Timer.SILENT_FAR_END, session), session.heard_at + self._settings.timeout_s)

    def _on_close(self, message: Message, now: float) -> None:
        name = str(message.get("session"))
        session = self._sessions.get(name)
        quality = None
        if session is not None:
            self._close_session(session, now)
            quality = quality_to_data(session.quality())
        self._say({"type": "closed", "session": name, "quality": quality})

    def _on_list(self, message: Message, now: float) -> None:
        sessions = list(self._sessions.values())
        for start in range(0, len(sessions) or 1, LISTED_AT_ONCE):
            listed = [
                {
                    "session": session.name,
                    "port": session.pair.port,
                    "rule": None if session.rule is None else rule_to_data(session.rule),
                    "timed_out": session.timed_out,  # what was said of it before was perhaps said to nobody
                }
                for session in sessions[start : start + LISTED_AT_ONCE]
            ]
            more = start + LISTED_AT_ONCE < len(sessions)
            self._say({"type": "listed", "sessions": listed, "free": self._pool.free(now=now), "more": more})

    def _on_heartbeat(self, message: Message, now: float) -> None:
        """Any word is a sign of life; this one says nothing else."""

    # What the clock says

    def _fire(self, timer: Timer, session: Session | None, *, now: float) -> None:
        settings, agenda = self._settings, self._agenda
        match timer:
            case Timer.KEEP_ALIVE if session is not None:
                # Packets do not touch the agenda here either: silence is for a far end that hears nobody (RFC 6263).
                due = now if session.sent_at is None else session.sent_at + settings.keepalive_s
                if due <= now:
                    session.send_silence(now=now)
                    due = now + settings.keepalive_s
                agenda.arm((timer, session), due)
            case Timer.SILENT_FAR_END if session is not None:
                # Packets do not touch the agenda: whether one has come is looked up when the time is over.
                due = session.heard_at + settings.timeout_s
                if due > now:
                    agenda.arm((timer, session), due)
                    return
                session.timed_out = True
                self._say({"type": "timed_out", "session": session.name})
            case Timer.DIGITS if session is not None:
                session.expire_digits(now=now)
            case Timer.STATS:
                agenda.arm((timer, None), now + STATS_S)
                # To an end that does not read, saying more only fills the queue.
                if self._greeted and now - self._heard_of_signalling <= settings.heartbeat_s:
                    self._say(self._stats(now))
            case Timer.GRACE:
                due = self._heard_of_signalling + settings.grace_s
                if due > now:
                    agenda.arm((timer, None), due)
                    return
                agenda.arm((timer, None), now + settings.grace_s)
                # Should it come back after all, it finds an empty list on its next connection.
                self._hang_up()
                for orphan in list(self._sessions.values()):
                    self._close_session(orphan, now)

    def _hear_digits(self, session: Session, digits: tuple[Digit, ...]) -> None:
        for digit, duration_ms in digits:
            self._say({"type": "dtmf", "session": session.name, "digit": digit, "duration_ms": duration_ms})
        deadline = session.digits_deadline
        if deadline is None:
            self._agenda.disarm((Timer.DIGITS, session))
        else:
            self._agenda.arm((Timer.DIGITS, session), deadline)

    def _stats(self, now: float) -> Message:
        totals = dict(self._totals)
        for session in self._sessions.values():
            _add(totals, session)
        return {"type": "stats", "free": self._pool.free(now=now), "open": len(self._sessions), **totals}

    def _close_session(self, session: Session, now: float) -> None:
        del self._sessions[session.name]
        session.close()
        self._exits.closed(session)
        for timer in (Timer.KEEP_ALIVE, Timer.SILENT_FAR_END, Timer.DIGITS):
            self._agenda.disarm((timer, session))
        _add(self._totals, session)
        self._pool.give_back(session.pair, now=now)


def _add(totals: dict[str, int], session: Session) -> None:
    counters = session.counters
    totals["received"] += counters.packets_received
    totals["sent"] += counters.packets_sent
    totals["strangers"] += counters.strangers
    totals["invalid"] += counters.invalid


def _settings(arguments: Sequence[str] | None) -> Settings:
    parser = argparse.ArgumentParser(prog="bridge.media.worker", description="Holds RTP ports for a sip-bridge.")
    parser.add_argument("--socket", required=True, help="path of the Unix socket that signalling connects to")
    parser.add_argument("--bind", default="0.0.0.0", help="address of the RTP ports")  # noqa: S104 -- as any SIP server
    parser.add_argument("--ports", required=True, help="20000-20499[,...]: RTP on the even, RTCP on the odd ones")
    for name in ("timeout_s", "keepalive_s", "cooldown_s", "heartbeat_s", "grace_s"):
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, dest=name, type=float, default=Settings.__dataclass_fields__[name].default)
    values = vars(parser.parse_args(arguments))
    try:
        values["ports"] = parse_ports(values["ports"])
    except ValueError as error:
        parser.error(f"--ports: {error}")
    return Settings(**values)


def main(arguments: Sequence[str] | None = None) -> int:
    """The process: 0 after SIGTERM, 1 when it could not start, 2 on wrong arguments."""
    settings = _settings(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the supervisor says who ends when
    try:
        worker = Worker(settings, now=monotonic())
    except OSError as error:
        print(f"media worker: cannot listen on {settings.socket}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    if worker.skipped:
        port, reason = worker.skipped[0]
        print(  # noqa: T201 -- standard error is what a worker has for a log
            f"media worker: {len(worker.skipped)} of {len(settings.ports)} port pairs left out, first {port}: {reason}",
            file=sys.stderr,
        )
    if not worker.pairs:
        print("media worker: no port left to serve", file=sys.stderr)  # noqa: T201
        worker.close()
        return 1
    signal.signal(signal.SIGTERM, lambda _signal, _frame: worker.stop())
    gc.disable()  # nothing here refers to itself; a collection would delay a packet for nothing
    try:
        worker.run()
    finally:
        worker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
