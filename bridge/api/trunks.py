"""`/v1/trunks`: far SIP systems that calls go by (contract §2).

A password comes in and never goes out. Knows nothing of how it is kept.
"""

from __future__ import annotations

import re

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.api import Trunks
from bridge.api.calls import FOREIGN_CURSOR
from bridge.api.cursors import read_name, write_name
from bridge.api.exchange import answer, read_body, read_query
from bridge.api.problems import invalid, no_such, problem_response
from bridge.contract.queries import PageQuery
from bridge.contract.refusals import Refusal, quote
from bridge.contract.trunks import TRUNK_NAME, TrunkBody

_NAME = re.compile(TRUNK_NAME)


class TrunkOperations:
    """The handlers."""

    __slots__ = ("_trunks",)

    def __init__(self, trunks: Trunks) -> None:
        self._trunks = trunks

    def handlers(self) -> dict[str, Handler]:
        """One for each operation, by its id."""
        return {
            "list_trunks": self.list_trunks,
            "read_trunk": self.read_trunk,
            "put_trunk": self.put_trunk,
            "delete_trunk": self.delete_trunk,
        }

    async def list_trunks(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request, PageQuery)
        if not isinstance(query, PageQuery):
            return query
        after = read_name(query.cursor) if query.cursor else ""
        if after is None:
            return invalid(FOREIGN_CURSOR)
        found = [each for each in await self._trunks.trunks() if each["name"] > after]
        more = len(found) > query.limit
        page = found[: query.limit]
        return answer({"data": page, "next_cursor": write_name(page[-1]["name"]) if more else None})

    async def read_trunk(self, request: web.Request) -> web.StreamResponse:
        resource = await self._trunks.trunk(request.match_info["name"])
        return no_such("trunk") if resource is None else answer(resource)

    async def put_trunk(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if _NAME.fullmatch(name) is None:
            return invalid((Refusal("name", f"should match {TRUNK_NAME}", quote(name)),))
        body = await read_body(request, TrunkBody)
        if not isinstance(body, TrunkBody):
            return body
        if self._trunks.is_filed(name):
            return _managed(name)
        existed, resource = await self._trunks.put_trunk(name, body)
        response = answer(resource, status=200 if existed else 201)
        if not existed:
            response.headers["Location"] = request.path
        return response

    async def delete_trunk(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if self._trunks.is_filed(name):
            return _managed(name)
        resource = await self._trunks.delete_trunk(name)
        return no_such("trunk") if resource is None else answer(resource)


def _managed(name: str) -> web.Response:
    return problem_response("managed_by_file", f"the trunk {name} stands in the configuration: change it there")
