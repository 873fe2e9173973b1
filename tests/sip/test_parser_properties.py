"""What holds for all messages: they are read as they were printed, and nothing makes the parser raise."""

from __future__ import annotations

import string

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.sip import headers as fields
from bridge.sip.grammar import MAX_PARAMETERS, first_of_list, parameters, print_parameters, split_list
from bridge.sip.headers import CSeq, Headers, NameAddr, Via, parse_cseq, parse_name_addr, parse_via
from bridge.sip.message import Message, Request, Response
from bridge.sip.names import METHODS
from bridge.sip.parser import KeepAlive, MalformedMessage, parse
from bridge.sip.uri import SipUri, is_uri, parse_uri
from bridge.sip.user_agent import respond
from tests.sip.wire import SDP, invite, ringing

unhurried = settings(
    deadline=None
)  # what takes too long is the worst-case gate's affair; here other work may interrupt

TOKEN = string.ascii_letters + string.digits + "-.!%*_+`'~"
WORD = string.ascii_letters + string.digits + "-._~"

tokens = st.text(TOKEN, min_size=1, max_size=12)
words = st.text(WORD, min_size=1, max_size=12)
names = tokens.map(str.lower)
hosts = st.one_of(
    st.text(string.ascii_letters + string.digits + "-._", min_size=1, max_size=12),
    st.sampled_from(["192.0.2.1", "[2001:db8::1]", "example.com"]),
)
ports = st.none() | st.integers(0, 65535)
# Anything that may stand in a line: bytes that are no UTF-8 included, line ends not.
texts = st.text(
    st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff"), max_size=20
).map(lambda text: text.strip(" \t"))
values = st.none() | tokens
quoted = texts.map(lambda text: '"' + text.replace("\\", "").replace('"', "") + '"')
param_lists = st.lists(st.tuples(names, values | quoted), max_size=5).map(tuple)
uri_params = st.lists(st.tuples(names, values), max_size=4).map(tuple)
sip_uris = st.builds(
    SipUri,
    scheme=st.sampled_from(["sip", "sips"]),
    user=st.none(),
    password=st.none(),
    host=hosts,
    port=ports,
    params=uri_params,
    headers=st.sampled_from(["", "subject=x", "a=b&c=d%20e"]),
) | st.builds(
    SipUri,
    scheme=st.sampled_from(["sip", "sips"]),
    user=st.text(WORD + "&=+$,;?/#", min_size=1, max_size=12),
    password=st.none() | words,
    host=hosts,
    port=ports,
    params=uri_params,
    headers=st.just(""),
)
name_addrs = st.builds(NameAddr, st.none() | texts, sip_uris.map(str), param_lists)
vias = st.builds(Via, tokens.map(str.upper), hosts, ports, param_lists)
cseqs = st.builds(CSeq, st.integers(0, 2**31 - 1), tokens | st.sampled_from(sorted(METHODS)))
others = st.lists(
    st.tuples(st.sampled_from(["Subject", "Route", "Server", "k", "X-Odd", "x-other"]), texts), max_size=4
)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    cseq = draw(cseqs)
    lines = [
        *[("Via", str(via)) for via in draw(st.lists(vias, min_size=1, max_size=3))],
        ("From", str(draw(name_addrs))),
        ("To", str(draw(name_addrs))),
        ("Call-ID", draw(words)),
        ("CSeq", str(cseq)),
        *draw(others),
    ]
    headers = Headers(draw(st.permutations(lines)))
    body = draw(st.binary(max_size=40))
    if draw(st.booleans()):
        return Request(cseq.method, str(draw(sip_uris)), headers, body)
    return Response(draw(st.integers(100, 699)), draw(texts), headers, body)


@unhurried
@given(messages())
def test_a_message_is_read_as_it_was_printed(message: Message) -> None:
    data = message.encode()
    parsed = parse(data)
    assert parsed == message
    assert isinstance(parsed, Request | Response)
    assert parsed.encode() == data
    assert (parsed.via, parsed.from_, parsed.to, parsed.cseq) == (message.via, message.from_, message.to, message.cseq)


@unhurried
@given(sip_uris)
def test_a_uri_is_read_as_it_was_printed(uri: SipUri) -> None:
    assert parse_uri(str(uri)) == uri
    assert is_uri(str(uri))
    assert uri.equivalent(uri)


@unhurried
@given(name_addrs, vias, cseqs)
def test_a_value_is_read_as_it_was_printed(name_addr: NameAddr, via: Via, cseq: CSeq) -> None:
    assert parse_name_addr(str(name_addr)) == name_addr
    assert parse_via(str(via)) == via
    assert parse_cseq(str(cseq)) == cseq


@unhurried
@given(st.lists(name_addrs, min_size=1, max_size=4), st.sampled_from([",", ", ", " ,\t"]))
def test_a_list_is_split_where_it_was_joined(addresses: list[NameAddr], comma: str) -> None:
    elements = [str(address) for address in addresses]
    assert split_list(comma.join(elements)) == elements
    assert first_of_list(comma.join(elements))[0] == elements[0]


@unhurried
@given(st.text(st.sampled_from('a",<>\\; ='), max_size=30))
def test_the_scanners_agree_on_any_text(text: str) -> None:
    split = split_list(text)
    first, rest = first_of_list(text)
    assert [part for part in [first.strip(" \t")] if part] + split_list(rest) == split
    found = parameters(text)
    if found is not None:
        assert len(found) <= MAX_PARAMETERS
        assert parameters(print_parameters(found)) == found


@unhurried
@given(st.text(max_size=30) | st.text(st.sampled_from("sip:@[]1.a;?%&=<> "), max_size=20).map("sip:".__add__))
def test_the_short_check_of_a_uri_agrees_with_its_parser(text: str) -> None:
    assert is_uri(text) == (parse_uri(text) is not None)


def use(data: bytes) -> None:
    """Read `data` and ask for everything: only values may come out, and a message that is taken is a good one."""
    parsed = parse(data)
    if isinstance(parsed, KeepAlive):
        return
    message = parsed.request if isinstance(parsed, MalformedMessage) else parsed
    if message is None:
        return
    assert message.via.transport
    assert message.cseq.number >= 0
    fields.contacts(message)
    fields.routes(message, "route")
    fields.option_tags(message, "require")
    fields.reason_q850(message)
    fields.content_type(message)
    fields.max_forwards(message)
    if isinstance(parsed, MalformedMessage):
        assert "\r" not in parsed.reason
        # What an answer repeats of it must not bring lines of its own.
        assert isinstance(message, Request)
        head = respond(message, parsed.status, parsed.reason).encode()
        assert head.count(b"\r") == head.count(b"\n") == head.count(b"\r\n")
        return
    assert message.call_id
    assert message.from_tag != ""
    assert message.to_tag != ""
    assert parse(message.encode()) == message


@unhurried
@given(st.binary(max_size=300))
@example(b"SIP/2.0")
@example(b"SIP/2.0 \r\n\r\n")
@example(b" \r\n\r\n")
@example(b"\r\n\r\nINVITE")
@example(b"INVITE sip:a SIP/2.0\r\n\r\n")
def test_random_bytes(data: bytes) -> None:
    use(data)


FRAGMENTS = [
    b"\r\n", b"\r\n ", b"\r", b"\n", b"\0", b" ", b"\t", b":", b";", b",", b'"', b"\\", b"<", b">", b"@", b"=", b"%", b"*",
    b"SIP/2.0", b"INVITE", b"sip:", b"Via: ", b"v:", b"l: 5\r\n", b"Content-Length: -1\r\n", b"\xff", b"\xc3", b";tag=", b"z9hG4bK",
    b"99999999999999999999999", b"\r\n\r\n",
]  # fmt: skip
SEEDS = [
    invite({"Content-Type": "application/sdp", "Content-Length": str(len(SDP))}, SDP),
    ringing({"To": '"Bob \\"B\\"" <sip:bob@example.com>;tag=b', "Record-Route": "<sip:p;lr>, <sip:q;lr>"}),
    invite({"Route": "<sip:a;lr>", "Reason": 'Q.850;cause=16;text="x, y"', "Require": "100rel", "Subject": "a\r\n b"}),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        data = (
            data[:start]
            + draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=6) | st.just(data[start:end] * 2))
            + data[end:]
        )
    return data


@settings(unhurried, max_examples=400)
@given(mutated())
def test_mutated_messages(data: bytes) -> None:
    use(data)


def test_truncated_messages() -> None:
    for seed in SEEDS:
        for end in range(len(seed)):
            use(seed[:end])
