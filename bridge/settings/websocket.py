"""`sip.websocket`: which pages may speak SIP over WebSocket (RFC 6455 §10.2, RFC 7118 §7)."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator

from bridge.settings.values import Section, split_text

_PORTS: Final = {"http": 80, "https": 443}


class WebSocket(Section):
    origins: Annotated[tuple[str, ...], BeforeValidator(split_text), Field(max_length=1000)] = Field(
        default=(),
        description="pages that may connect, as their Origin says: https://app.example.com, several, or * for any; "
        "default: pages whose host is one of sip.domains, or what the listener advertises",
    )

    @field_validator("origins")
    @classmethod
    def _canonical(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(each if each in ("*", "null") else _origin(each) for each in origins)


def _origin(text: str) -> str:
    """As browsers write it: without a path, and without the scheme's own port (RFC 6454 §6.2)."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not text.isascii() or "*" in host or parts.scheme not in _PORTS or parts.path not in ("", "/"):
        raise ValueError("expected scheme://host[:port] of a page, such as https://app.example.com, or * for any")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("expected scheme://host[:port] and nothing else, such as https://app.example.com")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + ("" if port in (None, _PORTS[parts.scheme]) else f":{port}")
