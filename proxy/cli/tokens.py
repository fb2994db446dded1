"""``tokens``: make, list and revoke admin tokens, which programs and remote command lines present."""

from typing import Annotated

import typer

from proxy import admintokens
from proxy.cli import output
from proxy.cli.session import JsonOption
from proxy.cli.target import Target, anywhere
from proxy.errors import ConfigurationError, Fault

group = typer.Typer(help="Admin tokens: what programs present to the admin API.", no_args_is_help=True)
_SCOPES = "|".join(admintokens.SCOPES)


@group.command("create")
@anywhere
def create(
    target: Target,
    name: Annotated[str, typer.Argument(help="A name to know it by.")],
    *,
    scope: Annotated[
        list[str], typer.Option("--scope", metavar=_SCOPES, help="What it may do; several times.")
    ],
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="30d|12h|TIME", help="When it ends by itself.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an admin token and show it once."""
    body = {"name": name, "scopes": scope, **({} if expires is None else {"expires": expires})}
    made = target.do("tokens.create", body=body)
    if as_json:
        output.document(made)
    else:
        output.line(made["token"])
        output.note(f"Token {made['id']} ({made['name']}). It is shown only now: only its hash is kept.")
    target.changed()


@group.command("list")
@anywhere
def listing(target: Target, *, as_json: JsonOption = False) -> None:
    """List all admin tokens, revoked ones too."""
    found = target.all("tokens.list")
    if as_json:
        output.document(found)
        return
    output.table(
        ("id", "name", "state", "scopes", "expires", "last used"),
        [
            (
                one["id"],
                one["name"],
                one["state"],
                " ".join(one["scopes"]),
                one["expires_at"],
                one["last_used_at"],
            )
            for one in found
        ],
        empty="no admin tokens yet: make one with 'connector-proxy tokens create NAME --scope SCOPE'",
    )


@group.command("revoke")
@anywhere
def revoke(
    target: Target,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id or name (never the token itself).")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Put an admin token out of force for good, at once."""
    if token.startswith(admintokens.PREFIX):
        raise ConfigurationError(
            Fault("TOKEN", "is a token's id or name; the token itself does not belong on a command line")
        )
    done = target.do("tokens.revoke", path={"token": token})
    if as_json:
        output.document(done)
    else:
        state = "is revoked" if done["revoked"] else "was revoked before"
        output.line(f"Token {done['id']} ({done['name']}) {state}.")
    target.changed()
