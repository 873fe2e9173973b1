"""`/v1/registrations` and `/v1/users`: who is reachable where, and who may be (contract §2).

Passwords come in and never go out. Knows nothing of how they are kept.
"""

from __future__ import annotations

import re

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.api import Registrations
from bridge.api.calls import FOREIGN_CURSOR
from bridge.api.cursors import read_name, write_name
from bridge.api.exchange import answer, read_body, read_query
from bridge.api.problems import invalid, no_such, problem_response
from bridge.contract.queries import PageQuery
from bridge.contract.refusals import Refusal, quote
from bridge.contract.registrations import USERNAME, UserBody
from bridge.sip.registrar import AddressOfRecord, address_of_record

_USERNAME = re.compile(USERNAME)


class RegistrationsAndUsers:
    """The handlers of both."""

    __slots__ = ("_registrations",)

    def __init__(self, registrations: Registrations) -> None:
        self._registrations = registrations

    def handlers(self) -> dict[str, Handler]:
        """One for each operation, by its id."""
        return {
            "list_registrations": self.list_registrations,
            "read_registration": self.read_registration,
            "delete_registration": self.delete_registration,
            "read_user": self.read_user,
            "put_user": self.put_user,
            "delete_user": self.delete_user,
        }

    async def list_registrations(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request, PageQuery)
        if not isinstance(query, PageQuery):
            return query
        after = read_name(query.cursor) if query.cursor else None
        if query.cursor and after is None:
            return invalid(FOREIGN_CURSOR)
        found, last = await self._registrations.registrations(
            after=None if after is None else AddressOfRecord(after), limit=query.limit
        )
        return answer({"data": found, "next_cursor": None if last is None else write_name(last)})

    async def read_registration(self, request: web.Request) -> web.StreamResponse:
        aor = _aor(request)
        if not isinstance(aor, str):
            return aor
        resource = await self._registrations.registration(aor)
        return no_such("registration") if resource is None else answer(resource)

    async def delete_registration(self, request: web.Request) -> web.StreamResponse:
        aor = _aor(request)
        if not isinstance(aor, str):
            return aor
        removed = await self._registrations.deregister(aor)
        if removed is None:
            return problem_response("timeout", "the store has not confirmed it in time; it may still be carried out")
        return answer({"aor": aor, "removed": removed})

    async def read_user(self, request: web.Request) -> web.StreamResponse:
        resource = await self._registrations.user(request.match_info["username"])
        return no_such("user") if resource is None else answer(resource)

    async def put_user(self, request: web.Request) -> web.StreamResponse:
        username = request.match_info["username"]
        if _USERNAME.fullmatch(username) is None:
            return invalid((Refusal("username", f"should match {USERNAME}", quote(username)),))
        body = await read_body(request, UserBody)
        if not isinstance(body, UserBody):
            return body
        aor = address_of_record(body.aor) if body.aor is not None else None
        if body.aor is not None and aor is None:
            return invalid((Refusal("aor", "should be sip:user@host", quote(body.aor)),))
        if self._registrations.is_from_file(username):
            return _managed(username)
        existed, resource = await self._registrations.put_user(username, body.password, aor)
        response = answer(resource, status=200 if existed else 201)
        if not existed:
            response.headers["Location"] = request.path
        return response

    async def delete_user(self, request: web.Request) -> web.StreamResponse:
        username = request.match_info["username"]
        if self._registrations.is_from_file(username):
            return _managed(username)
        resource = await self._registrations.delete_user(username)
        return no_such("user") if resource is None else answer(resource)


def _aor(request: web.Request) -> AddressOfRecord | web.Response:
    written = request.match_info["aor"]
    return address_of_record(written) or invalid((Refusal("aor", "should be sip:user@host", quote(written)),))


def _managed(username: str) -> web.Response:
    return problem_response("managed_by_file", f"the user {username} stands in the configuration: change it there")
