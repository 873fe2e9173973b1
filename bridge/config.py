"""The whole configuration: every key, its default, and what it may be (contract §5).

`load` fills it from defaults < YAML file < environment < command line and refuses what it does not know, with the place.
The supervisor hands the result to the signalling process as JSON, so nothing is read twice. Only the composition roots
see this module. Refuses to know what the settings do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, Field, IPvAnyNetwork, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from bridge import __version__
from bridge.contract.dialing import DialBody
from bridge.contract.operations import Scope
from bridge.errors import ConfigurationError
from bridge.net.certificates import TlsFileError
from bridge.net.certificates import load as load_certificates
from bridge.outbox.schedule import Schedule
from bridge.rtp.rules import Latching
from bridge.settings.applications import Application, ApplicationLimits, ApplicationWebhook, DestinationLimits, Match
from bridge.settings.complaints import complaints, key_paths
from bridge.settings.sources import CommandLineSource, EnvironmentSource, FileSource, KeyPath, Source, dotted
from bridge.settings.tls import Tls
from bridge.settings.trunks import Trunk
from bridge.settings.users import Registrar, User
from bridge.settings.values import (
    LONGEST_S,
    Address,
    AddressText,
    HostPort,
    MediaHost,
    Name,
    PortRange,
    PortRangeText,
    ProxyText,
    ReachableText,
    Seconds,
    Secret,
    Section,
    WebhookSecret,
    WebUrl,
    lower_hosts,
    parse_address,
    parse_host_port,
    parse_proxy,
    split_text,
)
from bridge.settings.websocket import WebSocket
from bridge.sip.flow import SECURE, default_port
from bridge.sip.locating import wanted_of
from bridge.sip.session_timer import MIN_SE
from bridge.store.urls import read_store_url

TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss")
STORES_OF_OUR_OWN = ("embedded", "memory")

# Keys of the public contract that a later release brings. A key that did nothing would be worse than none.
KEYS_LATER = frozenset(
    {
        "sip.local_nets",
        "media.port_map",
        "media.engine",
        "store.max_bytes",
        "store.encryption_keys",
        "webhooks.allow_private",
        "node_overrides",
    }
)

__all__ = [
    "Address",
    "Api",
    "ApiKey",
    "Application",
    "ApplicationLimits",
    "ApplicationWebhook",
    "Cluster",
    "Config",
    "DestinationLimits",
    "Health",
    "HostPort",
    "Key",
    "Limits",
    "Listener",
    "Log",
    "Match",
    "Media",
    "PortRange",
    "Registrar",
    "Sip",
    "SipTimers",
    "Store",
    "User",
    "Webhooks",
    "keys",
    "load",
]


class Listener(Section):
    """One SIP listener. Written as its `uri` alone, or with what it shall say of itself."""

    uri: str = Field(description="udp:host:port, tcp:…, tls:…, ws:… or wss:…, where to listen")
    advertise: ReachableText | None = Field(
        default=None, description="host[:port] of this listener, instead of sip.advertise"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"uri": value} if isinstance(value, str) else value

    @field_validator("uri")
    @classmethod
    def _canonical(cls, uri: str) -> str:
        transport, _, rest = uri.partition(":")
        if transport not in TRANSPORTS or not rest:
            raise ValueError("expected udp:, tcp:, tls:, ws: or wss:host:port, such as udp:0.0.0.0:5060")
        address = parse_host_port(rest)
        port = default_port(transport) if address.port is None else address.port
        return f"{transport}:{HostPort(address.host, port)}"

    @property
    def transport(self) -> str:
        """The transport's name, in lower case."""
        return self.uri.partition(":")[0]

    @property
    def address(self) -> Address:
        """Where the socket is bound."""
        return parse_address(self.uri.partition(":")[2])


class SipTimers(Section):
    """The three base timers of §17.1.1.1; every other one derives from them."""

    t1_s: Seconds = Field(default=0.5, description="T1, the estimate of a round trip")
    t2_s: Seconds = Field(default=4.0, description="T2, the longest pause between retransmissions")
    t4_s: Seconds = Field(default=5.0, description="T4, how long a message may stay in the network")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.t1_s > self.t2_s:
            raise ValueError("t1_s must not be longer than t2_s")
        return self


class Sip(Section):
    listen: Annotated[tuple[Listener, ...], BeforeValidator(split_text), Field(min_length=1, max_length=64)] = Field(
        default=(Listener(uri="udp:0.0.0.0:5060"),),
        description="where to listen: udp:host:port, tcp:…, tls:…, ws:… or wss:…, or several",
    )
    advertise: ReachableText | None = Field(
        default=None,
        description="host[:port] in Contact and Via, as phones reach it; default: this host's outward address. "
        "The port is not for tls:…, ws:… and wss:…, which have their own",
    )
    tls: Tls = Tls()
    websocket: WebSocket = WebSocket()
    domains: Annotated[tuple[str, ...], BeforeValidator(split_text), Field(max_length=1000)] = Field(
        default=(), description="host parts of addresses that are ours; default: any"
    )
    outbound_proxy: ProxyText | None = Field(
        default=None,
        description="sip:host[:port][;transport=…];lr, the first Route of calls to whoever is not registered here",
    )
    connection_idle_s: Seconds = Field(
        default=3600.0,
        description="a TCP, TLS or WebSocket connection without a word for so long is closed; keep-alives are words",
    )
    authenticate: Literal["registered", "all", "none"] = Field(
        default="registered",
        description="which callers must prove who they are: registered (whose From is a user, or at one of sip.domains), all or none",
    )
    realm: Annotated[str, Field(pattern=r'^[^"\\\s][^"\\\r\n]{0,99}$')] | None = Field(
        default=None, description="what passwords are for; default: the first of sip.domains, else sip-bridge"
    )
    registrar: Registrar = Registrar()
    reliable_provisionals: Literal["required", "supported"] = Field(
        default="required",
        description="which callers get ringing and early media by 100rel and PRACK: those who require it, or all who support it",
    )
    session_expires_s: Annotated[int, Field(ge=MIN_SE, le=86_400)] | None = Field(
        default=None,
        description="session timer (RFC 4028) that every call asks for, refreshed at half of it; "
        "default: only where the far end asks for one",
    )
    timers: SipTimers = SipTimers()

    @field_validator("listen")
    @classmethod
    def _different(cls, listeners: tuple[Listener, ...]) -> tuple[Listener, ...]:
        uris = [listener.uri for listener in listeners if listener.address.port]
        if len(set(uris)) < len(uris):
            raise ValueError("the same listener is given twice")
        return listeners

    @model_validator(mode="after")
    def _secured(self) -> Self:
        secure = next((each.uri for each in self.listen if each.transport in SECURE), None)
        if secure is not None and self.tls.files is None:
            raise ValueError(
                f"{secure} needs sip.tls.certificate and sip.tls.key: the files of a certificate and its key"
            )
        if secure is None and self.tls != Tls():
            raise ValueError("sip.tls is for nobody: add tls:0.0.0.0:5061 to sip.listen, or remove it")
        if self.websocket.origins and all(each.transport not in ("ws", "wss") for each in self.listen):
            raise ValueError("sip.websocket is for nobody: add ws:… or wss:… to sip.listen, or remove it")
        return self

    @model_validator(mode="after")
    def _reaches_proxy(self) -> Self:
        proxy = None if self.outbound_proxy is None else parse_proxy(self.outbound_proxy)
        transport = None if proxy is None else wanted_of(proxy).transport or ("tls" if proxy.scheme == "sips" else None)
        if transport is not None and all(each.transport != transport for each in self.listen):
            raise ValueError(
                f"sip.outbound_proxy is reached by {transport}, and sip.listen has no {transport}: add one"
            )
        return self

    @field_validator("domains")
    @classmethod
    def _lower(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        return lower_hosts(domains)

    @property
    def effective_realm(self) -> str:
        """What passwords are for. Who changes it changes every HA1."""
        return self.realm or (self.domains[0] if self.domains else "sip-bridge")


class Media(Section):
    ports: Annotated[tuple[PortRangeText, ...], BeforeValidator(split_text), Field(min_length=1, max_length=1000)] = (
        Field(
            default=(PortRange(10000, 32767),),
            description="UDP ports for RTP and RTCP, two for each call: 20000-20999, or several",
        )
    )
    advertise: MediaHost | None = Field(default=None, description="IP address in SDP; default: that of sip.advertise")
    workers: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None, description="media processes; default: one per core"
    )
    latching: Latching = Field(
        default="strict", description="which sources a stream may come from: strict, learn or off"
    )
    timeout_s: Seconds = Field(default=60.0, description="an answered call without any media for so long is ended")

    @field_validator("ports")
    @classmethod
    def _apart(cls, ports: tuple[PortRange, ...]) -> tuple[PortRange, ...]:
        ordered = sorted(ports, key=lambda one: one.first)
        for before, after in pairwise(ordered):
            if after.first <= before.last:
                raise ValueError(f"{before} and {after} overlap")
        return ports

    @property
    def pairs(self) -> int:
        """How many calls can have media at once."""
        return sum(one.pairs for one in self.ports)

    @property
    def worker_count(self) -> int:
        """How many media workers there are: as configured, or one for each core we may use."""
        wanted = self.workers if self.workers is not None else len(os.sched_getaffinity(0))
        return min(wanted, self.pairs)

    def slices(self) -> tuple[tuple[PortRange, ...], ...]:
        """The ports, cut into one share of whole pairs for each worker; shares differ by one pair at most."""
        shares = []
        ranges = list(self.ports)
        for worker in range(self.worker_count):
            wanted = self.pairs * (worker + 1) // self.worker_count - self.pairs * worker // self.worker_count
            share = []
            while wanted:
                first = ranges.pop(0)
                taken = min(wanted, first.pairs)
                share.append(PortRange(first.first, first.first + 2 * taken - 1))
                if taken < first.pairs:
                    ranges.insert(0, PortRange(first.first + 2 * taken, first.last))
                wanted -= taken
            shares.append(tuple(share))
        return tuple(shares)


class Store(Section):
    url: Secret = Field(
        default="embedded://",
        validate_default=True,
        description=(
            "embedded:// (a Valkey or Redis of our own, kept in data_dir), redis://host:port/db, unix:///path, "
            "redis+sentinel://host:port,host:port/name/db, redis+cluster://host:port,host:port, memory://"
        ),
    )
    retention_s: Annotated[int, Field(ge=1, le=30 * 86_400)] = Field(
        default=86_400, description="how long ended calls and their events can be read"
    )

    @field_validator("url")
    @classmethod
    def _known(cls, url: Secret) -> Secret:
        text = url.get_secret_value()
        scheme, separator, _ = text.partition("://")
        if not separator or scheme not in STORES_OF_OUR_OWN:
            read_store_url(text)
        return url

    @property
    def is_embedded(self) -> bool:
        """True when the supervisor runs the store itself."""
        return self.url.get_secret_value().startswith("embedded:")


class ApiKey(Section):
    """One bearer key of the REST API."""

    name: Name = Field(description="stands in the log instead of the key")
    key: Secret = Field(description="the bearer token")
    scopes: Annotated[tuple[Scope, ...], BeforeValidator(split_text), Field(min_length=1)] = Field(
        description="read, control, admin"
    )


class Api(Section):
    listen: AddressText = Field(default=Address("127.0.0.1", 8080), description="where the REST API listens")
    keys: tuple[ApiKey, ...] = Field(default=(), description="bearer keys: [{name: ops, key: ..., scopes: [admin]}]")

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        names = [key.name for key in self.keys]
        if len(set(names)) < len(names):
            raise ValueError("two keys have the same name")
        if not self.keys and not self.listen.is_loopback:
            raise ValueError(
                f"{self.listen} is open to the network and api.keys is empty: give a key, or listen on 127.0.0.1"
            )
        return self


class Health(Section):
    listen: AddressText | None = Field(
        default=None,
        description="a second listener for /livez, /readyz and /metrics alone; default: only on api.listen",
    )


class Cluster(Section):
    listen: AddressText | None = Field(
        default=None,
        description="where other nodes connect; needs cluster.secret; default: nowhere, this node is alone",
    )
    advertise: ReachableText | None = Field(
        default=None,
        description="host[:port] as other nodes reach it; default: cluster.listen, or this host's outward address",
    )
    secret: Secret | None = Field(
        default=None,
        description="signs call ids, tags and what nodes say to each other, so it is the same at each; "
        "seals passwords in the store; default: made at the first start and kept there",
    )

    drain_limit_s: float = Field(
        default=90.0,
        ge=0,
        le=100,
        description="how long a stop waits for calls that cannot be handed over yet; then they get a BYE",
    )

    @model_validator(mode="after")
    def _proven(self) -> Self:
        if self.listen is None and self.advertise is not None:
            raise ValueError("nobody listens at what is advertised: give cluster.listen too")
        if self.listen is not None and self.secret is None:
            raise ValueError("nodes prove to each other who they are: give cluster.secret too, the same at each")
        return self


class Webhooks(Section):
    url: WebUrl | None = Field(
        default=None, description="decides about every call that no entry of `applications` matches"
    )
    secrets: Annotated[tuple[WebhookSecret, ...], BeforeValidator(split_text), Field(max_length=10)] = Field(
        default=(),
        description="whsec_... secrets that sign; several while one is rotated; default: made and kept in the store",
    )
    decision_timeout_s: Annotated[float, Field(gt=0, le=60)] = Field(
        default=5.0, description="how long a call waits for its application's decision"
    )
    schedule: Annotated[
        tuple[Annotated[float, Field(ge=0, le=LONGEST_S)], ...],
        BeforeValidator(split_text),
        Field(min_length=1, max_length=30),
    ] = Field(
        default=Schedule().delays, description="seconds before the first, second, ... attempt; then the event is dead"
    )
    backlog_max: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=10_000, description="events waiting for one endpoint; the oldest beyond it are dead"
    )


ScannerName: TypeAlias = Annotated[str, Field(min_length=3, max_length=64)]


class Limits(Section):
    max_calls: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=10_000, description="calls at once on this node; more get 503 with Retry-After"
    )
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=10_000,
        description="TCP, TLS or WebSocket connections at once of each listener; more are closed as they come",
    )
    max_connections_per_source: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1_000, description="TCP, TLS or WebSocket connections that one address may make to each listener"
    )
    max_requests_per_source: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=200,
        description="requests outside of dialogs that one address may send a second; five times that at once",
    )
    max_failures_per_source: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=20, description="wrong passwords of one address in a minute; more is a ban"
    )
    ban_s: Annotated[float, Field(ge=1, le=LONGEST_S)] = Field(
        default=60.0, description="how long the first ban lasts; each further one twice as long"
    )
    ban_max_s: Annotated[float, Field(ge=1, le=LONGEST_S)] = Field(default=3600.0, description="the longest ban")
    scanners: Annotated[tuple[ScannerName, ...], BeforeValidator(split_text), Field(max_length=100)] = Field(
        default=(),
        description="parts of a User-Agent or From whose sender gets no answer, besides those of known tools",
    )
    trusted_nets: Annotated[tuple[IPvAnyNetwork, ...], BeforeValidator(split_text), Field(max_length=1000)] = Field(
        default=("127.0.0.0/8", "::1/128"),
        validate_default=True,
        description="whose senders none of this is for: trunks and proxies; an address or a network each",
    )


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="console, json, or auto: console on a terminal, else json"
    )

    def as_json(self, *, terminal: bool) -> bool:
        """Whether lines are JSON; `terminal`: standard error is one."""
        return self.format == "json" or (self.format == "auto" and not terminal)


class Config(Section):
    """Everything an operator can set."""

    node_id: Name | None = Field(default=None, description="this node's name; default: made once and kept in data_dir")
    data_dir: Path = Field(
        default=Path("data"), description="what must survive a restart here: the embedded store, the node's name"
    )
    sip: Sip = Sip()
    media: Media = Media()
    store: Store = Store()
    api: Api = Api()
    health: Health = Health()
    cluster: Cluster = Cluster()
    webhooks: Webhooks = Webhooks()
    applications: Annotated[tuple[Application, ...], Field(max_length=1000)] = Field(
        default=(), description="which webhooks answer for which addresses, first match first"
    )
    users: Annotated[tuple[User, ...], Field(max_length=100_000)] = Field(
        default=(), description="who may register: [{username: alice, password: ...}]; more can be made by REST"
    )
    trunks: Annotated[tuple[Trunk, ...], Field(max_length=1000)] = Field(
        default=(), description="far SIP systems that calls go by; more can be made by REST"
    )
    limits: Limits = Limits()
    log: Log = Log()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [application.name for application in self.all_applications]
        if len(set(names)) < len(names):
            raise ValueError("two applications have the same name (webhooks.url is the application `default`)")
        ids = [webhook.id for application in self.all_applications for webhook in application.webhooks]
        if len(set(ids)) < len(ids):
            raise ValueError("two webhooks have the same id: what waits for one would go to the other")
        if len({trunk.name for trunk in self.trunks}) < len(self.trunks):
            raise ValueError("two trunks have the same name")
        self._check_users()
        return self

    def _check_users(self) -> None:
        if len({user.username for user in self.users}) < len(self.users):
            raise ValueError("two users have the same username")
        for user in self.users:
            proof = user.proof(self.sip.effective_realm)
            missing = [each for each in self.sip.registrar.algorithms if proof.of(each) is None]
            if missing:
                raise ValueError(
                    f"the user {user.username} has no ha1 for {missing[0]}, which sip.registrar.digest offers to all"
                )

    @property
    def all_applications(self) -> tuple[Application, ...]:
        """The applications in the order they are tried; `webhooks.url` is the last one, `default`, and matches all."""
        if self.webhooks.url is None:
            return self.applications
        webhook = ApplicationWebhook(id="default", url=self.webhooks.url, decision=True)
        return (*self.applications, Application(name="default", webhooks=(webhook,)))

    @property
    def all_secrets(self) -> tuple[str, ...]:
        """Every configured secret that we go on holding: what a log must not show.

        Users' passwords are not: nothing is kept of them but hashes that print as ***, and there may be thousands.
        """
        secrets = [key.key for key in self.api.keys]
        secrets += [
            secret for application in self.applications for hook in application.webhooks for secret in hook.secrets
        ]
        secrets += [
            password
            for application in self.applications
            for action in application.fallback
            if isinstance(action, DialBody)
            for password in action.passwords
        ]
        secrets += [trunk.auth.password for trunk in self.trunks if trunk.auth is not None]
        secrets += [*self.webhooks.secrets, *([self.cluster.secret] if self.cluster.secret else [])]
        return tuple(secret.get_secret_value() for secret in secrets)

    @property
    def media_bind(self) -> str:
        """The address of the RTP sockets: that of the first SIP listener."""
        return self.sip.listen[0].address.host

    def to_json(self) -> str:
        """Everything, secrets included: for the signalling process alone."""
        return self.model_dump_json(by_alias=True, context={"reveal": True})

    @classmethod
    def from_json(cls, text: str | bytes) -> Config:
        """What `to_json` wrote."""
        return Config.model_validate_json(text)


class _Layered(Config, BaseSettings):
    """The model, filled from sources that are handed in as `layers`, strongest first."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        layers = init_settings.init_kwargs["layers"] if isinstance(init_settings, InitSettingsSource) else ()
        return tuple(InitSettingsSource(settings_cls, layer) for layer in layers)


def load(
    *,
    file: Path | None,
    environ: Mapping[str, str],
    options: Mapping[KeyPath, tuple[str, Sequence[str]]],
) -> Config:
    """The configuration out of all its sources. ConfigurationError has a line for each thing that is wrong.

    `options` maps a key's path to the option's name as typed and its values.
    """
    sources: list[Source] = [CommandLineSource(options), EnvironmentSource(environ)]
    if file is not None:
        sources.append(FileSource(file))
    try:
        layers: dict[str, Any] = {"layers": [source.values for source in sources]}
        return _checked(_Layered(**layers))
    except ValidationError as error:
        raise ConfigurationError(
            complaints(error, Config, sources, later=KEYS_LATER, version=__version__)
        ) from None  # pydantic's own text repeats the values


def _checked(config: Config) -> Config:
    """The same, once the files of TLS are what they should be. They are read again by whoever uses them."""
    files = config.sip.tls.files
    try:
        if files is not None:
            load_certificates(files)
    except TlsFileError as error:
        fault = InitErrorDetails(
            type=PydanticCustomError("value_error", "{error}", {"error": error.text}),
            loc=("sip", "tls", *error.key),
            input=None,
        )
        raise ValidationError.from_exception_data("Config", [fault]) from None
    return config


@dataclass(frozen=True, slots=True)
class Key:
    """One key as the help shows it."""

    path: KeyPath
    default: str
    description: str

    @property
    def name(self) -> str:
        """`sip.listen`; `applications[].name` for a key of a list's elements."""
        return dotted(self.path).replace("[0]", "[]")


def keys() -> Iterator[Key]:
    """Every key there is, in the order of the model."""
    for path, field in key_paths(Config):
        default = None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})
        yield Key(path, _as_text(default), field.description or "")


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_as_text(item) for item in value)
    if isinstance(value, Listener):
        return value.uri
    if isinstance(value, BaseModel):
        return ""  # its description shows it
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
