"""A planned stop: every call goes to another node while this one still plays (survival §4, drain).

One conversation after the other is let go of here, written over to its next node in the store, and taken up there; who
speaks to us of it in between is heard there. What is not at rest is asked again until it is, or until the time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container

import structlog

from bridge.calls.facts import ConversationId
from bridge.engine.commit import HandOver
from bridge.engine.effects import Yielded
from bridge.engine.inputs import Yield
from bridge.errors import BridgeError, PeerGone, StoreUnavailable
from bridge.membership import heir_of
from bridge.pump import Pump
from bridge.store import Store
from bridge.switchboard import Neighbour, Switchboard

AT_ONCE = 8  # conversations under way: each wants two ports and a re-INVITE there
AGAIN_S = 0.2  # until what was busy, or did not answer, is asked again
ALONE_S = 5.0  # until nobody comes any more: another node may just be starting, or the store may be away
TOLD_MOST = 5  # times that an heir is told; each may take as long as its answer is waited for

log = structlog.get_logger("bridge.draining")


class Draining:
    """Empties this node. `run` returns once nothing is left, or nobody has been there to take it for `ALONE_S`, or the
    time is over."""

    def __init__(self, *, owner: str, pump: Pump, store: Store, switchboard: Switchboard) -> None:
        self._owner = owner
        self._pump = pump
        self._store = store
        self._switchboard = switchboard
        self._moved = 0

    async def run(self, limit_s: float) -> int:
        """How many conversations have moved."""
        try:
            async with asyncio.timeout(limit_s):
                await self._empty()
        except TimeoutError:
            log.warning("drain_out_of_time", left=self._pump.node.live)
        return self._moved

    async def _empty(self) -> None:
        loop = asyncio.get_running_loop()
        alone_since: float | None = None
        while names := [each.id for each in self._pump.node.conversations()]:
            if self._switchboard.ready():
                alone_since = None
            elif alone_since is None:
                alone_since = loop.time()
            elif loop.time() - alone_since > ALONE_S:
                return
            moved = self._moved
            for start in range(0, len(names), AT_ONCE):
                await asyncio.gather(*(self._move(name) for name in names[start : start + AT_ONCE]))
            if self._moved == moved:
                await asyncio.sleep(AGAIN_S)

    async def _move(self, conversation: ConversationId) -> None:
        if self._heir(conversation) is None:
            return
        try:
            said = await self._pump.ask(Yield(self._pump.new_request(), conversation))
        except BridgeError:
            return  # a fault that the pump has told of: this one stays, and the others are asked
        if not isinstance(said, Yielded):
            return
        self._switchboard.hold(said.calls)
        try:
            heir = await self._write_over(said)
            if heir is not None:
                self._moved += 1
                await self._tell(heir, conversation)
        finally:
            self._switchboard.let_through(said.calls)

    def _heir(self, conversation: ConversationId, besides: Container[str] = ()) -> Neighbour | None:
        """As the nodes are now: one may have died since the last conversation."""
        ready = {each.owner: each for each in self._switchboard.ready() if each.owner not in besides}
        name = heir_of(conversation, ready)
        return None if name is None else ready[name]

    async def _write_over(self, said: Yielded) -> Neighbour | None:
        """Whose it is now. The store refuses one that has been started anew meanwhile: then another one gets it."""
        refused: set[str] = set()
        while (heir := self._heir(said.conversation, refused)) is not None:
            given = HandOver(said.conversation, self._owner, said.epoch, said.version, heir.owner, heir.nonce)
            while True:
                try:
                    written = await self._store.hand_over(given)
                    break
                except StoreUnavailable:
                    await asyncio.sleep(AGAIN_S)  # the same heir: the store may have done it
            if written:
                return heir
            refused.add(heir.owner)
        # It is ours in the store, and free for others once we have departed.
        log.error("not_handed_over", conversation=said.conversation, refused_by=sorted(refused))
        return None

    async def _tell(self, heir: Neighbour, conversation: ConversationId) -> None:
        """Have it taken up. It bears being said again; a node that dies has heirs of its own, who see to it."""
        for _ in range(TOLD_MOST):
            try:
                await self._switchboard.hand(heir, conversation)
                return
            except PeerGone as error:
                why = str(error)
            if not self._switchboard.is_leased(heir.owner):
                break
            await asyncio.sleep(AGAIN_S)
        log.warning("heir_gone", conversation=conversation, node=heir.owner, why=why)
