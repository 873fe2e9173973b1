"""`/openapi.json` and `/docs/errors`: what the API is, printed once when it is made."""

from __future__ import annotations

from functools import cache

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.contract.openapi import document
from bridge.contract.problems import page
from bridge.contract.render import render


@cache
def _document() -> bytes:
    return render(document())


class Documents:
    """The handlers of the documents."""

    __slots__ = ("_errors", "_openapi")

    def __init__(self) -> None:
        self._openapi = _document()
        self._errors = page()

    def handlers(self) -> dict[str, Handler]:
        """One for each operation, by its id."""
        return {"openapi": self.openapi, "errors": self.errors}

    async def openapi(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._openapi, content_type="application/json")

    async def errors(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text=self._errors, content_type="text/markdown", charset="utf-8")
