"""What REST reads and changes of registrations and users, and the duties that the store wants done for them now and then:
bindings whose time is up, users that another node has made.

Stands beside the reader, because it joins the pump, the store and the API too. Any node answers for all of them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from bridge.ambient import Clock, Seal
from bridge.api import Resource
from bridge.contract.registered import registration_resource, user_resource
from bridge.engine.registrations import (
    Deregister,
    Deregistered,
    RegistrationsDue,
    User,
    UsersChanged,
    read_bindings,
)
from bridge.errors import StoreUnavailable
from bridge.pump import Pump
from bridge.sip.digest import Ha1, make_ha1
from bridge.sip.registrar import AddressOfRecord
from bridge.store import Store

log = structlog.get_logger("bridge.registry")

LOOK_S = 1.0  # how often users and expiries are looked for
DUE_AT_ONCE = 500  # bindings may outlive their time by a second for each so many that expire together


class Registry:
    """`Registrations` of the API."""

    def __init__(
        self, *, pump: Pump, store: Store, clock: Clock, realm: str, users: Mapping[str, User], seal: Seal | None
    ) -> None:
        """`users`: those of the configuration, which nobody can change here; `seal`: what the others' HA1s are kept with,
        None: as they are."""
        self._pump = pump
        self._store = store
        self._clock = clock
        self._realm = realm
        self._users = users
        self._seal = seal
        self._revision = 0  # of the users that the node knows
        self._requests = 0
        self._asked: dict[int, asyncio.Future[int | None]] = {}

    # Registrations

    async def registrations(
        self, *, after: AddressOfRecord | None, limit: int
    ) -> tuple[Sequence[Resource], AddressOfRecord | None]:
        now, found = self._clock.now(), []
        rows = await self._store.list_registrations(after=after, limit=limit + 1)
        for aor, bindings in rows[:limit]:
            resource = registration_resource(aor, read_bindings(bindings), now=now)
            if resource is not None:
                found.append(resource)
        return found, rows[limit - 1][0] if len(rows) > limit else None

    async def registration(self, aor: AddressOfRecord) -> Resource | None:
        bindings = await self._store.registration(aor)
        return None if bindings is None else registration_resource(aor, read_bindings(bindings), now=self._clock.now())

    async def deregister(self, aor: AddressOfRecord) -> int | None:
        self._requests += 1
        number = self._requests
        answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self._pump.give(Deregister(number, aor))
            return await answer
        finally:
            del self._asked[number]

    def deregistered(self, said: Deregistered) -> None:
        """The node's answer."""
        answer = self._asked.get(said.request)
        if answer is not None and not answer.done():
            answer.set_result(said.bindings)

    # Users

    def is_from_file(self, username: str) -> bool:
        return username in self._users

    async def user(self, username: str) -> Resource | None:
        known = self._users.get(username)
        if known is not None:
            return user_resource(known, "file")
        return self._shown(username, await self._store.record("user", username))

    async def put_user(self, username: str, password: str, aor: AddressOfRecord | None) -> tuple[bool, Resource]:
        user = User(username, make_ha1(username, self._realm, password), aor)
        existed = await self._store.put_record("user", username, write_user(user, self._realm, self._seal))
        self._pump.give(UsersChanged({username: user}))
        return existed, user_resource(user, "api")

    async def delete_user(self, username: str) -> Resource | None:
        before = await self._store.record("user", username)
        existed = await self._store.delete_record("user", username)
        self._pump.give(UsersChanged({username: None}))
        return self._shown(username, before) if existed else None

    def _shown(self, username: str, record: bytes | None) -> Resource | None:
        if record is None:
            return None
        user = read_user(username, record, self._realm, self._seal)
        return user_resource(user or User(username, Ha1()), "api")

    # Duties

    async def load_users(self) -> None:
        """Let the node know the users that the store has, or what has become of them since. Raises StoreUnavailable."""
        changes = await self._store.changed_records("user", self._revision)
        self._revision = changes.revision
        if not changes.records:
            return
        users: dict[str, User | None] = {}
        for username, record in changes.records.items():
            users[username] = None if record is None else read_user(username, record, self._realm, self._seal)
            if record is not None and users[username] is None:
                log.error(
                    "user_unusable",
                    username=username,
                    advice="its realm, or cluster.secret, is another one now: PUT it again",
                )
        self._pump.give(UsersChanged(users))

    async def keep_users(self) -> None:
        """Hear of users that were made elsewhere."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.load_users()
            except StoreUnavailable:
                continue  # the store's own line in the log says so

    async def expire(self, count: Callable[[int], None]) -> None:
        """Have bindings removed whose time is up. `count` is told how many addresses of record have any."""
        while True:
            try:
                due = await self._store.due_registrations(int(self._clock.now() * 1000), DUE_AT_ONCE)
            except StoreUnavailable:
                pass
            else:
                count(due.registered)
                if due.aors:
                    self._pump.give(RegistrationsDue(due.aors))
            await asyncio.sleep(LOOK_S)


def write_user(user: User, realm: str, seal: Seal | None) -> bytes:
    """A user as the store keeps it."""
    data: dict[str, Any] = {"v": 1, "realm": realm, "md5": user.ha1.md5, "sha_256": user.ha1.sha_256, "aor": user.aor}
    if seal is not None:
        proofs = json.dumps([data.pop("md5"), data.pop("sha_256")])
        # Beside the others: a release that does not know it reads those.
        data |= {"v": 2, "sealed": seal.seal(proofs), "sealed_512": seal.seal(json.dumps(user.ha1.sha_512_256))}
    else:
        data["sha_512_256"] = user.ha1.sha_512_256
    return json.dumps(data, separators=(",", ":")).encode("ascii")


def read_user(username: str, record: bytes, realm: str, seal: Seal | None) -> User | None:
    """The user, as long as what proves it was made for this realm and can be unsealed."""
    try:
        data: Any = json.loads(record)
        if data["v"] not in (1, 2) or data["realm"] != realm:
            return None
        if data["v"] == 1:
            return User(username, Ha1(data["md5"], data["sha_256"], data.get("sha_512_256")), data["aor"])
        proofs = None if seal is None else seal.unseal(data["sealed"])
        more = seal.unseal(data["sealed_512"]) if seal is not None and "sealed_512" in data else None
        if proofs is None:
            return None
        of_md5, of_sha_256 = json.loads(proofs)
        return User(username, Ha1(of_md5, of_sha_256, None if more is None else json.loads(more)), data["aor"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
