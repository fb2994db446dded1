"""``keys``: make, list and revoke proxy keys."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from proxy import keys
from proxy.cli import output
from proxy.cli.session import JsonOption
from proxy.cli.target import Target, anywhere
from proxy.connectors.observed import REST
from proxy.errors import ConfigurationError, Fault

group = typer.Typer(help="Proxy keys: what callers present instead of real tokens.", no_args_is_help=True)


def _permits_help() -> str:
    return "SERVICE[@CONNECTION][:METHODS[:PATH]], for example slack or github:GET or '*'; several times."


@group.command("create")
@anywhere
def create(
    target: Target,
    name: Annotated[str, typer.Argument(help="A name to know it by.")],
    *,
    allow: Annotated[list[str], typer.Option("--allow", metavar="PERMIT", help=_permits_help())],
    root: Annotated[
        str | None,
        typer.Option(
            "--root", metavar="SERVICE", help="Addresses without a service's id go to this service."
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind", metavar="proxy|service", help="proxy: for callers; service: for the control plane."
        ),
    ] = "proxy",
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Only calls that are reviewed as reading, in all permits.")
    ] = False,
    observe: Annotated[
        bool,
        typer.Option("--observe", help="Let all calls pass, and note those that the permits would refuse."),
    ] = False,
    network: Annotated[
        list[str] | None,
        typer.Option("--network", metavar="CIDR|unix", help="Only from there; several times."),
    ] = None,
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="10/s|100/m", help="At most so many requests.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", metavar="N", help="At most so many requests at once.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="30d|12h|TIME", help="When it ends by itself.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and show it once. A running server has taken it when this ends."""
    if kind not in {"proxy", "service"}:
        raise typer.BadParameter("is proxy or service", param_hint="--kind")
    words = {"read_only": read_only or None, "observe": observe or None}
    asked = {
        "root": root,
        "networks": network or None,
        "expires": expires,
        "rate": rate,
        "concurrency": concurrency,
        **words,
    }
    body = {"name": name, "allow": allow, "kind": kind} | {
        field: value for field, value in asked.items() if value is not None
    }
    made = target.do("keys.create", body=body)
    if as_json:
        output.document({field: made[field] for field in ("id", "key", "permits", "expires_at")})
    else:
        output.line(made["key"])
        output.note(f"Key {made['id']} ({made['name']}). It is shown only now: only its hash is kept.")
    target.changed()


@group.command("generate")
def generate(*, as_json: JsonOption = False) -> None:
    """Print a new key and its hash; nothing is stored. Declare the hash in the settings of a sidecar."""
    key_id, key = keys.generate()
    digest = f"sha256:{hashlib.sha256(key.reveal().encode()).hexdigest()}"
    if as_json:
        output.document({"id": key_id, "key": key.reveal(), "hash": digest})
        return
    output.line(key.reveal())
    output.line(digest)
    output.note("The first line goes to the caller, the second into [keys.NAME] hash of the settings.")


@group.command("list")
@anywhere
def listing(target: Target, *, as_json: JsonOption = False) -> None:
    """List all keys, revoked and declared ones too."""
    found = target.all("keys.list")
    if as_json:
        output.document(found)
        return
    columns = ("id", "name", "state", "permits", "limits", "root", "expires_at", "last_used_at")
    output.table(
        ("id", "name", "state", "permits", "limits", "root", "expires", "last used"),
        [
            [
                " ".join(one[name]) if name == "permits" else _limits(one) if name == "limits" else one[name]
                for name in columns
            ]
            for one in found
        ],
        empty="no keys yet: make one with 'connector-proxy keys create NAME --allow PERMIT'",
    )


@group.command("observed")
@anywhere
def observed(
    target: Target,
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key's id or name.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what a key's observing permits would have refused; a running server adds to it every 10 s."""
    found = target.all("keys.observed", path={"key": key})
    if as_json:
        output.document(found)
        return
    output.table(
        ("service", "method", "path", "requests", "first", "last"),
        [
            (*_called(one), one["requests"], one["first_at"], one["last_at"])
            for one in sorted(found, key=lambda one: -one["requests"])
        ],
        empty="nothing: all that this key's observing permits let pass, they would allow",
    )


def _called(one: Mapping[str, Any]) -> tuple[str, str, str]:
    """Service, method and path; in words where the calls were too many to be told apart."""
    called = (one["service"], one["method"], one["path"])
    return ("others", "any", "(too many to be told apart)") if called == REST else called


def _limits(key: Mapping[str, Any]) -> str:
    """What bounds a key besides its permits, in a few words."""
    at_once = f"{key['concurrency']} at once" if key["concurrency"] else ""
    return ", ".join(filter(None, (key["rate"], at_once, " ".join(key["networks"]))))


@group.command("revoke")
@anywhere
def revoke(
    target: Target,
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key's id or name (never the key itself).")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Put a key out of force for good. A running server refuses it when this ends."""
    if key.startswith(keys.PREFIX):
        raise ConfigurationError(
            Fault("KEY", "is a key's id or name; the key itself does not belong on a command line")
        )
    done = target.do("keys.revoke", path={"key": key})
    if as_json:
        output.document(done)
    else:
        state = "is revoked" if done["revoked"] else "was revoked before"
        output.line(f"Key {done['id']} ({done['name']}) {state}.")
    target.changed()


@group.command("revoke-all")
@anywhere
def revoke_all(target: Target, *, as_json: JsonOption = False) -> None:
    """Put every key of the vault out of force; declared keys live in the settings and stay."""
    done = target.do("keys.revoke_all")
    if as_json:
        output.document(done)
    else:
        output.line(f"{done['revoked']} key{'' if done['revoked'] == 1 else 's'} revoked.")
    if done["declared"]:
        output.note(f"Still in force, because the settings declare them: {', '.join(done['declared'])}")
    target.changed()
