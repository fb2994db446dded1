"""The vendors' own SDKs, unmodified: `make sdk` runs them all and prints the table that stands in docs/sdk-tests.md."""

from collections.abc import Callable

import pytest
from outcomes import KINDS, SDKS, Outcome, Sdk
from stage import Stage
from support.spellings import found

Outcomes = Callable[[Sdk], Outcome]

pytestmark = [pytest.mark.sdk_full, pytest.mark.parametrize("sdk", SDKS, ids=str)]


def test_it_works(sdk: Sdk, outcome: Outcomes) -> None:
    """Reads, writes, pages, uploads and one refusal by the proxy, with every spelling of the base URL (R26, R43, R85)."""
    done = outcome(sdk)
    if done.failures():
        pytest.fail("\n".join(done.failures()), pytrace=False)
    kinds = {step.kind for step in done.steps}
    assert [kind for kind in KINDS if kind not in kinds and kind not in done.without] == []
    assert [kind for kind in done.without if kind in kinds] == []


def test_every_call_stays_inside(sdk: Sdk, outcome: Outcomes) -> None:
    """It looks up no name and dials only the proxy; each call is for a host and a place of its service (R36, R75)."""
    done = outcome(sdk)
    assert done.trapped == ()
    assert done.faults == ()
    assert done.calls


def test_no_key_reaches_a_service(sdk: Sdk, outcome: Outcomes, stage: Stage) -> None:
    """No key stands in anything that a service got, in any spelling; each request carries the real token alone (R31)."""
    pieces = list(outcome(sdk).fragments())
    assert pieces
    assert [leak for piece in pieces for leak in found(piece, *stage.secrets)] == []


def test_no_token_reaches_the_sdk(sdk: Sdk, outcome: Outcomes, stage: Stage) -> None:
    """Nothing that it receives, prints or raises holds a real token, in any spelling (R42, R143)."""
    done = outcome(sdk)
    pieces = [*done.received(), done.output, *(step.told.encode() for step in done.steps)]
    assert [leak for piece in pieces for leak in found(piece, *stage.tokens)] == []


def test_what_arrives_is_well_formed(sdk: Sdk, outcome: Outcomes) -> None:
    """Whatever HTTP it speaks, services get requests that the strictest reader takes (R1)."""
    assert outcome(sdk).dirt == ()
