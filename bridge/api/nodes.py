"""`/v1/nodes`: who is there, and who shall drain (contract §2).

The one place where a client hears about nodes: operators need it, applications do not.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.api import DrainRefused, Nodes
from bridge.api.calls import FOREIGN_CURSOR
from bridge.api.cursors import read_name, write_name
from bridge.api.exchange import answer, read_query
from bridge.api.problems import invalid, problem_response
from bridge.contract.queries import PageQuery


class NodesAndDrains:
    """The handlers of both."""

    __slots__ = ("_nodes",)

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def handlers(self) -> dict[str, Handler]:
        """One for each operation, by its id."""
        return {"list_nodes": self.list_nodes, "drain_node": self.drain_node}

    async def list_nodes(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request, PageQuery)
        if not isinstance(query, PageQuery):
            return query
        after = read_name(query.cursor) if query.cursor else None
        if query.cursor and after is None:
            return invalid(FOREIGN_CURSOR)
        found = [each for each in self._nodes.nodes() if after is None or each["id"] > after]
        shown = found[: query.limit]
        return answer({"data": shown, "next_cursor": write_name(shown[-1]["id"]) if len(found) > len(shown) else None})

    async def drain_node(self, request: web.Request) -> web.StreamResponse:
        said = await self._nodes.drain(request.match_info["node_id"])
        if isinstance(said, DrainRefused):
            return problem_response(said.code, said.detail)
        return answer(said, status=202)
