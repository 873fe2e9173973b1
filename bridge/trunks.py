"""What REST reads and changes of trunks, what other nodes have made of them since, and the places that calls have on those with
caps.

Stands beside the registry, because it joins the pump, the store and the API too. Any node answers for all trunks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import structlog
from pydantic import ValidationError

from bridge.ambient import Seal
from bridge.api import Resource
from bridge.calls.actions import Credentials
from bridge.contract.trunks import TrunkBody, trunk_resource
from bridge.engine.effects import LeavePlace, TakePlace
from bridge.engine.inputs import PlaceTaken
from bridge.engine.trunks import Trunk, TrunksChanged
from bridge.errors import StoreUnavailable
from bridge.pump import Pump
from bridge.store import Caps, Store

log = structlog.get_logger("bridge.trunks")

LOOK_S = 1.0  # how often trunks that were made elsewhere are looked for


class Trunks:
    """`Trunks` of the API, and the outlet of `TakePlace` and `LeavePlace`."""

    def __init__(self, *, pump: Pump, store: Store, trunks: Mapping[str, Trunk], seal: Seal) -> None:
        """`trunks`: those of the configuration, which nobody can change here; `seal`: what the passwords of others are kept with."""
        self._pump = pump
        self._store = store
        self._filed = trunks
        self._seal = seal
        self._revision = 0  # of the trunks that the node knows
        self._tasks: set[asyncio.Task[None]] = set()

    # What REST asks

    def is_filed(self, name: str) -> bool:
        return name in self._filed

    async def trunks(self) -> Sequence[Resource]:
        found = {name: trunk_resource(trunk, "file") for name, trunk in self._filed.items()}
        for name, record in (await self._store.changed_records("trunk", 0)).records.items():
            trunk = None if record is None else read_trunk(name, record, self._seal)
            if trunk is not None and name not in found:
                found[name] = trunk_resource(trunk, "api")
        return [found[name] for name in sorted(found)]

    async def trunk(self, name: str) -> Resource | None:
        filed = self._filed.get(name)
        if filed is not None:
            return trunk_resource(filed, "file")
        record = await self._store.record("trunk", name)
        trunk = None if record is None else read_trunk(name, record, self._seal)
        return None if trunk is None else trunk_resource(trunk, "api")

    async def put_trunk(self, name: str, body: TrunkBody) -> tuple[bool, Resource]:
        trunk = body.to_trunk(name, body.credentials)
        existed = await self._store.put_record("trunk", name, write_trunk(body, self._seal))
        self._pump.give(TrunksChanged({name: trunk}))
        return existed, trunk_resource(trunk, "api")

    async def delete_trunk(self, name: str) -> Resource | None:
        before = await self.trunk(name)
        existed = await self._store.delete_record("trunk", name)
        self._pump.give(TrunksChanged({name: None}))
        return before if existed else None

    # Duties

    async def load(self) -> None:
        """Let the node know the trunks that the store has, or what has become of them since. Raises StoreUnavailable."""
        changes = await self._store.changed_records("trunk", self._revision)
        self._revision = changes.revision
        trunks: dict[str, Trunk | None] = {}
        for name, record in changes.records.items():
            if name in self._filed:
                continue
            trunks[name] = None if record is None else read_trunk(name, record, self._seal)
            if record is not None and trunks[name] is None:
                log.error("trunk_unusable", trunk=name, advice="a newer release has made it: PUT it again")
        if trunks:
            self._pump.give(TrunksChanged(trunks))

    async def keep(self) -> None:
        """Hear of trunks that were made elsewhere."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.load()
            except StoreUnavailable:
                continue  # the store's own line in the log says so

    # Places

    def take_place(self, wanted: TakePlace) -> None:
        """`PlaceTaken` comes back, whatever happens."""
        self._begin(self._take(wanted), f"place on {wanted.trunk}")

    def leave_place(self, left: LeavePlace) -> None:
        """Nothing comes back."""
        self._begin(self._leave(left), f"leave {left.trunk}")

    async def close(self) -> None:
        """Let what is under way come to its end: a place that is not given back is somebody else's loss."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, wanted: TakePlace) -> None:
        taken: bool | None
        try:
            taken = await self._store.take_place(
                wanted.trunk, wanted.call, Caps(wanted.max_calls, wanted.calls_per_second)
            )
        except StoreUnavailable:
            taken = None
        self._pump.give(PlaceTaken(wanted.reader, wanted.call, wanted.trunk, taken))

    async def _leave(self, left: LeavePlace) -> None:
        try:
            await self._store.leave_place(left.trunk, left.call)
        except StoreUnavailable:
            log.debug("place_not_left", trunk=left.trunk, detail="it is found once the trunk is full")


def write_trunk(body: TrunkBody, seal: Seal) -> bytes:
    """A trunk as the store keeps it."""
    data: dict[str, Any] = body.model_dump(mode="json", by_alias=True, exclude={"auth"}, exclude_defaults=True)
    if body.auth is not None:
        data["sealed"] = [body.auth.username, seal.seal(body.auth.password.get_secret_value())]
    return json.dumps({"v": 1, **data}, separators=(",", ":")).encode("ascii")


def read_trunk(name: str, record: bytes, seal: Seal) -> Trunk | None:
    """The trunk; None for one that a release which we do not know has written. Without its password, where that was sealed
    with another key."""
    try:
        data: Any = json.loads(record)
        if data.pop("v") != 1:
            return None
        sealed = data.pop("sealed", None)
        body = TrunkBody.model_validate_json(json.dumps(data))
        auth = None if sealed is None else Credentials(sealed[0], seal.unseal(sealed[1]), sealed[1])
    except (ValueError, LookupError, TypeError, AttributeError, ValidationError):
        return None
    return body.to_trunk(name, auth)
