"""Apps registered at providers: those of the settings win over those of the vault, whose secrets are sealed."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.stores import VaultPlace
from support.vaults import CATALOG

from proxy.assembly.providers import declared_registrations
from proxy.catalog.grants import OAuth
from proxy.catalog.model import Catalog, Service
from proxy.connectors.oauth.registration import Registration, Registrations
from proxy.connectors.seal import SealBrokenError
from proxy.errors import ConfigurationError
from proxy.secret import Secret
from proxy.settings import load_settings

pytestmark = pytest.mark.usefixtures("runner")
CANARY = "canary-app-secret"
APP = Registration("google", "google", "id-1", Secret(CANARY))


def of_family(type_id: str, family: str) -> Service:
    oauth = OAuth(family, "https://a.example/authorize", "https://a.example/token")
    return replace(CATALOG.services["slack"], type_id=type_id, oauth=oauth)


GMAIL, DRIVE, BARE = (
    of_family("gmail", "google"),
    of_family("googledrive", "google"),
    CATALOG.services["slack"],
)


async def test_a_registration_survives_a_restart(place: VaultPlace) -> None:
    """What was saved comes back in another process, the secret to the byte; a newer one replaces it."""
    async with place.opened() as vault:
        await vault.save_registration(APP)
        await vault.save_registration(Registration("public", "acme", "id-2"))
    async with place.opened() as vault, place.opened() as other:
        assert await vault.registrations() == (APP, Registration("public", "acme", "id-2"))
        assert await vault.registration("google") == APP
        assert await vault.registration("Google") is None
        newer = replace(APP, client_secret=Secret("newer"))
        await other.save_registration(newer)
        assert await vault.registration("google") == newer


async def test_the_secret_is_sealed_and_audited(place: VaultPlace) -> None:
    """The secret stands in no column and no audit row; who saved and removed it does (R133, R157)."""
    async with place.opened() as vault:
        await vault.save_registration(APP, actor="ann")
        assert await vault.remove_registration("google", actor="bob")
        assert not await vault.remove_registration("google", actor="bob")
        await vault.save_registration(APP, actor="ann")
        entries = await vault.audit()
    told = [(entry.actor, entry.action, entry.subject) for entry in entries]
    assert told.count(("ann", "registration.save", "google")) == 2
    assert ("bob", "registration.remove", "google") in told
    assert CANARY not in repr(entries)
    assert CANARY not in place.run("SELECT * FROM registrations")
    assert CANARY.encode().hex() not in place.run("SELECT * FROM registrations")


@pytest.mark.parametrize("column", ["registration_id", "family", "client_id"])
async def test_a_secret_opens_only_for_its_app(place: VaultPlace, column: str) -> None:
    """A row edited to another id, family or client id does not give the secret out (R134); the error names the app and what mends it, and lists show it among the others."""
    async with place.opened() as vault:
        await vault.save_registration(APP)
        place.run(f"UPDATE registrations SET {column} = 'other'")  # noqa: S608  # a column of the table above
        sound = replace(APP, registration_id="sound")
        await vault.save_registration(sound)
        broken, listed = await vault.registrations()
        assert (broken.damaged, broken.client_secret, listed) == (True, None, sound)
        with pytest.raises(SealBrokenError) as caught:
            await vault.registration(broken.registration_id)
        told = str(caught.value)
        assert f"connector-proxy registrations set {broken.registration_id} --client-id" in told
        assert CANARY not in told
        registrations = Registrations({}, vault)
        assert await registrations.shown(DRIVE) == (None if column != "client_id" else broken)
        await vault.save_registration(replace(APP, registration_id=broken.registration_id))
        assert not any(one.damaged for one in await vault.registrations())


async def test_data_keys_made_elsewhere_are_taken_in(place: VaultPlace) -> None:
    """A secret sealed with a data key that another process made since opens here too."""
    async with place.opened() as vault, place.opened() as other:
        place.run("UPDATE data_keys SET messages = 2147483648")
        await other.save_registration(APP)
        assert await vault.registration("google") == APP


async def test_which_registration_a_service_takes(place: VaultPlace) -> None:
    """An explicit id, else the service's own, else its family's; never one of another family (R100)."""
    own, family = replace(APP, registration_id="gmail"), APP
    named, foreign = (
        replace(APP, registration_id="work"),
        replace(APP, registration_id="other", family="acme"),
    )
    async with place.opened() as vault:
        registrations = Registrations({}, vault)
        assert await registrations.find(GMAIL) is None
        await registrations.save(family, actor="ann")
        assert await registrations.find(GMAIL) == family
        for one in (own, named, foreign):
            await registrations.save(one, actor="ann")
        assert (await registrations.find(GMAIL), await registrations.find(DRIVE)) == (own, family)
        assert await registrations.find(DRIVE, "work") == named
        assert await registrations.find(DRIVE, "other") is None
        assert await registrations.find(DRIVE, "nowhere") is None
        assert await registrations.find(BARE) is None


async def test_settings_win(place: VaultPlace) -> None:
    """What the settings declare hides the vault's of the same id, and cannot be overwritten there."""
    declared = replace(APP, client_id="declared", client_secret=None)
    async with place.opened() as vault:
        await vault.save_registration(APP)
        await vault.save_registration(replace(APP, registration_id="work"))
        registrations = Registrations({"google": declared}, vault)
        assert await registrations.find(GMAIL) == declared
        assert [one.client_id for one in await registrations.all()] == ["declared", "id-1"]
        with pytest.raises(ConfigurationError, match="declared in the settings"):
            await registrations.save(APP, actor="ann")
        assert await registrations.remove("work", actor="ann")


CHOSEN = Catalog({one.type_id: one for one in (GMAIL, DRIVE, BARE)})


def declared(folder: Path, text: str) -> dict[str, Registration]:
    path = folder / "proxy.toml"
    path.write_text(text, encoding="utf-8")
    return dict(declared_registrations(load_settings(path, {"HOME": str(folder)}), CHOSEN))


def test_declared_registrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The family is the id itself, the named service's, or said; secrets come from where they are."""
    monkeypatch.setenv("APP_SECRET", CANARY)
    (tmp_path / "secret").write_text("from-file\n", encoding="utf-8")
    found = declared(
        tmp_path,
        """
        [registrations.google]
        client_id = "id-1"
        client_secret = { env = "APP_SECRET" }
        [registrations.gmail]
        client_id = "id-2"
        client_secret = { file = "secret" }
        [registrations.work]
        family = "google"
        client_id = "id-3"
        """,
    )
    assert found == {
        "google": APP,
        "gmail": Registration("gmail", "google", "id-2", Secret("from-file")),
        "work": Registration("work", "google", "id-3"),
    }


def test_registrations_of_services_that_are_off(tmp_path: Path) -> None:
    """Switching services off is no fault of the registrations that they had."""
    text = """
        [services]
        enabled = ["gmail"]
        [registrations.google]
        client_id = "id-1"
        [registrations.slack]
        client_id = "id-2"
        """
    assert list(declared(tmp_path, text)) == ["google"]


def test_every_fault_of_declared_registrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All faults are told at once, with place and remedy, and no secret in them."""
    monkeypatch.setenv("APP_SECRET", f"{CANARY}\n\x01")
    with pytest.raises(ConfigurationError) as caught:
        declared(
            tmp_path,
            """
            [registrations.work]
            client_id = "id-1"
            [registrations.play]
            family = "gogle"
            client_id = "id-1"
            [registrations.google]
            client_id = "id-1"
            client_secret = { env = "NOT_THERE" }
            [registrations.gmail]
            client_id = "id-1"
            client_secret = { env = "APP_SECRET" }
            """,
        )
    told = [str(fault) for fault in caught.value.faults]
    assert told == [
        "registrations.work.family: work is neither a family nor a service",
        'registrations.play.family: no service is of it, did you mean "google"?',
        told[2],
        "registrations.gmail.client_secret: must be printable ASCII and not empty",
    ]
    assert told[2].startswith("registrations.google.client_secret: ")
    assert CANARY not in str(caught.value)
