"""What an attempt to connect an account can come to, in words for pages, terminal and log alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.errors import ConnectorProxyError

AGAIN = "Begin again: connector-proxy connect {service}, or the connect page."


@dataclass(frozen=True, slots=True)
class Reason:
    """Why nothing was connected: a heading, and what a person can do."""

    title: str
    remedy: str


REASONS: Mapping[str, Reason] = {
    "link_unknown": Reason("This link is not valid", f"It is mistyped or too old. {AGAIN}"),
    "link_used": Reason(
        "This link was opened before",
        "A link works once, in one browser. If you did not open it yourself, somebody else has it: "
        f"nothing is connected unless they sign in at the provider. {AGAIN}",
    ),
    "expired": Reason("Too much time has passed", f"An attempt may take ten minutes. {AGAIN}"),
    "other_browser": Reason(
        "This is another browser",
        "An account is connected in the browser in which that was begun, with its cookies on. Nothing was "
        f"stored. {AGAIN}",
    ),
    "state_unknown": Reason(
        "This answer belongs to no attempt",
        f"It was used already, is too old, or was not asked for by this proxy. Nothing was stored. {AGAIN}",
    ),
    "wrong_path": Reason(
        "The answer came to another app's address",
        f"It was asked for by another registration, so it was thrown away. {AGAIN}",
    ),
    "wrong_issuer": Reason(
        "The answer came from another provider",
        "Its issuer (iss) is not the one that was asked (RFC 9207), so it was thrown away. Nothing "
        "was stored.",
    ),
    "malformed_answer": Reason(
        "The provider's answer makes no sense",
        f"It has a code and an error, neither, or one of them twice. Nothing was stored. {AGAIN}",
    ),
    "denied": Reason(
        "Access was not granted",
        f"The provider says that it was declined. Nothing was stored. {AGAIN}",
    ),
    "provider_refused": Reason(
        "The provider refused",
        "Nothing was stored. Look at the app's settings at the provider: redirect address, scopes, "
        "who may use it.",
    ),
    "code_refused": Reason(
        "The provider did not take its own code",
        f"It may have been used or have run out, or the redirect address differs. Nothing was "
        f"stored. {AGAIN}",
    ),
    "registration_refused": Reason(
        "The provider does not accept the app",
        "Client id or secret are wrong, or the app may not do this: compare them with the provider's console "
        "and store them again with 'connector-proxy registrations set'. Nothing was stored.",
    ),
    "provider_busy": Reason(
        "The provider is busy", f"It asks to be tried later. Nothing was stored. {AGAIN}"
    ),
    "provider_unreadable": Reason(
        "The provider's answer cannot be read",
        f"No token came out of it, so nothing was stored. {AGAIN}",
    ),
    "provider_unreachable": Reason(
        "The provider cannot be reached",
        f"This machine could not connect to it: see [egress] and the log. Nothing was stored. {AGAIN}",
    ),
    "values_missing": Reason(
        "A value is missing",
        "The account lacks something that the service's addresses need. Nothing was stored.",
    ),
    "token_refused": Reason(
        "The service does not take the new token",
        "The connection was left as it was: its old tokens are still in use.",
    ),
    "not_stored": Reason(
        "The tokens could not be stored",
        "The vault did not take them: see the log. What was stored before is untouched.",
    ),
    "given_up": Reason("The attempt was given up", f"Nothing was stored. {AGAIN}"),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to. ``detail`` goes with ``reason``, and is safe to show; empty when it went well.

    ``previous_account``: whose tokens were replaced, where that was another account (R108). ``missing``:
    scopes asked for and not granted (R107). ``notes``: sentences for the person. ``return_to``: where the
    browser came from.
    """

    service: str
    name: str
    reason: str = ""
    detail: str = ""
    account: str | None = None
    previous_account: str | None = None
    asked: tuple[str, ...] = ()
    granted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_default: bool = False
    return_to: str = ""

    @property
    def ok(self) -> bool:
        """True when the account is connected."""
        return not self.reason

    @property
    def title(self) -> str:
        """What happened, as a heading; for one that went well the account's."""
        return REASONS[self.reason].title if self.reason in REASONS else ""

    @property
    def remedy(self) -> str:
        """What a person can do, as sentences."""
        text = REASONS[self.reason].remedy if self.reason in REASONS else ""
        return text.replace("{service}", self.service)

    def as_json(self) -> dict[str, Any]:
        """For the flow's row; no secret is in it."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name in self.__slots__
            if (value := getattr(self, name))
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Outcome":
        """The outcome of a flow's row, whichever release wrote it."""
        known: dict[str, Any] = {}
        for name in cls.__slots__:
            if name in given:
                known[name] = tuple(given[name]) if isinstance(given[name], list) else given[name]
        return cls(**known)


@dataclass(eq=False)
class FlowRefused(ConnectorProxyError):  # noqa: N818  # named for what happened, as the errors of requests are
    """A step of a flow that is not taken; ``reason`` is one of REASONS.

    ``flow_id`` when the flow is known and has ended with this, and only then.
    """

    reason: str
    detail: str = ""
    service: str = ""
    flow_id: str | None = field(default=None)

    def __str__(self) -> str:
        told = Outcome(self.service or "SERVICE", "", self.reason, self.detail)
        return " ".join(part for part in (f"{told.title}.", told.detail, told.remedy) if part)
