"""What of the configuration the engine is told: listeners as far ends see them, applications, the registrar, limits.

Pure translation. Refuses to know what the engine does with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Protocol

from bridge import __version__
from bridge.calls.call import Identity, Plan
from bridge.calls.destinations import ANYWHERE, Destinations
from bridge.config import Application, Config, DestinationLimits, Listener
from bridge.contract.actions import to_actions
from bridge.engine.admission import AdmissionLimits
from bridge.engine.registrations import User
from bridge.engine.settings import Application as EngineApplication
from bridge.engine.settings import Listener as EngineListener
from bridge.engine.settings import Match, NodeSettings, RegistrarSettings
from bridge.net.addresses import host_port, outward_address
from bridge.outbox.effects import Endpoint
from bridge.outbox.schedule import Schedule
from bridge.settings.values import parse_proxy
from bridge.sip.registrar import Rules, address_of_record
from bridge.sip.transaction import Timers
from bridge.sip.user_agent import Capabilities

SERVER = f"sip-bridge/{__version__}"


class SipListener(Protocol):
    """A bound socket, or several behind one address."""

    @property
    def address(self) -> tuple[str, int]: ...


def node_settings(
    config: Config, *, owner: str, node_id: str, nonce: str, secret: bytes, sockets: Sequence[SipListener]
) -> NodeSettings:
    """All of it, for one process. `sockets`: those of `sip.listen`, in its order, bound."""
    timers, proxy = config.sip.timers, config.sip.outbound_proxy
    return NodeSettings(
        owner=owner,
        node_id=node_id,
        nonce=nonce,
        secret=secret,
        listeners={
            each.uri: _listener(config, each, bound) for each, bound in zip(config.sip.listen, sockets, strict=True)
        },
        applications=tuple(_application(each, config) for each in config.all_applications),
        domains=frozenset(config.sip.domains),
        outbound_proxy=None if proxy is None else parse_proxy(proxy),
        registrar=_registrar(config),
        admission=_admission(config),
        trunks={each.name: each.as_engine() for each in config.trunks},
        timers=Timers(timers.t1_s, timers.t2_s, timers.t4_s),
        schedule=Schedule(delays=config.webhooks.schedule),
        decision_timeout_s=config.webhooks.decision_timeout_s,
        backlog_max=config.webhooks.backlog_max,
        max_calls=config.limits.max_calls,
        clustered=config.cluster.listen is not None,
    )


def advertised_host(config: Config, listener: Listener) -> str:
    """The host by which far ends know this listener."""
    shown = listener.advertise or config.sip.advertise
    return shown.host if shown is not None else outward_address(listener.address.host)


def media_address(config: Config) -> str:
    """What SDP shall advertise: a host name or an address."""
    if config.media.advertise is not None:
        return config.media.advertise
    if config.sip.advertise is not None:
        return config.sip.advertise.host
    return outward_address(config.sip.listen[0].address.host)


def _listener(config: Config, listener: Listener, bound: SipListener) -> EngineListener:
    """A listener as the far end sees it."""
    shown = listener.advertise or config.sip.advertise
    host = advertised_host(config, listener)
    port = shown.port if shown is not None else None
    if port is None or (listener.advertise is None and listener.transport not in ("udp", "tcp")):  # never theirs
        port = bound.address[1]
    sent_by = host_port(host, port)
    allow = ", ".join(Capabilities().methods)
    said = "ws" if listener.transport == "wss" else listener.transport  # no URI says wss (RFC 7118 §5.2)
    transport = "" if said == "udp" else f";transport={said}"
    identity = Identity(contact=f"<sip:{sent_by}{transport}>", server=SERVER, allow=allow)
    version = ip_address(bound.address[0]).version
    return EngineListener(listener.uri, sent_by, identity, listener.transport, version)


def _application(application: Application, config: Config) -> EngineApplication:
    limits = application.limits
    plan = Plan(
        name=application.name,
        fallback=to_actions(application.fallback),
        latching=config.media.latching,
        ring_limit_s=limits.max_ring_s,
        duration_limit_s=limits.max_duration_s,
        destinations=_destinations(limits.destinations),
        session_expires_s=config.sip.session_expires_s,
        reliable_if_supported=config.sip.reliable_provisionals == "supported",
    )
    endpoints = tuple(
        Endpoint(
            each.id,
            each.url,
            each.fallback_url,
            decision=each.decision,
            events=None if each.events is None else frozenset(each.events),
        )
        for each in application.webhooks
    )
    match = Match(users=frozenset(application.match.users), domains=frozenset(application.match.domains))
    return EngineApplication(
        application.name,
        plan,
        endpoints,
        match,
        registrations=application.registrations,
        transfers=application.transfers,
    )


def _destinations(limits: DestinationLimits | None) -> Destinations:
    return ANYWHERE if limits is None else Destinations(limits.allowed, limits.denied)


def _admission(config: Config) -> AdmissionLimits:
    limits = config.limits
    return AdmissionLimits(
        requests_per_second=limits.max_requests_per_source,
        burst=5 * limits.max_requests_per_source,
        failures=limits.max_failures_per_source,
        ban_s=limits.ban_s,
        ban_max_s=max(limits.ban_s, limits.ban_max_s),
        scanners=limits.scanners,
        trusted=limits.trusted_nets,
    )


def _registrar(config: Config) -> RegistrarSettings:
    asked, realm = config.sip.registrar, config.sip.effective_realm
    users = [
        User(each.username, each.proof(realm), None if each.aor is None else address_of_record(each.aor))
        for each in config.users
    ]
    return RegistrarSettings(
        realm=realm,
        algorithms=asked.algorithms,
        nonce_lifetime_s=asked.nonce_lifetime_s,
        rules=Rules(asked.default_expires_s, asked.min_expires_s, asked.max_expires_s, asked.contacts_max),
        users={user.username: user for user in users},
        authenticate=config.sip.authenticate,
    )
