"""connection_config against what a service declares: R76 on save, and R76 again at use."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalog import check_config, load_catalog, load_file
from proxy.catalog.origin import host_under
from proxy.errors import ConfigurationError, ConnectionConfigMissing, CredentialInvalid

CATALOG = load_catalog()
SALESFORCE = CATALOG.services["salesforce"]
SHAREPOINT = CATALOG.services["share_point"]
LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"

_HOSTS = (
    "evil.example",
    "127.0.0.1",
    "[::1]",
    "169.254.169.254",
    "0x7f000001",
    "localhost",
    "evil.example:443",
)
_BETWEEN = ("@", "/", "//", "\\", "#", "?", "%2f", "%40", "%23", "%00", ":", ";", "&", " ", "\t", "\r\n", "\n", "..", ".", ",", "|", "^", "`", "{", "}", "<", ">", '"', "'", "$", "*", "=", "+", "!", "~", "(", ")", "[", "]", "\u3002", "\uff0e", "\uff61", "\u2024", "\uff0f", "\u2044", "\u2100", "\u202e", "\u200b", "\u00ad", "\ufeff", "\u0000", "\u007f")  # fmt: skip
_EDGES = (
    "", " ", ".", "..", "-", "--", "-acme", "acme-", "acme.", ".acme", "a" * 64, "a" * 3000, "acme\n", "\nacme",
    "acme\x00", "\u0430cme", "acm\u0435", "\u0261oogle", "\uff41cme", "a\u0301cme", "stra\u00dfe", "\u212ac",
    "ac\u200dme", "xn--", "acme..evil", "https://acme", "http://acme", "javascript:alert(1)", "data:,", "//acme",
    "/acme", "\\\\acme", "acme/", "acme/..", "%61cme", "acme%", "acme%0d%0ahost:%20evil", "acme_1", "ac me",
    "{tenant}", "{subdomain}", "${IFS}", "$(id)", "`id`", "'", '"', "\u0131stanbul", "\u017floane", "\u24d0\u24d2",
)  # fmt: skip
HOSTILE = sorted(
    {*_EDGES}
    | {f"acme{mark}{host}" for mark, host in itertools.product(_BETWEEN, _HOSTS)}
    | {f"{host}{mark}acme" for mark, host in itertools.product(_BETWEEN, _HOSTS)}
    | {f"{mark}acme" for mark in _BETWEEN}
    | {f"acme{mark}" for mark in _BETWEEN}
)


@pytest.fixture(scope="module")
def acme(tmp_path_factory):
    """A service with one label param, one of each other kind."""
    path = tmp_path_factory.mktemp("services") / "acme.toml"
    path.write_text(f"""
title = "Acme"
[[hosts]]
name = "api"
origin = "https://{{tenant}}.acme.example"
[params.tenant]
pattern = "{LABEL}"
required = true
lower = true
example = "contoso"
aliases = ["tenantName"]
[params.region]
pattern = "us|eu"
[params.team_id]
pattern = "T[0-9]+"
informational = true
""")
    return load_file(path, user=True)


def faults(service, given_values) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        check_config(service, given_values)
    return [str(fault) for fault in caught.value.faults]


def test_the_list_is_long_enough():
    """At least 500 hostile values are tried (R76)."""
    assert len(HOSTILE) >= 500


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_hostile_values_are_refused_on_save_and_at_use(acme, value):
    """What is not one plain label goes into no connection, and into no address if it got there otherwise (R76)."""
    assert faults(acme, {"tenant": value})
    with pytest.raises((ConnectionConfigMissing, CredentialInvalid)):
        acme.hosts[0].origin.build({"tenant": value}, service="acme")


@pytest.mark.parametrize(
    ("service", "host", "name"),
    [
        pytest.param(service, host, name, id=f"{service.type_id}-{host.name}-{name}")
        for service in CATALOG.services.values()
        for host in service.hosts
        for name in host.origin.params
    ],
)
def test_hostile_values_never_lead_out_of_a_shipped_service(service, host, name):
    """Every param of a shipped address refuses all of them, on save and at use (R76)."""
    for value in HOSTILE:
        assert faults(service, {name: value})
        if value:
            with pytest.raises(CredentialInvalid):
                host.origin.build({name: value}, service=service.type_id)


def test_nothing_needed_is_null():
    """A service without params has no connection_config (R166)."""
    assert check_config(CATALOG.services["github"], {}) == (None, {})


def test_nothing_given_where_nothing_is_required_is_null():
    """Optional params do not make an empty object (R166)."""
    assert check_config(CATALOG.services["wrike"], {}) == (None, {})


def test_values_are_normalised(acme):
    """Aliases become the declared name, host-like values lower case."""
    config, metadata = check_config(acme, {"tenantName": "Contoso", "region": "eu", "team_id": "T12"})
    assert dict(config) == {"tenant": "contoso", "region": "eu"}
    assert dict(metadata) == {"team_id": "T12"}


def test_informational_values_alone_leave_no_config():
    """What no request uses is metadata, and connection_config stays null (R166)."""
    config, metadata = check_config(CATALOG.services["slack"], {"team_id": "T012AB3CD"})
    assert config is None
    assert dict(metadata) == {"team_id": "T012AB3CD"}


@pytest.mark.parametrize("name", ["instance_url", "instanceUrl", "instance"])
@pytest.mark.parametrize(
    "value", ["https://acme.my.salesforce.com", "acme.my.salesforce.com", "https://ACME.my.salesforce.com"]
)
def test_salesforce_spellings(name, value):
    """Every spelling that apps use of Salesforce's instance address means the same (R180)."""
    config, _ = check_config(SALESFORCE, {name: value})
    assert dict(config) == {"instance_url": "https://acme.my.salesforce.com"}
    assert (
        str(SALESFORCE.hosts[0].origin.build(config, service="salesforce"))
        == "https://acme.my.salesforce.com"
    )


def test_two_spellings_that_agree_are_one():
    """A value given twice is fine as long as it is the same."""
    both = {"instance_url": "https://a.my.salesforce.com", "instance": "a.my.salesforce.com"}
    config, _ = check_config(SALESFORCE, both)
    assert dict(config) == {"instance_url": "https://a.my.salesforce.com"}


def test_two_spellings_that_disagree_are_refused():
    """A value must not be able to hide behind another spelling of its name."""
    both = {"instance_url": "https://a.my.salesforce.com", "instance": "b.my.salesforce.com"}
    assert faults(SALESFORCE, both) == [
        "salesforce: instance: says something else than another spelling of instance_url"
    ]


def test_share_point_subdomain_is_a_path_and_never_a_host():
    """The site path is kept for apps, and no address of the service has a place for it (R180)."""
    config, _ = check_config(SHAREPOINT, {"subdomain": "sites/mysite"})
    assert dict(config) == {"subdomain": "sites/mysite"}
    assert all("subdomain" not in host.origin.params for host in SHAREPOINT.hosts)


def test_all_faults_at_once_without_the_values(acme):
    """Unknown names, wrong values and what is missing are told together; values are never repeated."""
    told = faults(acme, {"tennant": "s3cret-1", "region": "s3cret-2", "team_id": 7})
    assert told == [
        'acme: tennant: is not a value of Acme, did you mean "tenant"?',
        "acme: region: does not have the form of region",
        "acme: team_id: must be a string",
        "acme: tenant: is missing, for example contoso",
    ]
    assert "s3cret" not in " ".join(told)


def test_a_service_without_params_says_so():
    """A value for a service that takes none is a mistake worth telling."""
    assert faults(CATALOG.services["github"], {"subdomain": "x"}) == [
        "github: subdomain: GitHub needs no connection_config"
    ]


def test_hostile_names_are_shown_safely(acme):
    """A name from outside reaches a message as text without control characters."""
    assert [
        fault.rpartition(":")[0].rpartition(": is")[0] or fault.rpartition(":")[0]
        for fault in faults(acme, {"\r\nx": "a"})
    ] == ["acme: '\\r\\nx'", "acme: tenant"]


def test_a_value_for_a_switched_off_host_is_refused():
    """Environment = gov while GovSlack is off would send the token to slack.com: refused, with the way out."""
    slack = CATALOG.services["slack"]
    assert faults(slack, {"environment": "gov"}) == [
        "slack: environment: gov needs the host slack.gov, which is off: see [services] extra_hosts"
    ]
    on = load_catalog(extra_hosts=["slack.gov"]).services["slack"]
    assert dict(check_config(on, {"environment": "gov"})[0]) == {"environment": "gov"}


def test_defaults_fill_addresses_and_nothing_else():
    """A default works without being written into anybody's connection_config."""
    login = SALESFORCE.host("login")
    assert str(login.origin.build({}, service="salesforce")) == "https://login.salesforce.com"
    given_host = {"login_host": "test.salesforce.com"}
    assert str(login.origin.build(given_host, service="salesforce")) == "https://test.salesforce.com"


def test_the_config_cannot_be_changed(acme):
    """What was checked stays what was checked."""
    config, metadata = check_config(acme, {"tenant": "a"})
    with pytest.raises(TypeError):
        config["tenant"] = "b"
    with pytest.raises(TypeError):
        metadata["x"] = "b"


@given(st.text(max_size=80))
def test_any_text_is_a_label_or_refused(acme, text):
    """Whatever is typed: either exactly one label, or no connection."""
    try:
        config, _ = check_config(acme, {"tenant": text})
    except ConfigurationError:
        return
    assert f"{text.lower()}.acme.example" == acme.hosts[0].origin.build(config, service="acme").host
    assert text.isascii()
    assert "." not in text


@given(st.text(alphabet="acme.salesforce.commil/@:#?%-https\\ \n", max_size=60))
def test_any_instance_address_lies_under_salesforce(text):
    """Whatever is typed: an https origin under Salesforce's domains, or no connection."""
    try:
        config, _ = check_config(SALESFORCE, {"instance": text})
    except ConfigurationError:
        return
    origin = SALESFORCE.hosts[0].origin.build(config, service="salesforce")
    assert (origin.scheme, origin.port) == ("https", 443)
    assert host_under(origin.host, "salesforce.com") or host_under(origin.host, "salesforce.mil")
