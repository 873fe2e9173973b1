"""Brings the other call of a join to the node that runs the join, or this one's to the other (survival §3, §6).

The conversation moves whole, as a planned stop moves it: whoever carries it hands it over at rest, its far ends are told by
the old flow, and what is joined then is one script over two conversations of one node. Where a call over there still rings,
and so cannot be moved, ours goes there with the join that it waits for. Who is dead is claimed first. Refuses to know
what a join is: the engine asks for a call, and hears that it is here, or why not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Container, Coroutine, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

import structlog

from bridge.calls.facts import CallId, ConversationId
from bridge.engine.effects import Fetch
from bridge.engine.inputs import Fetched, Former, NotFetched
from bridge.errors import PeerGone, StoreUnavailable
from bridge.handing import Choice, HandingOver
from bridge.membership import Membership
from bridge.pump import Pump
from bridge.store import Store
from bridge.switchboard import Neighbour, Switchboard

FETCH_S = (
    15.0  # until a join fails: a node may die on the way, which is noticed within a lease, or something be under way
)
AGAIN_S = 0.2  # until it is tried again
FETCHES_MOST = 256  # at once

T = TypeVar("T")

log = structlog.get_logger("bridge.fetching")


class Why(NamedTuple):
    """Why a call has not come: as in `action.failed`."""

    code: str
    detail: str
    final: bool = False  # trying again changes nothing


class Fetching:
    """`Fetcher` of the switchboard, at both ends: asks for what is elsewhere, and is asked."""

    def __init__(
        self,
        *,
        pump: Pump,
        store: Store,
        switchboard: Switchboard,
        membership: Membership,
        handing: HandingOver,
    ) -> None:
        self._pump = pump
        self._store = store
        self._switchboard = switchboard
        self._membership = membership
        self._handing = handing
        self._tasks: set[asyncio.Task[Any]] = set()
        self._fetches = 0

    async def close(self) -> None:
        """Bring nothing any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Whom we want

    def fetch(self, wanted: Fetch) -> None:
        """Have this call brought here: `Fetched` or `NotFetched` comes of it, unless nobody waits for it any more."""
        if self._fetches >= FETCHES_MOST:
            detail = "too many calls are being brought here from other nodes"
            self._pump.give(NotFetched(wanted.call, wanted.action_id, "overload", detail))
            return
        self._fetches += 1
        self._begin(self._fetch(wanted)).add_done_callback(partial(self._over, wanted))

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name="fetch")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _over(self, wanted: Fetch, task: asyncio.Task[Why | None]) -> None:
        self._fetches -= 1
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("fetch_failed", call=wanted.call, exc_info=error)
        why = Why("unreachable", "a fault of ours, of which the log tells") if error is not None else task.result()
        if why is None:
            self._pump.give(Fetched(wanted.call, wanted.action_id))
        else:
            self._pump.give(NotFetched(wanted.call, wanted.action_id, why.code, why.detail))

    async def _fetch(self, wanted: Fetch) -> Why | None:
        """None once it is here, or its join waits elsewhere, or nowhere any more: the engine knows."""
        loop = asyncio.get_running_loop()
        until = loop.time() + FETCH_S
        asked: list[str] = []  # whom, in the end
        while self._pump.node.awaits(wanted.call, wanted.action_id):
            try:
                why = await self._attempt(wanted, asked)
            except StoreUnavailable:
                why = Why("unreachable", "the store does not say where it is")
            except PeerGone as error:
                why = Why("unreachable", f"the node that carries it does not answer: {error}")
            if why is None or why.final or loop.time() >= until:
                return why
            await asyncio.sleep(AGAIN_S)
        return None

    async def _attempt(self, wanted: Fetch, asked: list[str]) -> Why | None:
        other = wanted.other
        if self._pump.node.call(other) is not None:
            return None
        place = await self._switchboard.find(other)
        if self._pump.node.call(other) is not None:
            return None  # it has been claimed from a dead node, or has come
        if place is None:
            if await self._store.final_record(other) is not None:
                return Why("ended", f"{other} has ended", final=True)
            return Why("not_found", f"{other} is not alive", final=True)
        neighbour = self._switchboard.neighbour(place.owner)
        if neighbour is not None:
            asked[:] = [neighbour.owner]
            return await self._ask(wanted, neighbour)
        if place.owner == self._membership.owner and asked:
            # It has been written over to us, and whoever has done it cannot tell us.
            former = Former(asked[0].rpartition(":")[0], self._membership.clock.now(), holds=asked[0])
            await self._membership.take(place.conversation, former)
            return None if self._pump.node.call(other) is not None else Why("unreachable", f"{other} cannot be read")
        return Why("unreachable", "the node that carries it does not answer, and is not known to be dead")

    async def _ask(self, wanted: Fetch, neighbour: Neighbour) -> Why | None:
        ours = self._pump.node.call(wanted.call)
        if ours is None:
            return None
        question = {"fetch": wanted.other, "node": self._membership.owner, "by": ours.conversation_id}
        said = await self._switchboard.question(neighbour, question)
        try:
            given, refused = _read(said)
        except (ValueError, TypeError, LookupError):
            return Why("unreachable", "the node that carries it has answered what we do not understand", final=True)
        if refused is not None:
            return refused
        if given == "given":
            return None if self._pump.node.call(wanted.other) is not None else Why("unreachable", "it is on its way")
        if given == "ringing":
            await self._handing.give(ours.conversation_id, self._choice(neighbour.owner))
            return Why("wrong_state", f"{wanted.other}, or the call that it is with, is not answered yet")
        return Why("wrong_state", f"something about {wanted.other} is under way at another node")

    # Who wants ours

    def asked(self, question: Mapping[str, Any]) -> Awaitable[Mapping[str, Any]]:
        """Another node wants a call of ours, to join it with one of its own. Raises LookupError for what is no such
        question."""
        call, node, by = CallId(str(question["fetch"])), str(question["node"]), ConversationId(str(question["by"]))
        return self._hand_to(node, call, by)

    async def _hand_to(self, node: str, call: CallId, by: ConversationId) -> Mapping[str, Any]:
        carried = self._pump.node.call(call)
        if carried is None:
            return {"given": "gone"}
        if carried.is_over:
            return {"refused": ["ended", f"{call} has ended"]}
        if carried.is_sought:
            return {"refused": ["wrong_state", f"{call} is not answered yet"]}
        choice = self._choice(node)
        if choice(0, ()) is None:
            return {"given": "busy"}  # it is about to stop, or we have not heard of it yet
        # Whoever asks may give up waiting: what has been let go of is written over all the same.
        given = await asyncio.shield(self._begin(self._handing.give(carried.conversation_id, choice, wanted_by=by)))
        return {"given": given}

    def _choice(self, owner: str) -> Choice:
        """That node and no other, as long as it takes new calls and reads what is written of these."""

        def choose(snapshot: int, besides: Container[str]) -> Neighbour | None:
            ready = [each for each in self._switchboard.ready() if each.owner == owner and owner not in besides]
            return next((each for each in ready if snapshot in (0, *each.versions)), None)

        return choose


def _read(said: Mapping[str, Any]) -> tuple[str, Why | None]:
    if "given" in said:
        return str(said["given"]), None
    code, detail = said["refused"]
    return "", Why(str(code), str(detail), final=True)
