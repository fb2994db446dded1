"""Why an identity provider signs somebody not in, in words for a page; each says what mends it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.errors import ConnectorProxyError

_AGAIN = "Begin again on the sign-in page."


@dataclass(frozen=True, slots=True)
class Reason:
    """A heading, and what a person can do. ``counts``: as a failed attempt of the address it came from."""

    title: str
    remedy: str
    status: int = 403
    counts: bool = True


_BAD, _BUSY, _OTHERS = 400, 503, 502
REASONS: Mapping[str, Reason] = {
    "attempt_unknown": Reason(
        "This answer belongs to no attempt of this browser",
        "It was used already, took over ten minutes, was begun in another browser, or cookies are off here. "
        f"Nobody was signed in. {_AGAIN}",
        _BAD,
        counts=False,
    ),
    "too_many": Reason(
        "Too many attempts", "From your address too many attempts failed: try again in a minute.", 429, False
    ),
    "denied": Reason("The provider did not let you through", f"It says that this was declined. {_AGAIN}"),
    "provider_refused": Reason(
        "The provider refused",
        "An admin compares the app's settings at the provider with control.oidc: redirect address, scopes, "
        "who may use it.",
    ),
    "wrong_issuer": Reason(
        "The answer came from another provider",
        f"Its issuer (iss) is not the one that was asked (RFC 9207), so it was thrown away. {_AGAIN}",
        _BAD,
    ),
    "malformed_answer": Reason(
        "The provider's answer makes no sense",
        f"It has a code and an error, neither, or one of them twice. {_AGAIN}",
        _BAD,
    ),
    "code_refused": Reason(
        "The provider did not take its own code",
        f"It may have been used or have run out, or the redirect address differs. {_AGAIN}",
    ),
    "client_refused": Reason(
        "The provider does not accept this app",
        "An admin compares control.oidc.client_id and client_secret with the provider's console.",
        _OTHERS,
        counts=False,
    ),
    "provider_unreachable": Reason(
        "The provider cannot be reached",
        "Try again in a moment. If it stays so, an admin looks at control.oidc.issuer and, for one in a "
        "private network, at egress.allow_addresses, egress.ca_file and egress.proxy.",
        _BUSY,
        counts=False,
    ),
    "provider_unreadable": Reason(
        "The provider says something that cannot be used",
        "An admin compares control.oidc.issuer with the issuer in the provider's documentation, letter by "
        "letter.",
        _OTHERS,
        counts=False,
    ),
    "token_invalid": Reason(
        "The provider's proof of who you are does not hold",
        f"Its ID token was thrown away; the log says why. {_AGAIN} If that does not help, an admin compares "
        "control.oidc with the provider's console.",
    ),
    "clock": Reason(
        "Two clocks do not agree",
        "By this machine's clock the provider's ID token has run out or is of the future. An admin sets the "
        "clock right (NTP, chrony, timedatectl).",
        _BUSY,
    ),
    "no_email": Reason(
        "The provider tells no usable mail address",
        "Users are known by it here. An admin adds the scope or claim at the provider, or names another "
        "claim in control.oidc.email_claim.",
    ),
    "unverified_email": Reason(
        "Your mail address is not verified",
        "Verify it at the provider, then sign in again. Where the provider never says that it is, an admin "
        "reads what the documentation (docs/sign-in.md) says of Microsoft Entra and Keycloak.",
    ),
    "domain_not_allowed": Reason(
        "Addresses of this domain do not sign in here",
        "Sign in with another account at the provider, or ask an admin about control.oidc.allowed_domains.",
    ),
    "unknown_user": Reason(
        "There is no user with your mail address",
        "Sign in with another account at the provider, or ask an admin to add you: the page Users, or "
        "connector-proxy users add NAME --email ADDRESS --no-password.",
    ),
    "other_account": Reason(
        "Your mail address belonged to somebody else",
        "The user with this address signed in with another account of the provider before. If that is right, "
        "an admin removes the user and adds them again.",
    ),
    "not_stored": Reason(
        "Not just now",
        f"The vault cannot be read or written for now: see the log. {_AGAIN}",
        _BUSY,
        counts=False,
    ),
}


@dataclass(eq=False)
class SignInRefused(ConnectorProxyError):  # noqa: N818  # named for what happened, as FlowRefused is
    """Nobody is signed in; ``reason`` is one of REASONS.

    ``detail``: a sentence for the person; ``why``: words for the log. Neither holds a secret.
    """

    reason: str
    detail: str = ""
    why: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.why or self.detail}".rstrip(": ")
