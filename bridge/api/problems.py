"""Everything that goes wrong, as `application/problem+json` (RFC 9457): our own refusals and those of the HTTP library.

The last table but one before the wire: what the engine refuses → a problem; what aiohttp raises → a problem; what nobody
expected → a 500 that says nothing and a log line that says all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from bridge.contract.problems import KINDS, RETRY_AFTER_S, Code, problem
from bridge.contract.refusals import Refusal
from bridge.contract.render import render
from bridge.engine.effects import CommandRefused, OriginateRefused
from bridge.errors import StoreUnavailable

MEDIA_TYPE = "application/problem+json"

# What the engine may say to a command. A test holds it complete.
REFUSALS: Final[Mapping[str, Code]] = {
    "not_found": "not_found",
    "wrong_state": "wrong_state",
    "ended": "ended",
    "store_away": "store_unavailable",
}

# ... and to a call that is asked for: the code, and the field that is wrong where it is one's.
NOT_ORIGINATED: Final[Mapping[str, tuple[Code, str | None]]] = {
    "no_such_application": ("invalid", "application"),
    "not_found": ("not_found", None),
    "merged": ("merged", None),
    "key_reused": ("key_reused", None),
    "overload": ("overload", None),
    "draining": ("not_ready", None),
    "store_away": ("store_unavailable", None),
}

# What aiohttp raises by itself.
_RAISED: Final[Mapping[int, Code]] = {
    400: "malformed",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    417: "expectation_failed",
}

_SAID: Final[Mapping[Code, str]] = {
    "not_found": "there is no such path",
    "too_large": "request bodies are limited to 64 KiB",
}

_log = structlog.get_logger("bridge.api")


def problem_response(
    code: Code,
    detail: str,
    *,
    call_id: str | None = None,
    refusals: tuple[Refusal, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """The answer that says what is wrong. Every 503 says when to try again."""
    status = KINDS[code].status
    given = dict(headers or {})
    if status == 503:
        given.setdefault("Retry-After", str(RETRY_AFTER_S))
    body = render(problem(code, detail, call_id=call_id, refusals=refusals))
    return web.Response(status=status, body=body, content_type=MEDIA_TYPE, headers=given)


def invalid(refusals: tuple[Refusal, ...], *, code: Code = "invalid") -> web.Response:
    """422, each field named; the first in the sentence too, for whoever reads only that."""
    return problem_response(code, str(refusals[0]), refusals=refusals)


def refused(said: CommandRefused, call_id: str) -> web.Response:
    """The engine's refusal. Only of a call that exists is the id worth repeating."""
    code = REFUSALS[said.code]
    return problem_response(code, said.detail, call_id=None if code == "not_found" else call_id)


def not_originated(said: OriginateRefused) -> web.Response:
    """The engine's refusal to call a party."""
    code, field = NOT_ORIGINATED[said.code]
    return problem_response(code, said.detail) if field is None else invalid((Refusal(field, said.detail),), code=code)


def no_such(what: str) -> web.Response:
    """404 for a resource."""
    return problem_response("not_found", f"there is no such {what}, or not any more")


@web.middleware
async def tell_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised into a problem."""
    try:
        return await handler(request)
    except StoreUnavailable as error:
        _log.warning("store_unavailable", path=request.path, error=str(error), **_call(request))
        return problem_response(
            "store_unavailable", "the store did not answer; calls go on", call_id=_call(request).get("call")
        )
    except web.HTTPException as error:
        return _raised(request, error)
    except (web.RequestPayloadError, HttpProcessingError) as error:
        return problem_response("malformed", f"the body could not be read: {type(error).__name__}")
    except Exception as error:  # noqa: BLE001 -- the last line of defence: whatever it was, the client gets an answer and the log the traceback
        if isinstance(error, OSError) and request.transport is None:  # nobody is left to be answered
            return problem_response("malformed", "the connection ended before the body")
        _log.exception("api_failed", method=request.method, path=request.path, **_call(request))
        return problem_response("internal_error", "something went wrong here; the log of this service says what")


def _raised(request: web.Request, error: web.HTTPException) -> web.Response:
    code = _RAISED.get(error.status)
    if code is None:
        _log.error("api_failed", method=request.method, path=request.path, status=error.status)
        return problem_response("internal_error", "something went wrong here; the log of this service says what")
    allowed = error.headers.get("Allow")
    if allowed is None:
        return problem_response(code, _SAID.get(code, KINDS[code].remedy))
    detail = f"{request.method} is not for this path; allowed: {allowed.replace(',', ', ')}"
    return problem_response(code, detail, headers={"Allow": allowed})


def _call(request: web.Request) -> dict[str, str]:
    call = request.match_info.get("call_id")
    return {} if call is None else {"call": call}
