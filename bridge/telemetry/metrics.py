"""The metrics of the contract, §7, for Prometheus. One registry for each service, no label for each call.

Labels come from closed lists, so that nothing a stranger sends can make a new series; their children are bound
beforehand, because finding one costs more than counting. Knows nothing of what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from bridge.calls.facts import END_REASONS, CallState, Direction
from bridge.outbox.schedule import Error, Outcome

SIP_METHODS: Final = (b"INVITE", b"ACK", b"BYE", b"CANCEL", b"OPTIONS", b"REGISTER")
_CODE_CLASSES: Final = (b"request", b"1xx", b"2xx", b"3xx", b"4xx", b"5xx", b"6xx")
_ANSWERS: Final = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
_LIVE: Final[tuple[CallState, ...]] = ("initiated", "ringing", "answered")
_REASONS_MAX: Final = 100  # distinct reasons for dropping something; the engine's list is far shorter
_UNPROVEN: Final = ("wrong", "unknown_user", "stale", "replayed")
_WAITED_FOR: Final = ("claim", "origination")
OTHER: Final = "other"
_OTHER: Final = b"other"

# From a phone that is picked up by a machine to one that nobody picks up.
_SETUP_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 180)
# From loopback to the timeout of a webhook.
_WEBHOOK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_STORE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2)
_LAG_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1)

Way = Literal["in", "out"]


class Metrics:
    """All of them. What is counted often has a method; what is set now and then is a public child."""

    __slots__ = (
        "_attempts",
        "_authentications_failed",
        "_backlog",
        "_calls_ended",
        "_dropped",
        "_dropped_children",
        "_media_packets",
        "_media_total",
        "_registry",
        "_sip",
        "_webhook_seconds",
        "call_capacity",
        "calls",
        "connections",
        "lease_lost",
        "loop_lag_seconds",
        "media_ports_free",
        "on_scrape",
        "registrations",
        "setup_seconds",
        "source_bans",
        "store_seconds",
        "store_unreplicated",
        "takeovers",
        "tls_certificate_expiry_seconds",
        "unreadable",
    )

    def __init__(self, *, endpoints: Iterable[str] = ()) -> None:
        self.on_scrape: Callable[[], None] | None = None  # sets the gauges that nobody needs between two scrapes
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        calls = Gauge("bridge_calls", "Calls that are up.", ["state", "direction"], registry=registry)
        self.calls: Mapping[tuple[CallState, Direction], Gauge] = {
            (state, direction): calls.labels(state, direction) for state in _LIVE for direction in get_args(Direction)
        }
        self.call_capacity = Gauge("bridge_call_capacity", "Calls that fit.", registry=registry)
        ended = Counter("bridge_calls_ended", "Calls that are over, by why.", ["reason"], registry=registry)
        self._calls_ended = {reason: ended.labels(reason) for reason in (*END_REASONS, OTHER)}
        self.setup_seconds = Histogram(
            "bridge_setup_seconds", "From the INVITE to the ACK of its 2xx.", buckets=_SETUP_S, registry=registry
        )
        sip = Counter("bridge_sip_messages", "SIP messages.", ["direction", "method", "code_class"], registry=registry)
        self._sip = {
            (way, method, code_class): sip.labels(way, method.decode(), code_class.decode())
            for way in get_args(Way)
            for method in (*SIP_METHODS, _OTHER)
            for code_class in _CODE_CLASSES
        }
        self._dropped = Counter("bridge_dropped", "What was ignored on purpose, by why.", ["reason"], registry=registry)
        self._dropped_children: dict[str, Counter] = {OTHER: self._dropped.labels(OTHER)}
        self.connections = Gauge("bridge_sip_connections", "SIP connections that are up.", registry=registry)
        self.tls_certificate_expiry_seconds = Gauge(
            "bridge_tls_certificate_expiry_seconds",
            "When the first of our certificates ends, in seconds since 1970; 0 without TLS.",
            registry=registry,
        )
        self.registrations = Gauge(
            "bridge_registrations", "Registered addresses, of all nodes together.", registry=registry
        )
        unproven = Counter(
            "bridge_authentications_failed", "Digests that proved nothing, by why.", ["reason"], registry=registry
        )
        self._authentications_failed = {reason: unproven.labels(reason) for reason in (*_UNPROVEN, OTHER)}

        self.source_bans = Counter(
            "bridge_source_bans", "Bans of sources that sent too many wrong digests.", registry=registry
        )
        self._backlog = Gauge("bridge_webhook_backlog", "Events that wait.", ["endpoint"], registry=registry)
        for endpoint in endpoints:
            self.webhook_backlog(endpoint)
        attempts = Counter(
            "bridge_webhook_attempts", "Webhook attempts, by what came of them.", ["outcome"], registry=registry
        )
        self._attempts = {
            outcome: attempts.labels(outcome) for outcome in (*_ANSWERS.values(), *get_args(Error), OTHER)
        }
        self._webhook_seconds = Histogram(
            "bridge_webhook_seconds", "One webhook attempt.", buckets=_WEBHOOK_S, registry=registry
        )
        self.store_seconds = Histogram(
            "bridge_store_seconds", "From a write to its acknowledgement.", buckets=_STORE_S, registry=registry
        )
        unreplicated = Counter(
            "bridge_store_unreplicated",
            "Writes that no replica acknowledged in time, each time, by what they were.",
            ["write"],
            registry=registry,
        )
        self.store_unreplicated = {write: unreplicated.labels(write) for write in _WAITED_FOR}
        self.loop_lag_seconds = Histogram(
            "bridge_loop_lag_seconds", "How late the event loop woke up.", buckets=_LAG_S, registry=registry
        )
        self.media_ports_free = Gauge("bridge_media_ports_free", "Port pairs left for new calls.", registry=registry)
        self._media_packets = Counter("bridge_media_packets", "RTP packets, both ways.", registry=registry)
        self._media_total = 0
        self.takeovers = Counter("bridge_takeovers", "Conversations taken over from a dead process.", registry=registry)
        self.unreadable = Counter(
            "bridge_snapshots_unreadable",
            "Conversations of dead nodes left alone: written by a newer release.",
            registry=registry,
        )
        self.lease_lost = Counter("bridge_lease_lost", "Times that this process lost its lease.", registry=registry)

    def call_ended(self, reason: str) -> None:
        """One call is over."""
        (self._calls_ended.get(reason) or self._calls_ended[OTHER]).inc()

    def sip_message(self, way: Way, data: bytes) -> None:
        """One message came or went. Reads its first line and, of a response, the method in its CSeq; nothing more."""
        if data.startswith(b"SIP/2.0 "):
            at = data.find(b"\r\nCSeq:")
            line = data[at + 7 : data.find(b"\r", at + 7)] if at > 0 else b""
            key = (way, line[line.rfind(b" ") + 1 :], data[8:9] + b"xx")
        else:
            key = (way, data[: data.find(b" ", 0, 12)], b"request")
        child = self._sip.get(key)
        if child is None:
            child = self._sip.get((way, _OTHER, key[2])) or self._sip[way, _OTHER, b"request"]
        child.inc()

    def dropped(self, reason: str) -> None:
        """Something was ignored on purpose. `reason` is a word of the engine's closed list."""
        child = self._dropped_children.get(reason)
        if child is None:
            known = len(self._dropped_children) < _REASONS_MAX
            child = self._dropped.labels(reason) if known else self._dropped_children[OTHER]
            if known:
                self._dropped_children[reason] = child
        child.inc()

    def authentication_failed(self, reason: str) -> None:
        """Somebody has not proved who it is."""
        (self._authentications_failed.get(reason) or self._authentications_failed[OTHER]).inc()

    def webhook_backlog(self, endpoint: str) -> Gauge:
        """The gauge of one endpoint: keep it, rather than asking for it each time."""
        return self._backlog.labels(endpoint)

    def webhook_attempt(self, outcome: Outcome) -> None:
        """One attempt is over."""
        label = outcome.error or _ANSWERS.get((outcome.status or 0) // 100, OTHER)
        (self._attempts.get(label) or self._attempts[OTHER]).inc()
        self._webhook_seconds.observe(outcome.took_s)

    def media_packets(self, total: int) -> None:
        """How many packets the workers have counted so far. A worker that was restarted counts from nothing again."""
        self._media_packets.inc(total - self._media_total if total >= self._media_total else total)
        self._media_total = total

    def exposition(self) -> tuple[str, bytes]:
        """The media type and the text that Prometheus reads."""
        if self.on_scrape is not None:
            self.on_scrape()
        return CONTENT_TYPE_LATEST, generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """What the registry collects, without the time stamp that the library adds to every child."""
        for metric in self._registry.collect():
            metric.samples = [it for it in metric.samples if not it.name.endswith("_created")]
            yield metric
