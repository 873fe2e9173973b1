"""A Redis Cluster of real processes: three primaries that share the slots, and one replica of the one that has `{bridge}`.

    async with ClusterRedis(directory) as store:
        bridge = ...store.url...              # redis+cluster://127.0.0.1:…,127.0.0.1:…
        await store.fail_over()               # as ordered, CLUSTER FAILOVER: nothing that was written is lost
        old = store.kill_owner()              # kill -9; the others notice within about a second
        await store.until_owned_by_another(old)
        await store.move_slot(store.owner, store.primaries[1])   # resharding, key by key

`owner` asks the nodes. Timings are those of a test: a node is taken for dead after half a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.support.programs import PORTS
from tests.support.redis import RedisServer, client
from tests.support.waiting import until

TAG = "{bridge}"
SLOT = key_slot(TAG.encode())
SLOTS = 16384
NODE_TIMEOUT_MS = 500


class ClusterRedis:
    """`options` are for every node's command line."""

    def __init__(self, directory: Path, *, remembers: bool = False, options: Sequence[str] = ()) -> None:
        # A replica that has lost its primary may stand for it however long ago that was.
        quick = ["--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-replica-validity-factor", "0"]
        quick += ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", *options]
        self.nodes: list[RedisServer] = []
        self._buses: dict[RedisServer, int] = {}
        for number in range(4):
            bus = PORTS.one()
            clustered = ["--cluster-enabled", "yes", "--cluster-port", str(bus), *quick]
            node = RedisServer(directory / f"node-{number}", remembers=remembers, options=clustered)
            self.nodes.append(node)
            self._buses[node] = bus
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    async def start(self) -> None:
        """All nodes, and wait until they agree on everything."""
        for node in self.nodes:
            await node.start()
        *primaries, replica = self.nodes
        for number, node in enumerate(primaries):
            first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
            assert node.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(last)) == b"+OK\r\n"
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for node in self.nodes[1:]:
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", str(node.port), str(self._buses[node]))
        await until(lambda: all(_fact(node, "cluster_known_nodes") == "4" for node in self.nodes), "the nodes have met")
        await until(self.is_whole, "the cluster is up")
        owner = self.owner
        name = _id(owner)
        await until(lambda: replica.ask("CLUSTER", "REPLICATE", name) == b"+OK\r\n", "the replica follows")
        await until(lambda: self.replicas == [replica], "everybody knows the replica")
        await until(
            lambda: b"master_link_status:up" in replica.ask("INFO", "replication"), "the replica has everything"
        )

    @property
    def primaries(self) -> list[RedisServer]:
        """The nodes with slots, by what they say themselves."""
        return [node for node in self.nodes if b"role:master" in node.ask("INFO", "replication")]

    @property
    def owner(self) -> RedisServer:
        """Who has the slot, as most of those say that answer."""
        views = [view[0] for view in self._views()]
        assert views, "no node says who has the slot"
        port = max(views, key=views.count)
        return next(node for node in self.nodes if node.port == port)

    @property
    def replicas(self) -> list[RedisServer]:
        """Who follows that one; empty as long as not everybody knows."""
        views = self._views()
        known = set.intersection(*[set(view[1:]) for view in views]) if views else set()
        return [node for node in self.nodes if node.port in known]

    def is_whole(self) -> bool:
        """Whether every node that answers finds the cluster in order."""
        states = [_fact(node, "cluster_state") for node in self.nodes]
        return all(state in {"ok", ""} for state in states) and "ok" in states

    async def fail_over(self) -> RedisServer:
        """Have the replica take the slot over. The new owner."""
        old = self.owner
        (replica,) = await until(lambda: self.replicas, "everybody knows the replica")
        assert replica.ask("CLUSTER", "FAILOVER") == b"+OK\r\n"
        return await self.until_owned_by_another(old)

    def kill_owner(self) -> RedisServer:
        """`kill -9`. Which one it was: `start` brings it back."""
        old = self.owner
        old.kill()
        return old

    async def until_owned_by_another(self, old: RedisServer) -> RedisServer:
        """Wait until everybody who answers names another than `old`."""
        await until(lambda: bool(self._views()) and all(view[0] != old.port for view in self._views()), "a failover")
        await until(self.is_whole, "the cluster is up")
        return self.owner

    def begin_move(self, source: RedisServer, target: RedisServer) -> None:
        """From here on the slot is on its way: keys may be at either."""
        assert target.ask("CLUSTER", "SETSLOT", str(SLOT), "IMPORTING", _id(source)) == b"+OK\r\n"
        assert source.ask("CLUSTER", "SETSLOT", str(SLOT), "MIGRATING", _id(target)) == b"+OK\r\n"

    def move_keys(self, source: RedisServer, target: RedisServer, count: int) -> int:
        """So many keys at most, of those that are left. How many that were."""
        with client(source.port) as redis:
            keys: Any = redis.execute_command("CLUSTER GETKEYSINSLOT", SLOT, count)
        for key in keys:
            self.move_key(source, target, key)
        return len(keys)

    def move_key(self, source: RedisServer, target: RedisServer, key: str | bytes) -> None:
        """This one."""
        with client(source.port) as redis:
            moved: Any = redis.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        assert moved in {True, b"OK", "OK"}, moved

    async def end_move(self, source: RedisServer, target: RedisServer) -> None:
        """Every key has moved: everybody is told."""
        for node in (target, source, *self.primaries):
            node.ask("CLUSTER", "SETSLOT", str(SLOT), "NODE", _id(target))
        await until(lambda: all(view[0] == target.port for view in self._views()), "everybody knows of the move")

    async def move_slot(
        self, source: RedisServer, target: RedisServer, between: Callable[[], None] | None = None
    ) -> None:
        """Resharding: the slot with all its keys, `between` halfway."""
        self.begin_move(source, target)
        self.move_keys(source, target, 3)
        if between is not None:
            between()
        while self.move_keys(source, target, 100):
            pass
        await self.end_move(source, target)

    def kill(self) -> None:
        """All of it."""
        for node in self.nodes:
            node.kill()

    def _views(self) -> list[list[int]]:
        """Per node that answers: the port of the slot's owner, and those of its replicas."""
        found = []
        for node in self.nodes:
            try:
                with client(node.port) as redis:
                    answer: Any = redis.execute_command("CLUSTER", "SLOTS")
            except (RedisError, OSError):
                continue
            found += [[each[1] for each in nodes] for first, last, *nodes in answer if first <= SLOT <= last]
        return found


def _fact(node: RedisServer, name: str) -> str:
    for line in node.ask("CLUSTER", "INFO").decode().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value
    return ""


def _id(node: RedisServer) -> str:
    return node.ask("CLUSTER", "MYID").decode().splitlines()[1]
