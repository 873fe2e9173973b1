"""RFC 4475: each of its messages, and what it must get.

Our element is a user agent server and a registrar that knows nobody: a REGISTER is challenged before anything is made of its
Contacts, and what the RFC says of proxies and of those is held against what the parser reads.
"""

from __future__ import annotations

from bridge.sip.headers import Malformed
from tests.torture.expectations import Answer, Case, Dropped, Refused, Table, taken

SECTIONS = (
    *(f"3.1.1.{number}" for number in range(1, 14)),
    *(f"3.1.2.{number}" for number in range(1, 20)),
    "3.2.1",
    *(f"3.3.{number}" for number in range(1, 16)),
    "3.4.1",
)

ALLOW = (("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, NOTIFY, REFER, REGISTER"),)
NOT_ALLOWED = Answer(405, ALLOW)
CHALLENGED = Answer(401)
UNKNOWN_METHODS = (
    "wants 501 for an unknown method; ours is 405 with Allow for every method we do not serve (contract.md §6)"
)
UNUSUAL_METHOD = "!interesting-Method0123456789_*+`.%indeed'~"
UNUSUAL_USER = "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
UNUSUAL_PASSWORD = "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
LONG_NAME = "amazinglylongcallername" * 5
LONG_URI = (
    f"sip:user@example.com:6000;unknownparam1=very{'long' * 20}value;longparam{'name' * 25}=shortvalue"
    f";very{'long' * 25}ParameterNameWithNoValue"
)

MESSAGES: Table = {
    # 3.1.1 Valid messages
    "wsinv": Case(
        "3.1.1.1",
        "folding, escapes, white space, compact forms and unknown fields everywhere; in a dialog that we do not know",
        taken(
            {
                "Subject": [""],
                "NewFangledHeader": ["newfangled value continued newfangled value"],
                "UnknownHeaderWithUnusualValue": [";;,,;;,;"],
            },
            start="INVITE sip:vivekg@chair-dnrc.example.com;unknownparam",
            uri_params=(("unknownparam", None),),
            to=(None, "sip:vivekg@chair-dnrc.example.com", (("tag", "1918181833n"),)),
            from_=('J Rosenberg \\"', "sip:jdrosen@example.com", (("tag", "98asjd8"),)),
            hops=68,
            call_id="wsinv.ndaksdj@192.0.2.1",
            cseq="9 INVITE",
            vias=[
                "SIP/2.0/UDP 192.0.2.2;branch=390skdjuw",
                "SIP/2.0/TCP spindle.example.com;branch=z9hG4bK9ikj8",
                "SIP/2.0/UDP 192.168.255.111;branch=z9hG4bK30239",
            ],
            routes=((None, "sip:services.example.com;lr;unknownwith=value;unknown-no-value", ()),),
            contacts=(
                (
                    'Quoted string ""',
                    "sip:jdrosen@example.com",
                    (("newparam", "newvalue"), ("secondparam", None), ("q", "0.33")),
                ),
            ),
            content_type="application/sdp",
            body_size=150,
        ),
        Answer(481),
    ),
    "intmeth": Case(
        "3.1.1.2",
        "every character that may stand in a token, a word, a user, a password and a quoted string, NUL included",
        taken(
            {"extensionHeader-!.%*+_`'~": ["\ufeff大停電"]},
            start=f"{UNUSUAL_METHOD} sip:{UNUSUAL_USER}:{UNUSUAL_PASSWORD}@example.com",
            user=UNUSUAL_USER,
            password=UNUSUAL_PASSWORD,
            host="example.com",
            vias=["SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~"],
            to=("BEL:\x07 NUL:\x00 DEL:\x7f", f"sip:{UNUSUAL_USER}@example.com", ()),
            from_=(
                "token1~` token2'+_ token3*%!.-",
                "sip:mundane@example.com",
                (("fromparam''~+*_!.-%", '"работающий"'), ("tag", "_token~1'+`*%!-.")),
            ),
            call_id="intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{",
            cseq=f"139122385 {UNUSUAL_METHOD}",
            hops=255,
        ),
        Answer(501, ALLOW),
        unmet=f"RFC 4475 §3.1.1.2 {UNKNOWN_METHODS}",
        instead=NOT_ALLOWED,
    ),
    "esc01": Case(
        "3.1.1.3",
        "escapes in users, parameters' names and values; resolved once, and only where they are some",
        taken(
            start="INVITE sip:sips%3Auser%40example.com@example.net",
            user="sips%3Auser%40example.com",
            host="example.net",
            to=(None, "sip:%75se%72@example.com", ()),
            from_=(None, "sip:I%20have%20spaces@example.net", (("tag", "938"),)),
            contacts=((None, "sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31", ()),),
            vias=["SIP/2.0/UDP host5.example.net;branch=z9hG4bKkdjuw"],
            body_size=150,
        ),
        Answer(200),
    ),
    "escnull": Case(
        "3.1.1.4",
        "an escaped NUL ends no user, and two Contacts are two",
        taken(
            start="REGISTER sip:example.com",
            to=(None, "sip:null-%00-null@example.com", ()),
            from_=(None, "sip:null-%00-null@example.com", (("tag", "839923423"),)),
            contacts=((None, "sip:%00@host5.example.com", ()), (None, "sip:%00%00@host5.example.com", ())),
        ),
        Answer(400),
    ),
    "esc02": Case(
        "3.1.1.5",
        "% escapes nothing in methods, display names and names of header fields",
        taken(
            {"C%6Fntact": ["<sip:alias2@host2.example.com>"]},
            start="RE%47IST%45R sip:registrar.example.com",
            cseq="29344 RE%47IST%45R",
            to=("%Z%45", "sip:resource@example.com", ()),
            from_=("%Z%45", "sip:resource@example.com", (("tag", "f232jadfj23"),)),
            vias=["SIP/2.0/TCP host.example.com;branch=z9hG4bK209%fzsnel234"],
            contacts=((None, "sip:alias1@host1.example.com", ()), (None, "sip:alias3@host3.example.com", ())),
        ),
        Answer(501, ALLOW),
        unmet=f"RFC 4475 §3.1.1.5 {UNKNOWN_METHODS}",
        instead=NOT_ALLOWED,
    ),
    "lwsdisp": Case(
        "3.1.1.6",
        "a display name may touch its bracket",
        taken(
            start="OPTIONS sip:user@example.com", from_=("caller", "sip:caller@example.com", (("tag", "323"),)), hops=70
        ),
        Answer(200, ALLOW),
    ),
    "longreq": Case(
        "3.1.1.7",
        "long values, and 34 Vias under every spelling of the name",
        taken(
            {
                f"Unknown-{'Long' * 20}-Name": [
                    f"unknown-{'long' * 20}-value; unknown-{'long' * 20}-parameter-name = "
                    f"unknown-{'long' * 20}-parameter-value"
                ]
            },
            start="INVITE sip:user@example.com",
            to=(f"I have a user name of {'extreme' * 10} proportion", LONG_URI, ()),
            from_=(
                None,
                f"sip:{LONG_NAME}@example.net",
                (
                    ("tag", f"12{'982' * 50}424"),
                    (f"unknownheaderparam{'name' * 20}", f"unknowheaderparam{'value' * 15}"),
                    (f"unknownvalueless{'paramname' * 10}", None),
                ),
            ),
            call_id=f"longreq.one{'really' * 20}longcallid",
            vias=[
                *(f"SIP/2.0/TCP sip{number}.example.com" for number in range(33, 0, -1)),
                f"SIP/2.0/TCP host.example.com;received=192.0.2.5;branch=very{'long' * 50}branchvalue",
            ],
            contacts=((None, f"sip:{LONG_NAME}@host5.example.net", ()),),
            body_size=150,
        ),
        Answer(200),
    ),
    "dblreq": Case(
        "3.1.1.8",
        "what follows the body in a datagram is noise, though it looks like an INVITE",
        taken(start="REGISTER sip:example.com", cseq="8 REGISTER", body_size=0),
        CHALLENGED,
    ),
    "semiuri": Case(
        "3.1.1.9",
        "a semicolon and an escaped @ in the user part are the user's",
        taken(
            {
                "Accept": [
                    "application/sdp, application/pkcs7-mime,        multipart/mixed, multipart/signed,"
                    "        message/sip, message/sipfrag"
                ]
            },
            start="OPTIONS sip:user;par=u%40example.net@example.com",
            user="user;par=u%40example.net",
            host="example.com",
            uri_params=(),
        ),
        Answer(200, ALLOW),
    ),
    "transports": Case(
        "3.1.1.10",
        "only the top Via's transport is anything to us",
        taken(
            start="OPTIONS sip:user@example.com",
            vias=[
                "SIP/2.0/UDP t1.example.com;branch=z9hG4bKkdjuw",
                "SIP/2.0/SCTP t2.example.com;branch=z9hG4bKklasjdhf",
                "SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980unddj",
                "SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f3en",
                "SIP/2.0/TCP t5.example.com;branch=z9hG4bK0a9idfnee",
            ],
        ),
        Answer(200, ALLOW),
    ),
    "mpart01": Case(
        "3.1.1.11",
        "a body with NULs and bare line feeds in it is framed by its length",
        taken(
            start="MESSAGE sip:kumiko@example.org",
            content_type="multipart/mixed",
            vias=["SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK-d87543-4dade06d0bdb11ee-1--d87543-;rport"],
            routes=((None, "sip:127.0.0.1:5080", ()),),
            body_size=553,
        ),
        NOT_ALLOWED,
    ),
    "unreason": Case(
        "3.1.1.12",
        "a reason phrase of reserved characters and UTF-8",
        taken(
            start="200 = 2**3 * 5**2 но сто девяносто девять - простое",
            cseq="35 INVITE",
            to=(None, "sip:user@example.edu", (("tag", "2229"),)),
            body_size=154,
        ),
        None,
    ),
    "noreason": Case("3.1.1.13", "no reason phrase", taken(start="100 ", cseq="35 INVITE", body_size=0), None),
    # 3.1.2 Invalid messages
    "badinv01": Case("3.1.2.1", "separators of nothing in Via and Contact", Refused("Malformed Via"), Answer(400)),
    "clerr": Case("3.1.2.2", "a body shorter than it says", Refused("Content-Length Exceeds Body"), Answer(400)),
    "ncl": Case("3.1.2.3", "a negative Content-Length", Refused("Malformed Content-Length"), Answer(400)),
    "scalar02": Case("3.1.2.4", "a CSeq beyond 2**32", Refused("Malformed CSeq"), Answer(400)),
    "scalarlg": Case("3.1.2.5", "a response with such numbers", Dropped("Malformed CSeq"), None),
    "quotbal": Case("3.1.2.6", "a quote that does not end", Refused("Malformed To"), Answer(400)),
    "ltgtruri": Case("3.1.2.7", "brackets around the Request-URI", Refused("Malformed Request-URI"), Answer(400)),
    "lwsruri": Case("3.1.2.8", "white space in the Request-URI", Refused("Malformed Request-URI"), Answer(400)),
    "lwsstart": Case("3.1.2.9", "two spaces in the Request-Line", Refused("Malformed Request-URI"), Answer(400)),
    "trws": Case("3.1.2.10", "spaces behind the Request-Line", Refused("Malformed Request Line"), Answer(400)),
    "escruri": Case(
        "3.1.2.11",
        "headers in the Request-URI: ignored, as a liberal element may; they never become header fields",
        taken(
            start="INVITE sip:user@example.com?Route=%3Csip:example.com%3E", user="user", host="example.com", routes=()
        ),
        Answer(200),
    ),
    "baddate": Case(
        "3.1.2.12",
        "a Date in another zone than GMT: not ours to read",
        taken({"Date": ["Fri, 01 Jan 2010 16:00:00 EST"]}, start="INVITE sip:user@example.com"),
        Answer(200),
    ),
    "regbadct": Case(
        "3.1.2.13",
        "a URI with headers and no brackets: whoever needs the Contact finds it malformed",
        taken(start="REGISTER sip:example.com", contacts=Malformed("Malformed Contact")),
        CHALLENGED,
    ),
    "badaspec": Case("3.1.2.14", "spaces inside the brackets", Refused("Malformed To"), Answer(400)),
    "baddn": Case(
        "3.1.2.15",
        "commas in display names without quotes; the archive's message has no empty line either",
        Refused("No Empty Line After Header Fields"),
        Answer(400),
    ),
    "badvers": Case("3.1.2.16", "SIP/7.0", Refused("Version Not Supported", 505), Answer(505)),
    "mismatch01": Case("3.1.2.17", "a CSeq of another method", Refused("CSeq Method Mismatch"), Answer(400)),
    "mismatch02": Case(
        "3.1.2.18",
        "the same with an unknown method: 501 has its merits, 400 is as acceptable",
        Refused("CSeq Method Mismatch"),
        Answer(400),
    ),
    "bigcode": Case("3.1.2.19", "a status that is 5 modulo 2**32", Dropped("Malformed Status Line"), None),
    # 3.2 Transaction layer
    "badbranch": Case(
        "3.2.1",
        "the branch cookie and nothing behind it: taken, and matched as one of RFC 2543",
        taken(start="OPTIONS sip:user@example.com", vias=["SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK"]),
        Answer(200, ALLOW),
    ),
    # 3.3 Application layer
    "insuf": Case("3.3.1", "no From, To and Call-ID", Refused("Missing From"), Answer(400)),
    "unkscm": Case(
        "3.3.2",
        "a scheme nobody knows",
        taken(
            start="OPTIONS nobodyKnowsThisScheme:totallyopaquecontent",
            scheme="nobodyknowsthisscheme",
            to=(None, "sip:user@example.com", ()),
        ),
        Answer(416),
    ),
    "novelsc": Case(
        "3.3.3",
        "a scheme that is no telephone's",
        taken(start="OPTIONS soap.beep://192.0.2.103:3002", scheme="soap.beep"),
        Answer(416),
    ),
    "unksm2": Case(
        "3.3.4",
        "other schemes in To, From and Contact",
        taken(
            start="REGISTER sip:example.com",
            to=(None, "isbn:2983792873", ()),
            from_=(None, "http://www.example.com", (("tag", "3234233"),)),
            contacts=((None, "name:John_Smith", ()),),
        ),
        Answer(400),
    ),
    "bext01": Case(
        "3.3.5",
        "unknown extensions: a user agent server names those of Require, not those of Proxy-Require",
        taken(
            {
                "Require": ["nothingSupportsThis, nothingSupportsThisEither"],
                "Proxy-Require": ["noProxiesSupportThis, norDoAnyProxiesSupportThis"],
            },
            start="OPTIONS sip:user@example.com",
        ),
        Answer(420, (("Unsupported", "nothingsupportsthis, nothingsupportsthiseither"),)),
    ),
    "invut": Case(
        "3.3.6",
        "a body of an unknown type",
        taken(
            start="INVITE sip:user@example.com",
            content_type="application/unknownformat",
            body=b'<audio>\r\n <pcmu port="443"/>\r\n</audio>\r\n',
        ),
        Answer(415, (("Accept", "application/sdp"),)),
    ),
    "regaut01": Case(
        "3.3.7",
        "credentials of an unknown scheme are none: the registrar asks for those that it knows",
        taken({"Authorization": ["NoOneKnowsThisScheme opaque-data=here"]}, start="REGISTER sip:example.com"),
        CHALLENGED,
    ),
    "multi01": Case("3.3.8", "several of what there is one of", Refused("Several From"), Answer(400)),
    "mcl01": Case("3.3.9", "two Content-Lengths", Refused("Several Content-Length"), Answer(400)),
    "bcast": Case(
        "3.3.10",
        "a response that a proxy would broadcast: discarded by an endpoint",
        taken(
            start="200 OK",
            vias=[
                "SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923",
                "SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23",
            ],
        ),
        None,
    ),
    "zeromf": Case(
        "3.3.11",
        "no hops left, and none needed",
        taken(start="OPTIONS sip:user@example.com", hops=0),
        Answer(200, ALLOW),
    ),
    "cparam01": Case(
        "3.3.12",
        "without brackets a parameter is the Contact's",
        taken(
            start="REGISTER sip:example.com",
            contacts=((None, "sip:+19725552222@gw1.example.net", (("unknownparam", None),)),),
        ),
        CHALLENGED,
    ),
    "cparam02": Case(
        "3.3.13",
        "within brackets it is the URI's",
        taken(
            start="REGISTER sip:example.com", contacts=((None, "sip:+19725552222@gw1.example.net;unknownparam", ()),)
        ),
        CHALLENGED,
    ),
    "regescrt": Case(
        "3.3.14",
        "a header escaped into a Contact stays there",
        taken(
            start="REGISTER sip:example.com",
            contacts=((None, "sip:user@example.com?Route=%3Csip:sip.example.com%3E", ()),),
            routes=(),
        ),
        CHALLENGED,
    ),
    "sdp01": Case(
        "3.3.15",
        "an Accept without application/sdp, which our answer would have to be of",
        taken({"Accept": ["text/nobodyKnowsThis"]}, start="INVITE sip:user@example.com", body_size=150),
        Answer(406),
    ),
    # 3.4 Backward compatibility
    "inv2543": Case(
        "3.4.1",
        "no branch, no From tag, no Content-Length, no Max-Forwards, no Contact",
        taken(
            start="INVITE sip:UserB@example.com",
            from_=(None, "sip:+13035551111@ift.client.example.net;user=phone", ()),
            to=(None, "sip:+16505552222@ss1.example.net", (("user", "phone"),)),
            vias=["SIP/2.0/UDP iftgw.example.com"],
            record_routes=((None, "sip:UserB@example.com;maddr=ss1.example.com", ()),),
            hops=None,
            contacts=(),
            body_size=105,
        ),
        Answer(200),
        unmet="RFC 4475 §3.4.1: for those who want to serve RFC 2543; without a Contact we make no dialog (§12.1.1)",
        instead=Answer(400),
    ),
}
