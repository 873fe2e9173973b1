"""What a process has that is one node among others: the service's own membership, switchboard, drain and reader.

They run on the process's loop in virtual time, on the store and the links of this world, and are put together, begun and
ended as `bridge.service` does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Protocol, cast

from bridge.ambient import letters
from bridge.calls.actions import Action
from bridge.calls.facts import CallId
from bridge.cluster.peers import Cluster
from bridge.draining import Draining
from bridge.engine.effects import CommandAccepted, CommandRefused
from bridge.engine.inputs import HangUpAll, Input
from bridge.engine.node import Node
from bridge.engine.settings import NodeSettings
from bridge.errors import StoreUnavailable
from bridge.fetching import Fetching
from bridge.handing import HandingOver
from bridge.membership import RETRY_S, Membership
from bridge.pump import Pump
from bridge.reader import Reader
from bridge.service import STOP_PATIENCE_S
from bridge.store import Store
from bridge.switchboard import Switchboard
from bridge.telemetry.metrics import Metrics
from tests.engine.world import Sealing
from tests.sim.clock import VirtualClock
from tests.sim.cluster import CLUSTER_PORT, Asked, Links, Peer, Wires
from tests.sim.store import Link

DRAIN_LIMIT_S = 30.0
REST_PATIENCE_S = 10.0  # as `bridge.api` has it
METRICS = Metrics()  # which nobody reads


class Own(Peer, Protocol):
    """The process, which is the pump of all this."""

    node: Node
    settings: NodeSettings
    link: Link

    def give(self, given: Input) -> None: ...
    def listen(self) -> None: ...
    def end(self) -> None: ...
    def tell(self, what: str) -> None: ...
    def is_replaced(self, by: str) -> None: ...


class SeededTokens:
    """Names that the seed decides."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def token(self, length: int) -> str:
        return letters(self._chance.randbytes(length))


class Company:
    """One process's place among the others."""

    def __init__(self, own: Own, links: Links, clock: VirtualClock, chance: Random) -> None:
        self._own = own
        self._clock = clock
        pump, store, seal = cast(Pump, own), cast(Store, Asked(own.link, chance)), Sealing()
        self.switchboard = Switchboard(
            owner=own.owner,
            pump=pump,
            store=store,
            clock=clock,
            seal=seal,
            dropped=lambda reason: own.tell(f"drops: {reason}"),
        )
        self._membership = Membership(
            owner=own.owner,
            nonce=own.settings.nonce,
            pump=pump,
            store=store,
            clock=clock,
            metrics=METRICS,
            replaced=own.is_replaced,
            facts={"cluster": [own.address[0], CLUSTER_PORT], "hint": own.node.hint},
            heard=self.switchboard.heard,
        )
        handing = HandingOver(pump=pump, store=store, switchboard=self.switchboard, membership=self._membership)
        fetching = Fetching(
            pump=pump, store=store, switchboard=self.switchboard, membership=self._membership, handing=handing
        )
        self._draining = Draining(
            pump=pump,
            membership=self._membership,
            switchboard=self.switchboard,
            handing=handing,
            began=lambda: own.tell("is unready"),
            supervised=lambda _: None,
        )
        cluster = cast(Cluster, Wires(own, links))
        self.switchboard.connect(cluster, self._membership, fetching, self._draining.begin)
        self._reader = Reader(pump=pump, store=store, tokens=SeededTokens(chance), seal=seal, nodes=self.switchboard)

    async def live(self) -> None:
        """From the first announcement on."""
        while True:
            try:
                await self._membership.announce()
                break
            except StoreUnavailable:
                await asyncio.sleep(RETRY_S)  # the real one ends, and is started again
        await self._membership.succeed()
        self._own.tell(f"is {self._own.owner}")
        self._own.listen()
        await self._membership.open()
        await self._membership.keep()

    async def wind_down(self) -> None:
        """What SIGTERM begins."""
        own, node = self._own, self._own.node
        moved = await self._draining.run(DRAIN_LIMIT_S)
        own.tell(f"has handed over {moved} conversations, and ends {node.live} calls")
        own.give(HangUpAll())
        deadline = self._clock.now() + STOP_PATIENCE_S
        while node.carried and self._clock.now() < deadline:
            await asyncio.sleep(0.02)
        await self._membership.leave()
        own.end()

    async def command(
        self,
        call: CallId,
        actions: tuple[Action, ...],
        *,
        listed: bool,
        answered: Callable[[CommandAccepted | CommandRefused], Any],
    ) -> None:
        """What the API does with a command."""
        async with asyncio.timeout(REST_PATIENCE_S):
            answered(await self._reader.command(call, actions, listed=listed))
