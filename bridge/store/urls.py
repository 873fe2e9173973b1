"""What store.url says of a Redis: one server, Sentinels that know which one it is, or the nodes of a Redis Cluster.

    redis://[user:password@]host[:port]/db      rediss:// with TLS      unix:///path/to/socket
    redis+sentinel://[user:password@]host[:port][,host[:port]…]/name[/db][?sentinel_password=…]
    redis+cluster://[user:password@]host[:port][,host[:port]…]

`rediss+sentinel` and `rediss+cluster` speak TLS to all of them. Options are those of redis-py, for every server. Standard
library only, for the configuration reads it too; refuses to connect to anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qsl, quote, unquote, urlencode

Kind: TypeAlias = Literal["plain", "sentinel", "cluster"]

PLAIN: Final = ("redis", "rediss", "unix")
FORMS: Final = (
    "embedded://, memory://, redis://host:port/db, unix:///path/to/socket, redis+sentinel://host:port,host:port/name/db, "
    "redis+cluster://host:port,host:port"
)
_SCHEMES: Final[dict[str, tuple[str, Kind]]] = {
    "redis+sentinel": ("redis", "sentinel"),
    "rediss+sentinel": ("rediss", "sentinel"),
    "redis+cluster": ("redis", "cluster"),
    "rediss+cluster": ("rediss", "cluster"),
}
_PORTS: Final[dict[Kind, int]] = {"plain": 6379, "sentinel": 26379, "cluster": 6379}
_HOST_PORT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s\[\]:/@,]+))(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A URL taken apart. Prints without its secrets."""

    kind: Kind
    server: str = field(
        repr=False
    )  # for redis-py: how each server is spoken to; of more than one, the first that is named
    hosts: tuple[tuple[str, int], ...] = ()  # Sentinels, or nodes of a cluster
    name: str = ""  # of what the Sentinels watch
    asked: tuple[str, ...] = field(default=(), repr=False)  # for redis-py: each of `hosts`, as it is asked

    def __str__(self) -> str:
        places = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"redis+{self.kind}://{places}" + (f"/{self.name}" if self.name else "")


def read_store_url(url: str) -> StoreUrl:
    """ValueError says what would be right, and repeats nothing of what may be secret."""
    scheme, separator, rest = url.partition("://")
    if scheme in PLAIN and separator:
        return StoreUrl("plain", url)
    if scheme not in _SCHEMES or not separator:
        raise ValueError(f"expected {FORMS}")
    plain, kind = _SCHEMES[scheme]
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    credentials, at, places = authority.rpartition("@")
    hosts = tuple(_host_port(place, _PORTS[kind]) for place in places.split(","))
    steps = [unquote(step) for step in path.split("/") if step]
    name = _name(steps) if kind == "sentinel" else ""
    database = "".join(steps) or "0"
    if not database.isdecimal() or len(steps) > 1:
        raise ValueError("the number of the database is not a number")
    if kind == "cluster" and database != "0":
        raise ValueError("a Redis Cluster has database 0 only")
    options = dict(parse_qsl(query, keep_blank_values=True))
    user, password = options.pop("sentinel_username", ""), options.pop("sentinel_password", None)
    if kind == "cluster" and options.get("db", "0") != "0":
        raise ValueError("a Redis Cluster has database 0 only")
    server = _url(plain, credentials + at, hosts[0], database, options)
    if kind == "sentinel":
        # Who we are to the servers says nothing of who we are to a Sentinel.
        options = {key: value for key, value in options.items() if key not in {"username", "password", "db"}}
        credentials, at = ("", "") if password is None else (f"{quote(user, '')}:{quote(password, '')}", "@")
    asked = tuple(_url(plain, credentials + at, host, "0", options) for host in hosts)
    return StoreUrl(kind, server, hosts, name, asked)


def _name(steps: list[str]) -> str:
    if not steps:
        raise ValueError(
            "expected the name that the Sentinels know it by: redis+sentinel://host:port,host:port/name/db"
        )
    return steps.pop(0)


def _host_port(text: str, port: int) -> tuple[str, int]:
    found = _HOST_PORT.fullmatch(text)
    if found is None or not 0 < int(found["port"] or port) < 65536:
        raise ValueError("expected host:port,host:port, such as sentinel-0:26379,[2001:db8::1]:26379")
    return found["six"] or found["host"], int(found["port"] or port)


def _url(scheme: str, credentials: str, place: tuple[str, int], database: str, options: dict[str, str]) -> str:
    host = f"[{place[0]}]" if ":" in place[0] else place[0]
    return f"{scheme}://{credentials}{host}:{place[1]}/{database}" + (f"?{urlencode(options)}" if options else "")
