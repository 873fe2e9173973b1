"""Names, addresses and new connections; what `test_sender` cannot see."""

from __future__ import annotations

import asyncio

import pytest

from bridge.ambient import SystemClock
from bridge.webhooks import connections
from bridge.webhooks.connections import Connections
from bridge.webhooks.target import Origin
from tests.webhooks.servers import application, hangs, raw, refused_port, says, server_tls, trusting
from tests.webhooks.test_sender import park


class Names:
    """A resolver that counts, and answers what it is told to."""

    def __init__(self, *addresses: tuple[str, int]) -> None:
        self.addresses = list(addresses)
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        self.asked += 1
        await self.answers.wait()
        if not self.addresses:
            raise OSError(f"no address for {host}:{port}")
        return self.addresses


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1].partition("/")[0])


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    it = Names()
    monkeypatch.setattr(connections, "_resolve", it.resolve)
    return it


async def test_a_dead_address_is_passed_over(names: Names) -> None:
    async with application(park) as url:
        names.addresses = [("127.0.0.1", refused_port()), ("127.0.0.1", port_of(url))]
        those = Connections(clock=SystemClock())
        assert (await those.dial(Origin("app.test", 80, tls=False))).usable
        await those.close()


async def test_an_address_that_hangs_is_given_up_while_there_are_others(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_PATIENCE_S", 0.05)
    async with raw(hangs) as (hanging, _), application(park, tls=server_tls()) as url:
        names.addresses = [("127.0.0.1", port_of(hanging)), ("127.0.0.1", port_of(url))]
        those = Connections(clock=SystemClock(), tls=trusting())
        assert (await those.dial(Origin("localhost", 443, tls=True))).usable
        await those.close()


async def test_the_last_address_says_why(names: Names) -> None:
    names.addresses = [("127.0.0.1", refused_port())] * 2
    those = Connections(clock=SystemClock())
    with pytest.raises(ConnectionRefusedError):
        await those.dial(Origin("app.test", 80, tls=False))


async def test_one_look_up_serves_all_who_wait_and_those_after(names: Names) -> None:
    async with raw(says(b"")) as (url, _):
        names.addresses = [("127.0.0.1", port_of(url))]
        names.answers.clear()
        those = Connections(clock=SystemClock())
        origin = Origin("app.test", 80, tls=False)
        dials = [asyncio.create_task(those.dial(origin)) for _ in range(3)]
        await asyncio.sleep(0)
        names.answers.set()
        await asyncio.gather(*dials)
        await those.dial(origin)
        assert names.asked == 1
        await those.close()


async def test_a_look_up_that_failed_is_made_again(names: Names) -> None:
    those = Connections(clock=SystemClock())
    for _ in range(2):
        with pytest.raises(OSError, match="no address"):
            await those.dial(Origin("app.test", 80, tls=False))
    assert names.asked == 2


async def test_one_who_gives_up_waiting_does_not_take_the_look_up_from_the_others(names: Names) -> None:
    async with raw(says(b"")) as (url, _):
        names.addresses = [("127.0.0.1", port_of(url))]
        names.answers.clear()
        those = Connections(clock=SystemClock())
        impatient, patient = (asyncio.create_task(those.dial(Origin("app.test", 80, tls=False))) for _ in range(2))
        await asyncio.sleep(0)
        impatient.cancel()
        names.answers.set()
        assert (await patient).origin.host == "app.test"
        await those.close()
