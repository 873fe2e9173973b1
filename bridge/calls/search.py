"""Looking for a party: its targets, one attempt each, in parallel or one after the other (§16.7's choice of a response).

Plain data with the rules that need nothing but it: whose turn it is, what the best failure is, what is left to cancel.
What an attempt's responses mean for the call stands in `dialing`. Knows nothing of transactions, flows or SDP.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from bridge.ambient import Seal
from bridge.calls.actions import Fork, OnRedirect, Target, target_from_data, target_to_data
from bridge.calls.facts import Attempt, EndedBy
from bridge.sip.flow import Flow

REDIRECTS_MOST = 5  # one after the other, from a target that was asked for
ATTEMPTS_MOST = 32  # of one search, those that redirects and registrations add included

_PREFERRED = (401, 407, 415, 420, 484)  # §16.7 step 6: what tells a caller how to do better goes before other 4xx


class Stage(StrEnum):
    """How far one attempt is."""

    WAITING = "waiting"  # its turn has not come
    LOCATING = "locating"  # where its target is, is being looked up
    INVITING = "inviting"  # its INVITE is on its way, or waits to be stored; nothing has been heard
    PROCEEDING = "proceeding"  # a provisional response has come
    ANSWERED = "answered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a target is: the URI to ask for, and the way to it."""

    uri: str  # the Request-URI: a contact, where the target was an address of record
    flow: Flow | None = None  # None: as the URI (or the first route) says
    # Route values, first hop first: the Path of a registration (RFC 3327 §5), or an outbound proxy.
    routes: tuple[str, ...] = ()
    further: tuple[Flow, ...] = ()  # where the same is asked next, if nobody is there (RFC 3263 §4.3)
    others: tuple[Place, ...] = ()  # further flows of the same phone, should this one fail; a takeover forgets them


class InviteAttempt:
    """One target, sought by one INVITE and its repetitions with credentials."""

    __slots__ = (
        "cause",
        "challenges",
        "code",
        "datagram_only",
        "depth",
        "expires_at",
        "given_up_at",
        "heard",
        "number",
        "parent",
        "place",
        "pracked",
        "proof",
        "proxy",
        "reason",
        "reliable",
        "rseqs",
        "sent_at",
        "sent_by",
        "sequence",
        "sip_call_id",
        "stage",
        "target",
        "turn",
        "way",
    )

    def __init__(self, number: int, target: Target, sip_call_id: str, *, depth: int = 0) -> None:
        self.number = number  # from 1, in the order in which they were thought of
        self.target = target
        self.sip_call_id = sip_call_id
        self.depth = depth  # redirects that have led here
        self.parent = 0  # the number of the attempt whose redirect has; 0: the application has named it
        self.turn = 0  # among the contacts of that redirect, from 0: those of the same q have the same
        self.proxy = ""  # the URI that it is to be asked by (§21.3.4); empty: by its own
        self.stage = Stage.WAITING
        self.place: Place | None = None
        self.way = 0  # how many ways to that place have failed
        self.sequence = 0  # CSeq number of its last INVITE; 0: none yet
        self.sent_at = 0.0  # when that one was made (seconds UTC)
        self.sent_by = ""  # in its Via: where its responses go (§18.2.2); empty: nobody has written that down
        self.expires_at = 0.0  # when it has rung for long enough (seconds UTC); 0.0: it has not begun
        self.challenges = 0  # answered so far
        self.proof: tuple[tuple[str, str], ...] = ()  # the header lines that answer the last one
        self.reliable = False  # its INVITE is too long for UDP (§18.1.1)
        self.datagram_only = False  # and TCP has not been taken
        self.rseqs: dict[
            str, int
        ] = {}  # by To tag: the last provisional response that has been acknowledged (RFC 3262 §4)
        self.pracked = 0  # PRACKs sent, each with a CSeq number of its own
        self.heard: str | None = None  # the To tag of the early dialog whose media is heard (§13.2.1)
        # When it was given up (seconds UTC), as long as its INVITE has no final response: that may still be a 2xx, and after
        # a crash nobody knows whether its CANCEL has left. 0.0: nothing is owed to it.
        self.given_up_at = 0.0
        self.code: int | None = None
        self.reason: str | None = None
        self.cause: tuple[EndedBy, str] | None = None  # of its failure: by whom, and the end reason it stands for

    @property
    def has_place(self) -> bool:
        """True while it counts against what its trunk may carry at once."""
        return self.target.has_place and self.stage is not Stage.FAILED

    @property
    def shown(self) -> str:
        """The URI that people are told: the contact that was asked, where that is known."""
        return self.target.uri if self.place is None else self.place.uri

    @property
    def is_open(self) -> bool:
        """True while it may still be answered, or has not begun."""
        return self.stage not in (Stage.ANSWERED, Stage.FAILED)

    @property
    def is_out(self) -> bool:
        """True once an INVITE has left, or is about to, that nobody has answered finally."""
        return self.stage in (Stage.INVITING, Stage.PROCEEDING)

    def take_next_way(self) -> bool:
        """Take the next way to its place; False where there is none."""
        place = self.place
        if place is None or not place.further:
            return False
        self.place = replace(place, flow=place.further[0], further=place.further[1:])
        self.way += 1
        self.reliable = self.datagram_only = False  # of the way before
        return True

    def told(self) -> Attempt:
        """As people are told of it."""
        return Attempt(self.shown, self.sip_call_id, self.code, self.reason, self.target.trunk or None)

    def fail(self, code: int, reason: str) -> None:
        self.stage, self.code, self.reason = Stage.FAILED, code, reason


@dataclass(slots=True)
class Search:
    """All attempts for one party."""

    attempts: list[InviteAttempt]
    fork: Fork = "parallel"
    on_redirect: OnRedirect = "follow"
    timeout_s: float = 60.0  # how long each target may ring
    from_: str = ""  # the From of its INVITEs, a name-addr without a tag

    @classmethod
    def of(cls, targets: Iterable[Target], name: str, **how: Any) -> Search:
        """`name`: what the Call-IDs of its INVITEs begin with. The same targets get the same ones, whoever seeks."""
        attempts = [InviteAttempt(number, target, f"{name}.{number}") for number, target in enumerate(targets, 1)]
        return cls(attempts, **how)

    def attempt(self, number: int) -> InviteAttempt | None:
        return self.attempts[number - 1] if 0 < number <= len(self.attempts) else None

    def due(self) -> list[InviteAttempt]:
        """Those that shall begin now."""
        waiting = [each for each in self.attempts if each.stage is Stage.WAITING]
        if self.fork == "parallel":
            return [each for each in waiting if not self._comes_later(each)]
        busy = any(each.is_open for each in self.attempts if each.stage is not Stage.WAITING)
        # Whoever a target has sent us on to comes before the next target.
        return [] if busy or not waiting else [max(waiting, key=lambda each: each.depth)]

    def _comes_later(self, waiting: InviteAttempt) -> bool:
        """Whether a contact that the same redirect prefers may still answer, or whoever that one has sent us on to (§8.1.3.4)."""
        return waiting.parent != 0 and any(
            each.is_open and self._stands_for(each, waiting.parent, waiting.turn) for each in self.attempts
        )

    def _stands_for(self, attempt: InviteAttempt, parent: int, turn: int) -> bool:
        """Whether it is a contact of that redirect whose turn is before this one, or was found by way of one."""
        each: InviteAttempt | None = attempt
        while each is not None and each.parent > parent:
            each = self.attempt(each.parent)
        return each is not None and each.parent == parent and each.turn < turn

    def add(self, target: Target, after: InviteAttempt) -> InviteAttempt | None:
        """One more place to look, to which a redirect or a registration has led; None: there have been enough."""
        if len(self.attempts) >= ATTEMPTS_MOST:
            return None
        name = after.sip_call_id.rsplit(".", 1)[0]
        number = len(self.attempts) + 1
        added = InviteAttempt(number, target, f"{name}.{number}", depth=after.depth)
        added.parent, added.turn = after.parent, after.turn
        self.attempts.append(added)
        return added

    def answered(self) -> InviteAttempt | None:
        """The attempt that has won."""
        return next((each for each in self.attempts if each.stage is Stage.ANSWERED), None)

    @property
    def is_over(self) -> bool:
        """True when nothing is left that could still be answered."""
        return not any(each.is_open for each in self.attempts)

    @property
    def is_canceling(self) -> bool:
        """True while an INVITE that was given up has no final response."""
        return any(each.given_up_at for each in self.attempts)

    def is_by(self, trunk: str) -> bool:
        """Whether an attempt that has not failed has its place on this trunk."""
        return any(each.has_place and each.target.trunk == trunk for each in self.attempts)

    def best_failure(self) -> InviteAttempt | None:
        """The one that stands for all (§16.7 step 6): 6xx, else of the lowest class the most telling."""
        return min((each for each in self.attempts if each.cause is not None), key=_rank, default=None)

    def to_data(self) -> dict[str, Any]:
        """Plain data for a snapshot."""
        return {
            "fork": self.fork,
            "on_redirect": self.on_redirect,
            "timeout_s": self.timeout_s,
            "from": self.from_,
            "attempts": [_attempt_to_data(each) for each in self.attempts],
        }

    @classmethod
    def from_data(cls, data: dict[str, Any], seal: Seal) -> Search:
        """The search that `to_data` wrote."""
        attempts = [_attempt_from_data(number, each, seal) for number, each in enumerate(data["attempts"], 1)]
        return cls(attempts, data["fork"], data["on_redirect"], data["timeout_s"], data["from"])


def _rank(failed: InviteAttempt) -> tuple[int, int, int]:
    code = failed.code or 480
    if code >= 600:
        return (0, 0, code)
    # A target that could not be reached says less than one that has spoken.
    silent = code in (408, 503)
    return (1 + silent, code // 100, _PREFERRED.index(code) - 100 if code in _PREFERRED else code)


def _attempt_to_data(attempt: InviteAttempt) -> dict[str, Any]:
    data: dict[str, Any] = {
        "target": target_to_data(attempt.target),
        "call_id": attempt.sip_call_id,
        "stage": attempt.stage.value,
    }
    if attempt.place is not None:
        flow = None if attempt.place.flow is None else attempt.place.flow.to_data()
        data["place"] = [attempt.place.uri, flow, list(attempt.place.routes)]
        if attempt.place.further and attempt.is_open:
            data["further"] = [each.to_data() for each in attempt.place.further]
    for name in (
        "sequence",
        "sent_at",
        "sent_by",
        "given_up_at",
        "expires_at",
        "challenges",
        "proof",
        "depth",
        "parent",
        "turn",
        "proxy",
        "code",
        "reason",
        "cause",
        "heard",
        "reliable",
        "datagram_only",
        "way",
        "rseqs",
        "pracked",
    ):
        value = getattr(attempt, name)
        if value:
            data[name] = value
    return data


def _attempt_from_data(number: int, data: dict[str, Any], seal: Seal) -> InviteAttempt:
    target = target_from_data(data["target"], seal)
    attempt = InviteAttempt(number, target, data["call_id"], depth=data.get("depth", 0))
    attempt.parent, attempt.turn, attempt.proxy = data.get("parent", 0), data.get("turn", 0), data.get("proxy", "")
    attempt.stage = Stage(data["stage"])
    if "place" in data:
        uri, flow, routes = data["place"]
        further = tuple([Flow(*each) for each in data.get("further", ())])
        attempt.place = Place(uri, None if flow is None else Flow(*flow), tuple(routes), further)
    attempt.sequence = data.get("sequence", 0)
    attempt.sent_at, attempt.given_up_at = data.get("sent_at", 0.0), data.get("given_up_at", 0.0)
    attempt.sent_by = data.get("sent_by", "")
    attempt.expires_at = data.get("expires_at", 0.0)
    attempt.challenges = data.get("challenges", 0)
    attempt.proof = tuple([(name, value) for name, value in data.get("proof", ())])
    attempt.code, attempt.reason = data.get("code"), data.get("reason")
    attempt.cause = tuple(data["cause"]) if "cause" in data else None
    attempt.heard = data.get("heard")
    attempt.reliable = data.get("reliable", False)
    attempt.datagram_only = data.get("datagram_only", False)
    attempt.way = data.get("way", 0)
    attempt.rseqs, attempt.pracked = data.get("rseqs", {}), data.get("pracked", 0)
    return attempt
