"""What every phone does with SIP messages: the transactions of RFC 3261 §17, the answers of §8.2.6, and CANCEL (§9).

Written against the RFC for UDP alone. What a far end must never do goes into `complaints`, and fails the run. Knows no
dialogs: a request within one is handed on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import TypeAlias

from tests.sim import wire
from tests.sim.clock import Planned, VirtualClock
from tests.sim.network import Address, Network
from tests.sim.wire import Message

T1, T2, T4 = 0.5, 4.0, 5.0
PATIENCE_S = 64 * T1  # Timers B, F, H
HOPELESS_S = 120.0  # no person waits any longer for an INVITE to be answered
REMEMBERED_S = 100.0  # what was answered: longer than any copy of it may be under way
Field: TypeAlias = tuple[str, str]


class Asked:
    """A request of ours: a client transaction."""

    __slots__ = ("asked_at", "data", "final", "give_up", "heard", "interval", "proceeding", "repeat", "request", "to")

    def __init__(self, request: Message, to: Address, heard: Callable[[Message | None], None], now: float) -> None:
        self.request = request
        self.asked_at = now
        self.data = request.encode()
        self.to = to
        self.heard = heard  # is told each provisional response, the final one, and None for silence
        self.interval = T1
        self.proceeding = False
        self.final = 0
        self.repeat: Planned | None = None
        self.give_up: Planned | None = None


class Served:
    """A request of theirs: a server transaction."""

    __slots__ = ("answered_at", "data", "final", "interval", "repeat", "request", "sent_at", "tag")

    def __init__(self, request: Message, tag: str, now: float) -> None:
        self.request = request
        self.sent_at = now - PATIENCE_S  # at the earliest: this may be its last copy
        self.tag = tag  # ours, where the request has none
        self.data = b""  # the last response
        self.final = 0
        self.answered_at = 0.0
        self.interval = T1
        self.repeat: Planned | None = None


class Agent:
    """One address and its transactions."""

    def __init__(self, name: str, host: str, *, clock: VirtualClock, network: Network, chance: Random) -> None:
        self.name = name
        self.address: Address = (host, 5060)
        self.clock = clock
        self.chance = chance
        self.complaints: list[str] = []
        self.silences: list[tuple[float, float, str]] = []  # waited since, gave up at, for what
        self._network = network
        self._asked: dict[tuple[str, str], Asked] = {}
        self._served: dict[tuple[str, str], Served] = {}
        self._named = 0
        network.names[host] = name
        network.listen(self.address, self._receive)

    @property
    def host(self) -> str:
        return self.address[0]

    @property
    def contact(self) -> str:
        return f"<sip:{self.name}@{self.host}:{self.address[1]}>"

    @property
    def idle(self) -> bool:
        """Whether it owes nobody anything."""
        return not (self._asked or self._served)

    def token(self) -> str:
        """A name that nobody else has."""
        self._named += 1
        return f"{self.name}{self._named}x{self.chance.getrandbits(32):08x}"

    def complain(self, what: str) -> None:
        self.complaints.append(f"{self.name} at {self.clock.now():.3f}: {what}")

    def give_up_on(self, since: float, what: str) -> None:
        """What should have come has not: somebody's fault, if nothing was wrong with the world since then."""
        self.silences.append((since, self.clock.now(), what))

    def send(self, data: bytes, to: Address) -> None:
        self._network.send(self.address, to, data)

    # Requests of ours

    def request(self, method: str, uri: str, fields: Iterable[Field], *, branch: str = "", body: str = "") -> Message:
        """A request with its Via; `fields` are From, To, Call-ID, CSeq and what else it needs."""
        via = f"SIP/2.0/UDP {self.host}:{self.address[1]};branch={branch or 'z9hG4bK' + self.token()}"
        given = list(fields)
        typed = any(name == "content-type" for name, _ in given)
        content = [("content-type", "application/sdp")] if body and not typed else []
        return Message(f"{method} {uri} SIP/2.0", [("via", via), ("max-forwards", "70"), *given, *content], body)

    def ask(self, request: Message, to: Address, heard: Callable[[Message | None], None]) -> Asked:
        """Send it in a client transaction."""
        asked = Asked(request, to, heard, self.clock.now())
        self._asked[request.branch, request.method] = asked
        self.send(asked.data, to)
        asked.repeat = self.clock.later(T1, partial(self._repeat, asked))
        asked.give_up = self.clock.later(PATIENCE_S, partial(self._give_up, asked))
        return asked

    def _repeat(self, asked: Asked) -> None:
        invites = asked.request.method == "INVITE"
        if asked.final or (invites and asked.proceeding):
            return
        self.send(asked.data, asked.to)
        asked.interval = 2 * asked.interval if invites else min(T2, 2 * asked.interval)
        asked.repeat = self.clock.later(T2 if asked.proceeding else asked.interval, partial(self._repeat, asked))

    def _give_up(self, asked: Asked) -> None:
        if asked.final:
            return
        if asked.request.method == "INVITE" and asked.proceeding and self.clock.now() - asked.asked_at < HOPELESS_S:
            asked.give_up = self.clock.later(HOPELESS_S - PATIENCE_S, partial(self._give_up, asked))
        else:
            self._forget_asked(asked)
            self.give_up_on(asked.asked_at, f"{asked.request.start} was never answered")
            asked.heard(None)

    def _forget_asked(self, asked: Asked) -> None:
        self._asked.pop((asked.request.branch, asked.request.method), None)
        for planned in (asked.repeat, asked.give_up):
            if planned is not None:
                planned.cancel()

    def _response(self, response: Message) -> None:
        asked = self._asked.get((response.branch, response.method))
        if asked is None:
            return
        if (response.from_tag, response.get("call-id")) != (asked.request.from_tag, asked.request.get("call-id")):
            self.complain(f"{response.start} is to another request than its branch says")
        status, before = response.status, asked.final
        if status < 200:
            asked.proceeding = True
            if not before:
                asked.heard(response)
            return
        invites = asked.request.method == "INVITE"
        if before and invites and (before < 300) != (status < 300):
            self.complain(f"INVITE was answered {before} and then {status}")
            return
        asked.final = status
        if invites and status >= 300:
            self._acknowledge_refusal(asked, response)
        if not before:
            self.clock.later(PATIENCE_S if invites else T4, partial(self._forget_asked, asked))
        if not before or (invites and status < 300):
            asked.heard(response)

    def _acknowledge_refusal(self, asked: Asked, response: Message) -> None:
        """§17.1.1.3."""
        invite = asked.request
        fields = [
            ("from", invite.get("from")),
            ("to", response.get("to")),
            ("call-id", invite.get("call-id")),
            ("cseq", f"{invite.number} ACK"),
        ]
        self.send(self.request("ACK", invite.uri, fields, branch=invite.branch).encode(), asked.to)

    def cancel(self, asked: Asked) -> None:
        """§9.1: only once it has been heard of, and not answered."""
        invite = asked.request
        if asked.final or not asked.proceeding or (invite.branch, "CANCEL") in self._asked:
            return
        fields = [(name, invite.get(name)) for name in ("from", "to", "call-id")]
        fields.append(("cseq", f"{invite.number} CANCEL"))
        request = self.request("CANCEL", invite.uri, fields, branch=invite.branch)
        self.ask(request, asked.to, lambda _: None)
        # §9.1: without a final response in 64*T1 the transaction is over, and so is what it was for.
        self.clock.later(PATIENCE_S, partial(self._canceled_in_vain, asked))

    def _canceled_in_vain(self, asked: Asked) -> None:
        if not asked.final:
            self._forget_asked(asked)
            self.give_up_on(asked.asked_at, f"{asked.request.start} was canceled, and never answered")
            asked.heard(None)

    # Requests of theirs

    def _receive(self, data: bytes, source: Address) -> None:
        try:
            message = wire.read(data)
        except wire.Malformed as problem:
            self.complain(f"{problem}: {data[:60]!r}")
            return
        if message.status:
            self._response(message)
        elif message.method == "ACK":
            self._ack(message)
        else:
            self._request(message)

    def _ack(self, ack: Message) -> None:
        served = self._served.get((ack.branch, "INVITE"))
        if served is not None:
            if served.repeat is not None:
                served.repeat.cancel()
            return
        self.acknowledged(ack)

    def _request(self, request: Message) -> None:
        served = self._served.get((request.branch, request.method))
        if served is not None:
            if served.data:
                self.send(served.data, way_back(request))
            return
        served = self._served[request.branch, request.method] = Served(request, self.token(), self.clock.now())
        self.clock.later(2 * REMEMBERED_S, partial(self._forget_served, served))  # also where nothing is ever said
        if request.method == "CANCEL":
            invite = self._served.get((request.branch, "INVITE"))
            self.respond(served, 481 if invite is None else 200)
            if invite is not None and not invite.final:
                self.respond(invite, 487)
                self.canceled(invite)
        elif request.to_tag:
            self.within_dialog(served)
        elif request.method == "INVITE":
            self.invited(served)
        else:
            self.respond(served, 200 if request.method == "OPTIONS" else 481)

    def invited(self, served: Served) -> None:
        """Somebody calls."""
        self.respond(served, 486)

    def canceled(self, served: Served) -> None:
        """And wants nothing any more."""

    def within_dialog(self, served: Served) -> None:
        """A request whose To has a tag."""
        self.respond(served, 481)

    def acknowledged(self, ack: Message) -> None:
        """An ACK that is no transaction's."""

    def respond(self, served: Served, status: int, *, body: str = "", fields: Iterable[Field] = ()) -> None:
        """Answer (§8.2.6). A refusal of an INVITE is repeated here until its ACK, a 2xx by its dialog."""
        request = served.request
        if served.final:
            return
        to = request.get("to") if request.to_tag or status == 100 else f"{request.get('to')};tag={served.tag}"
        lines: list[Field] = [("via", via) for via in request.all("via")]
        lines += [("from", request.get("from")), ("to", to), ("call-id", request.get("call-id"))]
        lines += [("cseq", request.get("cseq")), *fields]
        if request.method == "INVITE" and 100 < status < 300:
            lines.append(("contact", self.contact))
        if body:
            lines.append(("content-type", "application/sdp"))
        served.data = Message(f"SIP/2.0 {status} {status}", lines, body).encode()
        self.send(served.data, way_back(request))
        if status < 200:
            return
        served.final, served.answered_at = status, self.clock.now()
        if request.method == "INVITE" and status >= 300:
            served.repeat = self.clock.later(T1, partial(self._repeat_refusal, served))
        self.clock.later(REMEMBERED_S, partial(self._forget_served, served))

    def _repeat_refusal(self, served: Served) -> None:
        if self.clock.now() - served.answered_at >= PATIENCE_S:
            self.give_up_on(served.sent_at, f"a refusal of {served.request.start} was never acknowledged")
            return
        self.send(served.data, way_back(served.request))
        served.interval = min(T2, 2 * served.interval)
        served.repeat = self.clock.later(served.interval, partial(self._repeat_refusal, served))

    def _forget_served(self, served: Served) -> None:
        self._served.pop((served.request.branch, served.request.method), None)
        if served.repeat is not None:
            served.repeat.cancel()


def way_back(request: Message) -> Address:
    """Where its responses go (§18.2.2), where nobody rewrites addresses."""
    return wire.place_of(f"x:{request.get('via').split(None, 1)[1].partition(';')[0]}")
