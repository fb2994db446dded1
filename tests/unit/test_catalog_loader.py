"""The loader: strict, complete in its complaints, and careful about who may replace what."""

import hashlib
from pathlib import Path

import pytest

from proxy.catalog import file_hash, load_catalog, load_file, new_service_text, packaged_directory
from proxy.errors import ConfigurationError, CredentialInvalid

MINIMAL = """\
title = "Acme"
[[hosts]]
name = "api"
origin = "https://api.acme.example"
"""
FULL = """\
title = "Acme"
docs = "https://acme.example/docs"
console = "https://acme.example/apps"
verified = "live"
base_path = "/v1"
roots = ["/v1/", "/oauth/"]
credential_paths = ["/oauth/**"]
credential_exempt = ["/oauth/me"]
batch_paths = ["/v1/batch"]
method_override = ["X-HTTP-Method-Override"]
header_underscores = true
notes = ["a note"]

[[hosts]]
name = "api"
origin = "https://{tenant}.acme.example"
prefixes = ["/v1/", "/oauth/"]
about = "everything"

[[hosts]]
name = "files"
origin = "https://files.acme.example"
base_path = "/f"
none_when = ["/f/signed/**"]
none_when_query = ["sig"]
auth = { scheme = "header", header = "X-Acme-Token" }

[[hosts]]
name = "eu"
origin = "https://eu.acme.example"
enabled = false
when = { region = "eu" }
verified = "memory"

[[rules]]
methods = ["POST"]
path = "/old/upload/**"
host = "files"
strip = "/old"
prepend = "/f"

[auth]
scheme = "bot"

[headers]
Acme-Version = "2026-01-01"

[params.tenant]
pattern = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
required = true
lower = true
example = "Contoso"
aliases = ["tenantName"]

[params.region]
pattern = "us|eu"
example = "us"

[params.team]
pattern = "[0-9]{1,9}"
informational = true
source = "token:team.id"

[[key_places]]
in = "form"
name = "token"
paths = ["/v1/*"]
replace = true

[oauth]
family = "acme"
authorization_url = "https://acme.example/authorize"
token_url = "https://acme.example/token"
revoke_url = "https://acme.example/revoke/{team}"
scopes = ["a", "b"]
token_params = { client = "{client_id}" }
refresh_params = { team = "{team}" }
refresh = "rotating_strict"
refresh_grace_s = 10
untold_expiry = "never"
revoke_token = "both"
revoke_hint = true

[oauth.answer]
access_token = "user.access_token"

[oauth.refresh_answer]
access_token = "access_token"

[verify]
method = "POST"
path = "/v1/me?x=1"
host = "files"
id_path = "items[0].id"
ok_path = "ok"

[rate_limit]
statuses = [429, 503]
headers = { Retry-After = "seconds" }

[[failure.expired]]
status = 401
path = "[].code"
codes = ["expired"]

[errors]
status = 200
template = '{"ok":false,"error":"{code}"}'

[[links]]
in = "json"
names = ["next", "urls.*"]
paths = ["/v1/**"]

[[links]]
in = "request"
names = ["ref"]
paths = ["/v1/refs"]

[[presigned]]
host = "*.cdn.acme.example"
paths = ["/d/**"]

[[read_only]]
methods = ["GET"]
path = "/v1/**"
source = "https://acme.example/docs/reading"

[[public]]
path = "/v1/status"
"""


def faults_of(tmp_path: Path, text: str, *, name: str = "acme.toml", user: bool = True, **more) -> list[str]:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_file(path, user=user, **more)
    return [str(fault) for fault in caught.value.faults]


def test_every_key_of_the_schema_arrives(tmp_path):
    """What a file says is what the service holds, key by key."""
    path = tmp_path / "acme.toml"
    path.write_text(FULL)
    service = load_file(path, user=False)
    assert (
        service.type_id,
        service.title,
        service.verified,
        service.base_path,
    ) == ("acme", "Acme", "live", "/v1")
    assert [host.name for host in service.hosts] == ["api", "files", "eu"]
    assert service.host("eu") is None
    files = service.hosts[1]
    assert (files.base_path, files.auth.scheme, files.auth.header) == ("/f", "header", "X-Acme-Token")
    assert files.none_when[0].matches(b"/f/signed/x")
    assert files.none_when_query == ("sig",)
    rule = service.rules[0]
    assert (rule.host, rule.strip, rule.prepend) == ("files", "/old", "/f")
    assert rule.applies("POST", b"/old/upload/x")
    assert not rule.applies("GET", b"/old/upload/x")
    assert service.credential_paths.matches(b"/OAuth/token")
    assert not service.credential_paths.matches(b"/oauth/me")
    assert service.batch_paths.matches(b"/v1/batch/")
    assert service.headers == (("Acme-Version", "2026-01-01"),)
    assert service.params["tenant"].aliases == ("tenantName",)
    assert service.params["team"].informational
    assert service.key_places[0].replace
    assert dict(service.oauth.answer) == {"access_token": "user.access_token"}
    assert dict(service.oauth.refresh_answer) == {"access_token": "access_token"}
    assert service.oauth.refresh_grace_s == 10
    assert (service.oauth.untold_expiry, service.oauth.revoke_token) == ("never", "both")
    assert service.oauth.revoke_hint
    assert (
        service.verify.host,
        service.verify.id_path,
        service.verify.ok_path,
    ) == ("files", "items[0].id", "ok")
    assert service.rate_limit.statuses == (429, 503)
    assert service.failure.expired[0].codes == ("expired",)
    assert service.errors.status == 200
    assert [link.names for link in service.links] == [("next", "urls.*")]
    assert [link.names for link in service.links_back] == [("ref",)]
    assert service.presigned[0].host == "*.cdn.acme.example"
    assert frozenset({"GET"}) == service.read_only[0].methods
    assert service.public[0].matches(b"/v1/status")
    assert hashlib.sha256(FULL.encode()).hexdigest() == service.digest == file_hash(path)


def test_the_short_file_is_enough(tmp_path):
    """A title and one host make a service."""
    path = tmp_path / "acme.toml"
    path.write_text(MINIMAL)
    service = load_file(path, user=True)
    assert str(service.hosts[0].origin.build({}, service="acme")) == "https://api.acme.example"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # unknown keys, at every depth, with the nearest name
        (('title = "Acme"', 'titel = "Acme"'), 'acme.toml: titel: is not a known key, did you mean "title"?'),
        (('about = "everything"', 'abuot = "x"'), 'acme.toml: hosts[0].abuot: is not a known key, did you mean "about"?'),
        (('strip = "/old"', 'stripp = "/old"'), 'acme.toml: rules[0].stripp: is not a known key, did you mean "strip"?'),
        (("informational = true", "infomational = true"), 'acme.toml: params.team.infomational: is not a known key, did you mean "informational"?'),
        (("replace = true", "remove = true"), "acme.toml: key_places[0].remove: is not a known key"),
        (("refresh_grace_s", "refresh_grace"), 'acme.toml: oauth.refresh_grace: is not a known key, did you mean "refresh_grace_s"?'),
        (("[[failure.expired]]", "[[failure.expird]]"), 'acme.toml: failure.expird: is not a known key, did you mean "expired"?'),
        (('id_path = "items[0].id"', 'id_pth = "x"'), 'acme.toml: verify.id_pth: is not a known key, did you mean "id_path"?'),
        # types and forms
        (("status = 200", 'status = "200"'), "acme.toml: errors.status: must be a whole number, not '200'"),
        (("statuses = [429, 503]", "statuses = [429, 999]"), "acme.toml: rate_limit.statuses[1]: must be a whole number from 100 to 599, not 999"),
        (("statuses = [429, 503]", "statuses = [true]"), "acme.toml: rate_limit.statuses[0]: must be a whole number from 100 to 599, not True"),
        (("header_underscores = true", "header_underscores = 1"), "acme.toml: header_underscores: must be true or false, not 1"),
        (('verified = "live"', 'verified = "lives"'), "acme.toml: verified: must be one of live, documents, memory, not 'lives', did you mean \"live\"?"),
        (('roots = ["/v1/", "/oauth/"]', 'roots = ["v1/", "/oauth/"]'), "acme.toml: roots[0]: must be a path that begins with '/', not 'v1/'"),
        (('credential_paths = ["/oauth/**"]', 'credential_paths = ["oauth/**", "/oauth/**"]'), "acme.toml: credential_paths[0]: a path pattern begins with '/', this one is 'oauth/**'"),
        (('path = "/old/upload/**"', 'path = "/old/up load/**"'), "acme.toml: rules[0].path: a path pattern has no spaces, '?' or '#': '/old/up load/**'"),
        (('methods = ["POST"]\n', 'methods = ["post"]\n'), "acme.toml: rules[0].methods[0]: must be a method in capitals, not 'post'"),
        (('scheme = "bot"', 'scheme = "bearre"'), "acme.toml: auth.scheme: must be one of bearer, bot, token, raw, basic, header, not 'bearre', did you mean \"bearer\"?"),
        (('Retry-After = "seconds"', 'Retry-After = "second"'), "acme.toml: rate_limit.headers.Retry-After: must be one of"),
        (('host = "*.cdn.acme.example"', 'host = "*"'), "acme.toml: presigned[0].host: must be a host or '*.' and a domain, not '*'"),
        (('host = "*.cdn.acme.example"', 'host = "*.example"'), "acme.toml: presigned[0].host: must be a host or '*.' and a domain, not '*.example'"),
        (('in = "form"\n', ""), "acme.toml: key_places[0].in: is missing"),
        (('family = "acme"\n', ""), "acme.toml: oauth.family: is missing"),
        (('codes = ["expired"]', "codes = []"), "acme.toml: failure.expired[0].codes: path and codes go together: where to look, and for what"),
        (('access_token = "user.access_token"', 'acces_token = "x"'), "acme.toml: oauth.answer.acces_token: is not one of access_token"),
        # what stands in two places
        (('origin = "https://{tenant}.acme.example"', 'origin = "https://{tenat}.acme.example"'), 'acme.toml: hosts[0].origin: {tenat} is not a param of this file, did you mean "tenant"?'),
        (('origin = "https://{tenant}.acme.example"', 'origin = "https://{team}.acme.example"'), "acme.toml: hosts[0].origin: {team} is informational and cannot be part of an address"),
        (('origin = "https://{tenant}.acme.example"', 'origin = "https://{tenant}.example"'), "acme.toml: hosts[0].origin: a param stands left of a domain that is written out"),
        (('origin = "https://{tenant}.acme.example"', 'origin = "https://acme.{tenant}.example"'), "acme.toml: hosts[0].origin: a param stands left of a domain that is written out"),
        (('origin = "https://{tenant}.acme.example"', 'origin = "https://{tenant}{region}.acme.example"'), "acme.toml: hosts[0].origin: a param fills whole labels of a host"),
        (('origin = "https://{tenant}.acme.example"', 'origin = "https://u@{tenant}.acme.example"'), "acme.toml: hosts[0].origin: a param fills whole labels of a host"),
        (('origin = "https://{tenant}.acme.example"', 'origin = "{tenant}"'), "acme.toml: hosts[0].origin: must begin with https://, or be one param with suffixes"),
        (('origin = "https://{tenant}.acme.example"', 'origin = "https://x.{tenant}"\nsuffixes = ["acme.example"]'), "acme.toml: hosts[0].origin: with suffixes the param is the whole host or origin"),
        (('origin = "https://{tenant}.acme.example"', 'origin = "https://a.acme.example"\nsuffixes = ["acme.example"]'), "acme.toml: hosts[0].suffixes: only a whole host or origin from a param has suffixes"),
        (('origin = "https://{tenant}.acme.example"', 'origin = "https://{tenant}"\nsuffixes = ["example"]'), "acme.toml: hosts[0].suffixes[0]: must be a domain such as 'example.com', not 'example'"),
        (('origin = "https://files.acme.example"', 'origin = "https://files.acme.example/x"'), "acme.toml: hosts[1].origin: an origin is 'https://host'"),
        (('origin = "https://files.acme.example"', 'origin = "https://a@files.acme.example"'), "acme.toml: hosts[1].origin: not an origin"),
        (('origin = "https://files.acme.example"', 'origin = "ftp://files.acme.example"'), "acme.toml: hosts[1].origin: an origin is 'https://host'"),
        (('pattern = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"', 'pattern = ".*"'), "acme.toml: params.tenant.pattern: lets 'a/b' into the host of api"),
        (('pattern = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"', 'pattern = "[a-z@]+|Contoso|contoso"'), "acme.toml: params.tenant.pattern: lets 'a@b' into the host of api"),
        (('pattern = "us|eu"', 'pattern = "us|eu("'), "acme.toml: params.region.pattern: is not a regular expression"),
        (('example = "us"', 'example = "uk"'), "acme.toml: params.region.example: 'uk' does not match the pattern"),
        (('aliases = ["tenantName"]', 'aliases = ["region"]'), 'acme.toml: params.region.aliases: "region" already means tenant'),
        (("required = true\n", 'required = true\ndefault = "x"\n'), "acme.toml: params.tenant.required: a value with a default is never missing"),
        (('name = "files"', 'name = "api"'), 'acme.toml: hosts[1].name: "api" is there twice'),
        (('when = { region = "eu" }', 'when = { regoin = "eu" }'), 'acme.toml: hosts[2].when.regoin: is not a param of this file, did you mean "region"?'),
        (('when = { region = "eu" }', 'when = { region = "moon" }'), "acme.toml: hosts[2].when.region: 'moon' does not match the param's pattern"),
        (('prefixes = ["/v1/", "/oauth/"]', "enabled = false"), "acme.toml: hosts[0].enabled: the first host is the default one and cannot be switched off"),
        (('prefixes = ["/v1/", "/oauth/"]', 'prefixes = ["/v2/"]'), "acme.toml: hosts[0].prefixes: base_path /v1/ lies under none of them"),
        (('roots = ["/v1/", "/oauth/"]', 'roots = ["/v2/"]'), "acme.toml: roots: base_path /v1 lies under none of them"),
        (('base_path = "/v1"', 'base_path = "/v1/"'), "acme.toml: base_path: has no slash at its end"),
        (('credential_exempt = ["/oauth/me"]', 'credential_exempt = ["/me"]'), "acme.toml: credential_exempt: /me is under none of credential_paths"),
        (('credential_exempt = ["/oauth/me"]', 'credential_exempt = ["/oauth/*"]'), "acme.toml: credential_exempt[0]: must be a whole path without '*', not '/oauth/*'"),
        (('host = "files"\nstrip', 'host = "flies"\nstrip'), 'acme.toml: rules[0].host: "flies" is not a host of this file, did you mean "files"?'),
        (('host = "files"\nstrip', 'host = "eu"\nstrip'), 'acme.toml: rules[0].host: "eu" is switched off, and a rule cannot lead there'),
        (('strip = "/old"', 'strip = "/ol"'), "acme.toml: rules[0].strip: /old/upload/** does not begin with the segments of /ol"),
        (('strip = "/old"', 'strip = "/old/"'), "acme.toml: rules[0]: strip and prepend have no slash at their ends"),
        (('host = "files"\nid_path', 'host = "eu"\nid_path'), 'acme.toml: verify.host: "eu" is not a host of this file'),
        (('auth = { scheme = "header", header = "X-Acme-Token" }', 'auth = { scheme = "header" }'), "acme.toml: hosts[1].auth.header: scheme header has a field of its own"),
        (('auth = { scheme = "header", header = "X-Acme-Token" }', 'auth = { scheme = "header", header = "Cookie" }'), "acme.toml: hosts[1].auth.header: Cookie is a field of the connection, not of the token"),
        (('auth = { scheme = "header", header = "X-Acme-Token" }', 'token = "none"\nauth = { scheme = "raw" }'), "acme.toml: hosts[1].auth: makes no sense on a host without token"),
        (('Acme-Version = "2026-01-01"', 'authorization = "x"'), "acme.toml: headers.authorization: is set by the proxy itself"),
        (('Acme-Version = "2026-01-01"', 'Acme-Version = "a\\r\\nb"'), "acme.toml: headers.Acme-Version: must be printable ASCII"),
        (('Acme-Version = "2026-01-01"', '"Acme Version" = "a"'), "acme.toml: headers.Acme Version: its name must be a header field name"),
        (("template = '{\"ok\":false,\"error\":\"{code}\"}'", "template = '{\"ok\":{code}}'"), "acme.toml: errors.template: is not JSON once its places are filled in"),
        (("template = '{\"ok\":false,\"error\":\"{code}\"}'", "template = '{\"ok\":false}'"), "acme.toml: errors.template: tells the caller nothing"),
        (("status = 200", 'status = 200\ncodes = { 400 = "bad" }'), "acme.toml: errors.codes: needs 400 and 500, for the statuses that it does not name"),
        (("status = 200", 'status = 200\ncodes = { 400 = "bad", 500 = "down" }'), "acme.toml: errors.codes: goes together with {service_code} in the template"),
        (('{"ok":false,"error":"{code}"}', '{"error":"{code}","word":"{service_code}"}'), "acme.toml: errors.codes: goes together with {service_code} in the template"),
        (("status = 200", 'status = 200\ncodes = { 200 = "fine" }'), "acme.toml: errors.codes.200: its name must be a status of the proxy's own, 400 to 599"),
        (('team = "{team}"', 'team = "{taem}"'), 'acme.toml: oauth.refresh_params.team: {taem} is not a param of this file, did you mean "team"?'),
        (('token_url = "https://acme.example/token"', 'token_url = "http://acme.example/token"'), "acme.toml: oauth.token_url: shipped services are reached by https only"),
        (('token_url = "https://acme.example/token"', 'token_url = "https://{tenant}.acme.example/token"'), "acme.toml: oauth.token_url: a param is the whole host of an https:// address here"),
        (('token_url = "https://acme.example/token"', 'token_url = "https://u@acme.example/token"'), "acme.toml: oauth.token_url: is not an address"),
        (('authorization_url = "https://acme.example/authorize"', 'authorization_url = "https://{tenant}/authorize"'), "acme.toml: oauth.authorization_url: {tenant} must be the host of one of [[hosts]] with suffixes"),
        (('pattern = "[0-9]{1,9}"\n', 'pattern = "[0-9/]{1,9}|a/b"\n'), "acme.toml: oauth.revoke_url: the pattern of team lets 'a/b' into the path"),
        (('pattern = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"', 'pattern = "("'), "acme.toml: params.tenant.pattern: is not a regular expression"),
        (('base_path = "/f"', 'base_path = "/f/"'), "acme.toml: hosts[1].base_path: has no slash at its end"),
        (('strip = "/old"', 'strip = "/o*"'), "acme.toml: rules[0].strip: is a plain prefix, no pattern"),
        (('in = "form"\nname = "token"', 'in = "header"\nname = "Authorization"'), "acme.toml: key_places[0].name: Authorization is looked at for every service"),
        (('names = ["next", "urls.*"]\n', ""), "acme.toml: links[0].names: is missing"),
        (('paths = ["/v1/refs"]\n', ""), "acme.toml: links[1].paths: is missing: bodies are read whole there"),
        (('methods = ["GET"]\n', ""), "acme.toml: read_only[0].methods: is missing: an allow-list names its methods"),
        (("status = 401\n", ""), "acme.toml: failure.expired[0].status: is missing"),
        (('title = "Acme"', 'title = ""'), "acme.toml: title: must not be empty"),
        (('refresh = "rotating_strict"', 'refresh = "remint"'), "acme.toml: oauth.refresh: remint is for client_credentials"),
        (('client = "{client_id}"', 'team = "{team}"'), "acme.toml: oauth.token_params.team: {team} is told by the provider, but needed before it can be"),
        (('client = "{client_id}"', 'client = "{state}"'), "acme.toml: oauth.token_params.client: {state} is not a param of this file"),
        (('client = "{client_id}"', 'code_verifier = "x"'), "acme.toml: oauth.token_params.code_verifier: is set by the flow itself"),
        (("refresh_params = {", 'authorization_params = { state = "x" }\nrefresh_params = {'), "acme.toml: oauth.authorization_params.state: is set by the flow itself"),
        (("refresh_params = {", 'authorization_params = { team = "{team}" }\nrefresh_params = {'), "acme.toml: oauth.authorization_params.team: {team} is told by the provider"),
        (('source = "token:team.id"', 'source = "call:team"'), "acme.toml: params.team.source: must be user, call, token:PATH or callback:NAME"),
        (('family = "acme"\n', 'family = "acme"\ngrant = "client_credentials"\n'), "acme.toml: oauth.refresh: is remint or none with client_credentials"),
        (('family = "acme"\n', 'family = "acme"\ngrant = "client_credentials"\n'), "acme.toml: oauth.authorization_params: must hold {state} and {redirect_uri}"),
        (('family = "acme"\n', 'family = "acme"\nclient_auth = "none"\npkce = "off"\n'), "acme.toml: oauth.pkce: a client without a secret needs it"),
        (('authorization_url = "https://acme.example/authorize"\n', ""), "acme.toml: oauth.authorization_url: is missing"),
        (('access_token = "user.access_token"', 'access_token = "user access_token"'), "acme.toml: oauth.answer.access_token: must be a dotted path"),
        (('docs = "https://acme.example/docs"\n', ""), "acme.toml: docs: is missing"),
        (('title = "Acme"', 'title = "Acme"\noverride = true'), "acme.toml: override: belongs into a user's file"),
    ],
)  # fmt: skip
def test_each_fault_says_where_and_what(tmp_path, change, expected):
    """A wrong file is refused with its name, the dotted key, and the nearest name where there is one."""
    old, new = change
    assert old in FULL
    assert any(
        fault.startswith(expected) for fault in faults_of(tmp_path, FULL.replace(old, new, 1), user=False)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "acme.toml: title: is missing"),
        ('title = "A"', "acme.toml: hosts: is missing"),
        ("title = ", "acme.toml: is not valid TOML"),
        ('title = "A"\nhosts = 3', "acme.toml: hosts: must be a list of tables ([[hosts]]), not 3"),
        ('title = "A"\nhosts = [3]', "acme.toml: hosts[0]: must be a table, not 3"),
        (MINIMAL + "[params]\nx = 3", "acme.toml: params.x: must be a table, not 3"),
        (MINIMAL + '[params."a b"]\npattern = "a"', "acme.toml: params.a b: its name must be a word"),
        (MINIMAL + "auth = 3", "acme.toml: hosts[0].auth: must be a table, not 3"),
        (MINIMAL + "when = { a = 1 }", "acme.toml: hosts[0].when.a: must be a string, not 1"),
        (MINIMAL + "none_when = [1]", "acme.toml: hosts[0].none_when[0]: must be a string that is not empty, not 1"),
        (MINIMAL + "[oauth]\nrefresh_grace_s = -1", "acme.toml: oauth.refresh_grace_s: must lie between"),
    ],
)  # fmt: skip
def test_shapes_that_are_no_service_at_all(tmp_path, text, expected):
    """Broken TOML and wrong types end in faults, not in tracebacks."""
    assert any(fault.startswith(expected) for fault in faults_of(tmp_path, text))


@pytest.mark.parametrize("name", ["Acme.toml", "ac-me.toml", "a.b.toml", ".toml", "ä.toml", "a@b.toml"])
def test_the_file_name_is_the_id(tmp_path, name):
    """A name that could not be the first segment of an address is refused (R71)."""
    assert any(
        "the file's name is the service's id" in fault for fault in faults_of(tmp_path, MINIMAL, name=name)
    )


def test_all_faults_of_all_files_at_once(tmp_path):
    """One start tells everything that is wrong, whichever file it stands in (R160)."""
    (tmp_path / "one.toml").write_text('titel = "x"\n' + MINIMAL)
    (tmp_path / "two.toml").write_text(MINIMAL + "tokn = 1\n[rate_limit]\nstatuses = [1]\n")
    (tmp_path / "three.toml").write_text("=")
    (tmp_path / "notes.txt").write_text("not a service")
    with pytest.raises(ConfigurationError) as caught:
        load_catalog(user_directory=tmp_path, enabled=["slck"], extra_hosts=["slack.gv"])
    places = [fault.place for fault in caught.value.faults]
    assert places == [
        "one.toml: titel",
        "three.toml",
        "two.toml: hosts[0].tokn",
        "two.toml: rate_limit.statuses[0]",
        "[services] enabled",
        "[services] extra_hosts",
    ]
    assert 'did you mean "slack"?' in str(caught.value)
    assert 'did you mean "slack.gov"?' in str(caught.value)


def test_a_missing_folder_is_a_fault(tmp_path):
    """A user folder that is not there is said, not skipped."""
    with pytest.raises(ConfigurationError, match="is not a folder"):
        load_catalog(user_directory=tmp_path / "nowhere")


def test_an_unreadable_file_is_a_fault(tmp_path):
    """A file that cannot be opened is a fault with its name."""
    (tmp_path / "acme.toml").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigurationError, match=r"acme\.toml: cannot be read"):
        load_catalog(user_directory=tmp_path)


def test_a_user_service_joins_the_shipped_ones(tmp_path):
    """A file in the user's folder is a service beside the 32, marked as the user's."""
    (tmp_path / "acme.toml").write_text(MINIMAL)
    catalog = load_catalog(user_directory=tmp_path)
    assert len(catalog.services) == 33
    assert catalog.services["acme"].user
    assert not catalog.services["slack"].user
    assert str(tmp_path / "acme.toml") == catalog.services["acme"].source_file
    assert catalog.warnings == ()


def replacement(claim: str) -> str:
    return f"{claim}\n{MINIMAL}"


def test_a_shipped_service_is_replaced_only_on_purpose(tmp_path):
    """Same name without override = true fails, so that nothing replaces Slack by accident."""
    (tmp_path / "slack.toml").write_text(MINIMAL)
    with pytest.raises(ConfigurationError, match=r"slack\.toml: override: replaces the shipped service"):
        load_catalog(user_directory=tmp_path)


def test_a_replacement_names_what_it_was_based_on(tmp_path):
    """Override needs based_on, so that a later change of the shipped file is noticed."""
    (tmp_path / "slack.toml").write_text(replacement("override = true"))
    with pytest.raises(ConfigurationError, match=r"slack\.toml: based_on: is missing"):
        load_catalog(user_directory=tmp_path)


def test_a_replacement_is_whole(tmp_path):
    """Nothing of the shipped file is merged into the replacement: a half-merged auth section is a leak."""
    current = file_hash(packaged_directory() / "services" / "slack.toml")
    (tmp_path / "slack.toml").write_text(replacement(f'override = true\nbased_on = "{current}"'))
    catalog = load_catalog(user_directory=tmp_path)
    slack = catalog.services["slack"]
    assert (slack.title, slack.base_path, slack.rules, slack.oauth) == ("Acme", "", (), None)
    assert catalog.warnings == ()


def test_a_moved_shipped_file_is_a_warning(tmp_path):
    """An override of an older version still loads, and says what to compare and write."""
    (tmp_path / "slack.toml").write_text(replacement('override = true\nbased_on = "0000"'))
    catalog = load_catalog(user_directory=tmp_path)
    current = file_hash(packaged_directory() / "services" / "slack.toml")
    assert [warning.place for warning in catalog.warnings] == ["slack.toml: based_on"]
    assert current in catalog.warnings[0].message


def test_override_of_nothing_is_a_fault(tmp_path):
    """Override in a file that replaces nothing is a misspelt name."""
    (tmp_path / "slak.toml").write_text(replacement('override = true\nbased_on = "0000"'))
    with pytest.raises(ConfigurationError, match="there is no shipped service slak"):
        load_catalog(user_directory=tmp_path)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://127.0.0.1:9000", True),
        ("http://localhost:9000", True),
        ("http://[::1]:9000", True),
        ("http://127.8.9.1", True),
        ("http://10.0.0.5:9000", False),
        ("http://acme.example", False),
        ("http://localhost.acme.example", False),
        ("http://0.0.0.0", False),
        ("https://10.0.0.5", True),
    ],
)
def test_plain_http_only_to_loopback(tmp_path, origin, allowed):
    """A user's file may name http:// on this machine and nowhere else; shipped files never (R81)."""
    text = MINIMAL.replace("https://api.acme.example", origin)
    if allowed:
        path = tmp_path / "acme.toml"
        path.write_text(text)
        assert origin == load_file(path, user=True).hosts[0].origin.text
    else:
        assert any("http:// leads only to loopback" in fault for fault in faults_of(tmp_path, text))
    if origin.startswith("http:"):
        assert any("https only" in fault for fault in faults_of(tmp_path, text, user=False))


def test_the_operator_can_allow_http_further(tmp_path):
    """allow_http is asked with host and port, and only for addresses that are not loopback."""
    asked = []
    path = tmp_path / "acme.toml"
    path.write_text(MINIMAL.replace("https://api.acme.example", "http://10.0.0.5:9000"))

    def allow(host: str, port: int) -> bool:
        asked.append((host, port))
        return True

    load_file(path, user=True, allow_http=allow)
    assert asked == [("10.0.0.5", 9000)]
    assert any(
        "http:// leads only" in fault
        for fault in faults_of(tmp_path, path.read_text(), allow_http=lambda _host, _port: False)
    )


def test_http_never_takes_a_param(tmp_path):
    """http:// with a placeholder could be sent anywhere in clear, so it does not load."""
    text = MINIMAL.replace("https://api.acme.example", "http://{tenant}.acme.example")
    text += '[params.tenant]\npattern = "[a-z]+"\n'
    assert any("must begin with https://" in fault for fault in faults_of(tmp_path, text))


def test_extra_hosts_switch_on_what_is_off():
    """A host known only from memory is off, and on when the operator says so."""
    assert load_catalog().services["slack"].host("gov") is None
    assert load_catalog(extra_hosts=["slack.gov"]).services["slack"].host("gov") is not None


def test_a_connection_of_a_switched_off_host_goes_nowhere():
    """A GovSlack token is not sent to slack.com because GovSlack is off."""
    slack = load_catalog().services["slack"]
    with pytest.raises(CredentialInvalid, match=r"slack\.gov"):
        slack.default_host({"environment": "gov"})
    on = load_catalog(extra_hosts=["slack.gov"]).services["slack"]
    assert on.default_host({"environment": "gov"}).name == "gov"
    assert on.default_host({"environment": "commercial"}).name == "api"
    assert on.default_host({}).name == "api"


def test_enabled_narrows():
    """Only the named services are in force."""
    assert load_catalog(enabled=["slack"]).get("github") is None
    assert list(load_catalog(enabled=["slack", "github"]).services) == ["github", "slack"]
    assert not load_catalog(enabled=[]).services


def test_the_catalog_cannot_be_changed():
    """Services in force are read-only for everybody."""
    with pytest.raises(TypeError):
        load_catalog().services["x"] = None


@pytest.mark.parametrize("name", ["acme", "my_crm", "s3", "_x"])
def test_a_new_service_file_loads_as_it_is(tmp_path, name):
    """``services new`` writes a file that works before it is touched: subdomain in, address out."""
    path = tmp_path / f"{name}.toml"
    path.write_text(new_service_text(name))
    service = load_file(path, user=True)
    assert (
        str(service.hosts[0].origin.build({"subdomain": "shop"}, service=name)) == "https://shop.example.com"
    )
    assert service.params["subdomain"].required


@pytest.mark.parametrize("name", ["", "Acme", "a-b", "a b", "../a", "ä", "a.toml", "a\n"])
def test_a_new_service_needs_an_id(name):
    """A name that could not be a file's name and a path segment is refused."""
    with pytest.raises(ValueError, match="service's id"):
        new_service_text(name)


@pytest.mark.parametrize(
    ("path", "under"),
    [
        (b"/v1/x", True),
        (b"/v1/", True),
        (b"/v1", True),
        (b"/v10/x", False),
        (b"/graphql", True),
        (b"/graphql/x", True),
        (b"/graphqlx", False),
        (b"/V1/x", False),
        (b"/", False),
        (b"", False),
    ],
)
def test_roots_end_at_segments(tmp_path, path, under):
    """A root is left alone with or without its last slash, and never matches half a segment (R74)."""
    file = tmp_path / "acme.toml"
    file.write_text('base_path = "/v1"\nroots = ["/v1/", "/graphql"]\n' + MINIMAL)
    assert under == load_file(file, user=True).is_under_root(path)
