"""Keys and scopes."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from bridge.api.auth import ANYBODY, ApiKey, Keyring
from bridge.contract.operations import OPERATIONS, SCOPES, Operation
from tests.api.conftest import Clients
from tests.api.fakes import ALICE, FakeService, call_id
from tests.api.problems import problem_of

READ = ApiKey(name="dashboard", key="read-key-0123456789", scopes=frozenset({"read"}))
CONTROL = ApiKey(name="app", key="control-key-0123456789", scopes=frozenset({"control"}))
ADMIN = ApiKey(name="ops", key="admin-key-åß-0123456789", scopes=frozenset({"admin"}))
KEYS = (READ, CONTROL, ADMIN)
CALL = call_id(0)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_each_scope_includes_those_before_it() -> None:
    allowed = {key.name: [scope for scope in SCOPES if key.allows(scope)] for key in KEYS}
    assert allowed == {"dashboard": ["read"], "app": ["read", "control"], "ops": ["read", "control", "admin"]}


def test_a_key_with_several_scopes_has_the_highest() -> None:
    both = ApiKey(name="both", key="k", scopes=frozenset({"read", "control"}))
    assert both.allows("control")
    assert not both.allows("admin")


def test_keys_are_found_by_their_header() -> None:
    ring = Keyring(KEYS)
    assert ring.find(f"Bearer {READ.key}") is READ
    assert ring.find(f"bearer  {ADMIN.key} ") is ADMIN  # schemes are case-insensitive (RFC 9110 §11.1)
    for header in (
        None,
        "",
        "Bearer",
        "Bearer ",
        READ.key,
        f"Basic {READ.key}",
        f"Bearer {READ.key}x",
        "Bearer read-key",
    ):
        assert ring.find(header) is None
    assert ring.find("Bearer caf\udce9") is None  # bytes that are no UTF-8


def test_no_key_shows_in_a_repr() -> None:
    assert "read-key" not in repr(READ)
    assert "read-key" not in repr(Keyring(KEYS))


def test_without_keys_everybody_may_do_everything() -> None:
    assert Keyring(()).find(None) is ANYBODY
    assert all(ANYBODY.allows(scope) for scope in SCOPES)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
async def test_every_operation_asks_for_its_scope(connect: Clients, operation: Operation) -> None:
    client = await connect(*KEYS)
    path = operation.path.format(
        call_id=CALL,
        conversation_id=FakeService.conversation_of(CALL),
        aor=ALICE,
        username="alice",
        name="carrier",
        node_id="n2",
    )
    nobody = await client.request(operation.method, path)
    stranger = await client.request(operation.method, path, headers=bearer("guessed"))
    reader = await client.request(operation.method, path, headers=bearer(READ.key))
    if operation.scope is None:
        assert (nobody.status, stranger.status) == (200, 200)
        return
    assert (await problem_of(nobody)).code == (await problem_of(stranger)).code == "unauthorized"
    assert nobody.headers["WWW-Authenticate"] == 'Bearer realm="sip-bridge"'
    assert "invalid_token" in stranger.headers["WWW-Authenticate"]
    if operation.scope == "read":
        assert reader.status == 200
    else:
        assert (await problem_of(reader)).code == "forbidden"
        assert f'scope="{operation.scope}"' in reader.headers["WWW-Authenticate"]
    for key in (CONTROL, ADMIN):
        if not key.allows(operation.scope):
            assert (await client.request(operation.method, path, headers=bearer(key.key))).status == 403
            continue
        assert (await client.request(operation.method, path, headers=bearer(key.key))).status in (
            200,
            202,
            409,
            410,
            422,
        )


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/secrets", "/%76%31/calls", f"/v1/calls/{CALL}/dance"])
async def test_strangers_do_not_learn_which_paths_exist(connect: Clients, path: str) -> None:
    client = await connect(*KEYS)
    assert (await client.get(path)).status == 401
    assert (await client.get(path.replace("%76%31/calls", "v1/nothing"), headers=bearer(READ.key))).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "//v1/calls",
        "/V1/calls",
        "/./v1/calls",
        "/x/../v1/calls",
        "/v1%2Fcalls",
        "/v1\\calls",
        "http://x/v1/calls",
        "/;/v1/calls",
    ],
)
async def test_no_spelling_of_a_path_gets_past_the_keys(connect: Clients, path: str) -> None:
    client = await connect(*KEYS)
    # Clients tidy up what they ask for; this one does not.
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    status_line = await reader.readline()
    await reader.read()
    writer.close()
    await writer.wait_closed()
    assert status_line.split()[1] in (b"400", b"401", b"404")


async def test_what_is_done_is_logged_with_who_did_it_and_never_with_the_key(connect: Clients) -> None:
    client = await connect(*KEYS)
    with capture_logs() as lines:
        await client.post(f"/v1/calls/{CALL}/ring", headers=bearer(CONTROL.key))
        await client.post(f"/v1/calls/{CALL}/ring", headers=bearer(READ.key))
        await client.post(f"/v1/calls/{CALL}/ring", headers=bearer("guessed"))
    commands = [line for line in lines if line["event"] == "command"]
    assert [(it["caller"], it["operation"], it["call"], it["status"]) for it in commands] == [
        ("app", "ring_call", CALL, 202)
    ]
    assert not [line for line in lines for key in ("control-key", "read-key", "guessed") if key in str(line)]
