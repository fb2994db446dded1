"""Forms with files against another reader: the standard library's ``email`` finds what was left, and no key."""

import email
import email.policy

from hypothesis import given, settings
from hypothesis import strategies as st
from support.steps import KEY

from proxy.forwarding.formdata import key_fields, without

BOUNDARY = b"=_b.1"
HEAD = b'Content-Type: multipart/form-data; boundary="' + BOUNDARY + b'"\r\n\r\n'
_NAMES = st.sampled_from(["token", "TOKEN", "file", "tokens", "a;name=token", 'q"', "\\", "\u00fc"])
_LINES = st.sampled_from(
    ["Content-Type: text/plain", "content-type: image/png", "X-A: b; name=token", "Content-Transfer-Encoding: binary"]
)  # fmt: skip
_CONTENTS = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from([KEY, b"\r\n", b"--", BOUNDARY, b"\r\n--" + BOUNDARY + b"x", b"\r\n\r\n"]),
    ),
    max_size=5,
).map(b"".join)
_PARTS = st.lists(
    st.tuples(_NAMES, st.lists(_LINES, max_size=2, unique_by=str.lower), st.booleans(), _CONTENTS), max_size=5
)


def form(parts: list[tuple[str, list[str], bool, bytes]]) -> bytes:
    body = b""
    for name, lines, is_file, content in parts:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        told = f'Content-Disposition: form-data; name="{quoted}"' + '; filename="x"' * is_file
        head = "".join(f"{line}\r\n" for line in [*lines, told]).encode()
        body += b"--%b\r\n%b\r\n%b\r\n" % (BOUNDARY, head, content)
    return body + b"--%b--\r\n" % BOUNDARY


def read(body: bytes) -> list[tuple[str, bytes]]:
    """Names and contents, by another reader; contents are said in latin-1 so that none is decoded."""
    message = email.message_from_string((HEAD + body).decode("latin-1"), policy=email.policy.compat32)
    found = []
    for entry in message.get_payload():
        assert not isinstance(entry, str)
        name = entry.get_param("name", header="content-disposition")
        found.append((str(name), str(entry.get_payload()).encode("latin-1")))
    return found


def _is_fit(content: bytes) -> bool:
    """True for what a form of this boundary can hold, and ``email``, which folds line ends, gives back as it was."""
    return b"\r\n--" + BOUNDARY not in b"\r\n" + content and not {b"\r", b"\n"} & {
        bytes([one]) for one in content.replace(b"\r\n", b"")
    }


@settings(max_examples=150)
@given(_PARTS, st.integers(0, 1200))
def test_what_is_left_is_the_form_without_the_fields(
    parts: list[tuple[str, list[str], bool, bytes]], cut: int
) -> None:
    """However much of it has come: parts that came whole and are for keys are gone, all others keep every byte."""
    parts = [one for one in parts if _is_fit(one[3])]
    body = form(parts)
    start = body[:cut]
    found = key_fields(start, BOUNDARY, frozenset({b"token"}))
    left = without(start, found) + body[cut:]
    ends = [len(form(parts[:at])) - len(b"--\r\n") for at in range(1, len(parts) + 1)]
    whole = [cut >= end + 2 and one[0].lower() == "token" for one, end in zip(parts, ends, strict=True)]
    assert [field.value for field in found] == [
        one[3] for one, gone in zip(parts, whole, strict=True) if gone
    ]
    kept = [one for one, gone in zip(parts, whole, strict=True) if not gone]
    assert left == form(kept)
    if kept and all(one[0].isascii() and "\\" not in one[0] and '"' not in one[0] for one in kept):
        assert read(left) == [(one[0], one[3]) for one in kept]


@given(st.binary(max_size=300).map(lambda junk: junk.replace(b"x", b"\r\n--" + BOUNDARY)))
def test_no_bytes_are_too_odd(junk: bytes) -> None:
    """Whatever a body is, what is taken out of it are whole parts, in order."""
    found = key_fields(junk, BOUNDARY, frozenset({b"token"}))
    assert all(junk[one.start :].startswith(b"--" + BOUNDARY) for one in found)
    assert all(one.start < one.end for one in found)
    assert len(without(junk, found)) == len(junk) - sum(one.end - one.start for one in found)
