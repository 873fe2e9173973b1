"""How a connection begins: who we are, which database, TLS; and what an error says."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import hiredis
import pytest
import uvloop
from structlog.testing import capture_logs

from bridge.errors import StartError
from bridge.store.connection import Connection
from bridge.store.discovery import FixedDiscovery
from bridge.store.redis import RedisStore
from bridge.store.server import Address, passes
from tests.store.servers import Server
from tests.store.writes import CALL, Inbox, Node, commit


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def certified(directory: Path) -> tuple[Path, list[tuple[str, str]]]:
    """A certificate for this machine that proves itself, and what a server's configuration says of it."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    made += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    files = [("tls-cert-file", str(certificate)), ("tls-key-file", str(key)), ("tls-ca-cert-file", str(certificate))]
    return certificate, [*files, ("tls-auth-clients", "no")]


async def _lives(url: str) -> bool:
    """A write and a read, over this URL."""
    inbox = Inbox()
    store = RedisStore(url, give=inbox.give)
    await store.open()
    answer = await Node(store, inbox).write(commit(1))
    found = await store.stored_call(CALL)
    await store.close()
    return answer == "applied" and found is not None


async def test_password_and_database_are_taken_from_the_url(make_server: Callable[..., Server]) -> None:
    port = free_port()
    server = make_server("--port", str(port), "--bind", "127.0.0.1")
    server.ask("ACL", "SETUSER", "bridge", "on", ">p@ss", "~{bridge}:*", "+@all")
    server.ask("CONFIG", "SET", "requirepass", "secret")
    assert await _lives(f"redis://:secret@127.0.0.1:{port}/3")
    assert await _lives(f"redis://bridge:p%40ss@127.0.0.1:{port}/4")
    assert await _lives(f"{server.url}?db=5&password=secret")


def test_on_the_loop_of_the_service_too(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(_lives(server.url))


@pytest.mark.parametrize("url", ["redis://:wrong@127.0.0.1:{port}/0", "redis://127.0.0.1:{port}/0"])
async def test_a_wrong_password_stops_the_start_at_once(make_server: Callable[..., Server], url: str) -> None:
    port = free_port()
    make_server("--port", str(port), "--bind", "127.0.0.1").ask("CONFIG", "SET", "requirepass", "secret")
    store = RedisStore(url.format(port=port), give=Inbox().give)
    with pytest.raises(StartError, match="refuses us") as raised:
        await store.open()
    assert "wrong" not in str(raised.value).partition("refuses us")[0]  # nobody's password in a log


async def test_no_server_there_stops_the_start_with_the_remedy() -> None:
    said = {name: lambda *_: None for name in ("answered", "away", "back", "replaced")}
    connection = Connection(FixedDiscovery(Address("127.0.0.1", free_port())), lambda _: (), **said)
    with pytest.raises(StartError, match=r"Connect call failed.*store\.url"):
        await connection.open(patience_s=0.2)


async def test_a_fault_in_finding_the_primary_is_told_and_it_is_looked_for_again(
    make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    make_server("--port", str(port), "--bind", "127.0.0.1")
    discovery, asked = FixedDiscovery(Address("127.0.0.1", port)), []

    async def find() -> Address:
        asked.append(None)
        if len(asked) == 1:
            raise ValueError("what came cannot be read")
        return Address("127.0.0.1", port)

    monkeypatch.setattr(discovery, "find", find)
    said = {name: lambda *_: None for name in ("answered", "away", "back", "replaced")}
    connection = Connection(discovery, lambda _: (b"*1\r\n$4\r\nPING\r\n",), **said)
    with capture_logs() as lines:
        await connection.open(patience_s=20.0)
    assert [(line["event"], line["about"]) for line in lines] == [("fault", "store connection")]
    await connection.close(0.0)


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "redis://127.0.0.1:port/0"])
async def test_a_url_that_means_nothing_stops_the_start(url: str) -> None:
    with pytest.raises(StartError, match=r"store\.url"):
        await RedisStore(url, give=Inbox().give).open()


async def test_rediss_is_verified(make_server: Callable[..., Server], directory: Path) -> None:
    certificate, options = certified(directory)
    port = free_port()
    make_server("--tls-port", str(port), *(word for name, value in options for word in (f"--{name}", value)))
    assert await _lives(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", True),
        ("READONLY You can't write against a read only replica.", True),
        ("LOADING Redis is loading the dataset in memory", True),
        ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", True),
        ("NOSCRIPT No matching script. Please use EVAL.", True),
        ("NOREPLICAS Not enough good replicas to write.", True),
        ("BUSY Redis is busy running a script.", True),
        ("NOAUTH Authentication required.", True),
        ("ERR max number of clients reached", True),
        ("ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed", True),  # Redis 6
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
        ("ERR user_script:3: attempt to index a nil value", False),
    ],
)
def test_only_an_error_of_the_command_itself_is_final(text: str, expected: bool) -> None:
    assert passes(hiredis.ReplyError(text)) is expected


def test_an_address_never_prints_its_password() -> None:
    address = Address("store.example", 6380, username="bridge", password="secret", database=2)
    assert str(address) == "redis://store.example:6380/2"
    assert "secret" not in repr(address)
