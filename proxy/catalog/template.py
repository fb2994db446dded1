"""The file that ``services new NAME`` writes."""

_TEXT = """\
# {title}: a service of your own. The file's name is the first part of its addresses:
#   http://127.0.0.1:8080/{name}/v1/things  ->  https://acme.example.com/v1/things
title = "{title}"

[[hosts]]                                          # the first one is the default
name = "api"
origin = "https://{{subdomain}}.example.com"         # {{subdomain}}: from the connection's connection_config
# base_path = "/v1" and roots = ["/v1/"], above [[hosts]], let callers leave /v1 out.

[params.subdomain]
pattern = "[a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?"    # one host label; anything else is refused
required = true
lower = true                                       # "Acme" is taken as "acme"
example = "acme"
description = "The part of your address before .example.com."

[auth]
scheme = "bearer"                                  # or bot, token, raw, basic, header (header = "X-Api-Key")

# What no key may ever reach: addresses that make, exchange or revoke credentials.
# credential_paths = ["/oauth/**"], above [[hosts]].
"""


def new_service_text(name: str) -> str:
    """A commented file for ``https://{subdomain}.example.com``, to be saved as ``NAME.toml``; loads as it is.

    Args:
        name: the service's id: lower-case letters, digits and ``_``.

    Raises:
        ValueError: ``name`` is no such id.
    """
    if not name or not name.isascii() or not all(c.islower() or c.isdigit() or c == "_" for c in name):
        raise ValueError(f"a service's id is made of lower-case letters, digits and '_', not {name!r}")
    return _TEXT.format(name=name, title=name.replace("_", " ").strip().title() or name)
