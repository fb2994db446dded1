"""What the sandbox is called and how a service's file describes it."""

SERVICE = "sandbox"
HOST = "acme.example.com"
CONFIG = {"subdomain": "acme"}
CLIENT_ID = "sandbox-app"
SCOPES = ("things.read", "things.write")
ACCOUNTS = ("Ada at Acme", "Bob at Acme")
ACCESS_LIFE_S = 120
"""Short, so that a demo shows how tokens are renewed."""
CALLS_A_MINUTE = 1000

_SERVICE_FILE = """\
title = "Sandbox"
docs = "https://example.com"
console = "https://example.com"
verified = "live"

[[hosts]]
name = "api"
origin = "https://{subdomain}.example.com"

[params.subdomain]
pattern = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
required = true
lower = true
example = "acme"

[rate_limit]
limits = "1000 calls a minute for each account"

[rate_limit.headers]
X-RateLimit-Limit = "count"
X-RateLimit-Remaining = "count"
Retry-After = "seconds"

[verify]
method = "GET"
path = "/v1/whoami"
name_path = "account"
id_path = "account"
"""
_OAUTH = """
[oauth]
family = "sandbox"
authorization_url = "ORIGIN/authorize"
token_url = "https://acme.example.com/oauth/token"
revoke_url = "https://acme.example.com/oauth/revoke"
client_auth = "body"
pkce = "required"
iss = true
scopes = ["things.read", "things.write"]
scopes_verified = "live"
refresh = "rotating_strict"
refresh_grace_s = 0
"""


def service_file(browser_origin: str) -> str:
    """The catalog file; ``browser_origin`` is where browsers find the sandbox's consent page."""
    return _SERVICE_FILE + _OAUTH.replace("ORIGIN", browser_origin)
