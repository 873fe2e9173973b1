"""The composition root of the signalling process: makes every part, joins them, undoes it all in reverse.

One `AsyncExitStack`: read backwards, its order is the shutdown plan. Sockets are bound first, because who cannot listen must
not take a running process's name and calls; they are read last, so that every call of a dead predecessor is known before
the first packet asks for it.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from base64 import b32decode
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import structlog
import uvloop

from bridge.ambient import Seal, SystemClock, SystemTokens
from bridge.announcing import Load
from bridge.api import NotReady, Ready
from bridge.api.app import make_app, make_health_app
from bridge.api.auth import ApiKey
from bridge.calls.call import Call
from bridge.calls.events import Event
from bridge.calls.facts import ActionId, EventId
from bridge.calls.snapshot import READS
from bridge.cluster.peers import Cluster
from bridge.config import Config, Listener
from bridge.contract.registered import render_registration
from bridge.contract.render import call_json, render_event
from bridge.draining import Draining
from bridge.engine.inputs import HangUpAll
from bridge.engine.node import Node
from bridge.engine.registrations import RegistrationEvent
from bridge.engine_settings import advertised_host, media_address, node_settings
from bridge.errors import StartError, StoreUnavailable
from bridge.fetching import Fetching
from bridge.handing import HandingOver
from bridge.http_serving import bind_http, serve_http
from bridge.media.client import MediaClient
from bridge.membership import Membership
from bridge.net.addresses import host_port, outward_address
from bridge.net.certificates import Certificates
from bridge.net.connection import StreamLimits
from bridge.net.resolver import Resolver
from bridge.net.stream import StreamListener
from bridge.net.udp import UdpListener
from bridge.net.websocket import WebSocketListener
from bridge.nodes import Nodes
from bridge.pump import Pump
from bridge.reader import Reader
from bridge.registry import Registry
from bridge.renewal import Renewal
from bridge.sealing import ClusterSeal
from bridge.sip.flow import SECURE
from bridge.sip.registrar import AddressOfRecord
from bridge.store import Lease, Store
from bridge.store.memory import MemoryStore
from bridge.store.redis import RedisStore
from bridge.switchboard import Switchboard
from bridge.telemetry.metrics import Metrics
from bridge.trunks import Trunks
from bridge.webhooks.sender import Sender
from bridge.webhooks.signing import new_secret

log = structlog.get_logger("bridge.service")

SECRETS_RETRY_S = 0.5
CANCEL_AGAIN_S = 0.5
STOP_PATIENCE_S = 5.0  # what a planned stop gives the last events to be delivered
LAG_PROBE_S = 0.25
YOUNG_OBJECTS = 5_000  # that may be made, and not be gone again, before they are searched for circles
CRASHED = 70  # exit code: a fault of ours, EX_SOFTWARE of sysexits.h; the supervisor starts us again
REPLACED = 3  # exit code: another process bears our name now; starting us again would only take it back

SipListener: TypeAlias = UdpListener | StreamListener


@dataclass(slots=True)
class Readiness:
    """`Health` of the API: started once, and not draining. Never asks the store (contract §2)."""

    started: bool = False
    draining: bool = False

    def drains(self) -> None:
        """From now on."""
        self.draining = True

    def ready(self) -> Ready | NotReady:
        if self.draining:
            return NotReady("draining")
        return Ready() if self.started else NotReady("not started yet")


class ContractRenderer:
    """The engine's `Renderer`: the public contract."""

    def event(self, event_id: EventId, event: Event, call: Call, *, caused_by: ActionId | None, now: float) -> bytes:
        return render_event(
            event_id,
            event,
            call,
            sequence=call.sequence,
            conversation=call.conversation_id,
            application=call.application,
            caused_by=caused_by,
            now=now,
        )

    def registration(
        self,
        event_id: EventId,
        event: RegistrationEvent,
        aor: AddressOfRecord,
        application: str,
        sequence: int,
        *,
        now: float,
    ) -> bytes:
        return render_registration(event_id, event, aor, application, sequence, now=now)

    def record(self, call: Call) -> bytes:
        return call_json(call)


class Service:
    """One signalling process."""

    def __init__(self, config: Config, *, node_id: str, store_url: str, workers: Sequence[Path]) -> None:
        self._config = config
        self._node_id = node_id
        self._store_url = store_url
        self._workers = workers
        self._clock = SystemClock()
        self._tokens = SystemTokens()
        self._metrics = Metrics()
        self._made_secrets: dict[str, str] = {}  # those that stand in no configuration
        self._readiness = Readiness()
        self._membership: Membership
        self._draining: Draining
        self._owner = f"{node_id}:{self._tokens.token(12)}"
        self._listening: list[str] = []  # where phones find us
        self._renewal: Renewal | None = None  # where TLS is spoken
        self._stop: asyncio.Future[int]

    async def run(self) -> int:
        """Start, serve until told to stop, and undo it all. Returns the exit code. StartError when it cannot start."""
        loop = asyncio.get_running_loop()
        self._stop = loop.create_future()
        async with AsyncExitStack() as stack:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._told_to_stop, 0)
                stack.callback(loop.remove_signal_handler, number)
            loop.add_signal_handler(signal.SIGHUP, self._told_to_reload)
            stack.callback(loop.remove_signal_handler, signal.SIGHUP)
            assembling = asyncio.create_task(self._assemble(stack), name="assembly")
            either: list[asyncio.Future[Any]] = [assembling, self._stop]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if assembling.done():
                await self._serve(_assembled(assembling))
            else:
                await cancel(assembling)  # told to stop before we were ready
        log.info("stopped")
        return self._stop.result()

    async def _serve(self, pump: Pump) -> None:
        """Until told to stop. Only a planned stop is worth a word to anybody."""
        self._readiness.started = True
        log.info("ready", node=self._owner, sip=self._listening)
        code = await self._stop
        self._readiness.draining = True
        if code == 0:
            await self._wind_down(pump)
        pump.close()

    def _told_to_stop(self, code: int) -> None:
        if not self._stop.done():
            self._stop.set_result(code)

    def _told_to_reload(self) -> None:
        if self._renewal is not None:
            self._renewal.ask()

    # Assembly

    async def _assemble(self, stack: AsyncExitStack) -> Pump:
        config, metrics = self._config, self._metrics
        pump = Pump(clock=self._clock, metrics=metrics)
        certificates = None if config.sip.tls.files is None else Certificates(config.sip.tls.files)
        sockets = [await self._bind_sip(stack, each, pump, certificates) for each in config.sip.listen]
        api_sockets = bind_http(stack, config.api.listen, "api.listen")
        await self._serve_health(stack)
        store = self._make_store(pump)
        await store.open()
        stack.push_async_callback(store.close)
        secret = await self._cluster_secret(store)
        endpoint_secrets = await self._webhook_secrets(store)

        seal = ClusterSeal(secret, self._tokens)
        switchboard, cluster = await self._bind_cluster(stack, pump, store, secret, seal)

        settings = node_settings(
            config,
            owner=self._owner,
            node_id=self._node_id,
            nonce=self._tokens.token(12),
            secret=secret,
            sockets=sockets,
        )
        node = Node(
            settings,
            render=ContractRenderer(),
            tokens=self._tokens,
            chance=lambda: _chance(self._tokens),
            seal=seal,
        )

        sender = Sender(endpoint_secrets, clock=self._clock, give=pump.delivered)
        await sender.start()
        stack.push_async_callback(sender.close)
        media = MediaClient([str(each) for each in self._workers], advertise=media_address(config), give=pump.give)
        await media.start()
        stack.push_async_callback(media.close)
        resolver = Resolver(pump.give)
        stack.push_async_callback(resolver.close)
        registry = Registry(
            pump=pump,
            store=store,
            clock=self._clock,
            realm=settings.registrar.realm,
            users=settings.registrar.users,
            # A key that was made lies in the same store; and who sets one of their own later keeps these users.
            seal=None if config.cluster.secret is None else seal,
        )
        trunks = Trunks(pump=pump, store=store, trunks=settings.trunks, seal=seal)
        stack.push_async_callback(trunks.close)
        pump.connect(
            node,
            listeners={each.name: each for each in sockets},
            store=store,
            media=media,
            webhooks=sender,
            names=resolver,
            registrations=registry,
            trunks=trunks,
            nodes=switchboard,
        )
        stack.callback(pump.close)

        membership = self._membership = Membership(
            owner=self._owner,
            nonce=settings.nonce,
            pump=pump,
            store=store,
            clock=self._clock,
            metrics=metrics,
            replaced=lambda _: self._told_to_stop(REPLACED),
            facts={"since": self._clock.now()},
            heard=_nobody_listens if switchboard is None else switchboard.heard,
            measured=partial(_load, node, media, settings.max_calls),
        )
        handing = None
        if switchboard is not None:
            handing = HandingOver(pump=pump, store=store, switchboard=switchboard, membership=membership)
        draining = self._draining = Draining(
            pump=pump,
            membership=membership,
            switchboard=switchboard,
            handing=handing,
            began=self._readiness.drains,
            supervised=self._supervised,
        )
        stack.push_async_callback(draining.close)
        if switchboard is not None and cluster is not None and handing is not None:
            membership.facts |= {"cluster": self._cluster_address(cluster), "hint": node.hint}
            fetching = Fetching(pump=pump, store=store, switchboard=switchboard, membership=membership, handing=handing)
            switchboard.connect(cluster, membership, fetching, draining.begin)
            stack.push_async_callback(fetching.close)
        await membership.announce()
        # What is taken over may have to be said again at once; what comes meanwhile waits in the sockets.
        await membership.succeed()
        await registry.load_users()
        await trunks.load()
        for each in sockets:
            await each.open()
            if each.ended is not None:
                each.ended.add_done_callback(partial(self._deaf, each.name))
        if cluster is not None:
            await cluster.open()
        await membership.open()
        endpoints = [each.id for application in settings.applications for each in application.endpoints]
        streams = [each for each in sockets if isinstance(each, StreamListener)]
        metrics.on_scrape = partial(
            _set_gauges, metrics, node, media, streams=streams, endpoints=endpoints, capacity=settings.max_calls
        )
        await self._serve_api(
            stack,
            api_sockets,
            reader=Reader(pump=pump, store=store, tokens=self._tokens, seal=seal, nodes=switchboard),
            registry=registry,
            trunks=trunks,
            nodes=Nodes(owner=self._owner, membership=membership, switchboard=switchboard, draining=draining),
        )
        works = [
            ("lease", membership.keep()),
            ("secrets", self._keep_secrets(store, pump.store_came_back)),
            ("users", registry.keep_users()),
            ("trunks", trunks.keep()),
            ("expiries", registry.expire(metrics.registrations.set)),
            ("lag", self._measure_lag()),
        ]
        if certificates is not None:
            expires = metrics.tls_certificate_expiry_seconds.set
            self._renewal = Renewal(certificates, clock=self._clock, expires=expires)
            works.append(("certificates", self._renewal.keep()))
        for name, work in works:
            task = asyncio.create_task(work, name=name)
            task.add_done_callback(self._supervised)
            stack.push_async_callback(cancel, task)
        return pump

    def _make_store(self, pump: Pump) -> Store:
        url = self._store_url
        if url.startswith("memory:"):
            log.warning("store_in_memory", detail="calls die with this process: for tests only")
            return MemoryStore(
                give=pump.store,
                clock=self._clock,
                retention_s=self._config.store.retention_s,
                reads=READS,
            )
        return RedisStore(
            url,
            give=pump.store,
            retention_s=self._config.store.retention_s,
            reads=READS,
            observe=self._metrics.store_seconds.observe,
            unreplicated=lambda write: self._metrics.store_unreplicated[write].inc(),
        )

    async def _bind_cluster(
        self, stack: AsyncExitStack, pump: Pump, store: Store, secret: bytes, seal: Seal
    ) -> tuple[Switchboard | None, Cluster | None]:
        """The way to other nodes, where we are told to have one."""
        listen = self._config.cluster.listen
        if listen is None:
            return None, None
        switchboard = Switchboard(
            owner=self._owner, pump=pump, store=store, clock=self._clock, seal=seal, dropped=self._metrics.dropped
        )
        cluster = Cluster(
            owner=self._owner,
            secret=secret,
            listen=(listen.host, listen.port),
            members=switchboard,
            receiver=switchboard,
            dropped=self._metrics.dropped,
        )
        await cluster.bind()
        stack.push_async_callback(cluster.close)
        stack.push_async_callback(switchboard.close)
        return switchboard, cluster

    def _cluster_address(self, cluster: Cluster) -> tuple[str, int]:
        """Where other nodes reach us."""
        shown = self._config.cluster.advertise
        host, port = cluster.address[0], cluster.address[1]
        if shown is None:
            return outward_address(host), port
        return shown.host, shown.port or port

    async def _cluster_secret(self, store: Store) -> bytes:
        configured = self._config.cluster.secret
        if configured is not None:
            return configured.get_secret_value().encode()
        made = self._made_secrets["cluster"] = await store.secret("cluster", self._tokens.token(64))
        return b32decode(made.upper())

    async def _webhook_secrets(self, store: Store) -> dict[str, Sequence[str]]:
        """The signing secrets by endpoint id. Where none is configured one is made, kept, and said once."""
        shared = [each.get_secret_value() for each in self._config.webhooks.secrets]
        secrets: dict[str, Sequence[str]] = {}
        for application in self._config.all_applications:
            for webhook in application.webhooks:
                own = [each.get_secret_value() for each in webhook.secrets]
                secrets[webhook.id] = own or shared
        if not all(secrets.values()):
            proposal = new_secret()
            made = self._made_secrets["webhooks"] = await store.secret("webhooks", proposal)
            secrets = {endpoint: own or [made] for endpoint, own in secrets.items()}
            if made == proposal:
                _say_secret(made)
        return secrets

    async def _bind_sip(
        self, stack: AsyncExitStack, listener: Listener, pump: Pump, certificates: Certificates | None
    ) -> SipListener:
        host, port = listener.address.host, listener.address.port
        bound: SipListener
        if listener.transport == "udp":
            bound = UdpListener(listener.uri, host, port, pump.packet)
        else:
            limits = StreamLimits(
                connections=self._config.limits.max_connections,
                per_source=self._config.limits.max_connections_per_source,
                idle_s=self._config.sip.connection_idle_s,
            )
            secured = certificates if listener.transport in SECURE else None
            if listener.transport in WebSocketListener.transports:
                bound = WebSocketListener(
                    listener.uri,
                    host,
                    port,
                    pump.stream,
                    dropped=pump.dropped,
                    origins=self._config.sip.websocket.origins,
                    hosts={*self._config.sip.domains, advertised_host(self._config, listener)},
                    limits=limits,
                    certificates=secured,
                )
            else:
                bound = StreamListener(
                    listener.uri, host, port, pump.stream, dropped=pump.dropped, limits=limits, certificates=secured
                )
        await bound.bind()
        stack.push_async_callback(bound.close)
        self._listening.append(f"{listener.transport}:{host_port(*bound.address)}")
        return bound

    async def _serve_api(
        self,
        stack: AsyncExitStack,
        sockets: Sequence[socket.socket],
        *,
        reader: Reader,
        registry: Registry,
        trunks: Trunks,
        nodes: Nodes,
    ) -> None:
        config = self._config
        keys = [ApiKey(each.name, each.key.get_secret_value(), frozenset(each.scopes)) for each in config.api.keys]
        if not keys:
            log.warning("api_without_keys", detail=f"anybody on this machine may use {config.api.listen}; see api.keys")
        app = make_app(
            control=reader,
            reader=reader,
            registrations=registry,
            trunks=trunks,
            nodes=nodes,
            health=self._readiness,
            metrics=self._metrics,
            keys=keys,
        )
        await serve_http(stack, app, sockets, config.api.listen, "api.listen")

    async def _serve_health(self, stack: AsyncExitStack) -> None:
        """From the beginning: a start may take as long as the store is away, and that is no reason to be killed."""
        address = self._config.health.listen
        if address is not None:
            health = make_health_app(health=self._readiness, metrics=self._metrics)
            await serve_http(stack, health, bind_http(stack, address, "health.listen"), address, "health.listen")

    # What goes on while it serves

    async def _keep_secrets(self, store: Store, came_back: asyncio.Event) -> None:
        """A store that has lost its data is told again what we made: calls that are up bear names derived from it."""
        while True:
            await came_back.wait()
            came_back.clear()
            for name, secret in self._made_secrets.items():
                try:
                    if await store.secret(name, secret) != secret:
                        log.error("secret_differs", secret=name, detail="another node has made its own meanwhile")
                except StoreUnavailable:
                    came_back.set()
                    await asyncio.sleep(SECRETS_RETRY_S)

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            wanted = loop.time() + LAG_PROBE_S
            await asyncio.sleep(LAG_PROBE_S)
            self._metrics.loop_lag_seconds.observe(max(0.0, loop.time() - wanted))

    def _supervised(self, task: asyncio.Task[None]) -> None:
        """A background task never ends by itself: if it does, that is a fault, and a restart is better than half a service."""
        if task.cancelled() or self._stop.done():
            return
        log.critical("task_died", task=task.get_name(), exc_info=task.exception())
        self._told_to_stop(CRASHED)

    def _deaf(self, listener: str, ended: asyncio.Future[None]) -> None:
        """A socket that closes by itself takes no calls any more."""
        why = None if ended.cancelled() else ended.exception()
        if not self._stop.done():
            log.critical("listener_died", listener=listener, exc_info=why)
            self._told_to_stop(CRASHED)

    async def _wind_down(self, pump: Pump) -> None:
        """A planned stop: nothing new, calls to other nodes, BYE for what nobody takes, a little time for the last events."""
        moved = await self._draining.run(self._config.cluster.drain_limit_s)
        log.info("drained", conversations=moved, left=pump.node.live)
        pump.give(HangUpAll())
        deadline = self._clock.now() + STOP_PATIENCE_S
        while pump.node.carried and self._clock.now() < deadline:  # noqa: ASYNC110 -- the engine has no events to await
            await asyncio.sleep(0.02)
        if pump.node.carried:
            log.warning(
                "stopped_with_work_left", calls=pump.node.carried, detail="kept in the store for the next start"
            )
        await self._draining.part()
        await self._membership.leave()


def _nobody_listens(lease: Lease) -> None:
    """Of who else lives: without a way to other nodes nobody needs to know."""


def _assembled(assembling: asyncio.Task[Pump]) -> Pump:
    try:
        return assembling.result()
    except StoreUnavailable as error:
        raise StartError(f"the store went away while we started: {error}") from error


async def cancel(task: asyncio.Task[Any]) -> None:
    """End a task, however often it takes. One that waits for the store may take a cancellation that comes with its timeout
    for that timeout (redis-py closes a connection then, and goes on), and would be waited for without end."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN_S)


def _set_gauges(
    metrics: Metrics,
    node: Node,
    media: MediaClient,
    *,
    streams: Sequence[StreamListener],
    endpoints: Sequence[str],
    capacity: int,
) -> None:
    """What is worth counting only when somebody looks."""
    states = Counter((call.state, call.direction) for call in node.calls())
    for key, gauge in metrics.calls.items():
        gauge.set(states[key])
    for endpoint in endpoints:
        metrics.webhook_backlog(endpoint).set(node.backlog(endpoint))
    metrics.connections.set(sum(each.connections for each in streams))
    totals = media.totals()
    metrics.call_capacity.set(_capacity(node, media, capacity))
    metrics.media_ports_free.set(media.ports_free())
    metrics.media_packets(totals.received + totals.sent)


def _capacity(node: Node, media: MediaClient, max_calls: int) -> int:
    """How many calls there could be: those there are, and those that ports are left for."""
    return min(max_calls, node.live + media.ports_free())


def _load(node: Node, media: MediaClient, max_calls: int) -> dict[str, object]:
    """What other nodes and operators should know of what we carry."""
    capacity = _capacity(node, media, max_calls)
    return {"load": Load(node.live, node.held, capacity)._asdict()}


def _chance(tokens: SystemTokens) -> float:
    """A number from 0 to 1, of 20 random bits."""
    return int.from_bytes(b32decode(tokens.token(8).upper())[:3], "big") / 0xFFFFFF


def _say_secret(secret: str) -> None:
    """Once, on standard output and not in the log: whoever started us needs it, and nobody else."""
    print(  # noqa: T201 -- the one thing that must be shown and must not be logged
        f"Webhooks are signed with a new secret, kept in the store and shown this once:\n  {secret}\n"
        f'Verify with: standardwebhooks.Webhook("{secret}").verify(body, headers)',
        flush=True,
    )


def run(config: Config, *, node_id: str, store_url: str, workers: Sequence[Path]) -> int:
    """Run one signalling process on uvloop. Returns its exit code; raises StartError when it cannot start."""
    # What has been made so far stays for good. Were it collected along with what calls leave behind, every call would
    # stand still for 50 ms now and then.
    gc.collect()
    gc.freeze()
    # Looked for after 700 new objects, as is usual, circles cost a twentieth of all that a call does, and there are hardly
    # any. After so many the search is still over in less than a millisecond.
    gc.set_threshold(YOUNG_OBJECTS)
    return uvloop.run(Service(config, node_id=node_id, store_url=store_url, workers=workers).run())
