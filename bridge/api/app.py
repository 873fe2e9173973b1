"""The aiohttp applications: the API itself, and the small one for `health.listen`.

Every operation of `bridge.contract.operations` gets its handler here, and no path exists that is not in that table.
Opens no socket: whoever puts the service together does, and decides where.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware

from bridge.api import CallControl, CallReader, Health, Nodes, Registrations, Trunks
from bridge.api.auth import CALLER, ApiKey, Keyring, needs
from bridge.api.calls import Calls
from bridge.api.conversations import Conversations
from bridge.api.docs import Documents
from bridge.api.exchange import BODY_MAX, refuse_query
from bridge.api.health import Watch
from bridge.api.nodes import NodesAndDrains
from bridge.api.problems import problem_response, tell_problems
from bridge.api.registrations import RegistrationsAndUsers
from bridge.api.trunks import TrunkOperations
from bridge.contract.operations import HEALTH, OPERATIONS, Operation
from bridge.telemetry.metrics import Metrics

_log = structlog.get_logger("bridge.api")


def make_app(
    *,
    control: CallControl,
    reader: CallReader,
    registrations: Registrations,
    trunks: Trunks,
    nodes: Nodes,
    health: Health,
    metrics: Metrics,
    keys: Sequence[ApiKey] = (),
    command_timeout_s: float = 10.0,
) -> web.Application:
    """The API. Without keys everybody may do everything: then listen on loopback only.

    `command_timeout_s` bounds how long a command waits for its confirmation before its client is told 503.
    """
    calls = Calls(control=control, reader=reader, command_timeout_s=command_timeout_s)
    handlers = {
        **calls.handlers(),
        **Conversations(calls=calls, reader=reader).handlers(),
        **RegistrationsAndUsers(registrations).handlers(),
        **TrunkOperations(trunks).handlers(),
        **NodesAndDrains(nodes).handlers(),
        **Watch(health=health, metrics=metrics).handlers(),
        **Documents().handlers(),
    }
    return _app(OPERATIONS, handlers, [tell_problems, Keyring(keys).guard])


def make_health_app(*, health: Health, metrics: Metrics) -> web.Application:
    """Only `/livez`, `/readyz` and `/metrics`, for a port of their own."""
    return _app(HEALTH, Watch(health=health, metrics=metrics).handlers(), [tell_problems])


def make_runner(app: web.Application, *, shutdown_timeout: float) -> web.AppRunner:
    """What serves `app`. Bodies stay as they came: the only compressed ones are refused, and need not be unpacked for that."""
    logging.getLogger("aiohttp.server").addFilter(_is_ours)
    return web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=shutdown_timeout)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a line of the HTTP library is about us. What breaks HTTP is told to its sender, who could fill the log with it."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError | web.RequestPayloadError):
        return True
    _log.debug("bad_http", error=type(error).__name__)
    return False


def _app(
    operations: Iterable[Operation],
    handlers: Mapping[str, Handler],
    middlewares: Sequence[Middleware],
) -> web.Application:
    app = web.Application(client_max_size=BODY_MAX, middlewares=middlewares)
    for operation in operations:
        handler = _bound(operation, handlers[operation.id])
        for method in ("GET", "HEAD") if operation.method == "GET" else (operation.method,):
            app.router.add_route(method, operation.path, handler, expect_handler=_expect)
    app.on_response_prepare.append(_sign)
    return app


def _bound(operation: Operation, handler: Handler) -> Handler:
    """`handler` with what every operation of its kind has in common."""
    if operation.scope is None:
        return handler
    handler = handler if operation.query is not None else _without_query(handler)
    return needs(operation.scope, handler if operation.scope == "read" else _noted(operation, handler))


def _without_query(handler: Handler) -> Handler:
    async def strict(request: web.Request) -> web.StreamResponse:
        refused = refuse_query(request)
        return await handler(request) if refused is None else refused

    return strict


def _noted(operation: Operation, handler: Handler) -> Handler:
    """`handler` with a line in the log for everything that changes something: who, what, which call, what came of it."""

    async def noted(request: web.Request) -> web.StreamResponse:
        response = await handler(request)
        about = {name.removesuffix("_id"): said for name, said in request.match_info.items()}
        if hdrs.LOCATION in response.headers:
            about["call"] = response.headers[hdrs.LOCATION].rpartition("/")[2]
        _log.info("command", operation=operation.id, caller=request[CALLER].name, status=response.status, **about)
        return response

    return noted


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """`Expect` (RFC 9110 §10.1.1), answered like everything else."""
    if request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
        return problem_response("expectation_failed", "the only `Expect` that is understood is `100-continue`")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # that was no part of the answer
    return None


async def _sign(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers[hdrs.SERVER] = "sip-bridge"
