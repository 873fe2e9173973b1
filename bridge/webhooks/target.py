"""Where a webhook goes: a URL taken apart once, and the part of the request that never changes made of it.

Refuses to know connections and events. What comes from a URL is encoded before it becomes part of a request.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

# RFC 3986: what may stand in a path or query as it is; `%` so that what is encoded already stays as it is.
_PATH_SAFE = "/%:@!$&'()*+,;=~"
_QUERY_SAFE = _PATH_SAFE + "?"


class Origin(NamedTuple):
    """What a connection leads to."""

    host: str  # a name in ASCII or an address, no brackets
    port: int
    tls: bool


@dataclass(frozen=True, slots=True)
class Target:
    """One webhook URL."""

    origin: Origin
    head: bytes  # request line and constant headers, with no blank line after them


def read_target(url: str, user_agent: str) -> Target | str:
    """The target that `url` names, or what is wrong with it."""
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
        name = host if ":" in host else host.encode("idna").decode("ascii")
    except ValueError:  # UnicodeError included. Its text may quote the URL, password and all
        return "its host or port cannot be read"
    if parts.scheme not in {"http", "https"}:
        return "its scheme is neither http nor https"
    if not name or any(character <= " " or character == "\x7f" for character in name):
        return "it has no usable host"
    tls = parts.scheme == "https"
    path = quote(parts.path or "/", safe=_PATH_SAFE)
    query = f"?{quote(parts.query, safe=_QUERY_SAFE)}" if parts.query else ""
    authority = f"[{name}]" if ":" in name else name
    lines = [
        f"POST {path}{query} HTTP/1.1",
        f"Host: {authority}" if port is None else f"Host: {authority}:{port}",
        f"User-Agent: {user_agent}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "Content-Type: application/json",
    ]
    if parts.username is not None or parts.password is not None:
        credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        lines.append(f"Authorization: Basic {b64encode(credentials.encode()).decode('ascii')}")
    head = "".join(f"{line}\r\n" for line in lines).encode("ascii")
    return Target(Origin(name, port if port is not None else 443 if tls else 80, tls), head)
