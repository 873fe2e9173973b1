"""The resolver against a name server: what is asked, what is kept and for how long, and what is done when nobody answers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from bridge.engine.effects import Resolve
from bridge.engine.inputs import Resolved
from bridge.net import dns as dns_module
from bridge.net.dns import Dns
from bridge.net.resolver import Resolver
from bridge.sip.locating import Hop, Naptr, Question, Srv, Wanted
from tests.support.dns import Entry, NameServer
from tests.support.waiting import until

EXAMPLE = {
    "example.com": [
        Entry("NAPTR", "10 10 s SIP+D2T - _sip._tcp.example.com."),
        Entry("NAPTR", "20 10 s SIP+D2U - _sip._udp.example.com."),
        Entry("A", "192.0.2.9"),
    ],
    "_sip._udp.example.com": [Entry("SRV", "10 0 5062 b.example.com."), Entry("SRV", "0 0 5061 a.example.com.")],
    "_sip._tcp.example.com": [Entry("SRV", "0 0 5060 a.example.com.")],
    "a.example.com": [Entry("A", "192.0.2.1"), Entry("AAAA", "2001:db8::1")],
    "b.example.com": [Entry("CNAME", "real.example.com.")],
    "real.example.com": [Entry("A", "192.0.2.2")],
    "_sip._udp.alias.example": [Entry("CNAME", "_sip._udp.example.com.")],
}
SPOKEN = frozenset({("udp", 4), ("udp", 6)})
SRV = Question("srv", "_sip._udp.example.com")

pytestmark = pytest.mark.asyncio


class Clock:
    """One that the test puts forward."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at

    def pass_by(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer({name: list(entries) for name, entries in EXAMPLE.items()}) as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


MakeDns = Callable[..., Dns]


@pytest_asyncio.fixture
async def make_dns(server: NameServer, clock: Clock) -> AsyncIterator[MakeDns]:
    made: list[Dns] = []

    def make(patience_s: float = 5.0) -> Dns:
        made.append(Dns([server.address], patience_s=patience_s, clock=clock))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def find(dns: Dns, wanted: Wanted, spoken: frozenset[tuple[str, int]] = SPOKEN) -> list[Hop]:
    got: list[Resolved] = []
    resolver = Resolver(got.append, dns=dns, chance=lambda: 0.0)
    resolver.resolve(Resolve(7, wanted, spoken))
    await until(lambda: bool(got), "an answer")
    assert got[0].reader == 7
    return list(got[0].hops)


async def test_the_way_by_naptr_srv_and_addresses(server: NameServer, make_dns: MakeDns) -> None:
    assert await find(make_dns(), Wanted("example.com")) == [
        Hop("udp", "192.0.2.1", 5061),
        Hop("udp", "2001:db8::1", 5061),
        Hop("udp", "192.0.2.2", 5062),
    ]
    assert set(server.asked) == {
        "NAPTR example.com",
        "SRV _sip._udp.example.com",
        *("A a.example.com", "AAAA a.example.com", "A b.example.com", "AAAA b.example.com"),
    }


async def test_an_alias_leads_on(make_dns: MakeDns) -> None:
    hops = await find(make_dns(), Wanted("alias.example", transport="udp"), frozenset({("udp", 4)}))
    assert [each.port for each in hops] == [5061, 5062]


async def test_a_name_that_nobody_has(make_dns: MakeDns) -> None:
    assert await find(make_dns(), Wanted("nowhere.example")) == []
    assert await find(make_dns(), Wanted("a" * 70 + ".example")) == []  # a label that cannot be asked for


async def test_hosts_of_the_system_are_known(make_dns: MakeDns) -> None:
    assert Hop("udp", "127.0.0.1", 5060) in await find(make_dns(), Wanted("localhost"))


async def test_records_as_they_are(make_dns: MakeDns) -> None:
    dns = make_dns()
    assert set(await dns.answer(SRV)) == {Srv(10, 0, 5062, "b.example.com"), Srv(0, 0, 5061, "a.example.com")}
    naptr = await dns.answer(Question("naptr", "example.com"))
    assert naptr[0] == Naptr(10, 10, "s", "SIP+D2T", "_sip._tcp.example.com")


async def test_an_answer_is_kept_as_long_as_it_says(server: NameServer, make_dns: MakeDns, clock: Clock) -> None:
    dns = make_dns()
    first = await dns.answer(SRV)
    clock.pass_by(299.0)
    assert await dns.answer(SRV) == first
    assert dns.asked == 1
    clock.pass_by(2.0)
    await dns.answer(SRV)
    assert dns.asked == 2


async def test_a_ttl_of_nothing_is_for_one_question(server: NameServer, make_dns: MakeDns) -> None:
    server.entries[SRV.name] = [Entry("SRV", "0 0 5061 a.example.com.", ttl=0)]
    dns = make_dns()
    assert await dns.answer(SRV)
    assert await dns.answer(SRV)
    assert dns.asked == 2


async def test_that_there_is_nothing_is_kept_too(make_dns: MakeDns, clock: Clock) -> None:
    dns = make_dns()
    question = Question("srv", "_sip._tls.nowhere.example")
    assert await dns.answer(question) == ()
    clock.pass_by(dns_module.NOTHING_S - 1)
    assert await dns.answer(question) == ()
    assert dns.asked == 1
    clock.pass_by(2.0)
    assert await dns.answer(question) == ()
    assert dns.asked == 2


async def test_many_ask_once(server: NameServer, make_dns: MakeDns) -> None:
    dns = make_dns()
    answers = await asyncio.gather(*(dns.answer(SRV) for _ in range(100)))
    assert len(set(answers)) == 1
    assert dns.asked == 1
    assert server.asked["SRV _sip._udp.example.com"] == 1


async def test_who_gives_up_does_not_take_it_from_others(make_dns: MakeDns) -> None:
    dns = make_dns()
    gone = asyncio.create_task(dns.answer(SRV))
    other = asyncio.create_task(dns.answer(SRV))
    await asyncio.sleep(0)
    gone.cancel()
    assert len(await other) == 2


@pytest.mark.parametrize("mode", ["silent", "broken"])
async def test_what_was_said_holds_while_nobody_answers(
    mode: str, server: NameServer, make_dns: MakeDns, clock: Clock
) -> None:
    dns = make_dns(patience_s=0.3)
    server.entries[SRV.name] = [Entry("SRV", "0 0 5061 a.example.com.", ttl=1)]  # c-ares keeps answers of its own
    first = await dns.answer(SRV)
    server.mode = mode  # type: ignore[assignment]
    await asyncio.sleep(1.2)
    clock.pass_by(10.0)
    assert await dns.answer(SRV) == first
    asked = dns.asked
    assert await dns.answer(SRV) == first  # and nobody waits for that again, for a while
    assert dns.asked == asked
    server.mode = "well"
    server.entries[SRV.name] = [dataclasses.replace(server.entries[SRV.name][0], data="0 0 5099 a.example.com.")]
    clock.pass_by(dns_module.SILENCE_S + 1)
    assert await dns.answer(SRV) == (Srv(0, 0, 5099, "a.example.com"),)


@pytest.mark.parametrize("mode", ["silent", "broken"])
async def test_nobody_answers_at_all(mode: str, server: NameServer, make_dns: MakeDns) -> None:
    server.mode = mode  # type: ignore[assignment]
    assert await find(make_dns(patience_s=0.3), Wanted("example.com")) == []


async def test_what_is_kept_is_bounded(make_dns: MakeDns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_module, "KEPT_MOST", 3)
    dns = make_dns()
    for number in range(10):
        await dns.answer(Question("srv", f"_sip._udp.{number}.example"))
    assert len(dns._kept) == 3
    await dns.answer(Question("srv", "_sip._udp.9.example"))
    assert dns.asked == 10
    await dns.answer(Question("srv", "_sip._udp.0.example"))
    assert dns.asked == 11


async def test_closing_breaks_off_what_is_under_way(server: NameServer, make_dns: MakeDns) -> None:
    server.mode = "silent"
    got: list[Resolved] = []
    resolver = Resolver(got.append, dns=make_dns(patience_s=60.0))
    resolver.resolve(Resolve(1, Wanted("example.com"), SPOKEN))
    await until(lambda: bool(server.asked), "a question")
    await resolver.close()
    assert got == []
