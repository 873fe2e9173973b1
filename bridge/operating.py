"""`sip-bridge drain`: what an operator asks of a running service, by its REST API.

Knows of the service what its API says, and nothing of how a node is emptied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from aiohttp import ClientError, ClientSession, ClientTimeout

from bridge.errors import StartError

CONVERSATIONS_LEFT: Final = 3  # exit code: the time is over, and the node is not empty
LOOK_AGAIN_S: Final = 1.0  # as often as nodes say what they carry
SILENT_S: Final = 10.0  # for so long an API that answered before may not answer
_REQUEST_S: Final = 10.0

Say = Callable[[str], None]
Node = dict[str, Any]  # as `bridge.contract.nodes` makes it


class Api:
    """The REST API of one node, from outside. StartError says what it has refused, or that nobody answers."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")

    async def nodes(self) -> list[Node]:
        """All of them."""
        found: list[Node] = []
        cursor = ""
        while True:
            page = await self._ask("GET", f"/v1/nodes?limit=500{cursor}")
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    async def drain(self, node_id: str) -> Node:
        """Have this one drain."""
        return await self._ask("POST", f"/v1/nodes/{quote(node_id, safe='')}/drain")

    async def _ask(self, method: str, path: str) -> dict[str, Any]:
        try:
            async with self._session.request(method, self._url + path) as answer:
                body = await answer.json(content_type=None)
        except (ClientError, TimeoutError, ValueError) as error:
            raise StartError(f"{self._url} does not answer as the API does: {error or type(error).__name__}") from error
        if answer.status >= 400:
            said = body.get("detail") if isinstance(body, dict) else None
            raise StartError(f"{method} {path}: {answer.status}: {said or answer.reason}")
        if not isinstance(body, dict):
            raise StartError(f"{self._url} does not answer as the API does")
        return body


def drain(url: str, key: str | None, node_id: str | None, *, wait: bool, timeout_s: float | None, say: Say) -> int:
    """Empty a node (None: the one that answers) and, with `wait`, stay until it is. The exit code: 0, or
    `CONVERSATIONS_LEFT`. StartError for all that does not go as it should."""
    return asyncio.run(_drain(url, key, node_id, wait=wait, timeout_s=timeout_s, say=say))


async def _drain(
    url: str, key: str | None, node_id: str | None, *, wait: bool, timeout_s: float | None, say: Say
) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with ClientSession(headers=headers, timeout=ClientTimeout(total=_REQUEST_S)) as session:
        api = Api(session, url)
        if node_id is None:
            node_id = next((each["id"] for each in await api.nodes() if each["answering"]), None)
        if node_id is None:
            raise StartError(f"{url} does not know which node it is: name one with --node")
        node = await api.drain(node_id)
        say(f"{node_id} is draining: {_left(node)}")
        if not wait:
            return 0
        try:
            async with asyncio.timeout(timeout_s):
                await _wait(api, node, say)
        except TimeoutError:
            say(f"{node_id} is not empty after {timeout_s:g} s")
            return CONVERSATIONS_LEFT
    say(f"{node_id} is empty")
    return 0


async def _wait(api: Api, node: Node, say: Say) -> None:
    """Until nothing is left of what this process carried."""
    told = _left(node)
    loop = asyncio.get_running_loop()
    heard = loop.time()
    while node["load"] is None or node["load"]["conversations"] or not node["draining"]:
        if node["load"] is None:
            raise StartError(f"{node['id']} does not say what it carries: its release is older")
        await asyncio.sleep(LOOK_AGAIN_S)
        try:
            known = await api.nodes()
        except StartError:
            if loop.time() - heard > SILENT_S:
                raise
            continue
        heard = loop.time()
        found = next((each for each in known if each["id"] == node["id"]), None)
        if found is None:
            return  # it has stopped in order, which it does when it has handed everything over
        if found["incarnation"] != node["incarnation"]:
            raise StartError(f"{node['id']} has been started anew meanwhile, and does not drain")
        if not found["alive"]:
            raise StartError(f"{node['id']} has died meanwhile: the others carry on what it had")
        node = found
        if _left(node) != told:
            told = _left(node)
            say(told)


def _left(node: Node) -> str:
    load = node["load"]
    if load is None:
        return "it does not say what it carries"
    return f"conversations left: {load['conversations']}, calls: {load['calls']}"
