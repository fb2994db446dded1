"""The servers are as unforgiving as the tests on them assume: otherwise those would prove nothing."""

import concurrent.futures

from support.providers.real import REDIRECT_URI, Provider
from support.providers.toolkit import Toolkit


def test_a_spent_refresh_token_ends_the_whole_grant(provider: Provider) -> None:
    """Rotation with reuse detection: the old token again is refused, and the newest one is dead too."""
    first = provider.issue_grant()["refresh_token"]
    status, second = provider.refresh(first)
    assert status == 200
    assert second["refresh_token"] != first
    assert provider.is_alive(first)
    assert provider.refresh(first)[0] == 400
    assert not provider.is_alive(second["refresh_token"])
    assert provider.refresh(second["refresh_token"])[1]["error"] == "invalid_grant"


def test_refreshes_at_once_kill_the_connection(provider: Provider) -> None:
    """Eight at once, the mistake of requirements 0.1: one is answered well and its token is dead all the same."""
    provider.adjust(before_s=0.05)
    spent = provider.issue_grant()["refresh_token"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: provider.refresh(spent), range(8)))
    winners = [told for status, told in answers if status == 200]
    assert len(winners) <= 1, answers
    assert not provider.is_alive(spent)
    assert all(provider.refresh(told["refresh_token"])[0] == 400 for told in winners)


def test_a_grace_time_forgives_a_spent_token_for_a_while(toolkit: Toolkit) -> None:
    """With a grace time the old token is answered again, and the grant lives."""
    toolkit.adjust(grace_s=10)
    try:
        spent = toolkit.issue_grant()["refresh_token"]
        assert toolkit.refresh(spent)[0] == 200
        status, again = toolkit.refresh(spent)
        assert status == 200
        assert toolkit.accepts(again["access_token"])
        assert toolkit.refresh(again["refresh_token"])[0] == 200
    finally:
        toolkit.adjust(grace_s=0)


def test_revoking_ends_a_grant(provider: Provider) -> None:
    """RFC 7009 works and says 200."""
    grant = provider.issue_grant()
    assert provider.accepts(grant["access_token"])
    assert provider.revoke(grant["refresh_token"]) == 200
    assert not provider.is_alive(grant["refresh_token"])
    assert provider.refresh(grant["refresh_token"])[0] == 400


def test_codes_need_pkce_and_the_registered_address(provider: Provider) -> None:
    """An authorization without a challenge comes back as an error, one with a foreign address not at all."""
    asked = f"{provider.origin}{provider.authorize_path}?response_type=code&client_id={provider.client_id}&state=s"
    assert "error=invalid_request" in provider.approve(f"{asked}&redirect_uri={REDIRECT_URI}&scope=read")
    challenge = "&code_challenge_method=S256&code_challenge=" + "a" * 43
    declined = provider.deny(f"{asked}&redirect_uri={REDIRECT_URI}&scope=read{challenge}")
    assert "error=access_denied" in declined
    assert "state=s" in declined
    path = f"{asked}&redirect_uri={REDIRECT_URI}2&scope=read{challenge}".removeprefix(provider.origin)
    assert (
        provider.call("GET", path, headers={"X-Scripted-User": "alice", "X-Scripted-Answer": "yes"})[0] == 400
    )


def test_token_requests_are_counted_as_they_arrive(provider: Provider) -> None:
    """One that waits is counted already; lifetimes of seconds are given out as set."""
    before = provider.token_requests()
    provider.adjust(before_s=0.3, access_lifetime_s=2)
    spent = provider.issue_grant()["refresh_token"]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(provider.refresh, spent)
        while provider.token_requests() == before:
            assert not asked.done()
        assert provider.counts()["refresh_token"]["waiting"] == 1
        assert asked.result()[1]["expires_in"] == 2
    assert provider.token_requests() == before + 1
