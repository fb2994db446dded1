"""Path patterns, and the sets that must recognise a path however it is spelt."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalog.jsonpath import JSON_PATH, first_at, values_at
from proxy.catalog.patterns import PathPattern, SpellingSet, decode_once


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/a", b"/a", True),
        ("/a", b"/a/", False),
        ("/a", b"/A", False),
        ("/a", b"/ab", False),
        ("/a/*", b"/a/b", True),
        ("/a/*", b"/a/", True),
        ("/a/*", b"/a/b/c", False),
        ("/a/*/c", b"/a/b/c", True),
        ("/a/*/c", b"/a//c", True),
        ("/a/**", b"/a/b/c", True),
        ("/a/**", b"/a/", True),
        ("/a/**", b"/a", False),
        ("/a/**/z", b"/a/b/c/z", True),
        ("/a/**/z", b"/a/z", False),
        ("/a/x*", b"/a/xyz", True),
        ("/v1*/p/*:run", b"/v1beta/p/12:run", True),
        ("/v1*/p/*:run", b"/v1beta/p/12:runAccess", False),
        ("**/$batch", b"/v1.0/$batch", True),
        ("**/$batch", b"/$batch", True),
        ("**/$batch", b"/$batchx", False),
        ("/a.b", b"/axb", False),
        ("/a+b(c)[d]", b"/a+b(c)[d]", True),
        ("/a/**", b"/a/\n\xff", True),
        ("/a%2Fb", b"/a%2Fb", True),
        ("/a%2Fb", b"/a/b", False),
    ],
)
def test_patterns(pattern, path, fits):
    """``*`` stays in its segment, ``**`` is any rest, everything else is itself, bytes as they are sent."""
    assert fits == PathPattern(pattern).matches(path)


@pytest.mark.parametrize("pattern", ["", "a", "*", "a/b", "/a b", "/a?b", "/a#b", "/\u00e4", "/a\n"])
def test_what_is_no_pattern(pattern):
    """A pattern that could match no path, or hides a query, is refused when it is made."""
    with pytest.raises(ValueError, match="path pattern"):
        PathPattern(pattern)


CREDENTIALS = ("/oauth/**", "/api/auth.revoke", "/app/installations/*/access_tokens", "**/addPassword*")
CLOSED = SpellingSet(CREDENTIALS, frozenset({b"/oauth/me"}))


@pytest.mark.parametrize(
    "path",
    [
        b"/oauth/token",
        b"/oauth/",
        b"/OAuth/Token",
        b"/oauth%2Ftoken",
        b"/api/auth.revoke.json",
        b"/api/auth.revoke%2EXML/",
        b"/app/installations/1/access_tokens;v=1.xml",
        b"/oauth%252ftoken",
        b"/%6Fauth/token",
        b"/%256Fauth/token",
        b"/%25256Fauth/token",
        b"//oauth//token",
        b"/oauth\\token",
        b"/oauth%5ctoken",
        b"/oauth;v=1/token",
        b"/oauth;/token;x",
        b"/oauth%3Bv=1/token",
        b"/oauth%20/token",
        b"/api/auth.revoke",
        b"/api/auth.revoke/",
        b"/api/auth.revoke//",
        b"/api/auth.revoke;x=1",
        b"/api/auth.revoke%00",
        b"/api/auth.revoke%20",
        b"/api/auth.revoke%0a",
        b"/api/auth%2Erevoke",
        b"/API/AUTH.REVOKE",
        b"/app/installations/7/access_tokens",
        b"/app/installations/7/access%5Ftokens/",
        b"/v1.0/applications/1/addPassword",
        b"/v1.0/applications/1/addPassword()",
        b"/oauth/me/",
        b"/oauth//me",
        b"/oauth/m%65",
        b"/OAUTH/me",
    ],
)
def test_every_spelling_is_recognised(path):
    """A credential path is refused in any case, coding, folding and with any decoration."""
    assert CLOSED.matches(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/oauth/me",
        b"/oauth",
        b"/oauthx/token",
        b"/api/auth.test",
        b"/api/auth.revokes",
        b"/apiauth.revoke",
        b"/app/installations/7/repositories",
        b"/app/installations/7/8/access_tokens",
        b"/files/oauth/token",
        b"/",
        b"",
        b"/sites/https%3A%2F%2Fexample.com%2F/sitemaps",
    ],
)
def test_other_paths_stay_open(path):
    """Spelling tolerance does not close what is not in the set; an exemption holds in its exact spelling."""
    assert not CLOSED.matches(path)


def test_an_empty_set_matches_nothing():
    """A service without credential paths closes none."""
    assert not SpellingSet(()).matches(b"/oauth/token")


def respell(path: bytes, chance: random.Random) -> bytes:
    """One of the ways in which a careless server would still read ``path``."""
    out = bytearray()
    for at, byte in enumerate(path):
        char = bytes([byte])
        if char == b"/":
            if at and chance.random() < 0.2:
                out += b";v=1"
            out += chance.choice([b"/", b"/", b"//", b"\\", b"/\\"])
        else:
            out += char.upper() if chance.random() < 0.3 else char
    out += chance.choice([b"", b"/", b"//", b";x", b"%20", b"%00"])
    text = bytes(out)
    for _ in range(chance.randrange(3)):
        text = b"".join(
            b"%%%02X" % byte if byte == 0x25 or (at and chance.random() < 0.3) else bytes([byte])
            for at, byte in enumerate(text)
        )
    return text


@given(
    st.sampled_from([b"/oauth/token", b"/api/auth.revoke", b"/app/installations/7/access_tokens"]),
    st.randoms(),
)
def test_random_spellings_are_recognised(path, chance):
    """Case, percent-coding up to twice, doubled and turned slashes, matrix parameters, all mixed: still refused."""
    assert CLOSED.matches(respell(path, chance))


@given(st.binary(max_size=60))
def test_plain_matches_are_spelling_matches(rest):
    """The tolerant set never lets through what the plain pattern would have caught."""
    path = b"/oauth/" + rest
    if path != b"/oauth/me":
        assert CLOSED.matches(path)


@given(st.binary(max_size=60))
def test_decoding_once_is_only_once(path):
    """One level of percent-coding goes, and nothing else changes."""
    encoded = b"".join(b"%%%02x" % byte for byte in path)
    assert path == decode_once(encoded)
    assert encoded == decode_once(encoded.replace(b"%", b"%25"))


ANSWER = {
    "user": {"id": 7, "name": "Ada"},
    "items": [{"id": "a"}, {"id": "b"}],
    "error": {".tag": "expired_access_token"},
    "errors": [{"extensions": {"code": "X"}}, {"extensions": {}}],
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("user.id", [7]),
        ("items[0].id", ["a"]),
        ("items[1].id", ["b"]),
        ("items[9].id", []),
        ("items[].id", ["a", "b"]),
        ("error..tag", ["expired_access_token"]),
        ("errors[].extensions.code", ["X"]),
        ("user.id.deeper", []),
        ("user[0]", []),
        ("items.id", []),
        ("nobody", []),
    ],
)
def test_json_paths(path, found):
    """Dotted paths reach what they name, and nothing where the answer has another shape."""
    assert re.fullmatch(JSON_PATH, path)
    assert found == list(values_at(ANSWER, path))
    assert (found[0] if found else None) == first_at(ANSWER, path)


def test_json_paths_into_a_list():
    """An answer that is a list (Salesforce's errors) is entered by ``[]``."""
    assert list(values_at([{"errorCode": "INVALID_SESSION_ID"}], "[].errorCode")) == ["INVALID_SESSION_ID"]


@pytest.mark.parametrize("path", ["a b", "a..", "a[x]", "a[0", ".", "a.b]", "$.a", "a[*]"])
def test_what_is_no_json_path(path):
    """There is no expression language to slip into a file."""
    assert re.fullmatch(JSON_PATH, path) is None
