"""The REST adapter: HTTP in, commands and resources through the Protocols below, JSON out.

States here what it needs of whoever puts the service together. Knows neither stores nor nodes: any node answers any
request, and how is not this package's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from bridge.calls.actions import Action
from bridge.calls.facts import CallId, CallState, ConversationId, Direction
from bridge.contract.originating import OriginateBody
from bridge.contract.trunks import TrunkBody
from bridge.engine.commit import Claim, Remembered
from bridge.engine.effects import CommandAccepted, CommandRefused, Originated, OriginateRefused
from bridge.sip.registrar import AddressOfRecord

Resource: TypeAlias = dict[str, Any]  # as `bridge.contract.render` makes it


class Position(NamedTuple):
    """A place in a list that is ordered newest first."""

    created_ms: int  # UTC
    id: str


@dataclass(frozen=True, slots=True)
class Page:
    """A part of such a list. `next` is the place of its last entry; None: nothing comes after it."""

    data: Sequence[Resource]
    next: Position | None


@dataclass(frozen=True, slots=True)
class CallFilters:
    """Which calls are wanted; None: whichever."""

    state: CallState | None = None
    direction: Direction | None = None
    application: str | None = None


class CallControl(Protocol):
    """What carries out commands."""

    async def command(
        self, call: CallId, actions: tuple[Action, ...], *, listed: bool
    ) -> CommandAccepted | CommandRefused:
        """Run these actions on this call. `listed`: they replace its list; otherwise it is one, refused if it does not fit."""
        ...

    async def originate(self, wanted: OriginateBody, claim: Claim | None) -> Originated | OriginateRefused:
        """Call a party. Answered once the call is stored, or nothing was made."""
        ...

    async def remembered(self, key: str) -> Remembered | None:
        """What came of the first request with this key; None for a new one. May raise `StoreUnavailable`."""
        ...


class CallReader(Protocol):
    """What reads calls and conversations. Every method may raise `StoreUnavailable`: that is a 503."""

    async def call(self, call: CallId) -> Resource | None:
        """The Call; None when nobody knows it, or not any more."""
        ...

    async def calls(self, filters: CallFilters, *, before: Position | None, limit: int) -> Page:
        """Calls, newest first, from the one after `before`."""
        ...

    async def events(self, call: CallId) -> Sequence[tuple[int, bytes]] | None:
        """Its events as rendered, by sequence, ascending; None when nobody knows the call."""
        ...

    async def conversation(self, conversation: ConversationId) -> Resource | None:
        """The Conversation; None when nobody knows it."""
        ...

    async def conversations(self, *, before: Position | None, limit: int) -> Page:
        """Conversations, newest first, from the one after `before`."""
        ...


class Registrations(Protocol):
    """What knows who is reachable where, and who may be. Every coroutine may raise `StoreUnavailable`: that is a 503."""

    async def registrations(
        self, *, after: AddressOfRecord | None, limit: int
    ) -> tuple[Sequence[Resource], AddressOfRecord | None]:
        """Registrations from the one behind `after`, and where the next page begins; None: there is none."""
        ...

    async def registration(self, aor: AddressOfRecord) -> Resource | None:
        """The Registration; None when nothing is bound."""
        ...

    async def deregister(self, aor: AddressOfRecord) -> int | None:
        """Remove all its bindings; how many there were. None: the store has not confirmed it in time."""
        ...

    def is_from_file(self, username: str) -> bool:
        """Whether this user stands in the configuration."""
        ...

    async def user(self, username: str) -> Resource | None:
        """The User; None when there is none."""
        ...

    async def put_user(self, username: str, password: str, aor: AddressOfRecord | None) -> tuple[bool, Resource]:
        """Make or change a user: whether there was one, and the User."""
        ...

    async def delete_user(self, username: str) -> Resource | None:
        """The User as it was; None when there was none."""
        ...


class Trunks(Protocol):
    """What knows the trunks. Every coroutine may raise `StoreUnavailable`: that is a 503."""

    def is_filed(self, name: str) -> bool:
        """Whether this trunk stands in the configuration."""
        ...

    async def trunks(self) -> Sequence[Resource]:
        """All of them, in the order of their names."""
        ...

    async def trunk(self, name: str) -> Resource | None:
        """The Trunk; None when there is none."""
        ...

    async def put_trunk(self, name: str, body: TrunkBody) -> tuple[bool, Resource]:
        """Make or change a trunk: whether there was one, and the Trunk."""
        ...

    async def delete_trunk(self, name: str) -> Resource | None:
        """The Trunk as it was; None when there was none."""
        ...


class DrainRefused(NamedTuple):
    """Why a node does not drain."""

    code: Literal["not_found", "node_unreachable", "wrong_state"]
    detail: str


class Nodes(Protocol):
    """What knows the nodes of this service. Never asks the store."""

    def nodes(self) -> Sequence[Resource]:
        """Every Node, in the order of their ids."""
        ...

    async def drain(self, node_id: str) -> Resource | DrainRefused:
        """Have it take nothing new and hand its calls over, for as long as it lives. The Node as it is then."""
        ...


@dataclass(frozen=True, slots=True)
class Ready:
    """New calls are taken."""


@dataclass(frozen=True, slots=True)
class NotReady:
    """New calls are not taken."""

    reason: str  # a sentence for a person: "draining", "not started yet"


class Health(Protocol):
    """What knows whether this process takes new calls. That it lives, it shows by answering at all."""

    def ready(self) -> Ready | NotReady:
        """Started once and not draining. Never asks the store."""
        ...
