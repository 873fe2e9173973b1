"""`sip-bridge doctor`: looks at what a start would need, before it, and says what to do about what is missing.

Changes nothing, sends nothing: ports are bound and let go, endpoints are connected to and not spoken to, the store is
asked about itself. Refuses to know how the service works.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from bridge.ambient import SystemClock
from bridge.config import Address, Config, Listener, PortRange
from bridge.engine.inputs import FlowLost, Input, Packet, StreamBroken
from bridge.errors import StartError, StoreUnavailable
from bridge.net.addresses import outward_address
from bridge.net.certificates import TlsFileError, names_of
from bridge.net.certificates import load as load_certificates
from bridge.net.stream import StreamListener
from bridge.net.udp import UdpListener
from bridge.renewal import SOON_S
from bridge.settings.sources import dotted
from bridge.settings.values import is_address
from bridge.sip.flow import Flow
from bridge.store.embedded import find_server
from bridge.store.redis import RedisStore

CONNECT_S = 3.0
SPARE_DESCRIPTORS = 128  # of a process, besides the ports of its calls and the connections of its peers
OLDEST_TESTED = (7, 0)


class Verdict(Enum):
    """What a finding means for a start."""

    FINE = "ok"
    WARNING = "warn"  # it will run, and you should know this
    FAILURE = "fail"  # it will not run, or not safely


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    verdict: Verdict
    subject: str  # a key of the configuration, as far as there is one
    text: str  # what is so, and for anything but FINE what to do


def fine(subject: str, text: str) -> Finding:
    return Finding(Verdict.FINE, subject, text)


def warning(subject: str, text: str) -> Finding:
    return Finding(Verdict.WARNING, subject, text)


def failure(subject: str, text: str) -> Finding:
    return Finding(Verdict.FAILURE, subject, text)


async def examine(config: Config) -> list[Finding]:
    """Everything, in the order in which a start needs it."""
    findings = [*look_at_data_dir(config)]
    if await is_served(config.api.listen):
        findings.append(
            warning("api.listen", f"a sip-bridge runs on {config.api.listen} already: ports are not looked at")
        )
    else:
        findings += [*[await look_at_listener(listener) for listener in config.sip.listen], *look_at_web_ports(config)]
        findings += look_at_media_ports(config)
    findings += [*look_at_addresses(config), *look_at_descriptors(config)]
    findings += look_at_certificates(config, now=SystemClock().now())
    findings += await look_at_store(config)
    findings += await asyncio.gather(*[look_at_endpoint(key, url) for key, url in endpoints(config)])
    if not config.all_applications:
        findings.append(warning("webhooks.url", "no application: every call is answered 404. Give --webhook URL"))
    return findings


def look_at_data_dir(config: Config) -> Iterator[Finding]:
    """Must be ours to write in, or to be made."""
    place = config.data_dir.absolute()
    existing = next(parent for parent in (place, *place.parents) if parent.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        yield fine("data_dir", f"{place}" if existing == place else f"{place} will be made")
    else:
        yield (failure if config.store.is_embedded else warning)("data_dir", f"{existing} cannot be written")


async def is_served(address: Address) -> bool:
    """True when a sip-bridge answers `/livez` there."""
    with suppress(OSError, TimeoutError, EOFError):
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            try:
                writer.write(f"GET /livez HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).startswith(b"HTTP/1.1 200")
            finally:
                writer.close()
    return False


async def look_at_listener(listener: Listener) -> Finding:
    """Bind its port, and let go."""

    def ignore(given: Packet | StreamBroken | FlowLost) -> None:
        """Whatever arrives meanwhile would have been lost without us too."""

    def ignore_dropped(reason: str, flow: Flow | None) -> None:
        """And so would this."""

    host, port = listener.address.host, listener.address.port
    trial: UdpListener | StreamListener
    if listener.transport == "udp":
        trial = UdpListener(listener.uri, host, port, ignore)
    else:
        trial = StreamListener(listener.uri, host, port, ignore, dropped=ignore_dropped)
    try:
        await trial.open()
    except StartError as error:
        return failure("sip.listen", str(error))
    await trial.close()
    return fine("sip.listen", f"{listener.uri} is free")


def look_at_web_ports(config: Config) -> Iterator[Finding]:
    """The TCP ports of REST and health."""
    for key, address in (("api.listen", config.api.listen), ("health.listen", config.health.listen)):
        if address is None:
            continue
        trouble = _trial(socket.SOCK_STREAM, address.host, address.port)
        yield failure(key, f"{address}: {trouble}") if trouble else fine(key, f"{address} is free")


def look_at_media_ports(config: Config) -> Iterator[Finding]:
    """Every RTP and RTCP port, one after the other."""
    host = config.media_bind
    taken = [port for ports in config.media.ports for port in _ports(ports) if _trial(socket.SOCK_DGRAM, host, port)]
    text = f"{', '.join(map(str, config.media.ports))}: room for {config.media.pairs} calls"
    if not taken:
        yield fine("media.ports", text)
    elif len(taken) < 2 * config.media.pairs:
        yield warning("media.ports", f"{text}, but {len(taken)} ports are taken, {taken[0]} the first of them")
    else:
        yield failure("media.ports", f"none of {', '.join(map(str, config.media.ports))} can be bound on {host}")


def look_at_addresses(config: Config) -> Iterator[Finding]:
    """What phones are told to send to."""
    if config.sip.advertise is None:
        try:
            address = outward_address(config.sip.listen[0].address.host)
        except StartError as error:
            yield failure("sip.advertise", str(error))
            return
        yield fine("sip.advertise", f"not given; phones will be told {address}, this host's outward address")
        return
    host = config.sip.advertise.host
    if config.sip.advertise.is_loopback and not config.sip.listen[0].address.is_loopback:
        yield warning("sip.advertise", f"{host} is this machine's own loopback: no other host can reach it")
    elif not is_address(host):
        try:
            found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)})
        except OSError as error:
            yield failure("sip.advertise", f"{host} cannot be resolved: {error.strerror}")
            return
        yield fine("sip.advertise", f"{host} is {', '.join(found)}")
        if config.media.advertise is None:
            yield warning("media.advertise", f"{host} is a name: give the IP address that SDP shall carry")
    elif _trial(socket.SOCK_DGRAM, host, 0):
        yield fine(
            "sip.advertise", f"{host} is no address of this host: whatever has it must forward our ports unchanged"
        )
    else:
        yield fine("sip.advertise", f"{host} is an address of this host")


def look_at_descriptors(config: Config) -> Iterator[Finding]:
    """Each media worker holds two sockets for each of its calls from the start, signalling one for each connection."""
    needed = max(sum(2 * ports.pairs for ports in share) for share in config.media.slices()) + SPARE_DESCRIPTORS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        yield warning(
            "media.ports",
            f"a media worker needs {needed} descriptors, the limit is {hard}: raise it (`ulimit -Hn {needed}`, "
            f"LimitNOFILE={needed}), take fewer ports or more media.workers",
        )
    else:
        yield fine("media.ports", f"{needed} descriptors for each of {config.media.worker_count} media workers")
    streams = sum(listener.transport != "udp" for listener in config.sip.listen)
    needed = streams * config.limits.max_connections + SPARE_DESCRIPTORS
    if streams and hard != resource.RLIM_INFINITY and needed > hard:
        yield warning(
            "limits.max_connections",
            f"{config.limits.max_connections} connections need {needed} descriptors, the limit is {hard}: raise it "
            f"(`ulimit -Hn {needed}`, LimitNOFILE={needed}), or allow fewer",
        )


def look_at_certificates(config: Config, *, now: float) -> Iterator[Finding]:
    """Do the files of TLS fit together, for how long, and do they stand for what phones will ask for?"""
    files = config.sip.tls.files
    if files is None:
        return
    try:
        loaded = load_certificates(files)
    except TlsFileError as error:
        yield failure(f"sip.tls.{dotted(error.key)}", error.text)
        return
    for number, leaf in enumerate(loaded.leaves):
        key = f"sip.tls.certificates[{number - 1}].certificate" if number else "sip.tls.certificate"
        names = ", ".join(sorted(names_of(leaf))) or "no domain"
        ends = leaf.not_valid_after_utc
        days = int((ends.timestamp() - now) // 86_400)
        if ends.timestamp() <= now:
            yield failure(key, f"it has expired ({ends:%Y-%m-%d}), and whoever verifies it refuses us: renew it")
        elif leaf.not_valid_before_utc.timestamp() > now:
            yield failure(
                key, f"it is not valid before {leaf.not_valid_before_utc:%Y-%m-%d}: look at this host's clock"
            )
        elif ends.timestamp() < now + SOON_S:
            yield warning(key, f"for {names}; it expires in {days} days ({ends:%Y-%m-%d}): renew it")
        else:
            yield fine(key, f"for {names}; until {ends:%Y-%m-%d}")
    known = {name for leaf in loaded.leaves for name in names_of(leaf)}
    missing = [domain for domain in config.sip.domains if domain not in known]
    if missing:
        yield warning(
            "sip.domains",
            f"no certificate stands for {missing[0]}: phones that verify (RFC 5922: the domain itself, no wildcard) will not come",
        )


async def look_at_store(config: Config) -> list[Finding]:
    """Is it there, does it keep what it is given?"""
    url = config.store.url.get_secret_value()
    if config.store.is_embedded:
        try:
            return [fine("store.url", f"embedded: {find_server()}, file in {(config.data_dir / 'store').absolute()}")]
        except StartError as error:
            return [failure("store.url", str(error))]
    if url.startswith("memory:"):
        return [warning("store.url", "memory:// forgets every call when the process ends; it is for tests")]

    def ignore(given: Input) -> None:
        """Nothing was written, so nothing of interest comes back."""

    store = RedisStore(url, give=ignore)
    try:
        await store.open()
    except StartError as error:
        return [failure("store.url", str(error))]
    try:
        return [*judge_store(await store.facts())]
    except StoreUnavailable as error:
        return [failure("store.url", f"it answers, but not to questions: {error}")]
    finally:
        await store.close()


def judge_store(facts: dict[str, str]) -> Iterator[Finding]:
    """What the store's own facts mean for what we promise (survival.md §1)."""
    software, version = facts.get("software", "redis"), facts.get("version", "unknown")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < OLDEST_TESTED:
        yield warning("store.url", f"{software} {version} is older than anything this was tested with (7.0)")
    else:
        yield fine("store.url", f"{software} {version} answers")
    if facts.get("role") not in ("master", "primary", "unknown", None):
        yield failure("store.url", f"it is a {facts['role']}: give the primary")
    policy = facts.get("maxmemory-policy", "unknown")
    if policy == "noeviction":
        yield fine("store.url", "maxmemory-policy noeviction")
    elif policy == "unknown":
        yield warning("store.url", "it does not tell its maxmemory-policy: make sure that it is noeviction")
    else:
        yield failure("store.url", f"maxmemory-policy is {policy}: live calls may be evicted. Set noeviction")
    if facts.get("appendonly") == "yes":
        yield fine("store.url", f"appendonly yes, appendfsync {facts.get('appendfsync', 'unknown')}")
    else:
        yield warning("store.url", "appendonly is off: a restart of the store forgets. Set appendonly yes")
    yield from judge_failover(facts)


def judge_failover(facts: dict[str, str]) -> Iterator[Finding]:
    """Whether there is anybody to fail over to, anybody to decide on it, and what that could lose."""
    match facts.get("discovery"):
        case "sentinel":
            yield from _judge_sentinels(facts)
        case "cluster":
            place = f"{facts['cluster-slot-owner']} has slot {facts['cluster-slot']}, where all keys are"
            if facts["cluster-state"] != "ok":
                yield failure("store.url", f"the state of the cluster is {facts['cluster-state']}: see CLUSTER INFO")
            elif facts["cluster-slot-replicas"] == "0":
                yield warning("store.url", f"{place}, and no replica: nobody takes its place. Give it one")
            else:
                yield fine("store.url", f"{place}; replicas: {facts['cluster-slot-replicas']}")
    if facts.get("replicas", "0") not in ("0", "unknown") and facts.get("min-replicas-to-write") == "0":
        yield warning("store.url", "min-replicas-to-write is 0: a failover can lose the last writes. Set 1")


def _judge_sentinels(facts: dict[str, str]) -> Iterator[Finding]:
    answering = f"{facts['sentinels-answering']} of {facts['sentinels']} Sentinels answer"
    if facts["sentinel-quorum"] != "ok":
        yield failure("store.url", f"{answering}, and cannot decide on a failover: {facts['sentinel-quorum']}")
    elif facts["sentinels-answering"] != facts["sentinels"]:
        yield warning("store.url", f"{answering}: start the others, or name those that there are")
    else:
        yield fine("store.url", f"{answering}, and can decide on a failover; replicas: {facts['sentinel-replicas']}")
    if int(facts["sentinels-known"]) < 3:
        yield warning(
            "store.url",
            f"Sentinels that know each other: {facts['sentinels-known']}. Run three on three machines: fewer decide nothing "
            "once one is lost",
        )
    if facts["sentinel-replicas"] == "0":
        yield warning("store.url", "the Sentinels know no replica: nobody takes the primary's place. Give it one")


def endpoints(config: Config) -> Iterator[tuple[str, str]]:
    """Every webhook URL, with the key that holds it."""
    for application in config.all_applications:
        for webhook in application.webhooks:
            key = f"{application.name}.{webhook.id}"
            yield key, webhook.url
            if webhook.fallback_url is not None:
                yield f"{key}.fallback_url", webhook.fallback_url


async def look_at_endpoint(key: str, url: str) -> Finding:
    """Connect, for https with its certificate, and say nothing."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    place = f"{parts.hostname}:{port}"
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure)
    except ssl.SSLError as error:
        return failure(key, f"{place}: its certificate is not accepted: {error.reason}")
    except TimeoutError:
        return warning(key, f"{place} does not answer within {CONNECT_S:g} s: is it running, does a firewall drop us?")
    except OSError as error:
        return warning(key, f"{place}: {os.strerror(error.errno) if error.errno else error}: start the application")
    writer.close()
    return fine(key, f"{place} accepts connections")


def _ports(ports: PortRange) -> range:
    return range(ports.first, ports.last + 1)


def _trial(kind: socket.SocketKind, host: str, port: int) -> str:
    """Bind, and let go. Empty when it worked, else why it did not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as trial:
        if kind is socket.SOCK_STREAM:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, "error") + ": " + str(error.strerror)
    return ""
