"""One call of a phone, as the phone sees it: its dialog (RFC 3261 §12), its INVITEs (§13, §14), its end (§15), and its
media (RFC 3264)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import Protocol
from urllib.parse import quote

from tests.sim import wire
from tests.sim.clock import Planned
from tests.sim.network import Address
from tests.sim.transactions import PATIENCE_S, T1, T2, Agent, Asked, Field, Served, way_back
from tests.sim.wire import Message, Session

FORMATS = ("0", "8", "101")
LISTENS_EACH_S = 4.0
TOLD_S = 60.0  # for a REFER of ours to come to something: nobody may ring for half as long
DEAF_S = 20.0  # without a packet: the people at this phone hang up


class Air(Protocol):
    """Where media is heard."""

    def is_open(self, there: Address, host: str) -> bool:
        """Whether somebody there sends to `host`, and hears it."""
        ...


class Stage(StrEnum):
    """How far it is, for this phone."""

    EARLY = "early"
    CONFIRMED = "confirmed"
    OVER = "over"


class Dialog:
    """Either side of one. Their tag is empty until they have answered."""

    def __init__(
        self, phone: Agent, air: Air, *, call_id: str, ours: str, theirs: str, target: str, way: Address, port: int
    ) -> None:
        self.phone = phone
        self.air = air
        self.call_id = call_id
        self.ours, self.theirs = ours, theirs  # as From and To name the two, ours with its tag
        self.target = target  # their Contact: whom requests are for
        self.way = way  # and where they go
        self.stage = Stage.EARLY
        self.confirmed_at = 0.0
        self.number = 0  # CSeq of our last request
        self.heard = 0  # and of theirs
        self.port = port  # of our media
        self.wanted = "sendrecv"  # the direction that we want
        self.said: Session | None = None  # our last SDP
        self.agreed: Session | None = None  # theirs
        self.direction = "inactive"  # as agreed, for us
        self.asking = False  # an INVITE of ours is under way
        self.leaving = False  # BYE, as soon as that is allowed
        self._acks: dict[tuple[int, str], bytes] = {}  # by the INVITE's CSeq and their tag
        self._accepted: Served | None = None  # an INVITE of theirs whose 2xx waits for its ACK
        self._accept_repeat: Planned | None = None
        self._deaf_since: float | None = None
        self._early = ""  # the SDP of a 183 of ours
        self._referred: int | None = None  # the CSeq of a REFER of ours whose outcome we have not been told

    @property
    def our_tag(self) -> str:
        return wire.param(self.ours, "tag")

    @property
    def their_tag(self) -> str:
        return wire.param(self.theirs, "tag")

    @property
    def alive(self) -> bool:
        return self.stage is not Stage.OVER

    @property
    def speaks_to(self) -> Address | None:
        """Where we send our media to, if we do."""
        if not self.alive or self.agreed is None or self.direction not in ("sendrecv", "sendonly"):
            return None
        return self.agreed.host, self.agreed.port

    # Its end

    def over(self) -> None:
        """Nothing more is said in it by us, but what repeats itself."""
        self.stage = Stage.OVER

    def bye(self) -> None:
        """End it (§15.1.1): at once, or, by who was called, once the ACK is there."""
        if self.stage is not Stage.CONFIRMED:
            return
        if self._accepted is not None:
            self.leaving = True
            return
        self.over()
        self._say_bye()

    def _say_bye(self) -> None:
        self.phone.ask(self._request("BYE"), self.way, lambda _: None)

    def _request(self, method: str, *, body: str = "", number: int = 0, more: Sequence[Field] = ()) -> Message:
        if not number:
            self.number += 1
        fields: list[Field] = [("from", self.ours), ("to", self.theirs), ("call-id", self.call_id)]
        fields.append(("cseq", f"{number or self.number} {method}"))
        if method == "INVITE":
            fields.append(("contact", self.phone.contact))
        return self.phone.request(method, self.target, [*fields, *more], body=body)

    # Having others put through (RFC 3515)

    def refer(self, target: str) -> None:
        """Ask for our partner to be connected with somebody else, unless that has been asked for already."""
        if self.stage is not Stage.CONFIRMED or self._referred is not None:
            return
        self._referred = self.number + 1
        fields = [("refer-to", f"<{target}>")]
        if self.phone.chance.random() < 0.15:
            fields.append(("refer-sub", "false"))
        asked = self._request("REFER", more=[*fields, ("contact", self.phone.contact)])
        self.phone.ask(asked, self.way, partial(self._refer_heard, subscribed=len(fields) == 1))

    def replacing(self, target: str) -> str:
        """This URI, to be called in the place of this dialog (RFC 3891)."""
        return f"{target}?Replaces={quote(f'{self.call_id};to-tag={self.their_tag};from-tag={self.our_tag}', safe='')}"

    def _refer_heard(self, response: Message | None, *, subscribed: bool) -> None:
        if response is not None and 200 <= response.status < 300 and subscribed:
            since, number = self.phone.clock.now(), self._referred
            self.phone.clock.later(TOLD_S, lambda: self._must_have_been_told(since, number))
        elif response is None or response.status >= 200:
            self._referred = None

    def _must_have_been_told(self, since: float, number: int | None) -> None:
        if self.stage is Stage.CONFIRMED and self._referred is not None and self._referred == number:
            self.phone.give_up_on(since, f"what came of REFER {number} in {self.call_id} was never told")

    def notified(self, notify: Message) -> None:
        """How far it has come; the last word says that it is the last."""
        event, state = notify.get("event"), notify.get("subscription-state")
        if not event.startswith("refer;id=") or not notify.body.startswith("SIP/2.0 "):
            self.phone.complain(f"a NOTIFY of {event!r} that says {notify.body!r}")
        status = int(notify.body[8:11])
        if state.startswith("terminated") is not (status >= 200):
            self.phone.complain(f"{notify.body!r} is {state!r}")
        if state.startswith("terminated") and event == f"refer;id={self._referred}":
            self._referred = None

    # Being transferred (RFC 3515)

    def referred(self, served: Served) -> None:
        """Somebody wants us to call elsewhere: we refuse, or do it and tell how it goes, or forget to tell."""
        phone, chance = self.phone, self.phone.chance
        if chance.random() < 0.2:
            phone.respond(served, 603)
            return
        phone.respond(served, 202)
        if chance.random() < 0.1:
            return
        at, outcome = chance.uniform(0.0, 3.0), chance.choice(("200 OK", "200 OK", "486 Busy Here"))
        number = served.request.number
        phone.clock.later(at, lambda: self._notify(number, "100 Trying", "active;expires=60"))
        at += chance.uniform(0.1, 20.0)
        phone.clock.later(at, lambda: self._notify(number, outcome, "terminated;reason=noresource"))

    def _notify(self, number: int, said: str, state: str) -> None:
        if self.stage is not Stage.CONFIRMED:
            return
        fields = [
            ("event", f"refer;id={number}"),
            ("subscription-state", state),
            ("content-type", "message/sipfrag"),
        ]
        told = self._request("NOTIFY", body=f"SIP/2.0 {said}\r\n", more=fields)
        self.phone.ask(told, self.way, lambda _: None)

    # INVITEs of ours

    def answered(self, answer: Message, *, wanted: bool = True) -> None:
        """A 2xx to an INVITE of ours, or its repetition: acknowledge it (§13.2.2.4). `wanted`: False ends it at once."""
        key = (answer.number, answer.to_tag)
        known = self._acks.get(key)
        if known is not None:
            self.phone.send(known, self.way)
            return
        self.meet(answer)
        self.refresh(answer)
        body = self._take(answer.body, answered=self.said is not None)
        ack = self._request("ACK", body=body, number=answer.number).encode()
        self._acks[key] = ack
        self.phone.send(ack, self.way)
        self._confirm()
        if not wanted:
            self.bye()

    def _confirm(self) -> None:
        if self.stage is Stage.EARLY:
            self.stage, self.confirmed_at = Stage.CONFIRMED, self.phone.clock.now()
            self.phone.clock.later(LISTENS_EACH_S, self._listen)

    def meet(self, response: Message) -> None:
        """Their tag: one and the same, because the service does not fork its callers."""
        if self.their_tag and self.their_tag != response.to_tag:
            self.phone.complain(f"a second dialog out of one INVITE: {self.their_tag} and {response.to_tag}")
        self.theirs = response.get("to")

    def refresh(self, message: Message) -> None:
        """Their Contact, where they say one (§12.2)."""
        contact = message.get("contact")
        if contact:
            self.target = wire.uri_in(contact)
            self.way = wire.place_of(self.target)

    def reinvite(self, direction: str) -> None:
        """Ask for another direction (§14.1), unless an INVITE is under way."""
        if self.stage is not Stage.CONFIRMED or self.asking or self._accepted is not None:
            return
        self.wanted, self.asking = direction, True
        before = self.said
        asked = self._request("INVITE", body=self.offer())
        self.phone.ask(asked, self.way, partial(self._reinvite_heard, before))

    def _reinvite_heard(self, before: Session | None, response: Message | None) -> None:
        if response is not None and response.status < 200:
            return
        self.asking = False
        if response is not None and response.status < 300:
            if self.alive or (response.number, response.to_tag) in self._acks:
                self.answered(response)
            else:
                self._acknowledge_late(response)
            return
        version = self.said.version if self.said is not None else 0
        self.said = None if before is None else before._replace(version=version)  # as if nobody had asked
        if not self.alive:
            return
        if response is None or response.status in (408, 481):
            self.bye()  # §12.2.1.2
        elif response.status in (491, 500):
            self.phone.clock.later(self.phone.chance.uniform(2.1, 4.0), lambda: self.reinvite(self.wanted))
        else:
            self.wanted = "sendrecv"

    def _acknowledge_late(self, response: Message) -> None:
        """A 2xx after the BYE wants its ACK all the same (§13.2.2.4)."""
        ack = self._request("ACK", number=response.number).encode()
        self._acks[response.number, response.to_tag] = ack
        self.phone.send(ack, self.way)

    # INVITEs of theirs

    def let_hear(self, served: Served) -> None:
        """183 with our answer to their offer; the 200 will say the same (§13.2.1)."""
        if served.request.body:
            self._early = self.answer(served.request.body)
            self.phone.respond(served, 183, body=self._early)

    def accept(self, served: Served) -> None:
        """200, repeated until its ACK (§13.3.1.4)."""
        self._accepted = served
        offered = served.request.body
        body = self._early or (self.answer(offered) if offered else self.offer())
        self._early = ""
        self.phone.respond(served, 200, body=body)
        self._accept_repeat = self.phone.clock.later(T1, partial(self._repeat_accept, served, T1))
        self.phone.clock.later(PATIENCE_S, partial(self._unacknowledged, served))
        self._confirm()

    def _repeat_accept(self, served: Served, interval: float) -> None:
        if self._accepted is not served:
            return
        self.phone.send(served.data, way_back(served.request))
        interval = min(T2, 2 * interval)
        self._accept_repeat = self.phone.clock.later(interval, partial(self._repeat_accept, served, interval))

    def acknowledged(self, ack: Message) -> None:
        """Their ACK to a 2xx of ours."""
        served = self._accepted
        if served is None or ack.number != served.request.number:
            return
        if ack.body and not served.request.body:
            self._take(ack.body, answered=True)
        self._settle()

    def _unacknowledged(self, served: Served) -> None:
        if self._accepted is served:
            self.phone.give_up_on(served.sent_at, f"a 200 to {served.request.start} was never acknowledged")
            self.leaving = True
            self._settle()

    def _settle(self) -> None:
        self._accepted = None
        if self._accept_repeat is not None:
            self._accept_repeat.cancel()
        if self.leaving and self.alive:
            self.bye()

    def reinvited(self, served: Served) -> None:
        """A re-INVITE of theirs (§14.2)."""
        if self.asking:
            self.phone.respond(served, 491)
        elif self._accepted is not None:
            self.phone.respond(served, 500, fields=[("retry-after", str(self.phone.chance.randint(0, 10)))])
        else:
            self.refresh(served.request)
            self.accept(served)

    # Media

    def offer(self) -> str:
        """Our side, with another version where it says something new."""
        version = 1 if self.said is None else self.said.version + 1
        self.said = Session(self.phone.host, self.port, FORMATS, self.wanted, version)
        return wire.describe(self.said, self.port)

    def answer(self, offered: str) -> str:
        """Our side of what they offer (RFC 3264 §6)."""
        theirs = self._theirs(offered)
        formats = [each for each in theirs.formats if each in ("0", "8")][:1]
        formats += ["101"] if "101" in theirs.formats else []
        mine = wire.seen_from_there(theirs.direction)
        direction = mine if self.wanted == "sendrecv" else {"sendrecv": "sendonly"}.get(mine, "inactive")
        version = 1 if self.said is None else self.said.version + 1
        self.said = Session(self.phone.host, self.port, tuple(formats), direction, version)
        self.direction = direction
        return wire.describe(self.said, self.port)

    def _take(self, body: str, *, answered: bool) -> str:
        """Their SDP, which answers ours; or offers, and then this is our answer."""
        if not body:
            self.phone.complain("a 2xx without SDP")
            return ""
        if not answered:
            return self.answer(body)
        theirs = self._theirs(body)
        if self.said is not None and not set(theirs.formats) <= set(self.said.formats):
            self.phone.complain(f"{theirs.formats} answers {self.said.formats}")
        self.direction = wire.seen_from_there(theirs.direction)
        return ""

    def hears_early(self, response: Message) -> None:
        """A provisional response with their answer in it."""
        if response.body and self.said is not None and self.agreed is None:
            self._take(response.body, answered=True)

    def _theirs(self, body: str) -> Session:
        theirs = wire.described(body)
        before = self.agreed
        if before is not None and (
            theirs.version < before.version or (theirs.version == before.version and theirs != before)
        ):
            self.phone.complain(f"their SDP went from {before} to {theirs}")  # RFC 3264 §8
        self.agreed = theirs
        return theirs

    def _listen(self) -> None:
        """Whether anybody is heard; who is on hold does not mind."""
        if not self.alive:
            return
        now = self.phone.clock.now()
        self.phone.clock.later(LISTENS_EACH_S, self._listen)
        silent = self.agreed is None or not self.air.is_open((self.agreed.host, self.agreed.port), self.phone.host)
        if self.direction != "sendrecv" or not silent:
            self._deaf_since = None
        elif self._deaf_since is None:
            self._deaf_since = now
        elif now - self._deaf_since > DEAF_S:
            self.bye()


def invite(dialog: Dialog, phone: Agent, *, delayed: bool, heard: Callable[[Message | None], None]) -> Asked:
    """The INVITE that begins it (§13.2.1). `delayed`: the offer shall come in the 2xx."""
    return phone.ask(dialog._request("INVITE", body="" if delayed else dialog.offer()), dialog.way, heard)
