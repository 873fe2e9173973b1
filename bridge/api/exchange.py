"""One HTTP exchange: the body and the query read into their models, a resource written as JSON.

A request that is not of the documented shape is a value, the answer to it; nothing of what a client sends raises.
"""

from __future__ import annotations

from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from bridge.api import Page
from bridge.api.cursors import write_position
from bridge.api.problems import invalid, problem_response
from bridge.contract.actions import NAMES
from bridge.contract.dialing import NO_ROUTE
from bridge.contract.problems import Code
from bridge.contract.refusals import REFUSALS_MAX, Refusal, quote, refusals_of
from bridge.contract.render import render

M = TypeVar("M", bound=BaseModel)

BODY_MAX: Final = 64 * 1024


def answer(resource: object, *, status: int = 200) -> web.Response:
    """A resource as JSON. Calls change from one moment to the next, so nobody shall keep it."""
    return web.Response(
        status=status, body=render(resource), content_type="application/json", headers={"Cache-Control": "no-store"}
    )


def page(found: Page) -> web.Response:
    """A page of a list that is ordered by time."""
    return answer({"data": found.data, "next_cursor": write_position(found.next) if found.next else None})


async def read_body(request: web.Request, model: type[M]) -> M | web.Response:
    """The body as `model`, or the answer that says why not. No body at all reads as `{}`."""
    if "Content-Encoding" in request.headers:
        return problem_response("unsupported_media_type", "bodies are taken uncompressed only")
    body = await request.read()
    if body and request.content_type != "application/json":
        received = request.headers.get("Content-Type", "nothing")
        return problem_response("unsupported_media_type", f"the body should be application/json; received {received}")
    if body and (request.charset or "utf-8").lower() not in ("utf-8", "us-ascii"):
        return problem_response("unsupported_media_type", f"JSON is UTF-8; received {request.charset}")
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            return problem_response("malformed", f"the body is no JSON: {first['ctx']['error']}")
        findings = error.errors(include_url=False, include_input=False, include_context=False)
        # The code of its own is for requests that are right but for that.
        code: Code = NO_ROUTE if all(found["type"] == NO_ROUTE for found in findings) else "invalid"
        return invalid(refusals_of(error, tags=NAMES), code=code)


def read_query(request: web.Request, model: type[M]) -> M | web.Response:
    """The query as `model`, or the answer that says why not."""
    given = dict(request.query)
    if len(given) != len(request.query):
        twice = next(name for name in given if len(request.query.getall(name)) > 1)
        return invalid((Refusal(f"query.{quote(twice)}", "given more than once"),))
    try:
        return model.model_validate(given)
    except ValidationError as error:
        return invalid(tuple([it._replace(field=f"query.{it.field}") for it in refusals_of(error)]))


def refuse_query(request: web.Request) -> web.Response | None:
    """The answer to a query where none is known; None when there is none."""
    names = sorted(set(request.query))[:REFUSALS_MAX]
    return invalid(tuple([Refusal(f"query.{quote(name)}", "unknown parameter") for name in names])) if names else None
