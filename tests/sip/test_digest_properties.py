"""What holds for all digests: they are read as they were printed, and no line makes the reader raise or take long."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.digest import (
    Algorithm,
    Challenge,
    Unanswerable,
    authorize,
    challenge_lines,
    challenges_of,
    credentials_of,
    make_ha1,
    response_of,
)
from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response
from tests.sip.test_parser_properties import texts, unhurried
from tests.sip.test_parser_worst_case import LIMIT_S, filled

words = st.text(string.ascii_letters + string.digits + "-._~", min_size=1, max_size=12)
algorithms = st.sampled_from(list(Algorithm))
qops = st.sampled_from([(), ("auth",), ("auth-int",), ("auth", "auth-int")])
pieces = st.lists(
    st.sampled_from(["Digest ", "Basic ", "realm", "nonce", "uri", "qop", "=", '"', ",", "\\", " ", "a", "\udc80", "é"])
    | texts,
    max_size=20,
).map("".join)


@unhurried
@given(realm=texts, nonce=words, chosen=st.lists(algorithms, min_size=1, max_size=4, unique=True), stale=st.booleans())
def test_our_challenges_are_read_as_printed(realm: str, nonce: str, chosen: list[Algorithm], stale: bool) -> None:
    found = challenges_of(Response(401, "", Headers(challenge_lines(realm, nonce, chosen, stale=stale))))
    assert [(each.algorithm, each.nonce, each.stale) for each in found] == [(each, nonce, stale) for each in chosen]


@unhurried
@given(
    username=texts,
    realm=texts,
    password=texts,
    nonce=words,
    algorithm=algorithms,
    qop=qops,
    count=st.integers(1, 2**32 - 1),
    body=st.binary(max_size=20),
)
def test_client_and_server_come_to_the_same(
    username: str,
    realm: str,
    password: str,
    nonce: str,
    algorithm: Algorithm,
    qop: tuple[str, ...],
    count: int,
    body: bytes,
) -> None:
    lines = challenge_lines(realm, nonce, [algorithm])
    offered = challenges_of(Response(401, "", Headers(lines)))[0]._replace(qop=qop)
    line = authorize(
        [offered],
        method="REGISTER",
        uri="sip:example.com",
        username=username,
        password=password,
        body=body,
        nonce_count=count,
        cnonce="c",
    )
    assert not isinstance(line, Unanswerable)
    read = credentials_of(Request("REGISTER", "sip:example.com", Headers([line])), realm)
    assert read is not None
    assert read.username == username
    assert read.nonce_count == (count if qop else None)
    ha1 = make_ha1(username, realm, password).of(algorithm)
    assert ha1 is not None
    assert response_of(read, ha1, method="REGISTER", body=body) == read.response


@unhurried
@given(line=pieces)
def test_no_line_makes_the_reader_raise(line: str) -> None:
    value = line.replace("\r", "").replace("\n", "")
    for found in challenges_of(Response(401, "", Headers([("WWW-Authenticate", value)]))):
        assert isinstance(found, Challenge)
    credentials_of(Request("REGISTER", "sip:e", Headers([("Authorization", value)])), "a")


@pytest.mark.parametrize(
    "value",
    [
        filled("a"),
        filled(" ", "Digest "),
        filled("a ", "Digest "),
        filled(",", "Digest "),
        filled("\\", 'Digest realm="'),
        filled('\\"', 'Digest realm="'),
        filled('a="", ', "Digest "),
        filled("a=b,", "Digest "),
        filled("a", "Digest ", "="),
        filled("Digest a=b, "),
        filled("=", "Digest a"),
        filled('"', "Digest a="),
    ],
)
def test_whatever_fills_a_line_it_is_read_fast(value: str) -> None:
    request = Request("REGISTER", "sip:e", Headers([("Authorization", value)]))
    took = []
    for _ in range(3):
        began = time.process_time()
        credentials_of(request, "r")
        took.append(time.process_time() - began)
    assert min(took) < LIMIT_S
