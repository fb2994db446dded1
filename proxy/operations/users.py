"""Users of the control plane: who may see, who may connect and make keys, who may say who."""

import asyncio

from proxy.catalog.reader import nearest
from proxy.connectors.passwords import hashed, new_password
from proxy.connectors.users import ROLES, Role, User, role_of, user_faults
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, Fault
from proxy.operations import fields, paging
from proxy.operations.moments import rfc3339
from proxy.operations.operation import Asked, Document, Ground, Operation
from proxy.secret import Secret


def read_role(text: str) -> Role:
    """The role of that name.

    Raises:
        ConfigurationError: there is none.
    """
    role = role_of(text)
    if role is None:
        raise ConfigurationError(Fault("role", f"is one of {', '.join(ROLES)}{nearest(text, ROLES)}"))
    return role


async def add_user(
    vault: Vault, name: str, role: str, *, email: str | None, with_password: bool, actor: str
) -> Secret | None:
    """Add a user; the password made for them, which is kept hashed only. None: they sign in elsewhere.

    Raises:
        ConfigurationError: every value that makes no sense, or that is taken.
    """
    known, address = read_role(role), email.strip().lower() if email else None
    faults = user_faults(name, address)
    if not with_password and address is None:
        faults.append(Fault("email", "is needed for a user without a password: it is what they are known by"))
    if faults:
        raise ConfigurationError(*faults)
    made = new_password() if with_password else None
    stored = None if made is None else await asyncio.to_thread(hashed, made)
    await vault.add_user(name, known, email=address, stored=stored, actor=actor)
    return made


async def renew_password(vault: Vault, name: str, *, actor: str) -> Secret:
    """Make another password for a user, whose browsers are signed out.

    Raises:
        MissingError: there is no such user.
    """
    made = new_password()
    await vault.set_user_password(name, await asyncio.to_thread(hashed, made), actor=actor)
    return made


def user_document(one: User) -> dict[str, object]:
    """``{name, role, email, has_password, created_at}``."""
    return {
        "name": one.name,
        "role": one.role,
        "email": one.email,
        "has_password": one.has_password,
        "created_at": rfc3339(one.created_at),
    }


# --- operations ---------------------------------------------------------------------------------------


async def _list(ground: Ground, asked: Asked) -> Document:
    found = () if ground.held is None else await ground.vault.users()
    return paging.page(asked, found, lambda one: (one.name,), user_document)


async def _add(ground: Ground, asked: Asked) -> Document:
    body = asked.body
    made = await add_user(
        ground.vault,
        body["name"],
        body["role"],
        email=body.get("email"),
        with_password=body.get("with_password", True),
        actor=asked.actor,
    )
    return {"name": body["name"], "password": None if made is None else made.reveal()}


async def _role(ground: Ground, asked: Asked) -> Document:
    name, role = asked.path["user"], read_role(asked.body["role"])
    await ground.vault.change_role(name, role, actor=asked.actor)
    return {"name": name, "role": role}


async def _password(ground: Ground, asked: Asked) -> Document:
    made = await renew_password(ground.vault, asked.path["user"], actor=asked.actor)
    return {"name": asked.path["user"], "password": made.reveal()}


async def _remove(ground: Ground, asked: Asked) -> Document:
    await ground.vault.remove_user(asked.path["user"], actor=asked.actor)
    return {"name": asked.path["user"], "done": "remove"}


_ROLE = fields.chosen("viewer sees; operator connects accounts and makes keys; admin does all", *ROLES)
_PASSWORD = fields.told({"name": fields.STRING, "password": fields.MAYBE_STRING})
OPERATIONS = (
    Operation(
        "users.list",
        "GET",
        "/users",
        "Who signs in besides the user admin, who is always there",
        ("admin",),
        fields.page_of(
            fields.told(
                {
                    "name": fields.STRING,
                    "role": _ROLE,
                    "email": fields.MAYBE_STRING,
                    "has_password": fields.BOOLEAN,
                    "created_at": fields.TIME,
                }
            )
        ),
        _list,
        query=fields.ONE_BY_ONE,
    ),
    Operation(
        "users.create",
        "POST",
        "/users",
        "Add a user; the answer is the only place where the password made for them is shown",
        ("admin",),
        _PASSWORD,
        _add,
        body=fields.given(
            {
                "name": fields.USER_NAME,
                "role": _ROLE,
                "email": fields.text("By which an identity provider knows them", most=254, least=3),
                "with_password": {
                    **fields.BOOLEAN,
                    "description": "Whether a password is made: yes unless said",
                },
            },
            "name",
            "role",
        ),
        creates=True,
    ),
    Operation(
        "users.role",
        "POST",
        "/users/{user}/role",
        "Give a user another role, which counts at once",
        ("admin",),
        fields.told({"name": fields.STRING, "role": _ROLE}),
        _role,
        body=fields.given({"role": _ROLE}, "role"),
    ),
    Operation(
        "users.password",
        "POST",
        "/users/{user}/password",
        "Make another password for a user, whose browsers are signed out",
        ("admin",),
        _PASSWORD,
        _password,
    ),
    Operation(
        "users.remove",
        "DELETE",
        "/users/{user}",
        "Remove a user, whose browsers are signed out",
        ("admin",),
        fields.told({"name": fields.STRING, "done": fields.STRING}),
        _remove,
    ),
)
