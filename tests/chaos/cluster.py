"""Nodes on one Redis, somebody who calls each of them, and somebody whom they put calls through to."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.application import Application, Event, actions
from tests.support.balancer import Balancer
from tests.support.callee import Callee
from tests.support.caller import Caller
from tests.support.namespaces import LOOPBACK, Host
from tests.support.pairs import Pair, end_all, put_through
from tests.support.programs import children_of
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.served import Served, merged
from tests.support.waiting import until, until_awaited

NODES = 3
LEASE_S = 3.0
SECRET = "a secret that all nodes of the tests share"
LINKED = {"cluster": {"listen": "127.0.0.1:0", "secret": SECRET}}  # there is a way from each node to the others
ANSWERED_AT_ONCE = "700"  # who calls this number is answered, and put through to nobody


class Cluster:
    """`callers[n]` calls `nodes[n]`. A number is called once, so that each pair's two calls are known by it."""

    def __init__(self, scene: Scene, application: Application, callee: Callee, store: str) -> None:
        self.scene = scene
        self.here = callee.host
        self.application = application
        self.callee = callee
        self.store = store
        self.nodes: list[Served] = []
        self.callers: list[Caller] = []
        self._number = 100

    @classmethod
    async def up(
        cls,
        scene: Scene,
        nodes: int = NODES,
        config: Mapping[str, Any] | None = None,
        *,
        store: str | None = None,
        media_pairs: int = 200,
    ) -> Cluster:
        """All of it on loopback. `store`: where they keep everything, if not in a Redis of their own."""
        hosts, store = [LOOPBACK] * nodes, store or (await scene.redis()).url
        return await cls.up_at(scene, hosts, here=LOOPBACK, store=store, config=config, media_pairs=media_pairs)

    @classmethod
    async def up_at(
        cls,
        scene: Scene,
        hosts: Sequence[Host],
        *,
        here: Host,
        store: str,
        config: Mapping[str, Any] | None = None,
        media_pairs: int = 200,
    ) -> Cluster:
        """A node at each of these hosts; callers, callee and application `here`."""
        callee = await scene.callee(host=here)
        application = await scene.application(desk(callee), host=here)
        cluster = cls(scene, application, callee, store)
        usual = {"webhooks": {"schedule": QUICK_SCHEDULE, "decision_timeout_s": 30}}
        for host in hosts:
            settings = merged(usual, config or {})
            if "cluster" in settings:
                settings = merged(settings, {"cluster": {"listen": f"{host.address}:0"}})
            made = await scene.node(application, store=store, config=settings, media_pairs=media_pairs, host=host)
            cluster.nodes.append(made)
        await asyncio.gather(*(node.start() for node in cluster.nodes))
        for node in cluster.nodes:
            cluster.callers.append(await scene.caller(node, host=here))
        return cluster

    async def balancer(self) -> Balancer:
        """In front of all nodes, the dead and the draining ones too."""
        balancer = Balancer([node.sip_address for node in self.nodes], self.here)
        self.scene.stack.callback(balancer.close)
        await balancer.open()
        return balancer

    async def pairs(self, node: int, count: int) -> list[Pair]:
        """So many joined calls that begin at this node."""
        numbers = [str(self._number + each) for each in range(count)]
        self._number += count
        made = await asyncio.gather(*(Pair.up(self.callers[node], self.callee, number) for number in numbers))
        await asyncio.gather(*(pair.joined(self.application) for pair in made))
        return list(made)

    async def recovered(self, pairs: list[Pair]) -> None:
        """Wait until both calls of each pair have been taken over."""
        streams = [stream for pair in pairs for stream in await pair.streams(self.application)]
        await until(
            lambda: all("call.recovered" in stream.types for stream in streams),
            lambda: (
                f"all are recovered: {[stream.types for stream in streams if 'call.recovered' not in stream.types]}"
            ),
        )

    async def hear_each_other(self, pairs: list[Pair]) -> None:
        """A packet of each end comes out at the other one."""
        for pair in pairs:
            for phone, leg, other_phone, other in (
                (pair.out.phone, pair.out, pair.into.phone, pair.into),
                (pair.into.phone, pair.into, pair.out.phone, pair.out),
            ):
                before = len(other_phone.rtp.said[other.media_port])
                port = leg.media_port

                def is_heard(rtp=other_phone.rtp, port=other.media_port, before=before) -> bool:  # type: ignore[no-untyped-def]
                    return len(rtp.said[port]) > before

                deadline = time.monotonic() + 10
                while not is_heard() and time.monotonic() < deadline:
                    phone.rtp.speak(port)
                    await asyncio.sleep(0.02)
                assert is_heard(), f"{leg.call_id} is not heard"

    async def takes_calls(self, node: int) -> None:
        """Wait until this node answers a new call, which is ended at once."""

        async def is_answered() -> bool:
            call = self.callers[node].call(ANSWERED_AT_ONCE)
            if (await call.invite()).status != 200:
                return False
            assert (await call.bye()).status == 200
            return True

        await until_awaited(is_answered, "new calls are taken")

    async def taken_over(self) -> float:
        """Conversations that nodes have claimed from each other, since each one's start."""
        metrics = [await node.metrics() for node in self.nodes]
        return sum(each["bridge_takeovers_total"] for each in metrics)

    def nobody_was_hung_up_on(self, pairs: list[Pair]) -> None:
        over = [leg.call_id for pair in pairs for leg in (pair.out, pair.into) if leg.is_over]
        assert not over, f"{len(over)} of {2 * len(pairs)} calls were ended: {over[:5]}"

    async def end(self, pairs: list[Pair]) -> None:
        """Half of them by their callers, half by their callees."""
        await end_all(pairs, self.application)


def desk(callee: Callee):  # type: ignore[no-untyped-def]
    """Puts everybody through to the callee, but for those who want nothing but an answer."""
    through = put_through(callee)

    async def reply(event: Event):  # type: ignore[no-untyped-def]
        if event["type"] == "call.incoming" and event["data"]["call"]["to"]["user"] == ANSWERED_AT_ONCE:
            return actions("answer")
        return await through(event)

    return reply


def family_of(node: Served) -> list[int]:
    """Its supervisor, and what that has started."""
    return [node.pid, *children_of(node.pid)]


def stop(pids: list[int]) -> None:
    """SIGSTOP, the supervisor first: it must not see the others stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def wake(pids: list[int]) -> None:
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)
