"""Every message of RFC 4475 and RFC 5118: what our parser says of it, and what our user agent server answers."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import pytest

from bridge.calls.actions import Answer as Answering
from bridge.sip.flow import Send
from bridge.sip.grammar import unescape
from bridge.sip.headers import contacts
from bridge.sip.message import Request, Response
from bridge.sip.parser import MalformedMessage, parse
from bridge.sip.uri import SipUri, parse_uri
from tests.engine.test_bad_bytes import unharmed, with_another_call
from tests.engine.world import CALLER, World
from tests.torture import table_rfc4475, table_rfc5118
from tests.torture.expectations import HERE, Answer, Case, Dropped, Refused, Taken, counted, load, read

TABLES = {"rfc4475": table_rfc4475, "rfc5118": table_rfc5118}
DIGESTS = {
    "rfc4475": "c9cc35e6979009f72e3b79b31932c6157a23d8c0bd8a4a5c8836b12739a0dca5",
    "rfc5118": "9c033b5cad2cab78acb65c174dedf80f8981176030ec3ae30683d95100eff5d1",
}  # of all messages, each behind its name: a line end that an editor or a checkout has changed is another message

CASES: dict[str, tuple[bytes, Case]] = {
    f"{rfc}-{name}": (load(rfc, name), case) for rfc, table in TABLES.items() for name, case in table.MESSAGES.items()
} | {f"rfc5118-{name}-counted": (counted(load("rfc5118", name)), case) for name, case in table_rfc5118.COUNTED.items()}


def unmet(names: Iterable[str]) -> list[object]:
    """The cases, those expected to fail marked as such."""
    return [
        pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=CASES[name][1].unmet))
        if CASES[name][1].unmet
        else name
        for name in names
    ]


@pytest.mark.parametrize("name", CASES)
def test_what_the_parser_says(name: str) -> None:
    data, case = CASES[name]
    given = parse(data)
    match case.parsed:
        case Taken(reads):
            assert isinstance(given, Request | Response), given
            assert {what: read(given, what) for what in reads} == reads
            assert parse(given.encode()) == given
        case Refused(reason, status):
            assert isinstance(given, MalformedMessage), given
            assert (given.status, given.reason) == (status, reason)
            assert given.request is not None
        case Dropped(reason):
            assert isinstance(given, MalformedMessage), given
            assert (given.reason, given.request) == (reason, None)


@pytest.mark.parametrize("name", unmet(CASES))
def test_what_our_user_agent_server_answers(name: str) -> None:
    data, case = CASES[name]
    assert_answered(data, case.answer)


@pytest.mark.parametrize("name", [name for name, (_, case) in CASES.items() if case.unmet])
def test_what_it_answers_instead(name: str) -> None:
    data, case = CASES[name]
    assert case.instead is not None
    assert_answered(data, case.instead)


def assert_answered(data: bytes, wanted: Answer | None) -> None:
    """One final answer, to where the message came from; nothing else notices, and nothing is left."""
    world = with_another_call(Answering())
    sends = sent(world, data)
    assert all(send.flow.host == CALLER.host for send in sends)
    answers = [send.data for send in sends if not send.data.startswith(b"SIP/2.0 1")]
    if wanted is None:
        assert answers == []
    else:
        (answer,) = answers
        assert answer.startswith(b"SIP/2.0 %d " % wanted.status), answer
        for header, value in wanted.headers:
            assert f"\r\n{header}: {value}".encode() in answer
    unharmed(world)


def sent(world: World, data: bytes) -> list[Send]:
    return [effect for effect in world.packet(data) if isinstance(effect, Send)]


# What a table of one message each cannot say


def test_escapes_are_resolved_once() -> None:
    (contact,) = read_contacts("esc01")  # §3.1.1.3
    assert (contact.is_lr, contact.param("name")) == (True, "value%41")
    assert unescape(contact.user or "") == "caller"


def test_an_escaped_nul_ends_nothing() -> None:
    assert [unescape(uri.user or "") for uri in read_contacts("escnull")] == ["\0", "\0\0"]  # §3.1.1.4


def read_contacts(name: str) -> list[SipUri]:
    given = parse(load("rfc4475", name))
    assert isinstance(given, Request)
    found = contacts(given)
    assert isinstance(found, tuple)
    return [uri for address in found if isinstance(uri := parse_uri(address.uri), SipUri)]


def test_a_datagram_has_one_message() -> None:
    world = with_another_call()
    (answer,) = sent(world, load("rfc4475", "dblreq"))  # §3.1.1.8: its second one is an INVITE, which would ring
    assert b"\r\nCSeq: 8 REGISTER\r\n" in answer.data


def test_a_cookie_without_branch_names_no_transaction() -> None:
    world = with_another_call()  # §3.2.1
    data = load("rfc4475", "badbranch")
    (first,) = sent(world, data)
    (repeated,) = sent(world, data)
    (other,) = sent(world, data.replace(b"badbranch.", b"another."))
    assert repeated.data == first.data
    assert b"\r\nCall-ID: another.sadonfo" in other.data


def test_names_that_are_not_quoted() -> None:
    given = parse(load("rfc4475", "baddn") + b"\r\n")  # §3.1.2.15, with the empty line that the archive forgot
    assert isinstance(given, MalformedMessage)
    assert (given.status, given.reason) == (400, "Malformed From")


def test_an_answer_without_what_the_request_had_not() -> None:
    world = with_another_call()
    (answer,) = sent(world, load("rfc4475", "insuf"))  # §3.3.1: the client finds its transaction by these two
    assert answer.data == (
        b"SIP/2.0 400 Missing From\r\n"
        b"CSeq: 193942 INVITE\r\n"
        b"Via: SIP/2.0/UDP 192.0.2.95;branch=z9hG4bKkdj.insuf;received=192.0.2.1\r\n"
        b"Content-Length: 0\r\n\r\n"
    )


# That this is all of them


@pytest.mark.parametrize("rfc", TABLES)
def test_no_message_is_without_expectation_and_no_section_without_message(rfc: str) -> None:
    table = TABLES[rfc]
    assert sorted(path.stem for path in (HERE / rfc).iterdir()) == sorted(table.MESSAGES)
    assert list(dict.fromkeys(case.section for case in table.MESSAGES.values())) == list(table.SECTIONS)


@pytest.mark.parametrize("rfc", TABLES)
def test_no_byte_has_changed(rfc: str) -> None:
    digest = sha256()
    for name in sorted(TABLES[rfc].MESSAGES):
        digest.update(name.encode() + load(rfc, name))
    assert digest.hexdigest() == DIGESTS[rfc]
