"""A request on its way through us, as its call keeps it: where it goes, how far each copy is, and what whoever carries the call
on has to know of that (§16). What is done with it stands in `proxying`; which answer is chosen, in `sip.response_context`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from bridge.calls.facts import ActionId, Contact
from bridge.sip.flow import Flow
from bridge.sip.message import Response
from bridge.sip.response_context import ResponseContext, State
from bridge.sip.target_set import Fork, Target

TARGETS_MOST = 32  # of one request, the contacts of all its addresses of record together


@dataclass(slots=True)
class Copy:
    """What went, or will go, to one target."""

    flow: Flow | None = None  # None: its way is being looked up
    sent_by: str = ""  # of its Via: where its responses go (§18.2.2)
    sent_at: float = 0.0  # seconds UTC, when it was given to the store; 0.0: it has not been
    timer_c_at: float = 0.0  # seconds UTC; 0.0: not running
    canceled: bool = False
    tag: str = ""  # the To tag of its final response

    def to_data(self) -> list[Any]:
        """Plain data; `Copy.from_data` is the inverse."""
        flow = None if self.flow is None else self.flow.to_data()
        return [flow, self.sent_by, self.sent_at, self.timer_c_at, self.canceled, self.tag]

    @classmethod
    def from_data(cls, data: list[Any]) -> Copy:
        flow, *rest = data
        return cls(None if flow is None else Flow(*flow), *rest)


@dataclass(slots=True)
class Passage:
    """One `proxy` action under way."""

    action_id: ActionId
    serial: int  # of the call's passages: what tells the copies of two apart
    asked: tuple[Contact, ...]  # whom to ask; an address of record of ours stands for its contacts
    by_default: bool  # they are what the caller has asked for, and not the application
    fork: Fork
    record_route: bool
    timeout_s: float  # how long those who are tried at once may ring
    loop: str = ""  # what marks its copies (RFC 5393 §4.2)
    breadth: int = 0  # how many copies there may be at once (RFC 5393 §5.3)
    share: int = 1  # of that, for each copy
    looked_up: int = 0  # of `asked`
    forbidden: int = 0  # of `asked`
    found: list[Target] = field(default_factory=list)  # until the context has them
    ways: list[Flow] = field(default_factory=list)  # of targets that have registered: `Target.way` counts from 1
    context: ResponseContext | None = None  # None: the targets are not known yet
    copies: list[Copy] = field(default_factory=list)  # by the number of their attempt
    expires_at: float = 0.0  # when those who are tried have rung for long enough, seconds UTC
    canceled: str = ""  # by the caller: the end reason; empty: it was not
    q850: int | None = None  # that the caller's CANCEL gave
    speaking: int = -1  # the attempt whose response is being looked at

    @property
    def is_open(self) -> bool:
        """Whether something of it is still to come."""
        return self.context is not None and self.context.state is not State.OVER

    def way(self, target: Target) -> Flow | None:
        """The flow that a target has registered by."""
        return self.ways[target.way - 1] if target.way else None

    def heard(self, number: int, response: Response) -> None:
        """A response to this attempt has come."""
        self.speaking = number
        if response.status >= 200:
            self.copies[number].tag = response.to_tag or ""

    def refused_by(self, response: Response) -> int:
        """Whose final response this is, -1 for one of ours; challenges of others may have been added to it."""
        tag = response.to_tag or ""
        return next((number for number, copy in enumerate(self.copies) if tag and copy.tag == tag), -1)

    def said_by(self, number: int) -> str | None:
        """The target of this attempt, as people are told it."""
        return self.context.attempts[number].uri if self.context is not None and number >= 0 else None

    def to_data(self) -> dict[str, Any]:
        """Plain data; `Passage.from_data` is the inverse."""
        return {
            "v": 1,
            "action_id": self.action_id,
            "serial": self.serial,
            "asked": [list(each) for each in self.asked],
            "by_default": self.by_default,
            "fork": self.fork.value,
            "record_route": self.record_route,
            "timeout_s": self.timeout_s,
            "loop": self.loop,
            "breadth": self.breadth,
            "share": self.share,
            "ways": [each.to_data() for each in self.ways],
            "context": None if self.context is None else self.context.to_data(),
            "copies": [each.to_data() for each in self.copies],
            "expires_at": self.expires_at,
            "canceled": self.canceled,
            "q850": self.q850,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Passage:
        """The inverse. Look-ups that were under way begin anew. Raises KeyError, TypeError or ValueError for what is none."""
        if data["v"] != 1:
            raise ValueError(f"a passage of version {data['v']!r}")
        context = data["context"]
        return cls(
            ActionId(data["action_id"]),
            data["serial"],
            tuple([Contact(*each) for each in data["asked"]]),
            data["by_default"],
            Fork(data["fork"]),
            data["record_route"],
            data["timeout_s"],
            data["loop"],
            data["breadth"],
            data["share"],
            ways=[] if context is None else [Flow(*each) for each in data["ways"]],
            context=None if context is None else ResponseContext.from_data(context),
            copies=[Copy.from_data(each) for each in data["copies"]],
            expires_at=data["expires_at"],
            canceled=data["canceled"],
            q850=data["q850"],
        )


# What can happen to it. Slotted, not frozen: they live for one step.


@dataclass(slots=True)
class PassageOpened:
    """The request may pass (§16.3)."""

    loop: str
    breadth: int


@dataclass(slots=True)
class PassageRefused:
    """It may not."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class TargetsFound:
    """What one of those asked for stands for: itself, or the contacts of an address of record. None: the store is away."""

    targets: tuple[tuple[Target, Flow | None], ...] | None


@dataclass(slots=True)
class CopyLocated:
    """The way of a copy is known."""

    attempt: int
    flow: Flow


@dataclass(slots=True)
class CopyAnswered:
    """A response to a copy, as it came."""

    attempt: int
    response: Response


@dataclass(slots=True)
class CopySilent:
    """Nobody has answered a copy, or it has not left because it was not wanted any more."""

    attempt: int


@dataclass(slots=True)
class CopyUndeliverable:
    """A copy cannot be brought to its target."""

    attempt: int


@dataclass(slots=True)
class AnsweredAfterAll:
    """Somebody who was given up, for the application wanted something else, has answered all the same: a 2xx without our Via."""

    response: Response
    target: str


@dataclass(slots=True)
class PassageTakenUp:
    """Another process carries it on."""


PassageInput: TypeAlias = (
    PassageOpened
    | PassageRefused
    | TargetsFound
    | CopyLocated
    | CopyAnswered
    | CopySilent
    | CopyUndeliverable
    | PassageTakenUp
    | AnsweredAfterAll
)


# What it asks of its node.


@dataclass(slots=True)
class OpenPassage:
    """Check whether the INVITE may pass: `PassageOpened` or `PassageRefused` comes back."""


@dataclass(slots=True)
class LookUp:
    """Find out what this stands for: `TargetsFound` comes back."""

    uri: str


@dataclass(slots=True)
class LocateCopy:
    """Find the way of a copy: `CopyLocated` or `CopyUndeliverable` comes back."""

    attempt: int


@dataclass(slots=True)
class SendCopy:
    """A copy leaves, gated."""

    attempt: int


@dataclass(slots=True)
class CancelCopy:
    """CANCEL a copy, as soon as that is allowed (§9.1)."""

    serial: int
    loop: str
    attempt: int
    reason: str | None  # the value of a Reason header (RFC 3326)


@dataclass(slots=True)
class AbandonCopy:
    """Forget a copy's transaction: it heeds no CANCEL."""

    attempt: int


@dataclass(slots=True)
class PassBack:
    """A 2xx for the caller, past whatever was answered before (§16.7 step 5). `gated`: the first one, as its write depends on it."""

    response: Response  # without our Via
    gated: bool


PassageEffect: TypeAlias = OpenPassage | LookUp | LocateCopy | SendCopy | CancelCopy | AbandonCopy | PassBack
