"""Somebody who is called: a user agent server on a real socket that does with each call what the test says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.namespaces import LOOPBACK, Host
from tests.support.phone import Address, Leg, Message, Phone, address_of, token
from tests.support.waiting import PATIENCE_S, until

Behaviour = Callable[["IncomingCall"], None]


def answers(call: IncomingCall) -> None:
    """At once."""
    call.accept()


def rings(call: IncomingCall) -> None:
    """For ever: what follows is the test's to say."""
    call.ring()


def silent(call: IncomingCall) -> None:
    """As if nobody were there."""


def says(status: int, *, headers: str = "") -> Behaviour:
    """That, whoever calls. `headers`: whole lines."""
    return lambda call: call.say(status, headers=headers)


class Callee(Phone):
    """A phone. What its calls are named in is `calls`, by SIP Call-ID, in the order of their coming."""

    def __init__(self, behaviour: Behaviour = answers, host: Host = LOOPBACK) -> None:
        super().__init__(host)
        self.behaviour = behaviour
        self.calls: dict[str, IncomingCall] = {}
        self.copies = 0  # of INVITEs that have come, repetitions included

    @property
    def uri(self) -> str:
        return self.uri_of("bob")

    def uri_of(self, user: str) -> str:
        return f"sip:{user}@{self.host.shown}:{self.port}"

    def take(self, message: Message, source: Address) -> None:
        call = self.calls.get(message["call-id"])
        begins = message.method == "INVITE" and not message.status and not message.tag("to")
        if call is None and begins:
            call = self.calls[message["call-id"]] = IncomingCall(
                self, message["call-id"], invite=message, source=source
            )
        if call is None:
            self.strays.append(message)
        elif begins:
            self.copies += 1
            call.invited(message, source)
        else:
            call.received(message, source)

    async def called(self, number: int = 1, *, within_s: float = PATIENCE_S) -> IncomingCall:
        """Wait for the `number`-th call."""
        await until(
            lambda: len(self.calls) >= number, f"call {number} comes; came: {list(self.calls)}", within_s=within_s
        )
        return list(self.calls.values())[number - 1]


@dataclass(kw_only=True)
class IncomingCall(Leg):
    """One call to us, from its INVITE on."""

    invite: Message  # the last one: it may come again with credentials
    source: Address
    tag: str = field(default_factory=token)
    invites: list[Message] = field(default_factory=list)  # each once
    branches: set[str] = field(default_factory=set)  # of them, repetitions included

    @property
    def local(self) -> str:
        return f"{self.invite['to']};tag={self.tag}"

    @property
    def remote(self) -> str:
        return self.invite["from"]

    @property
    def way(self) -> Address:
        """The first route, or the target: both are loose and both are addresses here (§12.2.1.1)."""
        return address_of(self.routes[0] if self.routes else self.target)

    @property
    def media_port(self) -> int:
        offers = [each for each in (*self.invites, *self.asked("INVITE")) if each.body]
        return offers[-1].media_port() if offers else 0

    @property
    def is_canceled(self) -> bool:
        return bool(self.asked("CANCEL"))

    @property
    def said(self) -> int:
        """The status that we have answered its INVITE with last; 0: none yet."""
        last = self._answers.get(("INVITE", self.invite.sequence))
        return 0 if last is None else int(last.split()[1])

    @property
    def is_refused(self) -> bool:
        """We did not want it, and that is acknowledged."""
        return self.said >= 300 and self.invite.sequence in self.acknowledged

    @property
    def is_up(self) -> bool:
        """Our 200 is acknowledged."""
        return 200 <= self.said < 300 and self.invite.sequence in self.acknowledged

    def ring(self) -> None:
        self.say(180)

    def accept(self) -> None:
        self.say(200, body=self.answer_for(self.invite))

    def say(self, status: int, *, headers: str = "", body: str = "") -> None:
        """Answer its INVITE."""
        self.respond(self.invite, self.source, status, headers=headers, body=body)

    async def up(self, within_s: float = PATIENCE_S) -> None:
        """Wait for the ACK."""
        await until(lambda: self.is_up, f"{self.call_id} is acknowledged", within_s=within_s)

    def invited(self, message: Message, source: Address) -> None:
        """Its INVITE, once more or with credentials."""
        known = any(each.sequence == message.sequence for each in self.invites)
        self.source = source
        self.branches.update(re.findall(r"branch=([^;,\s]+)", message["via"]))
        if known:
            last = self._answers.get(("INVITE", message.sequence))
            if last is not None:
                self.phone.send_to(last, source)
            return
        self.invite = message
        self.invites.append(message)
        if message.body:
            self.describe(message)
        self.routes = message.all("record-route")
        self.target = message["contact"].strip("<>").partition(">")[0]
        callee = self.phone
        assert isinstance(callee, Callee)
        callee.behaviour(self)

    def _asked(self, request: Message, source: Address) -> None:
        super()._asked(request, source)
        if request.method == "CANCEL" and self.said < 200:
            self.say(487)
