"""API keys and what they may do (contract §2; RFC 6750): `Authorization: Bearer <key>`.

Keys are compared as digests, all of them on every request, so neither a key's length nor its beginning shows in the time
it takes. No key is ever logged, and none is in a `repr`. With no key configured everybody may do everything; that the
API then listens on loopback only is for whoever opens the socket.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.api.problems import problem_response
from bridge.contract.operations import SCOPES, Scope

PROTECTED = "/v1"

_REALM = 'Bearer realm="sip-bridge"'


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One configured key."""

    name: str  # for the log
    key: str = field(repr=False)
    scopes: frozenset[Scope]

    def allows(self, scope: Scope) -> bool:
        """True when one of its scopes is this one or includes it: read < control < admin."""
        return any(SCOPES.index(held) >= SCOPES.index(scope) for held in self.scopes)


ANYBODY = ApiKey(name="anybody", key="", scopes=frozenset({"admin"}))
CALLER: web.RequestKey[ApiKey] = web.RequestKey("caller", ApiKey)


class Keyring:
    """The configured keys."""

    __slots__ = ("_digests",)

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._digests = tuple((_digest(key.key), key) for key in keys)

    def find(self, header: str | None) -> ApiKey | None:
        """Whose key this `Authorization` header bears; None when nobody's."""
        if not self._digests:
            return ANYBODY
        scheme, _, given = (header or "").partition(" ")
        digest = _digest(given.strip())
        found = None
        for expected, key in self._digests:
            if compare_digest(expected, digest):
                found = key
        return found if scheme.lower() == "bearer" else None

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let nobody without a key near `/v1`, not even to learn which paths exist."""
        if request.path == PROTECTED or request.path.startswith(PROTECTED + "/"):
            caller = self.find(request.headers.get("Authorization"))
            if caller is None:
                return _unauthorized(given="Authorization" in request.headers)
            request[CALLER] = caller
        return await handler(request)


def needs(scope: Scope, handler: Handler) -> Handler:
    """`handler` for those whose key allows `scope`."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if request[CALLER].allows(scope):
            return await handler(request)
        challenge = f'{_REALM}, error="insufficient_scope", scope="{scope}"'
        return problem_response(
            "forbidden", f"this needs a key with the scope `{scope}`", headers={"WWW-Authenticate": challenge}
        )

    return guarded


def _unauthorized(*, given: bool) -> web.Response:
    if not given:
        return problem_response(
            "unauthorized", "send `Authorization: Bearer <key>`", headers={"WWW-Authenticate": _REALM}
        )
    challenge = f'{_REALM}, error="invalid_token"'
    return problem_response(
        "unauthorized", "this is none of the configured keys", headers={"WWW-Authenticate": challenge}
    )


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()
