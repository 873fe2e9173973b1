"""A Redis with a failover: one primary, replicas, and Sentinels that watch them, all real processes on ports of their own.

    async with SentinelRedis(directory) as store:        # ready: every Sentinel knows the others and all replicas
        bridge = ...store.url...                         # redis+sentinel://127.0.0.1:…,127.0.0.1:…/bridge/0
        await store.fail_over()                          # as ordered: nothing that was written is lost

        old = store.kill_primary()                       # kill -9; the Sentinels notice within about a second
        await store.until_promoted(old)

        store.cut_off_replicas()                         # from here on no write reaches a replica ...
        ...                                              # ... everything written here is lost by ...
        await store.lose_primary()                       # ... this: kill -9, and a replica takes its place
        await old.start()                                # it comes back, and is made a replica (it resyncs: its data goes)

`primary` asks the Sentinels, `servers` are all of them, in the order of their start. Timings are those of a test: a
primary is taken for dead after half a second. Fails over in one to three seconds on an idle machine.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from redis.exceptions import RedisError

from tests.support.programs import PORTS, Program, find_program
from tests.support.redis import RedisServer, client
from tests.support.waiting import until

NAME = "bridge"  # of what the Sentinels watch
DOWN_AFTER_MS = 500
FAILOVER_TIMEOUT_MS = 2_000  # a second failover by the Sentinels' own decision comes no sooner than twice this


class Sentinel:
    """One redis-sentinel."""

    def __init__(
        self, directory: Path, primary_port: int, quorum: int, options: Sequence[str] = (), *, tls: bool = False
    ) -> None:
        self.port = PORTS.one()
        self._directory = directory
        self._program: Program | None = None
        directory.mkdir(parents=True)
        lines = [
            *((f"port {self.port}",) if not tls else ("port 0", f"tls-port {self.port}", "tls-replication yes")),
            "bind 127.0.0.1",
            f"dir {directory}",
            f"sentinel monitor {NAME} 127.0.0.1 {primary_port} {quorum}",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}",
            *options,
        ]
        (directory / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        command = [find_program("redis-server"), str(self._directory / "sentinel.conf"), "--sentinel"]
        self._program = Program(command, output=self._directory / "log")

    def ask(self, *words: str) -> object:
        """One command's answer; None where there is no answer, or an error."""
        try:
            with client(self.port, decode_responses=True) as redis:
                return redis.execute_command(*words)
        except (RedisError, OSError):
            return None

    def hurry(self) -> bool:
        """Have it look around more often than every ten seconds. False: it does not answer yet."""
        return self.ask("SENTINEL", "DEBUG", "info-period", "500", "publish-period", "200") is not None

    def pause(self) -> None:
        assert self._program is not None
        self._program.send(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._program is not None
        self._program.send(signal.SIGCONT)

    def kill(self) -> None:
        if self._program is not None:
            self._program.kill()


class SentinelRedis:
    """A primary, its replicas, and their Sentinels. `options` are for every server's command line."""

    def __init__(
        self,
        directory: Path,
        *,
        replicas: int = 1,
        sentinels: int = 3,
        remembers: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        # What a replica missed while it was cut off is sent anew in a moment, not in five seconds.
        quick = ("--repl-diskless-sync-delay", "0", "--repl-timeout", "5", *options)
        self._directory = directory
        first = RedisServer(directory / "redis-0", remembers=remembers, options=quick)
        follows = ("--replicaof", "127.0.0.1", str(first.port))
        self.servers = [first]
        for number in range(1, replicas + 1):
            place = directory / f"redis-{number}"
            self.servers.append(RedisServer(place, remembers=remembers, options=(*quick, *follows)))
        quorum = sentinels // 2 + 1
        self.sentinels = [Sentinel(directory / f"sentinel-{n}", first.port, quorum) for n in range(sentinels)]
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.url = f"redis+sentinel://{places}/{NAME}/0"

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
        """Everything, and wait until it all knows each other."""
        for server in self.servers:
            await server.start()
        await until(lambda: self._in_step(self.servers[0]), "the replicas follow the primary")
        for sentinel in self.sentinels:
            sentinel.start()
        for sentinel in self.sentinels:
            await until(sentinel.hurry, "a Sentinel answers")
            await until(lambda each=sentinel: self._knows_all(each), "a Sentinel knows the others and all replicas")  # type: ignore[misc]

    @property
    def primary(self) -> RedisServer:
        """Which server it is as the first Sentinel that answers says."""
        for sentinel in self.sentinels:
            found = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
            if isinstance(found, list):
                return next(server for server in self.servers if server.port == int(found[1]))
        raise AssertionError("no Sentinel answers")

    @property
    def replicas(self) -> list[RedisServer]:
        """All others."""
        primary = self.primary
        return [server for server in self.servers if server is not primary]

    async def fail_over(self) -> RedisServer:
        """`SENTINEL FAILOVER`, and wait until every Sentinel knows and the old primary follows. The new primary."""
        old = self.primary
        # Which one of them may is decided among them; one that has just voted for another says so, and is asked again.
        await until(self._order_failover, "a Sentinel begins a failover", poll_s=0.2)
        new = await self.until_promoted(old)
        await until(lambda: role(old) == "slave", "the old primary is a replica")
        await until(lambda: self._in_step(new), "the replicas follow the new primary")
        return new

    def kill_primary(self) -> RedisServer:
        """`kill -9`. Which one it was: `start` brings it back."""
        old = self.primary
        old.kill()
        return old

    async def until_promoted(self, old: RedisServer) -> RedisServer:
        """Wait until every Sentinel names another primary than `old`, and that takes writes."""
        await until(lambda: all(self._named_by(each) not in {None, old.port} for each in self.sentinels), "a failover")
        new = self.primary
        await until(lambda: role(new) == "master", "a replica is promoted")
        return new

    def cut_off_replicas(self) -> None:
        """No write reaches a replica from here on, and everything else goes on. A Sentinel promotes such a replica for the
        next five seconds only, for it knows how long that has not heard of its primary."""
        for replica in self.replicas:
            # Their next attempts to follow fail at the door. (A primary without a password refuses every one.)
            assert replica.ask("CONFIG", "SET", "masterauth", "wrong") == b"+OK\r\n"
            replica.ask("CLIENT", "KILL", "TYPE", "master")

    def join_replicas(self) -> None:
        """They may follow again, and will within a second."""
        for server in self.servers:
            server.ask("CONFIG", "SET", "masterauth", "")

    async def lose_primary(self) -> RedisServer:
        """`kill -9` of the primary, and wait until a replica has taken its place. The new primary."""
        old = self.kill_primary()
        new = await self.until_promoted(old)
        self.join_replicas()
        return new

    async def until_in_step(self) -> None:
        """Wait until every server but the primary follows it and has all of it."""
        await until(lambda: self._in_step(self.primary), "the replicas follow the primary")

    def kill(self) -> None:
        """All of it."""
        for sentinel in self.sentinels:
            sentinel.kill()
        for server in self.servers:
            server.kill()

    def _order_failover(self) -> bool:
        return self.sentinels[0].ask("SENTINEL", "FAILOVER", NAME) == "OK"

    def _named_by(self, sentinel: Sentinel) -> int | None:
        found = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return int(found[1]) if isinstance(found, list) else None

    def _in_step(self, primary: RedisServer) -> bool:
        others = [server for server in self.servers if server is not primary]
        written = int(fact(primary, "master_repl_offset"))
        return (
            all(fact(server, "master_link_status") == "up" for server in others)
            and all(fact(server, "master_port") == str(primary.port) for server in others)
            and all(int(fact(server, "slave_repl_offset")) >= written for server in others)
        )

    def _knows_all(self, sentinel: Sentinel) -> bool:
        replicas = sentinel.ask("SENTINEL", "REPLICAS", NAME)
        others = sentinel.ask("SENTINEL", "SENTINELS", NAME)
        quorum = sentinel.ask("SENTINEL", "CKQUORUM", NAME)
        return (
            isinstance(replicas, list)
            and len(replicas) == len(self.servers) - 1
            and isinstance(others, list)
            and len(others) == len(self.sentinels) - 1
            and quorum is not None
        )


def fact(server: RedisServer, name: str) -> str:
    """One line of `INFO replication`; empty where there is none."""
    for line in server.ask("INFO", "replication").decode().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value
    return ""


def role(server: RedisServer) -> str:
    """`master` or `slave`; empty where nobody answers."""
    return fact(server, "role")
