"""Everything one test has running, made in order and ended in reverse whatever happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from bridge.net.certificates import Loaded
from tests.support.application import Application, Reply, answering
from tests.support.baresip import Baresip
from tests.support.callee import Behaviour, Callee, answers
from tests.support.caller import Caller
from tests.support.kamailio import Kamailio
from tests.support.namespaces import LOOPBACK, Host, Network
from tests.support.redis import RedisServer
from tests.support.served import Served, merged
from tests.support.sipp import Sipp, SippServer
from tests.support.stream_caller import StreamCaller

# Retries that a test can wait for, and enough of them that nothing is given up meanwhile.
QUICK_SCHEDULE = [0, *[0.2] * 29]


class Scene:
    """Makes what a test needs; each thing is in a directory of its own below `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stack = AsyncExitStack()
        self._made = 0

    async def __aenter__(self) -> Self:
        await self.stack.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.stack.__aexit__(*error)

    def place(self, name: str) -> Path:
        """A new directory's path."""
        self._made += 1
        return self.directory / f"{self._made}-{name}"

    def network(self) -> Network:
        """Hosts with addresses of their own. Made before what lives there."""
        return self.stack.enter_context(Network())

    async def application(
        self, reply: Reply = answering, *, up: bool = True, dead_events: bool = False, host: Host = LOOPBACK
    ) -> Application:
        application = Application(reply, dead_events=dead_events, host=host)
        self.stack.push_async_callback(application.stop)
        if up:
            await application.start()
        return application

    async def redis(self, *, remembers: bool = False, host: Host = LOOPBACK) -> RedisServer:
        """`host`: where it listens besides loopback; a place of this process's own."""
        options = () if host is LOOPBACK else ("--bind", "127.0.0.1", host.address, "--protected-mode", "no")
        server = RedisServer(self.place("redis"), remembers=remembers, options=options)
        server.url = server.url.replace(LOOPBACK.address, host.address)
        self.stack.callback(server.kill)
        await server.start()
        return server

    async def node(
        self,
        application: Application,
        *,
        store: str,
        config: Mapping[str, Any] | None = None,
        fallback: Sequence[Mapping[str, Any]] = (),
        media_pairs: int = 200,
        host: Host = LOOPBACK,
    ) -> Served:
        """A node that is not started yet. `fallback` replaces the plan (reject 480) for what `application` fails to decide."""
        base: dict[str, Any] = {"store": {"url": store}, "webhooks": {"url": application.url}}
        if fallback:
            hook = {"id": "desk", "url": application.url, "decision": True}
            base = {
                "store": {"url": store},
                "applications": [{"name": "desk", "webhooks": [hook], "fallback": fallback}],
            }
        served = Served(self.place("bridge"), merged(base, config or {}), media_pairs=media_pairs, host=host)
        return await self.stack.enter_async_context(served)

    async def bridge(self, application: Application, **arguments: Any) -> Served:
        """The same, started and ready. Without a `store` it has a redis-server of its own."""
        if "store" not in arguments:
            arguments["store"] = (await self.redis()).url
        served = await self.node(application, **arguments)
        await served.start()
        return served

    async def caller(self, bridge: Served, *, host: Host = LOOPBACK) -> Caller:
        caller = Caller(bridge.sip_address, host)
        self.stack.callback(caller.close)
        await caller.open()
        return caller

    async def callee(self, behaviour: Behaviour = answers, *, host: Host = LOOPBACK) -> Callee:
        callee = Callee(behaviour, host)
        self.stack.callback(callee.close)
        await callee.open()
        return callee

    async def stream_caller(self, bridge: Served, *, tls: Loaded | None = None, sips: bool = False) -> StreamCaller:
        """The same over TCP or TLS, connected."""
        port = bridge.sip_port if tls is None else bridge.tls_port
        caller = StreamCaller(("127.0.0.1", port), tls=tls, sips=sips)
        self.stack.callback(caller.close)
        await caller.open()
        return caller

    def sipp(self, bridge: Served, **arguments: Any) -> Sipp:
        run = Sipp(self.place("sipp"), bridge.sip_port, target=bridge.host.address, **arguments)
        self.stack.callback(run.kill)
        return run

    async def baresip(self, account: str | None = None, *, host: Host = LOOPBACK, more: str = "") -> Baresip:
        phone = Baresip(self.place("baresip"), host=host, more=more)
        self.stack.push_async_callback(phone.stop)
        await phone.start(account=account)
        return phone

    async def kamailio(self, target: int) -> Kamailio:
        """A proxy that passes everything on to this port."""
        proxy = Kamailio(self.place("kamailio"), target)
        self.stack.callback(proxy.kill)
        await proxy.start()
        return proxy

    async def sipp_server(self, scenario: str | None = None) -> SippServer:
        server = SippServer(self.place("sipp"), scenario=scenario)
        self.stack.callback(server.kill)
        await server.start()
        return server
