"""``users``: who signs in to the control plane besides ``admin``, and what they may do there."""

from typing import Annotated, Any

import typer

from proxy.cli import output
from proxy.cli.session import JsonOption
from proxy.cli.target import Target, anywhere

group = typer.Typer(
    help="Who signs in to the control plane besides admin, and what they may do there.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="The user's name.")]
RoleOption = Annotated[
    str, typer.Option("--role", metavar="viewer|operator|admin", help="See; connect and make keys; do all.")
]


@group.command("add")
@anywhere
def add(
    target: Target,
    name: Name,
    *,
    role: RoleOption = "viewer",
    email: Annotated[
        str | None, typer.Option("--email", help="The address that an identity provider knows them by.")
    ] = None,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="They sign in through the identity provider only.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Add a user; the password made for them is shown once."""
    body = {"name": name, "role": role, "with_password": not no_password}
    _show(target.do("users.create", body=body | ({} if email is None else {"email": email})), as_json=as_json)
    target.changed()


@group.command("list")
@anywhere
def listing(target: Target, *, as_json: JsonOption = False) -> None:
    """List them; admin is always there and not listed."""
    found = target.all("users.list")
    if as_json:
        output.document(found)
    else:
        names = ("name", "role", "email", "created_at")
        rows = [[one[name] for name in names] for one in found]
        output.table(("name", "role", "email", "since"), rows, empty="nobody but admin")


@group.command("role")
@anywhere
def change_role(target: Target, name: Name, *, role: RoleOption, as_json: JsonOption = False) -> None:
    """Give a user another role, which counts at once."""
    done = target.do("users.role", path={"user": name}, body={"role": role})
    if as_json:
        output.document(done)
    else:
        output.line(f"{name} is {done['role']} now.")
    target.changed()


@group.command("password")
@anywhere
def password(target: Target, name: Name, *, as_json: JsonOption = False) -> None:
    """Make another password for a user, shown once; their browsers are signed out."""
    _show(target.do("users.password", path={"user": name}), as_json=as_json)
    target.changed()


@group.command("remove")
@anywhere
def remove(target: Target, name: Name, *, as_json: JsonOption = False) -> None:
    """Remove a user, whose browsers are signed out."""
    done = target.do("users.remove", path={"user": name})
    if as_json:
        output.document(done)
    else:
        output.line(f"{name} is removed and signed out.")
    target.changed()


def _show(made: Any, *, as_json: bool) -> None:
    if as_json:
        output.document(made)
    elif made["password"] is None:
        output.line(f"{made['name']} is added.")
    else:
        output.line(made["password"])
        output.note(f"{made['name']} signs in with it. It is shown only now: only its hash is kept.")
