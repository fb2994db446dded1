"""Whose mail address the provider's claims prove, and whether the settings let it in. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.control.oidc.refusals import SignInRefused

_VERIFIED, _EDOV = "email_verified", "xms_edov"
_ADDRESS = re.compile(r"[!-?A-~]{1,64}@[a-z0-9.-]{1,190}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Admission:
    """What the settings say of who may sign in.

    ``email_claim``: which claim is the address; ``verified``: whether ``email_verified`` has to go with it;
    ``domains``: those let in, empty for all; ``provision``: whether somebody unknown becomes a viewer.
    """

    email_claim: str = "email"
    verified: bool = True
    domains: tuple[str, ...] = ()
    provision: bool = False

    def has_all(self, claims: Mapping[str, Any]) -> bool:
        """Whether no other claims need to be asked for."""
        is_said = not self.verified or _VERIFIED in claims or _EDOV in claims
        return self.email_claim in claims and is_said

    def address_of(self, claims: Mapping[str, Any]) -> str:
        """The address, in small letters.

        ASCII only: other letters have spellings that look alike or become alike when made small.

        Raises:
            SignInRefused: there is none, nobody vouches for it, or its domain is not let in.
        """
        told = claims.get(self.email_claim)
        address = told.lower() if isinstance(told, str) and told.isascii() else ""
        if _ADDRESS.fullmatch(address) is None:
            text = f"The claim {self.email_claim} is missing or holds no address."
            raise SignInRefused("no_email", text, why=f"claim {self.email_claim}")
        if self.verified and not _is_vouched_for(claims):
            raise SignInRefused("unverified_email", f"The address is {address}.")
        if self.domains and address.rpartition("@")[2] not in self.domains:
            raise SignInRefused("domain_not_allowed", f"The address is {address}.")
        return address


def _is_vouched_for(claims: Mapping[str, Any]) -> bool:
    """Whether the provider says that the address is the person's; Amazon Cognito and Apple say it as a text.

    Microsoft Entra says in place of it, if asked to, that the domain's owner is known to the tenant.
    """
    if _VERIFIED in claims:
        return _is_yes(claims[_VERIFIED], "true")
    return _is_yes(claims.get(_EDOV), "true", "1", 1)


def _is_yes(said: object, *others: object) -> bool:
    return said is True or any(type(said) is type(one) and said == one for one in others)
