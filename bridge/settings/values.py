"""The small values of the configuration as pydantic types: addresses, port ranges, secrets, lists written as text.

Each reads the text an operator writes and says, when it cannot, what would be right. Knows no key and no default.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
)

from bridge.contract.bodies import write_secret
from bridge.errors import ConfigurationError
from bridge.sip.uri import SipUri, parse_uri
from bridge.webhooks.signing import parse_secret

LONGEST_S = 604_800  # a week: longer than anything here should wait


class Section(BaseModel):
    """What every part of the configuration is: fixed once read, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host and a port. `port` is None only where a key allows to leave it out."""

    host: str  # a name or an address, IPv6 without brackets
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """True for `0.0.0.0` and `::`: good to listen on, of no use to anybody who wants to send."""
        return is_address(self.host) and ipaddress.ip_address(self.host).is_unspecified

    @property
    def is_loopback(self) -> bool:
        """True where only this machine can come in."""
        return self.host == "localhost" or (is_address(self.host) and ipaddress.ip_address(self.host).is_loopback)


@dataclass(frozen=True, slots=True)
class Address(HostPort):
    """Where to listen: a host and always a port; 0 leaves the choice to the system."""

    port: int


@dataclass(frozen=True, slots=True)
class PortRange:
    """UDP ports from an even one (RTP) to an odd one (RTCP), both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @property
    def pairs(self) -> int:
        """How many calls fit in."""
        return (self.last - self.first + 1) // 2


_HOST_PORT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+))(?::(?P<port>\d{1,5}))?")
_PORT_RANGE = re.compile(r"\s*(\d{1,5})\s*-\s*(\d{1,5})\s*")


def is_address(text: str) -> bool:
    """True for an IPv4 or IPv6 address, without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def parse_host_port(text: object) -> HostPort:
    """`host:port`, `host`, `[::1]:port`. ValueError says what would be right."""
    if isinstance(text, HostPort):
        return text
    found = _HOST_PORT.fullmatch(text) if isinstance(text, str) else None
    if found is None or (found["six"] and not is_address(found["six"])) or int(found["port"] or 0) > 65535:
        raise ValueError("expected host:port, such as 127.0.0.1:8080 or [::1]:8080")
    return HostPort(found["six"] or found["host"], int(found["port"]) if found["port"] else None)


def parse_address(text: object) -> Address:
    """`host:port`, both given. ValueError says what would be right."""
    parsed = parse_host_port(text)
    if parsed.port is None:
        raise ValueError(f"expected a port too, such as {parsed}:8080")
    return Address(parsed.host, parsed.port)


def _parse_reachable(text: object) -> HostPort:
    parsed = parse_host_port(text)
    if parsed.is_wildcard:
        raise ValueError(
            f"nobody can send to {parsed.host}: give the address or name under which others reach this host"
        )
    return parsed


def _parse_media_host(text: object) -> str:
    if not isinstance(text, str) or not is_address(text) or ipaddress.ip_address(text).is_unspecified:
        raise ValueError("expected an IP address that phones can send to; SDP should carry no name")
    return text


def _parse_port_range(text: object) -> PortRange:
    if isinstance(text, PortRange):
        return text
    found = _PORT_RANGE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("expected a range of ports, such as 20000-20999")
    first, last = int(found[1]) + int(found[1]) % 2, int(found[2]) - (int(found[2]) + 1) % 2
    if first < 1024 or last > 65535 or last < first:
        raise ValueError("expected at least an even port and the odd one after it, between 1024 and 65535")
    return PortRange(first, last)


def _check_web_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in text):
        raise ValueError("expected an http or https URL, such as http://127.0.0.1:3000/calls")
    return text


def parse_proxy(text: str) -> SipUri:
    """The URI of a proxy that all calls go through. ValueError says what would be right."""
    uri = parse_uri(text)
    if not isinstance(uri, SipUri) or uri.headers or not uri.is_lr:
        raise ValueError("expected a SIP URI with ;lr, such as sip:proxy.example.com;lr or sip:192.0.2.1:5080;lr")
    if uri.transport not in (None, "udp", "tcp", "tls"):
        raise ValueError("expected transport=udp, tcp or tls, or none")
    return uri


def _check_proxy(text: str) -> str:
    parse_proxy(text)
    return text


def lower_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Host names as they are compared: lower case, without the root's dot; IPv6 addresses in their brackets."""
    for host in hosts:
        if not _HOST_PORT.fullmatch(host) or ":" in host.partition("]")[2]:
            raise ValueError("expected a host name or an address without a port, such as example.com or [2001:db8::1]")
    return tuple(host.lower().rstrip(".") for host in hosts)


def split_text(value: object) -> object:
    """Text where a list is wanted: its parts between commas. A single mapping: a list of one."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, dict) else value


def _read_secret(value: object) -> object:
    """A secret, or `{file: path}`: then the file's content without white space around it."""
    if not isinstance(value, dict):
        return value
    path = value.get("file")
    if len(value) != 1 or not isinstance(path, str):
        raise ValueError("expected the secret itself, or {file: path}")
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"cannot read {path}: it is not UTF-8") from None
    if not text:
        raise ValueError(f"{path} is empty")
    return text


def _check_webhook_secret(secret: SecretStr) -> SecretStr:
    try:
        parse_secret(secret.get_secret_value())
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    return secret


AddressText: TypeAlias = Annotated[Address, PlainValidator(parse_address), PlainSerializer(str)]
ReachableText: TypeAlias = Annotated[HostPort, PlainValidator(_parse_reachable), PlainSerializer(str)]
MediaHost: TypeAlias = Annotated[str, PlainValidator(_parse_media_host)]
PortRangeText: TypeAlias = Annotated[PortRange, PlainValidator(_parse_port_range), PlainSerializer(str)]
WebUrl: TypeAlias = Annotated[str, Field(max_length=2048), AfterValidator(_check_web_url)]
ProxyText: TypeAlias = Annotated[str, Field(max_length=1024), AfterValidator(_check_proxy)]
Secret: TypeAlias = Annotated[
    SecretStr, BeforeValidator(_read_secret), PlainSerializer(write_secret), Field(min_length=1, max_length=4096)
]
WebhookSecret: TypeAlias = Annotated[Secret, AfterValidator(_check_webhook_secret)]
Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Seconds: TypeAlias = Annotated[float, Field(gt=0, le=LONGEST_S)]
