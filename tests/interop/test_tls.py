"""SIP over TLS against `serve`: phones and a second bridge that are believed or not, `sips:` and its promise, new certificates."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bridge.net.certificates import Loaded, Pair, TlsFiles, load
from tests.support.application import Application
from tests.support.caller import OutgoingCall
from tests.support.certificates import Authority
from tests.support.programs import PORTS, Program, find_program
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.sipp import Sipp
from tests.support.stream_caller import StreamCaller
from tests.support.waiting import until, until_awaited

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

SDES = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("tls")) as scene:
        yield scene


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Trusts everybody, and is trusted by nobody."""
    other = Authority(tmp_path_factory.mktemp("stranger"), "Another authority")
    return load(TlsFiles((other.pair(addresses=["127.0.0.1"]),), verify_server=False))


@pytest.fixture(scope="module")
def phone(authority: Authority) -> Loaded:
    """What a phone has that both sides believe."""
    return load(TlsFiles((authority.pair(addresses=["127.0.0.1"]),), authority.path))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application()


def tls(authority: Authority, pair: Pair, **more: Any) -> dict[str, Any]:
    """The configuration of a node that speaks it."""
    files = {"certificate": {"file": str(pair.certificate)}, "key": str(pair.key), "ca": str(authority.path)}
    return {"sip": {"tls": {**files, **more}}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application, authority: Authority) -> Served:
    pair = authority.pair(dns=["localhost"], addresses=["127.0.0.1"], file="bridge")
    config = tls(authority, pair) | {"media": {"timeout_s": 3600}, "users": [{"username": "eve", "password": "x"}]}
    return await scene.bridge(application, store="memory://", config=config)


async def up(application: Application, caller: StreamCaller) -> tuple[OutgoingCall, str]:
    """An answered call, and its id."""
    call = caller.call()
    answer = await call.invite()
    assert answer.status == 200, answer
    name = (await application.stream(call.call_id)).call["id"]
    await application.event("call.answered", call=name)
    return call, name


async def is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def hang_up(bridge: Served, name: str) -> None:
    async with bridge.rest("DELETE", f"/v1/calls/{name}") as answer:
        assert answer.status in (200, 202), await answer.text()


async def originated(bridge: Served, to: str) -> str:
    async with bridge.rest("POST", "/v1/calls", json={"to": to}) as answer:
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["id"])


# Calls that come


async def test_sipp_over_tls(scene: Scene, bridge: Served, authority: Authority) -> None:
    """Debian's SIPp speaks no TLS: socat does it for it, and believes nobody but us."""
    port, place = PORTS.one(), scene.place("sipp")
    place.mkdir()
    far = f"OPENSSL:127.0.0.1:{bridge.tls_port},cafile={authority.path},verify=1"
    near = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"
    with Program([find_program("socat"), near, far], output=place / "socat"):
        await until_awaited(lambda: is_open(port), "socat listens")
        run = Sipp(place, port, calls=20, rate=50, options=("-t", "tn", "-max_socket", "100"))
        scene.stack.callback(run.kill)
        statistics = await run.done()
    assert (statistics.code, statistics.successful) == (0, 20), statistics


async def test_a_call_over_tls(scene: Scene, application: Application, bridge: Served, phone: Loaded) -> None:
    caller = await scene.stream_caller(bridge, tls=phone)
    call, name = await up(application, caller)
    assert call.target == f"sip:127.0.0.1:{bridge.tls_port};transport=tls"
    shown = (await application.event("call.incoming", call=name))["data"]["call"]
    assert shown["source"] == {"address": f"127.0.0.1:{caller.local_ports[0]}", "transport": "tls"}
    await hang_up(bridge, name)
    bye = await call.hung_up()
    assert bye["via"].startswith(f"SIP/2.0/TLS 127.0.0.1:{bridge.tls_port};")
    assert caller.called_back == 0


async def test_a_call_to_a_sips_uri_is_answered_with_one_and_keeps_it(
    scene: Scene, application: Application, bridge: Served, phone: Loaded
) -> None:
    caller = await scene.stream_caller(bridge, tls=phone, sips=True)
    call, _ = await up(application, caller)
    assert call.target == f"sips:127.0.0.1:{bridge.tls_port}"
    assert (await call.reinvite("sendonly")).status == 200
    assert call.target == f"sips:127.0.0.1:{bridge.tls_port}"
    assert (await call.bye()).status == 200


async def test_a_bye_reaches_a_phone_whose_connection_has_gone_if_it_proves_who_it_is(
    scene: Scene, application: Application, bridge: Served, phone: Loaded
) -> None:
    caller = await scene.stream_caller(bridge, tls=phone)
    call, name = await up(application, caller)
    caller.disconnect()
    await hang_up(bridge, name)
    await call.hung_up()
    assert caller.called_back == 1


async def test_and_nothing_is_told_to_one_that_does_not(
    scene: Scene, application: Application, bridge: Served, stranger: Loaded
) -> None:
    caller = await scene.stream_caller(bridge, tls=stranger)
    call, name = await up(application, caller)
    caller.disconnect()
    await hang_up(bridge, name)
    await bridge.says("tls_failed")
    await application.event("call.ended", call=name)
    assert not call.asked("BYE")


async def test_sips_by_a_way_that_is_none_is_refused(scene: Scene, bridge: Served) -> None:
    text = (
        "{method} sips:100@{{host}} SIP/2.0\nVia: SIP/2.0/{via} 127.0.0.1:{{port}};branch={{branch}}\nMax-Forwards: 70\n"
        "From: <sip:a@127.0.0.1>;tag={{tag}}\nTo: <sips:100@{{host}}>\nCall-ID: {{call_id}}\nCSeq: 1 {method}\n"
        "Contact: <sips:a@127.0.0.1:{{port}}>\nContent-Length: 0\n\n"
    )
    for caller in (await scene.caller(bridge), await scene.stream_caller(bridge)):
        for method in ("INVITE", "OPTIONS", "REGISTER"):
            refused = await caller.ask(text.format(method=method, via=caller.via))
            assert (refused.status, refused["warning"]) == (480, '380 bridge "SIPS Not Allowed"')


async def test_an_offer_of_srtp_alone_is_refused(
    scene: Scene, application: Application, bridge: Served, phone: Loaded
) -> None:
    """The signalling is secret, the audio is not: who insists on both is told so."""
    caller = await scene.stream_caller(bridge, tls=phone, sips=True)
    call = caller.call()
    call.offer = lambda direction: (  # type: ignore[method-assign]
        OutgoingCall.offer(call, direction).replace("RTP/AVP", "RTP/SAVP") + SDES
    )
    refused = await call.invite()
    assert (refused.status, refused["warning"].split()[0]) == (488, "302")


async def test_handshakes_that_never_end_keep_nobody_else_out(
    scene: Scene, application: Application, bridge: Served, authority: Authority
) -> None:
    before = (await bridge.metrics())["bridge_sip_connections"]
    with ExitStack() as silent:
        for _ in range(150):
            made = silent.enter_context(socket.create_connection(("127.0.0.1", bridge.tls_port)))
            made.sendall(b"\x16\x03\x01\x02\x00")

        async def refused() -> bool:
            return (await bridge.metrics()).get('bridge_dropped_total{reason="handshakes_full_source"}', 0) >= 50

        await until_awaited(refused, "those beyond a hundred are let go")
        assert await serial(bridge, authority, source="127.0.0.2")  # whoever comes from elsewhere
        call = (await scene.caller(bridge)).call()
        assert (await call.invite()).status == 200
        assert (await call.bye()).status == 200

    async def gone() -> bool:
        return (await bridge.metrics())["bridge_sip_connections"] <= before

    await until_awaited(gone, "they leave nothing behind")


# Calls that we make: to another bridge


class There:
    """A second bridge, that is called."""

    def __init__(self, bridge: Served, application: Application) -> None:
        self.bridge = bridge
        self.application = application

    def uri(self, scheme: str = "sips", host: str = "localhost", more: str = "") -> str:
        return f"{scheme}:100@{host}:{self.bridge.tls_port}{more}"


async def there(scene: Scene, authority: Authority, pair: Pair, **more: Any) -> There:
    application = await scene.application()
    return There(await scene.bridge(application, store="memory://", config=tls(authority, pair, **more)), application)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def far(scene: Scene, authority: Authority) -> There:
    return await there(scene, authority, authority.pair(dns=["localhost"]), verify_client="required")


@pytest.mark.parametrize(("scheme", "more"), [("sips", ""), ("sip", ";transport=tls")])
async def test_a_far_end_that_proves_its_domain(
    application: Application, bridge: Served, far: There, scheme: str, more: str
) -> None:
    """Both show a certificate, for the far end wants to see one too."""
    name = await originated(bridge, far.uri(scheme, more=more))
    await application.event("call.answered", call=name)
    (seen,) = [each.call for each in far.application.streams.values() if not each.ended]
    assert seen["source"]["transport"] == "tls"
    assert seen["from"]["uri"].startswith("sip:")
    # Hung up there: their BYE goes to our Contact, by the connection that there is.
    await hang_up(far.bridge, seen["id"])
    end = (await application.event("call.ended", call=name))["data"]["call"]
    assert (end["ended"]["by"], end["ended"]["reason"]) == ("remote", "hangup")


@pytest.mark.parametrize(
    ("stands_for", "host", "why"),
    [
        ({"dns": ["other.example"]}, "localhost", "Certificate Not Valid For localhost, But For other.example"),
        ({"dns": ["localhost"]}, "127.0.0.1", "Certificate Not Valid For 127.0.0.1, But For localhost"),
    ],
)
async def test_a_far_end_that_is_somebody_else_is_not_called(
    scene: Scene, application: Application, bridge: Served, authority: Authority, stands_for: Any, host: str, why: str
) -> None:
    wrong = await there(scene, authority, authority.pair(**stands_for))
    name = await originated(bridge, wrong.uri(host=host))
    end = (await application.event("call.ended", call=name))["data"]["call"]["ended"]
    assert (end["reason"], end["sip_code"], end["sip_reason"]) == ("unreachable", 503, why)
    assert wrong.application.streams == {}
    assert (await bridge.says("tls_failed"))["detail"] == why
    assert (await bridge.metrics())['bridge_dropped_total{reason="connection_untrusted"}'] >= 1


async def test_no_way_around_tls_is_tried(application: Application, bridge: Served, far: There) -> None:
    """At its port for UDP and TCP nobody speaks TLS, and a sips: URI is not asked for there in any other way."""
    name = await originated(bridge, f"sips:100@localhost:{far.bridge.sip_port}")
    end = (await application.event("call.ended", call=name))["data"]["call"]["ended"]
    assert (end["reason"], end["sip_code"]) == ("unreachable", 503)
    assert end["sip_reason"].startswith("TLS Failed")


# Registrations


async def test_a_sips_call_needs_a_contact_that_is_one(
    application: Application, scene: Scene, authority: Authority
) -> None:
    pair = authority.pair(dns=["localhost"], addresses=["127.0.0.1"])
    config = tls(authority, pair) | {"users": [{"username": "alice", "password": "secret"}]}
    config["sip"]["domains"] = ["example.com"]
    bridge = await scene.bridge(application, store="memory://", config=config)
    account = f'<sip:alice@example.com;transport=tls>;auth_pass=secret;outbound="sip:127.0.0.1:{bridge.tls_port};transport=tls"'
    phone = await scene.baresip(account, more=f"sip_cafile {authority.path}\n")
    await phone.registered()
    name = await originated(bridge, "sips:alice@example.com")
    end = (await application.event("call.ended", call=name))["data"]["call"]["ended"]
    assert (end["sip_code"], end["sip_reason"]) == (480, "No Contact To Be Reached By TLS")
    name = await originated(bridge, "sip:alice@example.com")  # and without that promise: by its connection
    await phone.event("CALL_INCOMING")
    await phone.command("accept")
    await application.event("call.answered", call=name)
    await hang_up(bridge, name)
    await phone.event("CALL_CLOSED")


async def test_baresip_that_insists_on_srtp_is_refused(
    scene: Scene, application: Application, bridge: Served, authority: Authority
) -> None:
    phone = await scene.baresip(
        f"<sip:me@127.0.0.1:{bridge.tls_port};transport=tls>;regint=0;mediaenc=srtp-mand",
        more=f"sip_cafile {authority.path}\nmodule srtp.so\n",
    )
    await phone.command("dial", f"sip:100@127.0.0.1:{bridge.tls_port};transport=tls")
    assert "488" in (await phone.event("CALL_CLOSED"))["param"]


# Certificates


async def serial(bridge: Served, authority: Authority, *, source: str = "127.0.0.1") -> str:
    """Of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=authority.path)
    _, writer = await asyncio.open_connection("127.0.0.1", bridge.tls_port, ssl=context, local_addr=(source, 0))
    shown = str(writer.get_extra_info("peercert")["serialNumber"])
    writer.close()
    return shown


async def test_sighup_brings_new_certificates_and_ends_no_call(
    scene: Scene, application: Application, bridge: Served, authority: Authority, phone: Loaded
) -> None:
    call, _ = await up(application, await scene.stream_caller(bridge, tls=phone))
    before, expiry = await serial(bridge, authority), (await bridge.metrics())["bridge_tls_certificate_expiry_seconds"]
    pair = authority.pair(dns=["localhost"], addresses=["127.0.0.1"], file="bridge")
    bridge.program.send(signal.SIGHUP)
    await bridge.says("certificates_reloaded")
    after = await serial(bridge, authority)
    assert after != before
    assert (await bridge.metrics())["bridge_tls_certificate_expiry_seconds"] >= expiry
    pair.key.write_bytes(authority.pair().key.read_bytes())
    bridge.program.send(signal.SIGHUP)
    assert "sip.tls.key: the key in" in (await bridge.says("certificates_not_reloaded"))["detail"]
    assert await serial(bridge, authority) == after
    assert (await call.bye()).status == 200


async def test_a_start_with_a_wrong_file_says_which(
    scene: Scene, application: Application, authority: Authority
) -> None:
    pair = Pair(authority.pair().certificate, authority.pair().key)
    node = await scene.node(application, store="memory://", config=tls(authority, pair))
    program = node.launch()
    await until(lambda: program.code() is not None, "it ends")
    assert program.code() == 2
    (line,) = node.said("refused_to_start")
    assert "sip.tls.key: the key in" in line["line"]


async def test_openssl_speaks_to_it(bridge: Served, authority: Authority, tmp_path: Path) -> None:
    ask = (
        f"OPTIONS sip:127.0.0.1:{bridge.tls_port};transport=tls SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bKopenssl\r\n"
        "Max-Forwards: 70\r\nFrom: <sip:o@127.0.0.1>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: openssl\r\nCSeq: 1 OPTIONS\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    (tmp_path / "ask").write_bytes(ask.encode())
    command = (
        f"(cat {tmp_path / 'ask'}; sleep 60) | {find_program('openssl')} s_client -quiet -verify_return_error "
        f"-verify_hostname localhost -CAfile {authority.path} -connect 127.0.0.1:{bridge.tls_port}"
    )
    with Program(["sh", "-c", command], output=tmp_path / "said") as program:
        await until(lambda: "SIP/2.0 200 OK" in program.said(), program.said)
