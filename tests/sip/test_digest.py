"""Digest authentication: the examples of RFC 2069, 2617 and 7616, and those of draft-smith-sipping-auth-examples."""

from __future__ import annotations

import pytest

from bridge.errors import LocalProtocolError
from bridge.sip.digest import (
    MAX_CHALLENGES,
    Algorithm,
    Challenge,
    Credentials,
    Ha1,
    Unanswerable,
    authorize,
    challenge_lines,
    challenges_of,
    choose,
    credentials_of,
    make_ha1,
    response_of,
)
from bridge.sip.headers import Headers, Line
from bridge.sip.message import Request, Response

NONCE = "dcd98b7102dd2f0e8b11d0f600bfb0c093"
LONG_NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
LONG_CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
OFFER = (
    b"v=0\r\no=bob 2890844526 2890844526 IN IP4 media.biloxi.com\r\ns=-\r\nc=IN IP4 media.biloxi.com\r\nt=0 0\r\n"
    b"m=audio 49170 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\nm=video 51372 RTP/AVP 31\r\na=rtpmap:31 H261/90000\r\n"
    b"m=video 53000 RTP/AVP 32\r\na=rtpmap:32 MPV/90000\r\n"
)

MUFASA = ("Mufasa", "testrealm@host.com", "Circle Of Life", "GET", "/dir/index.html", NONCE)
EXAMPLES = {
    "RFC 2069 §2.4, as its erratum has it": (
        ("Mufasa", "testrealm@host.com", "CircleOfLife", "GET", "/dir/index.html", NONCE),
        Challenge("", "", Algorithm.MD5),
        "",
        b"",
        "1949323746fe6a43ef61f9606e7febea",
    ),
    "RFC 2617 §3.5": (
        MUFASA,
        Challenge("", "", Algorithm.MD5, ("auth", "auth-int")),
        "0a4f113b",
        b"",
        "6629fae49393a05397450978507c4ef1",
    ),
    "RFC 7616 §3.9.1, MD5": (
        ("Mufasa", "http-auth@example.org", "Circle of Life", "GET", "/dir/index.html", LONG_NONCE),
        Challenge("", "", Algorithm.MD5, ("auth",)),
        LONG_CNONCE,
        b"",
        "8ca523f5e9506fed4657c9700eebdbec",
    ),
    "RFC 7616 §3.9.1, SHA-256": (
        ("Mufasa", "http-auth@example.org", "Circle of Life", "GET", "/dir/index.html", LONG_NONCE),
        Challenge("", "", Algorithm.SHA_256, ("auth",)),
        LONG_CNONCE,
        b"",
        "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
    ),
    "draft-smith 3.1, no qop": (
        ("bob", "biloxi.com", "zanzibar", "INVITE", "sip:bob@biloxi.com", NONCE),
        Challenge("", "", Algorithm.MD5),
        "",
        b"",
        "bf57e4e0d0bffc0fbaedce64d59add5e",
    ),
    "draft-smith 3.3, auth": (
        ("bob", "biloxi.com", "zanzibar", "INVITE", "sip:bob@biloxi.com", NONCE),
        Challenge("", "", Algorithm.MD5, ("auth",)),
        "0a4f113b",
        OFFER,
        "89eb0059246c02b2f6ee02c7961d5ea3",
    ),
    "draft-smith 3.4, MD5-sess": (
        ("bob", "biloxi.com", "zanzibar", "INVITE", "sip:bob@biloxi.com", NONCE),
        Challenge("", "", Algorithm.MD5_SESS, ("auth",)),
        "0a4f113b",
        OFFER,
        "e4e4ea61d186d07a92c9e1f6919902e9",
    ),
    "draft-smith 3.5, auth-int": (
        ("bob", "biloxi.com", "zanzibar", "INVITE", "sip:bob@biloxi.com", NONCE),
        Challenge("", "", Algorithm.MD5, ("auth-int",)),
        "0a4f113b",
        OFFER,
        "bdbeebb2da6adb6bca02599c2239e192",
    ),
    "draft-smith 3.6, auth-int and MD5-sess": (
        ("bob", "biloxi.com", "zanzibar", "INVITE", "sip:bob@biloxi.com", NONCE),
        Challenge("", "", Algorithm.MD5_SESS, ("auth-int",)),
        "0a4f113b",
        OFFER,
        "91984da2d8663716e91554859c22ca70",
    ),
}


def refused(*lines: Line) -> Response:
    return Response(401, "Unauthorized", Headers(lines))


def challenges(*values: str) -> tuple[Challenge, ...]:
    return challenges_of(refused(*[("WWW-Authenticate", value) for value in values]))


def credentials(value: str, realm: str = "r") -> Credentials | None:
    return credentials_of(Request("REGISTER", "sip:example.com", Headers([("Authorization", value)])), realm)


def answer(challenge: Challenge, **changes: object) -> str:
    given: dict[str, object] = {
        "method": "REGISTER",
        "uri": "sip:example.com",
        "username": "alice",
        "password": "secret",
        "cnonce": "c",
    }
    line = authorize([challenge], **given | changes)  # type: ignore[arg-type]
    assert not isinstance(line, Unanswerable)
    return line[1]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_rfcs(name: str) -> None:
    (username, realm, password, method, uri, nonce), like, cnonce, body, response = EXAMPLES[name]
    line = authorize(
        [like._replace(realm=realm, nonce=nonce)],
        method=method,
        uri=uri,
        username=username,
        password=password,
        body=body,
        cnonce=cnonce,
    )
    assert not isinstance(line, Unanswerable)
    assert line[0] == "Authorization"
    assert f'response="{response}"' in line[1]
    # And the other way round: whoever has the HA1 comes to the same.
    given = credentials(line[1], realm)
    assert given is not None
    assert given.response == response
    ha1 = make_ha1(username, realm, password).of(given.algorithm)
    assert ha1 is not None
    assert response_of(given, ha1, method=method, body=body) == response


def test_an_ha1_is_as_good_as_its_password() -> None:
    challenge = Challenge("r", "n", Algorithm.SHA_256_SESS, ("auth",))
    assert answer(challenge) == answer(challenge, password=make_ha1("alice", "r", "secret"))


def test_the_strongest_algorithm_is_chosen_wherever_it_stands() -> None:
    found = challenges(
        'Digest realm="r", nonce="1", algorithm=MD5',
        'Digest realm="r", nonce="2", algorithm=SHA-3, qop="auth"',
        'Digest realm="r", nonce="3", algorithm=sha-256, qop="auth"',
        'Digest realm="r", nonce="4", algorithm="MD5-sess", qop="auth"',
    )
    assert [each.algorithm for each in found] == [Algorithm.MD5, Algorithm.SHA_256, Algorithm.MD5_SESS]
    chosen = choose(found)
    assert chosen is not None
    assert chosen.nonce == "3"


def test_a_realm_can_be_asked_for() -> None:
    found = challenges('Digest realm="a", nonce="1", algorithm=SHA-256', 'Digest realm="b", nonce="2"')
    chosen = choose(found, realm="b")
    assert chosen is not None
    assert chosen.nonce == "2"
    unknown = authorize(found, method="INVITE", uri="sip:b", username="u", password="p", cnonce="c", realm="c")
    assert unknown == Unanswerable("no challenge of c")


def test_nothing_answers_what_is_not_known() -> None:
    found = challenges('Basic realm="r"', 'Digest realm="r", nonce="1", algorithm=AKAv1-MD5', 'Digest realm="r"')
    assert found == ()
    said = authorize(found, method="INVITE", uri="sip:b", username="u", password="p", cnonce="c")
    assert said == Unanswerable("no challenge that we know how to answer")
    of_md5 = Ha1(md5="0" * 32)
    said = authorize(
        [Challenge("r", "n", Algorithm.SHA_256)], method="INVITE", uri="sip:b", username="u", password=of_md5, cnonce=""
    )
    assert said == Unanswerable("the password is not known in a form for SHA-256")


def test_a_qop_that_is_not_known_cannot_be_answered() -> None:
    assert challenges('Digest realm="r", nonce="1", qop="other"') == ()
    assert challenges('Digest realm="r", nonce="1", qop="other, AUTH"')[0].qop == ("auth",)


def test_several_challenges_in_one_line() -> None:
    found = challenges('Digest realm="a", nonce="1", Basic realm="x", Digest nonce="2" , realm="b", qop=auth')
    assert [(each.realm, each.nonce, each.qop) for each in found] == [("a", "1", ()), ("b", "2", ("auth",))]


def test_quotes_commas_and_escapes_in_values() -> None:
    found = challenges(r'Digest realm="say \"a, b\"", nonce="n=,", opaque="", stale=TRUE')
    assert found == (Challenge(r"say \"a, b\"", "n=,", Algorithm.MD5, (), "", stale=True),)
    line = answer(found[0], username='al"ice')
    assert r'realm="say \"a, b\""' in line
    assert 'opaque=""' in line
    given = credentials(line, 'say "a, b"')
    assert given is not None
    assert given.username == 'al"ice'
    assert given.name == r"al\"ice"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Digest",
        "Digest ",
        'realm="r", nonce="n"',
        'Digest realm="r", nonce="n',
        'Digest realm="r" nonce="n"',
        'Digest realm="r", nonce="n", realm="s"',
        'Digest realm="r", nonce="n", =',
        'Digest realm="r", nonce="n", algorithm=',
        "Digest " + ", ".join(f'p{number}="x"' for number in range(200)) + ', realm="r", nonce="n"',
    ],
)
def test_what_cannot_be_read_is_no_challenge(value: str) -> None:
    assert challenges(value) == ()


def test_not_more_challenges_than_are_worth_reading() -> None:
    assert len(challenges(*['Digest realm="r", nonce="n"'] * (MAX_CHALLENGES + 3))) == MAX_CHALLENGES


def test_a_proxy_is_answered_as_a_proxy() -> None:
    response = Response(407, "", Headers([("Proxy-Authenticate", 'Digest realm="p", nonce="n", qop="auth-int,auth"')]))
    found = challenges_of(response)
    line = authorize(found, method="INVITE", uri="sip:b", username="u", password="p", cnonce="c", nonce_count=18)
    assert not isinstance(line, Unanswerable)
    assert line[0] == "Proxy-Authorization"
    assert "qop=auth, nc=00000012" in line[1]
    request = Request("INVITE", "sip:b", Headers([line]))
    assert credentials_of(request, "p") is None
    given = credentials_of(request, "p", proxy=True)
    assert given is not None
    assert given.nonce_count == 18


def test_a_peer_of_rfc_2069_gets_no_cnonce() -> None:
    assert answer(Challenge("r", "n")).endswith("algorithm=MD5")
    assert 'cnonce="c"' in answer(Challenge("r", "n", Algorithm.MD5_SESS))  # it is hashed, so it has to be said


def test_nonce_counts_begin_with_one() -> None:
    with pytest.raises(LocalProtocolError):
        answer(Challenge("r", "n", qop=("auth",)), nonce_count=0)


GOOD = f'Digest username="u", realm="r", nonce="n", uri="sip:e", response="{"0" * 32}"'


@pytest.mark.parametrize(
    "change",
    [
        GOOD.replace('username="u", ', ""),
        GOOD.replace('realm="r"', 'realm="s"'),
        GOOD.replace("0" * 32, "0" * 31),
        GOOD.replace("0" * 32, "g" * 32),
        GOOD.replace("Digest", "Basic"),
        GOOD + ", algorithm=SHA-256",  # its responses are longer
        GOOD + ", algorithm=other",
        GOOD + ', qop=auth, nc=1, cnonce="c"',
        GOOD + ', qop=auth, nc=0000000g, cnonce="c"',
        GOOD + ", qop=auth, nc=00000001",
        GOOD + ', qop=other, nc=00000001, cnonce="c"',
    ],
)
def test_credentials_that_are_none(change: str) -> None:
    assert credentials(change) is None


def test_credentials_in_any_order_and_spelling() -> None:
    given = credentials(
        f'DIGEST  NC = 0000000A ,Response="{"AB" * 16}",uri="sip:e", QOP="Auth" , cnonce="c",nonce="n",username=u,realm="r",'
    )
    assert given == Credentials("u", "r", "n", "sip:e", "ab" * 16, Algorithm.MD5, "Auth", "c", "0000000A")
    assert given.nonce_count == 10


def test_the_credentials_of_our_realm_are_found_among_others() -> None:
    lines = [("Authorization", GOOD.replace('realm="r"', 'realm="s"')), ("Authorization", GOOD)]
    request = Request("REGISTER", "sip:example.com", Headers(lines))
    assert credentials_of(request, "r") is not None


def test_our_challenges_are_read_by_ourselves() -> None:
    lines = challenge_lines('say "r"', "n", (Algorithm.SHA_256, Algorithm.MD5), stale=True)
    assert challenges_of(refused(*lines)) == (
        Challenge(r"say \"r\"", "n", Algorithm.SHA_256, ("auth",), None, stale=True),
        Challenge(r"say \"r\"", "n", Algorithm.MD5, ("auth",), None, stale=True),
    )


def test_an_ha1_does_not_show_itself() -> None:
    assert "5f4d" not in repr(Ha1(md5="5f4d"))


def test_sha_512_256_is_that_of_fips_180_4() -> None:
    """Not the first half of a SHA-512, which begins otherwise."""
    assert Algorithm.SHA_512_256.hash(b"abc") == "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"


def test_the_strongest_of_three_is_answered() -> None:
    offered = [
        Challenge("r", "n", each, ("auth",)) for each in (Algorithm.MD5, Algorithm.SHA_512_256, Algorithm.SHA_256)
    ]
    line = authorize(offered, method="REGISTER", uri="sip:r", username="u", password="p", cnonce="c")
    assert not isinstance(line, Unanswerable)
    assert "algorithm=SHA-512-256" in line[1]
    by_hash = authorize(
        offered, method="REGISTER", uri="sip:r", username="u", password=make_ha1("u", "r", "p"), cnonce="c"
    )
    assert by_hash == line
