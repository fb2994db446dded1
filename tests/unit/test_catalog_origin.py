"""Origins: one reading, and never outside of what the template declares (R75-R77, R80)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.catalog.origin import Origin, OriginTemplate, host_under, parse_origin
from proxy.errors import ConnectionConfigMissing, CredentialInvalid


@pytest.mark.parametrize(
    ("text", "origin", "authority"),
    [
        ("https://slack.com", Origin("https", "slack.com", 443), "slack.com"),
        ("https://slack.com/", Origin("https", "slack.com", 443), "slack.com"),
        ("https://SLACK.com", Origin("https", "slack.com", 443), "slack.com"),
        ("https://slack.com:443", Origin("https", "slack.com", 443), "slack.com"),
        ("https://slack.com:8443", Origin("https", "slack.com", 8443), "slack.com:8443"),
        ("http://127.0.0.1:9000", Origin("http", "127.0.0.1", 9000), "127.0.0.1:9000"),
        ("http://[::1]:9000", Origin("http", "::1", 9000), "[::1]:9000"),
        ("http://localhost", Origin("http", "localhost", 80), "localhost"),
    ],
)
def test_origins_are_read(text, origin, authority):
    """Scheme, host in lower case and port; the Host header names a port only when it is not the scheme's."""
    assert origin == parse_origin(text)
    assert authority == origin.authority


@pytest.mark.parametrize(
    "text",
    [
        "", "slack.com", "//slack.com", "ftp://slack.com", "https://", "https:///x", "https://slack.com/api",
        "https://u@slack.com", "https://u:p@slack.com", "https://slack.com?x", "https://slack.com#x",
        "https://slack.com\\@evil.example", "https://sla ck.com", "https://slack.com\n", "https://slack.com\r\nx",
        "https://sl%61ck.com", "https://sl\u0430ck.com", "https://slack\u3002com", "https://slack.com:0",
        "https://slack.com:65536", "https://slack.com:x", "https://-slack.com", "https://slack-.com",
        "https://slack..com", "https://.slack.com", "https://slack_x.com", "https://" + "a" * 64 + ".com",
        "https://" + "a." * 130 + "com", "https://{x}.com", "https://*.com", "javascript://slack.com",
    ],
)  # fmt: skip
def test_what_is_no_origin(text):
    """Anything that two parsers could read differently is refused (R77)."""
    with pytest.raises(ValueError, match=r".+"):
        parse_origin(text)


LABEL = OriginTemplate("https://{tenant}.acme.example")
AFFIX = OriginTemplate("https://{tenant}-my.acme.example")
HOST = OriginTemplate("https://{host}", ("acme.example",))
ORIGIN = OriginTemplate("{url}", ("acme.example", "acme.test"))
DEFAULTED = OriginTemplate("https://{host}", ("acme.example",), (("host", "www.acme.example"),))


@pytest.mark.parametrize(
    ("template", "config", "expected"),
    [
        (LABEL, {"tenant": "contoso"}, "https://contoso.acme.example"),
        (LABEL, {"tenant": "CONTOSO"}, "https://contoso.acme.example"),
        (LABEL, {"tenant": "xn--bcher-kva"}, "https://xn--bcher-kva.acme.example"),
        (AFFIX, {"tenant": "contoso"}, "https://contoso-my.acme.example"),
        (HOST, {"host": "eu.acme.example"}, "https://eu.acme.example"),
        (HOST, {"host": "a.b.acme.example"}, "https://a.b.acme.example"),
        (ORIGIN, {"url": "https://eu.acme.test"}, "https://eu.acme.test"),
        (ORIGIN, {"url": "https://eu.acme.test:443"}, "https://eu.acme.test"),
        (DEFAULTED, {}, "https://www.acme.example"),
        (DEFAULTED, {"host": ""}, "https://www.acme.example"),
        (DEFAULTED, {"host": "eu.acme.example"}, "https://eu.acme.example"),
    ],
)
def test_templates_are_filled(template, config, expected):
    """A label, a label with fixed text, a whole host or a whole origin comes from connection_config."""
    assert expected == str(template.build(config, service="acme"))


@pytest.mark.parametrize("config", [{}, {"tenant": ""}, {"other": "x"}])
def test_a_missing_value_is_named(config):
    """What a connection lacks is told by name, so that a person can complete it."""
    with pytest.raises(ConnectionConfigMissing, match="tenant") as caught:
        LABEL.build(config, service="acme")
    assert caught.value.service == "acme"


@pytest.mark.parametrize(
    ("template", "config"),
    [
        (LABEL, {"tenant": "a.b"}),
        (LABEL, {"tenant": "evil.example/"}),
        (LABEL, {"tenant": "evil.example#"}),
        (LABEL, {"tenant": "u@evil"}),
        (LABEL, {"tenant": "-a"}),
        (LABEL, {"tenant": "a" * 64}),
        (LABEL, {"tenant": "\u212ac"}),
        (AFFIX, {"tenant": "a" * 61}),
        (HOST, {"host": "acme.example"}),
        (HOST, {"host": "evilacme.example"}),
        (HOST, {"host": "acme.example.evil.example"}),
        (HOST, {"host": "eu.acme.example:444"}),
        (HOST, {"host": "eu.acme.example."}),
        (HOST, {"host": "u@eu.acme.example"}),
        (HOST, {"host": "[::1]"}),
        (HOST, {"host": "127.0.0.1"}),
        (ORIGIN, {"url": "http://eu.acme.example"}),
        (ORIGIN, {"url": "https://eu.acme.example/x"}),
        (ORIGIN, {"url": "https://evil.example"}),
        (ORIGIN, {"url": "https://eu.acme.example@evil.example"}),
        (ORIGIN, {"url": "https://evil.example\\.acme.example"}),
        (ORIGIN, {"url": "eu.acme.example"}),
        (ORIGIN, {"url": "https://eu.acme.example:444"}),
    ],
)
def test_values_cannot_lead_elsewhere(template, config):
    """A stored value is checked again at use, and its text is in no message (R76)."""
    with pytest.raises(CredentialInvalid) as caught:
        template.build(config, service="acme")
    assert next(iter(config.values())) not in caught.value.detail


@pytest.mark.parametrize(
    ("host", "suffix", "under"),
    [
        ("a.acme.example", "acme.example", True),
        ("a.b.acme.example", "acme.example", True),
        ("acme.example", "acme.example", False),
        (".acme.example", "acme.example", False),
        ("xacme.example", "acme.example", False),
        ("acme.example.evil", "acme.example", False),
    ],
)
def test_suffixes_are_whole_labels(host, suffix, under):
    """A suffix never matches the bare domain or half a label (R80)."""
    assert under == host_under(host, suffix)


ADVERSE = st.one_of(
    st.text(max_size=70),
    st.text(alphabet="abc-.:/@#?%\\[]1 \r\n\tAZ_~;{}", max_size=40),
    st.builds("{}{}{}".format, st.sampled_from(["a", "evil.example", ""]), st.text(max_size=3), st.sampled_from(["acme.example", "a"])),
)  # fmt: skip


@given(ADVERSE)
@example("\u212a")
@example("evil.example/\u3002")
def test_every_origin_lies_under_what_is_declared(value):
    """Whatever a vault holds: an https origin under the template's own domain, or an error (R75)."""
    for template, key, suffixes in (
        (LABEL, "tenant", ["acme.example"]),
        (AFFIX, "tenant", ["acme.example"]),
        (HOST, "host", ["acme.example"]),
        (ORIGIN, "url", ["acme.example", "acme.test"]),
    ):
        try:
            origin = template.build({key: value}, service="acme")
        except (CredentialInvalid, ConnectionConfigMissing):
            continue
        assert (origin.scheme, origin.port) == ("https", 443)
        assert any(host_under(origin.host, suffix) for suffix in suffixes)
        assert origin == parse_origin(str(origin))
        assert template.admits(origin)
