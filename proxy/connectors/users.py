"""Who may use the control plane. Pure."""

import re
from dataclasses import dataclass
from typing import Literal

from proxy.errors import Fault

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
"""Each may do what those before it may: see; connect accounts and make keys; say who else may."""

FIRST = "admin"
"""The user that is always there, whose password is made at the first start."""

_ACTOR = "user:"
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,62}", re.ASCII)
_EMAIL = re.compile(r"[^@\s\x00-\x20\x7f]{1,64}@[A-Za-z0-9.-]{1,190}")


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a name. ``email`` is by which an identity provider knows them; times in epoch seconds."""

    name: str
    role: Role
    email: str | None
    has_password: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Whose browser it is. The role is the one in force now, not the one at sign-in."""

    user: str
    role: Role

    @property
    def actor(self) -> str:
        """Whom the audit names."""
        return actor_of(self.user)

    def may(self, least: Role) -> bool:
        """Whether the role is that one or one above it."""
        return ROLES.index(self.role) >= ROLES.index(least)


@dataclass(frozen=True, slots=True)
class Account:
    """An account at an identity provider: ``subject`` never changes and is never given away again there.

    Some providers give each client other subjects (OpenID Connect Core §8.1), so ``client_id`` belongs to it.
    """

    issuer: str
    client_id: str
    subject: str


def actor_of(user: str) -> str:
    """Whom the audit names for what a user did."""
    return f"{_ACTOR}{user}"


def is_by_user(actor: str) -> bool:
    """Whether that is what a person did who had signed in."""
    return actor.startswith(_ACTOR)


def role_of(text: str) -> Role | None:
    """The role of that name."""
    return next((one for one in ROLES if one == text), None)


def user_faults(name: str, email: str | None) -> list[Fault]:
    """What is wrong with a new user's name and address."""
    faults = []
    if _NAME.fullmatch(name) is None:
        faults.append(Fault("name", "a user's name has 1 to 63 of a-z, 0-9, '.', '_', '@', '+' and '-'"))
    if name == FIRST:
        faults.append(Fault("name", f"{FIRST} is always there; `connector-proxy password` is for that one"))
    if email is not None and _EMAIL.fullmatch(email) is None:
        faults.append(Fault("email", "is no mail address"))
    return faults
