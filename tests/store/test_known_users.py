"""Users as an identity provider knows them, in both stores."""

import asyncio

import pytest
from support.stores import VaultPlace

from proxy.connectors.users import Account
from proxy.errors import ConflictError

pytestmark = pytest.mark.usefixtures("runner")
ADA = Account("https://id.example", "client", "subject-1")
EVE = Account("https://id.example", "client", "subject-2")


async def test_an_address_belongs_to_the_account_that_came_first(place: VaultPlace) -> None:
    """The first sign-in ties user and account, for every process; another account with that address is refused, until the user is made anew."""
    async with place.opened() as vault, place.opened() as other:
        await vault.add_user("ada", "viewer", email="ada@example.com", stored=None, actor="test")
        assert await vault.recognise("eve@example.com", EVE) is None
        assert await vault.recognise("Ada@Example.com", ADA) == "ada"
        assert await other.recognise("ada@example.com", ADA) == "ada"
        for one in (vault, other):
            with pytest.raises(ConflictError):
                await one.recognise("ada@example.com", EVE)
        rows = [entry for entry in await vault.audit() if entry.action == "user.account"]
        assert [(row.actor, row.subject, row.detail["subject"]) for row in rows] == [
            ("user:ada", "ada", "subject-1")
        ]
        await vault.remove_user("ada", actor="test")
        assert await vault.recognise("ada@example.com", ADA) is None
        await vault.add_user("ada", "viewer", email="ada@example.com", stored=None, actor="test")
        assert await vault.recognise("ada@example.com", EVE) == "ada"


@pytest.mark.parametrize(
    "elsewhere", [Account("https://other.example", "client", "s"), Account(ADA.issuer, "client-2", "s")]
)
async def test_another_provider_or_app_ties_anew(place: VaultPlace, elsewhere: Account) -> None:
    """Subjects are of one provider and one app: once the settings name another, the address counts again."""
    async with place.opened() as vault:
        await vault.add_user("ada", "viewer", email="ada@example.com", stored=None, actor="test")
        assert await vault.recognise("ada@example.com", ADA) == "ada"
        assert await vault.recognise("ada@example.com", elsewhere) == "ada"
        with pytest.raises(ConflictError):
            await vault.recognise("ada@example.com", Account(elsewhere.issuer, elsewhere.client_id, "t"))


async def test_two_accounts_at_once(place: VaultPlace) -> None:
    """Of two accounts that come with one address at the same time, exactly one gets it."""
    async with place.opened() as vault, place.opened() as other:
        await vault.add_user("ada", "viewer", email="ada@example.com", stored=None, actor="test")
        came = await asyncio.gather(
            vault.recognise("ada@example.com", ADA),
            other.recognise("ada@example.com", EVE),
            return_exceptions=True,
        )
        assert {type(one) for one in came} == {str, ConflictError}
