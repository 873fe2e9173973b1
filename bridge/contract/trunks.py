"""Trunks as integrators see them (contract §2): what makes one, by REST or in the configuration, and the resource.

The password comes in and never goes out. Knows nothing of how a call finds its way by one.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, IPvAnyNetwork
from pydantic_core import PydanticCustomError

from bridge.calls.actions import Credentials
from bridge.contract.bodies import Body
from bridge.contract.dialing import URI_MAX, Auth, Caller, sip_uri
from bridge.contract.headers import ExtraHeaders, tuples_of
from bridge.contract.models import Resource, open_enum
from bridge.engine import trunks as engine
from bridge.rtp.rules import Latching
from bridge.sip.uri import SipUri

TRUNK_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
TARGETS_MAX = 8
CALLS_MAX = 1_000_000
TRANSPORTS = ("udp", "tcp", "tls")

_DOMAIN = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


def server_uri(text: str) -> str:
    """The URI of a trunk's server as it is; the finding says what is wrong with another."""
    uri = sip_uri(text)
    if uri.user is not None:
        raise PydanticCustomError(
            "target_user", "should have no user in it, like sip:gw.example.com:5060;transport=tcp"
        )
    if uri.transport not in (None, *TRANSPORTS):
        raise PydanticCustomError("target_transport", "should have transport=udp, tcp or tls, or none")
    return text


def _domain(text: str) -> str:
    if not _DOMAIN.fullmatch(text):
        raise PydanticCustomError("domain", "should be a host, perhaps with a port, like example.com")
    return text


class TrunkTarget(Body):
    """One server of a trunk."""

    uri: Annotated[
        str,
        Field(
            max_length=URI_MAX,
            description="Where it is: a name is looked up by NAPTR, SRV and addresses.",
            examples=["sip:gw1.example.com", "sip:192.0.2.5:5080;transport=tcp"],
        ),
        AfterValidator(server_uri),
    ]
    priority: Annotated[int, Field(ge=0, le=65535, description="Lower ones are asked first.")] = 0
    weight: Annotated[int, Field(ge=0, le=65535, description="The share among those of the same priority.")] = 1

    def to_server(self) -> engine.Server:
        """As the engine says it."""
        return engine.Server(sip_uri(self.uri), self.priority, self.weight)


class TrunkFields(BaseModel):
    """What makes a trunk, wherever that stands."""

    targets: Annotated[
        list[TrunkTarget],
        Field(min_length=1, max_length=TARGETS_MAX, description="its servers: [{uri, priority, weight}]"),
    ]
    domain: Annotated[
        Annotated[str, Field(max_length=255), AfterValidator(_domain)] | None,
        Field(
            description="what stands behind the @ of a number that is called; default: the first target's host and port"
        ),
    ] = None
    from_: Annotated[
        Caller | None, Field(alias="from", description="the From of every call; default: whoever calls, as `dial` says")
    ] = None
    headers: Annotated[
        ExtraHeaders | None, Field(description="extra headers of every INVITE; those of the target go before them")
    ] = None
    max_calls: Annotated[int, Field(ge=0, le=CALLS_MAX, description="calls at once, over all nodes; 0: any number")] = 0
    calls_per_second: Annotated[
        int, Field(ge=0, le=CALLS_MAX, description="calls begun each second, over all nodes; 0: any number")
    ] = 0
    next_on: Annotated[
        list[Literal[408, 480]],
        Field(max_length=2, description="408, 480: ask the next target after these too, as after 5xx and silence"),
    ] = []

    sources: Annotated[
        list[IPvAnyNetwork],
        Field(
            max_length=100,
            description="where its calls come from, an address or a network each; those of its targets that are addresses need not stand here",
        ),
    ] = []
    latching: Annotated[
        Latching | None,
        Field(description="`media.latching` for its calls, both ways: strict, learn or off; default: as everywhere"),
    ] = None

    def to_trunk(self, name: str, auth: Credentials | None) -> engine.Trunk:
        """As the engine says it."""
        servers = tuple([each.to_server() for each in self.targets])
        return engine.Trunk(
            name,
            servers,
            self.domain or _host_of(servers[0].uri),
            auth,
            _name_addr(self.from_),
            tuples_of(self.headers),
            self.max_calls,
            self.calls_per_second,
            tuple(sorted(set(self.next_on))),
            tuple(self.sources),
            self.latching,
        )


class TrunkBody(TrunkFields, Body):
    """A trunk to be made or changed, as a whole."""

    auth: Annotated[Auth | None, Field(description="what we prove ourselves with where the trunk asks for it")] = None

    @property
    def credentials(self) -> Credentials | None:
        """As the engine says them."""
        given = self.auth
        return None if given is None else Credentials(given.username, given.password.get_secret_value())


class TrunkServer(Resource):
    """One server of a trunk."""

    uri: str
    priority: int
    weight: int


class Trunk(Resource):
    """A far SIP system that calls go by."""

    name: Annotated[str, Field(pattern=TRUNK_NAME)]
    targets: list[TrunkServer]
    domain: Annotated[str, Field(description="What stands behind the @ of a number that is called.")]
    from_: Annotated[str | None, Field(alias="from", description="The From of every call. Null: whoever calls.")]
    username: Annotated[str | None, Field(description="What we prove ourselves with. Its password is never shown.")]
    headers: Annotated[dict[str, list[str]], Field(description="Extra headers of every INVITE.")]
    max_calls: Annotated[int, Field(ge=0, description="Calls at once, over all nodes. 0: any number.")]
    calls_per_second: Annotated[int, Field(ge=0, description="Calls begun each second. 0: any number.")]
    next_on: Annotated[list[int], Field(description="After these too the next target is asked.")]
    sources: Annotated[list[str], Field(description="Where its calls come from, besides its targets.")]
    latching: Annotated[
        Annotated[Latching, open_enum("strict", "learn", "off", description="See `media.latching`.")] | None,
        Field(description="Which sources its streams may come from. Null: as `media.latching` says."),
    ]
    source: Annotated[
        Literal["file", "api"],
        open_enum("file", "api", description="Where it stands. From a file it is read-only here."),
    ]


class TrunkList(Resource):
    """A page of trunks, in the order of their names."""

    data: list[Trunk]
    next_cursor: str | None


def trunk_resource(trunk: engine.Trunk, source: Literal["file", "api"]) -> dict[str, object]:
    """The trunk as people see it, without its password."""
    return {
        "name": trunk.name,
        "targets": [{"uri": str(each.uri), "priority": each.priority, "weight": each.weight} for each in trunk.servers],
        "domain": trunk.domain,
        "from": trunk.from_ or None,
        "username": None if trunk.auth is None else trunk.auth.username,
        "headers": {name: list(values) for name, values in trunk.headers.items()},
        "max_calls": trunk.max_calls,
        "calls_per_second": trunk.calls_per_second,
        "next_on": list(trunk.next_on),
        "sources": [str(each) for each in trunk.sources],
        "latching": trunk.latching,
        "source": source,
    }


def _host_of(uri: SipUri) -> str:
    return uri.host if uri.port is None else f"{uri.host}:{uri.port}"


def _name_addr(caller: str | None) -> str:
    if caller is None:
        return ""
    return caller if "<" in caller else f"<{caller}>"
