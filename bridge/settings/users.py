"""The `users` of the configuration, and what `sip.registrar` allows them (contract §5)."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from bridge.contract.registrations import USERNAME
from bridge.settings.values import LONGEST_S, Seconds, Secret, Section, split_text
from bridge.sip.digest import Algorithm, Ha1, make_ha1
from bridge.sip.registrar import address_of_record

Digest: TypeAlias = Literal["SHA-512-256", "SHA-256", "MD5"]
_HEX = frozenset("0123456789abcdef")


class UserHa1(Section):
    """What stands for a password within one realm: H(username:realm:password), in hexadecimal."""

    md5: Secret | None = Field(default=None, description="with MD5, 32 digits")
    sha_256: Secret | None = Field(default=None, description="with SHA-256, 64 digits")
    sha_512_256: Secret | None = Field(default=None, description="with SHA-512-256, 64 digits")

    @model_validator(mode="after")
    def _hexadecimal(self) -> Self:
        for name, secret, length in (
            ("md5", self.md5, 32),
            ("sha_256", self.sha_256, 64),
            ("sha_512_256", self.sha_512_256, 64),
        ):
            text = secret.get_secret_value().lower() if secret is not None else "0" * length
            if len(text) != length or not _HEX.issuperset(text):
                raise ValueError(f"{name}: expected {length} hexadecimal digits")
        return self


class User(Section):
    """Who may register and call."""

    username: str = Field(pattern=USERNAME, description="as the phone gives it: letters, digits and _.+~-")
    password: Secret | None = Field(default=None, description="the password, or {file: path}; or else ha1")
    ha1: UserHa1 = UserHa1()
    aor: str | None = Field(
        default=None, description="its one address, sip:user@host; default: the username at any of sip.domains"
    )

    @model_validator(mode="after")
    def _provable(self) -> Self:
        if (self.password is None) == (self.ha1 == UserHa1()):
            raise ValueError("give either password or ha1")
        if self.aor is not None and address_of_record(self.aor) is None:
            raise ValueError("aor: expected sip:user@host, such as sip:alice@example.com")
        return self

    def proof(self, realm: str) -> Ha1:
        """What its password is held against."""
        if self.password is not None:
            return make_ha1(self.username, realm, self.password.get_secret_value())
        given = (self.ha1.md5, self.ha1.sha_256, self.ha1.sha_512_256)
        return Ha1(*[None if each is None else each.get_secret_value().lower() for each in given])


class Registrar(Section):
    """How long phones are bound, and what has to be proved."""

    default_expires_s: Annotated[int, Field(ge=1, le=LONGEST_S)] = Field(
        default=3600, description="how long a phone is bound that does not say"
    )
    min_expires_s: Annotated[int, Field(ge=1, le=3600)] = Field(default=60, description="shorter gets 423")
    max_expires_s: Annotated[int, Field(ge=1, le=LONGEST_S)] = Field(default=7200, description="longer is shortened")
    contacts_max: Annotated[int, Field(ge=1, le=100)] = Field(default=10, description="phones at one address")
    digest: Annotated[tuple[Digest, ...], BeforeValidator(split_text), Field(min_length=1, max_length=3)] = Field(
        # What Asterisk, Kamailio and FreeSWITCH offer, and for the same reason: RFC 8760 bids a phone pass over a challenge
        # that it does not know, and many give up instead (baresip 1.0 of Debian 12 does, in whichever order they come).
        default=("MD5",),
        description="what challenges offer, the preferred one first: SHA-512-256,SHA-256,MD5 where every phone knows to choose",
    )
    nonce_lifetime_s: Seconds = Field(default=300.0, description="how long a challenge may be answered")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min_expires_s <= self.default_expires_s <= self.max_expires_s:
            raise ValueError("expected min_expires_s <= default_expires_s <= max_expires_s")
        if len(set(self.digest)) < len(self.digest):
            raise ValueError("digest: the same algorithm is given twice")
        return self

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """As the engine says it."""
        return tuple(Algorithm(each) for each in self.digest)
