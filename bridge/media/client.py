"""Signalling's side of the media workers: opens, rules and closes, spread over the workers by their free ports.

A session lives in one worker. Where its worker has died, it is opened again on the same port as soon as there is another
(the far end hears a gap); a connection that was merely broken is found again by the worker's identity, and its sessions
by `list`. Two sessions that hear each other may live in different workers: a rule is sent with the way to the other's.
Everything is told by `give`, from the event loop; only a port that is in hand is told of from within the call that asks for
it. Knows nothing of SIP, and does not start workers: the supervisor does.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

import structlog

from bridge.calls.facts import Quality
from bridge.engine.effects import ClosePorts, HeldPorts, OpenPorts, SetRule
from bridge.engine.inputs import DtmfHeard, Input, MediaLost, MediaTimedOut, NoPortLeft, PortsClosed, PortsOpened
from bridge.errors import LocalProtocolError
from bridge.media.known import Found, MediaTotals, Session, State, Worker, read_totals, sum_totals
from bridge.media.link import Link
from bridge.media.protocol import MAJOR, MINOR, Message, rule_from_data, rule_to_data
from bridge.rtp.rules import Rule

HEARTBEAT_S = 1.0
RECONNECT_S = 0.1  # a Unix socket is there or not: asking costs nothing
START_PATIENCE_S = 5.0
REOPEN_PATIENCE_S = 10.0  # for the successor of a dead worker; the supervisor starts it at once
RESERVED = 64  # ports in hand per worker; fewer where it has few

_FIGURES = tuple([field.name for field in fields(Quality)])

log = structlog.get_logger("bridge.media")


class MediaClient:
    """All media workers of this node. One per process; its methods belong to the event loop's thread."""

    def __init__(self, sockets: Sequence[str], *, advertise: str, give: Callable[[Input], None]) -> None:
        """`sockets`: one path per worker; `advertise`: the address that `PortsOpened` names, for SDP."""
        self._advertise = advertise
        self._give = give
        self._workers = [Worker(path) for path in sockets]
        self._sessions: dict[str, Session] = {}
        self._reconciled = False
        self._running = False
        self._heartbeat: asyncio.TimerHandle | None = None
        self._reopening: set[str] = set()  # sessions in that state: no port is reserved while one may be theirs
        self._relaying: dict[
            str, set[str]
        ] = {}  # by session: those whose rules relay to it, whether it is there or not
        self._unsaid: dict[str, None] = {}  # sessions of which their workers hear at the end of this turn of the loop
        self._all_ready: asyncio.Event = asyncio.Event()

    async def start(self) -> None:
        """Connect. Returns when every worker has told what it has, or after `START_PATIENCE_S` with those that have."""
        self._loop = asyncio.get_running_loop()
        self._running = True
        for worker in self._workers:
            self._connect(worker)
        self._beat()
        try:
            await asyncio.wait_for(self._all_ready.wait(), START_PATIENCE_S)
        except TimeoutError:
            missing = [worker.path for worker in self._workers if not worker.ready]
            log.warning("media_workers_missing", sockets=missing, patience_s=START_PATIENCE_S)

    async def close(self) -> None:
        """Disconnect, and leave the workers and their sessions as they are."""
        self._running = False
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        for worker in self._workers:
            if worker.link is not None:
                self._unplug(worker, worker.link)

    def open_ports(self, wanted: OpenPorts) -> None:
        """`PortsOpened` or `NoPortLeft` comes back; asking again while it is open says the same again."""
        session = self._sessions.get(wanted.session)
        if session is None:
            self._open(wanted.session, beside=wanted.beside)
        elif session.state in (State.OPEN, State.REOPENING):
            self._soon(PortsOpened(wanted.session, self._advertise, session.port))
        elif session.state is State.CLOSING:
            raise LocalProtocolError(f"ports of {wanted.session} opened again before they were closed")

    def set_rule(self, wanted: SetRule) -> None:
        """Nothing comes back. A session that is gone is told of by `MediaLost`, not here."""
        session = self._sessions.get(wanted.session)
        if session is None or session.state is State.CLOSING or session.rule == wanted.rule:
            return
        self._keep_rule(wanted.session, session, wanted.rule)
        self._say_soon(wanted.session)

    def close_ports(self, wanted: ClosePorts) -> None:
        """`PortsClosed` comes back, for a session nobody knows too."""
        session = self._sessions.get(wanted.session)
        if session is None:
            self._soon(PortsClosed(wanted.session, None))
        elif not session.said:
            # Nobody has heard of it, and nobody has to.
            session.worker.reserved.append(session.port)
            self._drop(wanted.session)
            self._soon(PortsClosed(wanted.session, None))
        elif session.state is not State.CLOSING:
            self._reopening.discard(wanted.session)
            if session.worker.ready and session.worker.link is not None:
                session.state = State.CLOSING
                session.worker.link.send({"type": "close", "session": wanted.session})
            else:
                # Should the worker be there again, its list shows the session as nobody's, and it is closed then.
                self._drop(wanted.session)
                self._soon(PortsClosed(wanted.session, None))

    def reconcile(self, sessions: Mapping[str, HeldPorts]) -> None:
        """Take over what lives in the workers from before: to be called once, after `start` and before the first open.

        A session that a worker holds is ours again, on its port, and gets its rule anew; one that no worker holds is opened
        again on its port, and `MediaLost` comes back where that cannot be; what the workers hold besides is closed.
        """
        self._reconciled = True
        missing: list[str] = []
        found: list[tuple[str, Session]] = []
        for name, wanted in sessions.items():
            for worker in self._workers:
                held = worker.found.pop(name, None)
                if held is not None:
                    session = self._begin(name, worker, held.port, State.OPEN)
                    self._keep_rule(name, session, wanted.rule or held.rule)
                    found.append((name, session))
                    if held.timed_out:  # said before, while nobody listened
                        self._soon(MediaTimedOut(name))
                    break
            else:
                missing.append(name)
        for worker in self._workers:
            self._close_orphans(worker)
        for name in missing:
            self._reopen_anywhere(name, sessions[name])
        for name, session in found:  # now that it is known where everybody lives whom they may hear
            self._send_rule(session, name)
        self._reserve_everywhere()

    def ports_free(self) -> int:
        """How many sessions could be opened now."""
        return sum(max(0, worker.room) for worker in self._workers if worker.ready)

    def totals(self) -> MediaTotals:
        """All packets so far."""
        return sum_totals([counted for worker in self._workers for counted in (worker.counted_before, worker.counted)])

    # Opening

    def _open(self, name: str, refused_by: tuple[Worker, ...] = (), *, beside: str | None = None) -> None:
        """Ask the worker of the session `beside`, or else the one with the most room.

        `free` is only as new as its last word, so one that seems full is asked too, if there is no other.
        """
        worker: Worker | None = None
        for other in self._workers:
            if other.ready and other not in refused_by and (worker is None or other.room > worker.room):
                worker = other
        near = None if beside is None else self._sessions.get(beside)
        if near is not None and near.worker.ready and near.worker.room > 0:
            worker = near.worker
        if worker is None or worker.link is None:
            self._soon(NoPortLeft(name))
            return
        if worker.reserved:
            self._open_reserved(worker, worker.link, name)
            return
        worker.free -= 1
        session = self._begin(name, worker, 0, State.OPENING)
        session.refused_by = refused_by
        worker.link.send({"type": "open", "session": name})

    def _open_reserved(self, worker: Worker, link: Link, name: str) -> None:
        """A port in hand is opened without asking. Its first rule comes in this very turn, as a rule, and rides along."""
        session = self._begin(name, worker, worker.reserved.popleft(), State.OPEN)
        session.said = False
        self._say_soon(name)
        if len(worker.reserved) < RESERVED // 2:
            self._reserve(worker, link)
        self._give(PortsOpened(name, self._advertise, session.port))

    # What their workers hear of sessions: once in a turn of the loop, however often a rule changes in it

    def _say_soon(self, name: str) -> None:
        if not self._unsaid:
            self._loop.call_soon(self._say)
        self._unsaid[name] = None

    def _say(self) -> None:
        unsaid, self._unsaid = self._unsaid, {}
        for name in unsaid:
            session = self._sessions.get(name)
            if session is None or session.state is State.CLOSING:
                continue
            if session.said:
                self._send_rule(session, name)
                continue
            session.said = True
            if session.worker.link is not None:
                session.worker.link.send(
                    {"type": "open", "session": name, "port": session.port} | self._rule_said(session)
                )

    # Opening again what another run of a worker had

    def _reopen_anywhere(self, name: str, wanted: HeldPorts) -> None:
        """Nobody knows any more whose port it was: ask one worker after the other, those first that are there."""
        workers = sorted(self._workers, key=lambda worker: not worker.ready)
        if not workers:
            self._soon(MediaLost((name,)))
            return
        session = self._begin(name, workers[0], wanted.port, State.OPEN)
        self._keep_rule(name, session, wanted.rule)
        self._await_reopening(name, session)
        self._reopen(name, session)

    def _await_reopening(self, name: str, session: Session) -> None:
        session.state = State.REOPENING
        session.refused_by = ()
        self._reopening.add(name)
        self._loop.call_later(REOPEN_PATIENCE_S, self._give_up, name, session)

    def _reopen(self, name: str, session: Session) -> None:
        """Ask its worker, if it is there; if not, it will be asked once it has said what it holds."""
        worker = session.worker
        if worker.ready and worker.link is not None:
            worker.link.send({"type": "reopen", "session": name, "port": session.port} | self._rule_said(session))

    def _reopened(self, name: str, session: Session) -> None:
        session.state = State.OPEN
        session.worker.free -= 1
        self._reopening.discard(name)
        self._reserve_everywhere()

    def _not_reopened(self, name: str, session: Session) -> None:
        """This worker has not got the port; another may have it."""
        session.refused_by = (*session.refused_by, session.worker)
        others = [worker for worker in self._workers if worker not in session.refused_by]
        if not others:
            self._lose_session(name)
            return
        session.worker = min(others, key=lambda worker: not worker.ready)
        self._has_moved(name)
        self._reopen(name, session)

    def _give_up(self, name: str, session: Session) -> None:
        if self._running and self._sessions.get(name) is session and session.state is State.REOPENING:
            self._lose_session(name)

    def _lose_session(self, name: str) -> None:
        log.error("media_session_lost", session=name)
        self._drop(name)
        self._reopening.discard(name)
        self._reserve_everywhere()
        self._soon(MediaLost((name,)))

    def _reserve_everywhere(self) -> None:
        for worker in self._workers:
            if worker.ready and worker.link is not None:
                self._reserve(worker, worker.link)

    def _reserve(self, worker: Worker, link: Link) -> None:
        """Have some ports in hand, but never a worker's last ones: another call may need them more."""
        if not self._reconciled or self._reopening:
            return
        wanted = min(RESERVED - len(worker.reserved), worker.free // 4)
        if wanted > 0 and not worker.reserving:
            worker.reserving = True
            link.send({"type": "reserve", "count": wanted})

    def _send_rule(self, session: Session, name: str) -> None:
        link = session.worker.link
        # Not ready: it is said once the worker has listed the session.
        if session.worker.ready and link is not None and session.rule is not None:
            link.send({"type": "rule", "session": name} | self._rule_said(session))

    def _begin(self, name: str, worker: Worker, port: int, state: State) -> Session:
        session = self._sessions[name] = Session(worker, port, state)
        self._has_moved(name)
        return session

    def _drop(self, name: str) -> None:
        self._keep_rule(name, self._sessions.pop(name), None)

    def _keep_rule(self, name: str, session: Session, rule: Rule | None) -> None:
        before, session.rule = session.rule, rule
        if before is not None and before.relay_to is not None:
            relaying = self._relaying[before.relay_to]
            relaying.discard(name)
            if not relaying:
                del self._relaying[before.relay_to]
        if rule is not None and rule.relay_to is not None:
            self._relaying.setdefault(rule.relay_to, set()).add(name)

    def _rule_said(self, session: Session) -> Message:
        """The rule as a message has it, with the way to another worker where the session that it relays to lives there."""
        rule = session.rule
        if rule is None:
            return {}
        said: Message = {"rule": rule_to_data(rule)}
        heard_by = None if rule.relay_to is None else self._sessions.get(rule.relay_to)
        if heard_by is not None and heard_by.worker is not session.worker:
            said["via"] = heard_by.worker.relay
        return said

    def _has_moved(self, name: str) -> None:
        """It may live elsewhere now than the workers were told whose sessions relay to it."""
        for relaying in self._relaying.get(name, ()):
            self._say_soon(relaying)

    def _soon(self, given: Input) -> None:
        if self._running:
            self._loop.call_soon(self._tell, given)

    def _tell(self, given: Input) -> None:
        if self._running:
            self._give(given)

    # Connections

    def _connect(self, worker: Worker) -> None:
        if not self._running or worker.link is not None:
            return
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            connection.connect(worker.path)
        except BlockingIOError:
            connection.close()  # it lives, and has not yet accepted those before us
            self._loop.call_later(RECONNECT_S, self._connect, worker)
            return
        except OSError:
            connection.close()
            self._lose(worker)  # nobody listens: whatever ran there has died
            self._loop.call_later(RECONNECT_S, self._connect, worker)
            return
        link = Link(
            connection,
            watch=lambda: self._loop.add_writer(connection, link.flush),
            unwatch=lambda: self._loop.remove_writer(connection),
        )
        worker.link = link
        self._loop.add_reader(connection, self._readable, worker, link)
        link.send({"type": "hello", "v": MAJOR, "minor": MINOR})

    def _readable(self, worker: Worker, link: Link) -> None:
        for message in link.receive():
            if message is None:
                log.error("media_worker_unreadable", socket=worker.path)
            elif worker.link is link:
                self._hear(worker, link, message)
        if link.closed and worker.link is link:
            self._unplug(worker, link)
            log.warning("media_worker_disconnected", socket=worker.path)
            # At once: it tells a dead worker, whose calls stand silent, from one that has hung up.
            self._connect(worker)

    def _unplug(self, worker: Worker, link: Link) -> None:
        self._loop.remove_reader(link.socket)
        self._loop.remove_writer(link.socket)
        link.close()
        worker.link = None
        worker.ready = False
        worker.reserved.clear()
        worker.reserving = False
        worker.found.clear()
        worker.listing.clear()
        for name, session in list(self._sessions.items()):
            if session.worker is worker and session.state in (State.OPENING, State.CLOSING):
                self._drop(name)
                self._soon(NoPortLeft(name) if session.state is State.OPENING else PortsClosed(name, None))

    def _lose(self, worker: Worker) -> None:
        """This run of the worker is over. What it had is asked of the next one."""
        if worker.identity is None:
            return
        worker.identity = None
        worker.counted_before = sum_totals([worker.counted_before, worker.counted])
        worker.counted = MediaTotals()
        missing = [(name, session) for name, session in self._sessions.items() if session.worker is worker]
        for name, session in missing:
            if session.state is State.OPEN:
                self._await_reopening(name, session)
        if missing:
            log.warning("media_worker_lost", socket=worker.path, sessions=len(missing))

    def _beat(self) -> None:
        self._heartbeat = self._loop.call_later(HEARTBEAT_S, self._beat)
        for worker in self._workers:
            if worker.link is not None:
                worker.link.send({"type": "heartbeat"})

    # What workers say

    def _hear(self, worker: Worker, link: Link, message: Message) -> None:
        match message:
            case {"type": "opened", "session": str(name), "port": int(port)}:
                self._on_opened(name, port)
            case {"type": "closed", "session": str(name)}:
                session = self._sessions.get(name)
                if session is not None and session.state is State.CLOSING:
                    self._drop(name)
                    self._give(PortsClosed(name, _read_quality(message.get("quality"))))
            case {"type": "reserved", "ports": [*ports], "free": int(free)}:
                worker.reserved.extend(port for port in ports if isinstance(port, int))
                worker.free = free
                worker.reserving = False
            case {"type": "no_port", "session": str(name)}:
                session = self._sessions.get(name)
                if session is not None and session.state is State.REOPENING:
                    self._not_reopened(name, session)
                    return
                worker.free = 0
                if session is not None and session.state is State.OPENING:
                    refused_by = session.refused_by if worker.reserved else (*session.refused_by, worker)
                    self._drop(name)
                    # What it had left was handed to us just before.
                    self._open(name, refused_by)
                elif session is not None and session.state is State.OPEN:
                    self._drop(name)
                    self._give(MediaLost((name,)))  # its port was not ours: two of us believe to be signalling
                # else: its close is under way, and is answered
            case {"type": "timed_out", "session": str(name)}:
                session = self._sessions.get(name)
                if session is not None and session.state is State.OPEN:
                    self._give(MediaTimedOut(name))
            case {"type": "dtmf", "session": str(name), "digit": str(digit), "duration_ms": int(duration_ms)}:
                session = self._sessions.get(name)
                if session is not None and session.state is State.OPEN:
                    self._give(DtmfHeard(name, digit, duration_ms))
            case {"type": "stats", "free": int(free)}:
                worker.free = free
                worker.counted = read_totals(message)
            case {"type": "listed", "sessions": [*listed], "free": int(free), "more": bool(more)}:
                worker.free = free
                self._on_listed(worker, listed, more=more)
            case {"type": "hello"}:
                self._on_hello(worker, link, message)
            case {"type": "error"}:
                log.error("media_worker_refused", socket=worker.path, reason=message.get("reason"))
            case _:
                pass  # of a later minor version

    def _on_hello(self, worker: Worker, link: Link, message: Message) -> None:
        identity = str(message.get("worker"))
        if message.get("v") != MAJOR:
            log.error("media_worker_version", socket=worker.path, theirs=message.get("v"), ours=MAJOR)
            self._unplug(worker, link)
            self._lose(worker)
            self._loop.call_later(HEARTBEAT_S, self._connect, worker)  # the supervisor may yet bring the right one
            return
        if worker.identity != identity:
            self._lose(worker)
            worker.identity = identity
        relay = message.get("relay")
        if relay != worker.relay:
            worker.relay = relay if isinstance(relay, str) else None
            for name in [name for name, session in self._sessions.items() if session.worker is worker]:
                self._has_moved(name)
        if worker.relay is None:
            log.warning("media_worker_relays_nothing", socket=worker.path, minor=message.get("minor"), ours=MINOR)
        skipped = message.get("skipped")
        log.info("media_worker_connected", socket=worker.path, pid=message.get("pid"), ports=message.get("ports"))
        if skipped:
            log.warning("media_ports_skipped", socket=worker.path, pairs=skipped)
        link.send({"type": "list"})

    def _on_opened(self, name: str, port: int) -> None:
        session = self._sessions.get(name)
        if session is not None and session.state is State.OPENING:
            session.port = port
            session.state = State.OPEN
            self._give(PortsOpened(name, self._advertise, port))
        elif session is not None and session.state is State.REOPENING:
            self._reopened(name, session)

    def _on_listed(self, worker: Worker, listed: Sequence[object], *, more: bool) -> None:
        for entry in listed:
            match entry:
                case {"session": str(name), "port": int(port), "rule": rule, "timed_out": bool(timed_out)}:
                    worker.listing[name] = Found(port, rule_from_data(rule), timed_out)
        if more:
            return
        worker.found, worker.listing = worker.listing, {}
        worker.ready = True
        self._find_again(worker)
        if self._reconciled:
            self._close_orphans(worker)
        if worker.link is not None:
            self._reserve(worker, worker.link)
        if all(other.ready for other in self._workers):
            self._all_ready.set()

    def _find_again(self, worker: Worker) -> None:
        """Compare what we think lives in this worker with what it has listed."""
        for name, session in self._sessions.items():
            if session.worker is not worker or session.state not in (State.OPEN, State.REOPENING):
                continue
            held = worker.found.pop(name, None)
            if held is None:
                if session.state is State.OPEN:
                    self._await_reopening(name, session)
                self._reopen(name, session)
                continue
            session.state = State.OPEN
            self._reopening.discard(name)
            self._send_rule(session, name)  # it may have changed while we could not say so
            if held.timed_out:
                self._soon(MediaTimedOut(name))

    def _close_orphans(self, worker: Worker) -> None:
        if worker.link is not None:
            for name in worker.found:
                worker.link.send({"type": "close", "session": name})
        worker.found = {}


def _read_quality(data: object) -> Quality | None:
    """The figures of a closed session; the worker is of our own major version, so what it names is a number."""
    if not isinstance(data, dict):
        return None
    return Quality(**{name: data[name] for name in _FIGURES if name in data})
