"""An attacker on every side at once does no harm: mutated SIP, floods, forged dialogs, strangers' RTP, REST and webhooks gone mad.

Seeded, so that a failure comes again. After each wave the bridge is the same process, answers a call, has no line that speaks of
a defect and no new labels; what it ignored it has counted. At the end it holds no descriptor more than before.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Self

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.application import SECRET, Application, Event, HangsUp, actions, answering
from tests.support.bad_messages import request, sdp
from tests.support.caller import Caller
from tests.support.phone import Message, read_message, token
from tests.support.programs import resident_kib
from tests.support.scene import Scene
from tests.support.served import KEY, Served
from tests.support.waiting import until, until_awaited

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

SEED = 20261122
OF_THE_APPLICATION = ("webhook_dead", "decision_failed")  # errors, and not of ours
GROWTH_KIB = 64 * 1024  # what a wave leaves is kept for 32 s: bounded by what it has sent


class Attacker:
    """A socket that says anything and hears everything; `host` is its address on loopback."""

    def __init__(self, bridge: Served, host: str = "127.0.0.1") -> None:
        self._target = ("127.0.0.1", bridge.sip_port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((host, 0))
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def write(self, method: str = "INVITE", **parts: object) -> str:
        """A request of ours as text, each one new."""
        text = request(method, **parts).replace("\n", "\r\n")  # type: ignore[arg-type]
        for name, value in (("port", str(self.port)), ("branch", f"z9hG4bK{token()}"), ("call_id", f"{token()}@x")):
            text = text.replace(f"{{{name}}}", value)
        return text.replace("{tag}", token())

    async def send(
        self, messages: Iterable[bytes | str], *, at_once: int = 50, to: tuple[str, int] | None = None
    ) -> None:
        """As fast as the bridge can read, about: what the kernel drops attacks nobody."""
        for number, message in enumerate(messages):
            data = message if isinstance(message, bytes) else message.encode("utf-8", "surrogateescape")
            self._socket.sendto(data, to or self._target)
            if number % at_once == at_once - 1:
                await asyncio.sleep(0.004)

    def heard(self) -> list[Message]:
        found = []
        while True:
            try:
                found.append(read_message(self._socket.recv(65_535)))
            except BlockingIOError:
                return found

    async def answers(self, count: int) -> list[Message]:
        """Wait for so many."""
        found: list[Message] = []

        def enough() -> bool:
            found.extend(self.heard())
            return len(found) >= count

        await until(enough, lambda: f"{count} answers; {len(found)} came: {found[:3]}")
        return found


class Arena:
    """The bridge under attack, and how it is looked at between two waves."""

    def __init__(self, application: Application, bridge: Served, caller: Caller) -> None:
        self.application = application
        self.bridge = bridge
        self.caller = caller
        self.pid = bridge.pid_of("signalling")
        self.memory = resident_kib(self.pid)
        self.series = 0
        self.open_at_first = self.descriptors()

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    async def is_well(self) -> None:
        call = self.caller.call()
        assert (await call.invite()).status == 200
        assert (await call.bye()).status == 200
        assert self.bridge.pid_of("signalling") == self.pid, "it died and was started again"
        assert not [line for line in self.bridge.complaints() if line["event"] not in OF_THE_APPLICATION]
        assert b"\x1b" not in self.bridge.log.read_bytes(), "a stranger paints on our terminal"
        assert resident_kib(self.pid) - self.memory < GROWTH_KIB
        metrics = await self.bridge.metrics()
        late = metrics["bridge_loop_lag_seconds_count"] - metrics['bridge_loop_lag_seconds_bucket{le="1.0"}']
        assert late == 0, "the loop stood still for more than a second"
        self.series = self.series or len(metrics)
        assert len(metrics) < self.series + 10, "labels made by strangers"

    async def dropped(self) -> dict[str, float]:
        return {name: value for name, value in (await self.bridge.metrics()).items() if "dropped" in name}


WAITS = "300"  # this callee is parked; everybody else is answered, or as a test has it


async def desk(event: Event) -> web.StreamResponse:
    waits = event["type"] == "call.incoming" and event["data"]["call"]["to"]["user"] == WAITS
    return actions({"action": "park", "timeout_s": 600}) if waits else await answering(event)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def arena(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Arena]:
    async with Scene(tmp_path_factory.mktemp("hostile")) as scene:
        application = await scene.application(desk, dead_events=True)
        config = {"webhooks": {"schedule": [0, 0.5], "decision_timeout_s": 1}}
        bridge = await scene.bridge(application, media_pairs=420, config=config)
        arena = Arena(application, bridge, await scene.caller(bridge))
        await arena.is_well()
        yield arena
        text = bridge.log.read_bytes()
        assert KEY.encode() not in text
        assert SECRET.removeprefix("whsec_").encode() not in text
        # A receiver that answers by hand does not know that the bridge has heard enough.
        assert not [each for each in application.faults if not each.endswith(": two at once")]


# SIP


def mutated(attacker: Attacker, count: int) -> list[bytes]:
    """Requests cut, damaged, shuffled, repeated line by line, and with strange things in place of usual ones."""
    dice = random.Random(SEED)
    strange = (b"", b"\0", b"\xff\xfe", b"9" * 20, b"-1", b"%s%n", b"[::1]", b"\x1b[31m", b"'\"", b"a" * 3000, b"{0}")
    usual = (
        b"127.0.0.1",
        b"sip:",
        b"INVITE",
        b"Via",
        b"tag=",
        b"\r\n",
        b"IN IP4",
        b"audio 40000",
        b"RTP/AVP",
        b"branch=",
    )
    found = []
    for number in range(count):
        method = dice.choice(("INVITE", "INVITE", "BYE", "OPTIONS", "CANCEL", "ACK"))
        within = ";tag=x" if method == "BYE" else ""
        data = attacker.write(method, body=sdp() if method == "INVITE" else "", to_tag=within).encode()
        lines = data.split(b"\r\n")
        match number % 6:
            case 0:
                data = data[: dice.randrange(len(data))]
            case 1:
                for place in dice.sample(range(len(data)), dice.randint(1, 8)):
                    data = data[:place] + dice.randbytes(1) + data[place + 1 :]
            case 2:
                place = dice.randrange(len(data))
                data = data[:place] + dice.randbytes(dice.randint(1, 30)) + data[place:]
            case 3:
                dice.shuffle(lines)
                data = b"\r\n".join(lines)
            case 4:
                place = dice.randrange(len(lines))
                data = b"\r\n".join(lines[:place] + [lines[place]] * dice.randrange(300) + lines[place + 1 :])
            case _:
                for word in dice.sample(usual, 2):
                    data = data.replace(word, dice.choice(strange), dice.randint(1, 2))
        found.append(data)
    return found


async def test_thousands_of_mutations(arena: Arena) -> None:
    before = await arena.dropped()
    with Attacker(arena.bridge) as attacker:
        await attacker.send(mutated(attacker, 3000))
        statuses = Counter(message.status for message in await attacker.answers(500))
    assert set(statuses) <= {100, 200, 400, 405, 415, 416, 420, 481, 482, 488, 505}
    malformed = 'bridge_dropped_total{reason="malformed"}'
    assert (await arena.dropped())[malformed] > before.get(malformed, 0) + 500
    await arena.is_well()


async def test_absurd_headers_and_descriptions(arena: Arena) -> None:
    headers = (
        f"X-Long: {'x' * 60_000}",
        "Via: " + ", ".join(f"SIP/2.0/UDP h{i};branch=z9hG4bK{i}" for i in range(1200)),
        "Record-Route: " + ", ".join(f"<sip:h{i};lr>" for i in range(3000)),
        "Contact: " + ", ".join(f"<sip:h{i}>" for i in range(3000)),
        "Require: " + ",".join(f"a{i}" for i in range(9000)),
        "Supported: " + "," * 60_000,
        "Content-Disposition: " + ";" * 50_000,
        "X-Fold: a" + "\n b" * 10_000,
        "\n".join(f"X-{i}: y" for i in range(3000)),
        'Subject: \x1b[2J\x1b[31m{"event": "fault"}',
        f"X-Secret: Bearer {token()}\0\udcff",
        "Max-Forwards: " + "9" * 5000,
    )
    descriptions = (
        sdp(more="m=video 5 RTP/AVP 0\n" * 64),
        sdp(more="m=audio 1 RTP/AVP 0\n" * 2500),
        sdp(more="".join(f"a=rtpmap:{i % 128} X{i}/8000\n" for i in range(2300))),
        sdp(formats=" ".join(str(i % 128) for i in range(12_000))),
        sdp(formats="99999 -1 \u00b2 \u0663"),
        sdp(more="a=\0\n"),
        sdp(more="a=" + "\U0001f600" * 9000 + "\n"),
        sdp(more=f"a=rtpmap:0 PCMU/{'9' * 5000}\n"),
        *(sdp(address=each) for each in ("1.2.3", "0x7f.1", "127.0.0.1\0", "\uff11.2.3.4", "example.com", "::1", "")),
    )
    with Attacker(arena.bridge) as attacker:
        methods = ("INVITE", "OPTIONS", "BYE", "DANCE")
        messages = [attacker.write(method, more=f"{each}\n") for each in headers for method in methods]
        messages += [attacker.write(body=each) for each in descriptions]
        messages += [attacker.write().replace(tidy, odd, 1) for tidy, odd in ODD for _ in range(2)]
        assert max(len(each.encode("utf-8", "surrogateescape")) for each in messages) < 65_507
        await attacker.send(messages, at_once=3)
        answers = await attacker.answers(len(messages) // 2)
    assert not [each for each in answers if each.status >= 500 and each.status != 505]
    await arena.is_well()


ODD = (
    ("From: <sip:tests@", f"From: <sip:{'u' * 50_000}@"),
    ("From: <sip:tests@127.0.0.1>", 'From: "\x1b[31m" <sip:\x1b]0;x\x07@127.0.0.1>'),
    ("To: <sip:100@", 'To: "\udcff\udced\udca0\udc80" <sip:100@'),
    ("Call-ID: ", "Call-ID: \udcff\x1b[31m\0"),
    ("CSeq: 1 ", f"CSeq: {'0' * 50_000}1 "),
    ("CSeq: 1 ", "CSeq: \u0663 "),
    ("branch=z9hG4bK", f"branch=z9hG4bK{'b' * 50_000}"),
    ("branch=z9hG4bK", "branch="),
    (";tag=", ";tag=\udcff\0"),
)


async def test_one_invite_a_thousand_times_is_one_call(arena: Arena) -> None:
    """And on a thousand branches it is merged (§8.2.2.2)."""
    with Attacker(arena.bridge) as attacker:
        text = attacker.write(body=sdp())
        await attacker.send([text] * 1000)
        other = [re.sub("branch=[^;]+", f"branch=z9hG4bK{token()}", text) for _ in range(500)]
        await attacker.send(other)
        answers = await attacker.answers(100)
    assert {each.status for each in answers} <= {100, 200, 482}
    await arena.is_well()
    named = re.search(r"Call-ID: (\S+)", text)
    assert named is not None
    calls = [each.call["sip"]["call_id"] for each in arena.application.streams.values()]
    assert calls.count(named.group(1)) == 1


async def test_no_response_goes_where_the_request_did_not_come_from(arena: Arena) -> None:
    """`received`, `rport` and `maddr` of the sender's own, and sent-by of somebody else: §18.2.1, RFC 3581."""
    with Attacker(arena.bridge, "127.0.0.2") as victim, Attacker(arena.bridge) as attacker:
        there, messages = f"127.0.0.2:{victim.port}", []
        for more in (
            "",
            ";received=127.0.0.2",
            ";maddr=127.0.0.2",
            f";rport={victim.port};received=127.0.0.2",
            ";ttl=9",
        ):
            for method in ("OPTIONS", "INVITE", "BYE", "CANCEL", "DANCE"):
                text = attacker.write(method).replace(f"127.0.0.1:{attacker.port};branch", f"{there};branch", 1)
                messages.append(text.replace(";rport", more, 1))
                messages.append(attacker.write(method, max_forwards="x").replace(";rport", f";rport{more}", 1))
        plain = attacker.write("OPTIONS").replace(";rport", "")
        messages += [plain.replace(f":{attacker.port};", f":{port};") for port in (0, 65_535, 65_536, 99_999)]
        await attacker.send(messages)
        await attacker.answers(25)
        await arena.is_well()
        assert not victim.heard()


async def test_forged_dialogs_touch_no_call(arena: Arena) -> None:
    call = arena.caller.call()
    assert (await call.invite()).status == 200
    stream = await arena.application.stream(call.call_id)
    dice = random.Random(SEED)
    with Attacker(arena.bridge, "127.0.0.2") as attacker:
        near = call.to_tag[:-1] + ("y" if call.to_tag.endswith("x") else "x")
        guesses = [(call.from_tag, near), ("wrong", call.to_tag), (call.to_tag, call.from_tag)]
        guesses += [(call.from_tag, token()), ("", call.to_tag)]
        forged = []
        for ours, theirs in guesses:
            for method in ("BYE", "INVITE", "ACK", "CANCEL"):
                text = attacker.write(method, cseq=f"7 {method}", to_tag=f";tag={theirs}")
                text = re.sub(r"Call-ID: .*\r", f"Call-ID: {call.call_id}\r", text)
                forged.append(re.sub(r"(From: .*);tag=\w+", rf"\1;tag={ours}" if ours else r"\1", text))
        await attacker.send(forged)
        answers = await attacker.answers(15)
        storm = []
        for _ in range(1500):
            method = dice.choice(("BYE", "ACK", "CANCEL", "INVITE", "UPDATE"))
            storm.append(attacker.write(method, to_tag=f";tag={token(dice.choice((1, 12, 40)))}"))
        await attacker.send(storm)
        answers += await attacker.answers(500)
    assert {each.status for each in answers} == {481}
    assert not call.is_over
    # What its own far end may do: re-INVITEs without an ACK, one after the other.
    call.acknowledges = False
    for _ in range(200):
        call.sequence += 1
        call.branch = f"z9hG4bK{token()}"
        arena.caller.send(call.write("INVITE", call.branch, body=call.offer(dice.choice(("sendonly", "sendrecv")))))
        await asyncio.sleep(0.001)
    await until(lambda: [each for each in call.responses if each.status == 491], "they are refused while one is open")
    first = next(each for each in call.responses if each.sequence == 2 and 200 <= each.status < 300)
    call.acknowledge(first)
    assert (await call.bye()).status == 200
    await arena.application.event("call.ended", call=stream.call["id"])
    await arena.is_well()


async def test_three_hundred_half_open_calls(arena: Arena) -> None:
    """150 never acknowledge, 150 wait unanswered; the ports of those that are hung up come back."""
    with Attacker(arena.bridge) as attacker:
        waiting = [attacker.write(body=sdp()).replace("To: <sip:100@", f"To: <sip:{WAITS}@") for _ in range(150)]
        await attacker.send(waiting + [attacker.write(body=sdp()) for _ in range(150)])

        async def up(state: str) -> list[dict[str, object]]:
            found: list[dict[str, object]] = (await arena.bridge.read(f"/v1/calls?state={state}&limit=500"))["data"]
            return found

        async def all_ring() -> bool:
            return len(await up("ringing")) == 150

        await until_awaited(all_ring, "150 ring")
        await arena.is_well()
        for call in await up("ringing"):
            async with arena.bridge.rest("DELETE", f"/v1/calls/{call['id']}") as answer:
                assert answer.status == 202
        attacker.heard()
        await attacker.answers(50)  # refusals, and 2xx that wait for their ACK
    await arena.is_well()


async def test_rtp_of_strangers_goes_nowhere(arena: Arena) -> None:
    call, dice = arena.caller.call(), random.Random(SEED)
    assert (await call.invite()).status == 200
    assert (await call.reinvite("sendonly")).status == 200  # held: nobody is to be heard meanwhile
    stream = await arena.application.stream(call.call_id)
    arena.caller.rtp.speak(call.media_port, 3)
    await asyncio.sleep(0.05)
    right = struct.pack("!BBHII", 0x80, 0, 1, 160, 7) + b"\xff" * 160
    with Attacker(arena.bridge, "127.0.0.2") as stranger:
        kinds = (right, b"", b"\x80", b"\xbf\xff" * 600, dice.randbytes(900))
        await stranger.send([dice.choice(kinds) for _ in range(1000)], to=("127.0.0.1", call.media_port))
        await stranger.send([dice.randbytes(60_000)], to=("127.0.0.1", call.media_port + 1))
        assert (await call.bye()).status == 200
        await arena.application.event("call.ended", call=stream.call["id"])
        assert not stranger.heard()
    quality = stream.call["media"]["quality"]
    assert quality["packets_received"] == 3
    assert quality["strangers"] > 500
    await arena.is_well()


# HTTP


async def said(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return (await asyncio.wait_for(reader.read(4096), 5)).partition(b"\r\n")[0]
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_rest_is_refused_in_order(arena: Arena) -> None:
    call = arena.caller.call(WAITS)
    invite = call.begin()
    name = (await arena.application.stream(call.call_id)).call["id"]
    await until(lambda: call.responses and call.responses[-1].status == 180, "it rings")
    port = arena.bridge.api_port

    def post(path: str, body: bytes, *more: str, method: str = "POST") -> bytes:
        lines = (f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", *more)
        lines += (("Content-Type: application/json"), f"Content-Length: {len(body)}", "", "")
        return "\r\n".join(lines).encode() + body

    bodies: tuple[bytes, ...] = (
        b"[" * 30_000,
        b'{"a":' * 10_000,
        b'{"timeout_s":NaN}',
        b'{"timeout_s":1e999}',
        b'{"timeout_s":-1}',
        b"null",
    )
    bodies += (b'{"client_state":"\\ud800"}', b'{"client_state":"\xff"}', b'{"timeout_s":' + b"9" * 5000 + b"}", b"\0")
    bodies += (b'{"client_state":"%b"}' % ("\U0001f600" * 1025).encode(), b" " * 60_000, b'{"a\\ud800":1}', b'{"x":1}')
    for body in bodies:
        assert (await said(port, post(f"/v1/calls/{name}/park", body)))[9:12] in (b"400", b"422"), body[:40]
    injected: tuple[bytes, ...] = (
        b'{"X-A":"a\\r\\nX-B: c"}',
        b'{"X-A\\r\\n":"a"}',
        b'{"X-A":"\\u0000"}',
        b'{"X-A":"\\u2028"}',
        b'{"v":"a"}',
    )
    injected += (b'{" Via":"a"}', b'{"":"a"}', b'{"X-A":[["a"]]}', b'{"X\\u0130":"a"}')
    for headers in injected:
        assert (await said(port, post(f"/v1/calls/{name}/answer", b'{"headers":%b}' % headers)))[9:12] == b"422", (
            headers
        )
    for reason in (b"a\\r\\nX: y", b"\\u0085", b"x" * 300):
        assert (await said(port, post(f"/v1/calls/{name}/reject", b'{"reason":"%b"}' % reason)))[9:12] == b"422", reason
    for path in (
        "/../../etc/passwd",
        "/%2e%2e/x",
        "/%00",
        "/%ff%fe/answer",
        "/%0d%0aX:%20y/answer",
        "/{bridge}:*",
        "/%ED%A0%80",
    ):
        for method in ("GET", "POST", "DELETE", "TRACE"):
            answer = await said(port, post(f"/v1/calls{path}", b"{}", method=method))
            assert answer[9:12] in (b"400", b"404", b"405", b"422"), answer
    for query in ("limit=-1", "limit=" + "9" * 30, "cursor=%00%ff", "limit=1&limit=2", "state=%ed%a0%80"):
        assert (await said(port, post(f"/v1/calls?{query}", b"", method="GET")))[9:12] in (b"400", b"422"), query
    broken: tuple[bytes, ...] = (
        b"\x16\x03\x01" * 99,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX: " + b"y" * 99_999 + b"\r\n\r\n",
    )
    broken += (post("/v1/calls/x/park", b"0\r\n\r\n", "Transfer-Encoding: chunked"),)
    for data in broken:
        assert (await said(port, data))[9:12] in (b"400", b""), data[:40]
    assert (await said(port, post("/v1/calls/x/park", b"\x1f\x8b" * 50, "Content-Encoding: gzip")))[9:12] == b"415"
    # Whoever never ends what he has begun disturbs nobody, and is forgotten when he goes.
    slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
    for number, (_, writer) in enumerate(slow):
        writer.write(b"GET / HT" if number % 2 else post("/v1/calls/x/park", b"{" + b" " * 60_000)[:-5_000])
    await arena.is_well()
    for _, writer in slow:
        writer.close()
    await arena.is_well()
    async with arena.bridge.rest("POST", f"/v1/calls/{name}/reject", json={"code": 486}) as taken:
        assert taken.status == 202
    assert (await call.answer(invite)).status == 486, "nothing of it has changed the call"


REPLIES = (
    *(json.dumps({"actions": each}).encode() for each in ([5], {"action": "ring"}, [{"action": ["ring"]}], "ring")),
    json.dumps({"actions": [{"action": "ring"}] * 3000}).encode(),
    b'{"actions":' + b"[" * 30_000,
    b'{"actions":[{"action":"answer","headers":' + b'{"a":' * 9000 + b"1" + b"}" * 9000 + b"}]}",
    *(
        b'{"actions":[{"action":"pause","seconds":%b}]}' % each
        for each in (b"-5", b"NaN", b"1e999", b"9" * 4000, b'"1"')
    ),
    *(b'{"actions":[{"action":"reject","code":%b}]}' % each for each in (b"200", b"486.5", b"true", b"9" * 4000)),
    b'{"actions":[{"action":"reject","reason":"%b"}]}' % (b"x" * 60_000),
    b'{"actions":[{"action":"reject","reason":"a\\r\\nX: y"}]}',
    b'{"actions":[{"action":"answer","headers":{"Contact":"<sip:e@x>"}}]}',
    b'{"actions":[{"action":"\\u001b[31m\\n{\\"event\\": \\"fault\\"}"}]}',
    b'{"actions":[{"action":"\xff\xfe"}]}',
    b'\x1b[2J\n\n{"event": "fault"}',
    b"x" * 200_000,
)
RAW = (
    b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000,
    b"HTTP/1.1 503 X\r\nRetry-After: " + b"9" * 40 + b"\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 429 X\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 -2359\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9000,
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
    b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n{",  # and nothing more
    random.Random(SEED).randbytes(3000),
)


async def test_a_webhook_receiver_gone_mad_costs_its_own_calls_only(arena: Arena) -> None:
    """Each of these replies is no decision: the fallback rejects, by the deadline at the latest."""
    application = arena.application

    async def mad(event: Event) -> web.StreamResponse:
        user = event["data"]["call"]["to"]["user"]
        kind, _, number = user.partition("-")
        if event["type"] != "call.incoming" or kind not in ("reply", "raw"):
            return await answering(event)
        if kind == "reply":
            return web.Response(body=REPLIES[int(number)], content_type="application/json")
        request_ = next(each.in_flight for each in application.streams.values() if each.call["to"]["user"] == user)
        assert request_ is not None
        assert request_.transport is not None
        request_.transport.write(RAW[int(number)])
        await asyncio.sleep(1.5)
        raise HangsUp

    application.reply = mad
    try:
        users = [f"reply-{number}" for number in range(len(REPLIES))] + [f"raw-{number}" for number in range(len(RAW))]

        async def judged(user: str) -> tuple[str, int]:
            return user, (await arena.caller.call(user).invite()).status

        found = await asyncio.gather(*(judged(user) for user in users))
        assert [each for each in found if each[1] != 480] == []
        await arena.is_well()
    finally:
        application.reply = desk


async def test_nothing_is_left_open(arena: Arena) -> None:
    enough = arena.open_at_first + 16  # connections to the application and to us are kept for some seconds
    await until(lambda: arena.descriptors() <= enough, lambda: f"{arena.descriptors()} descriptors, not {enough}")
