"""Fields for keys in ``multipart/form-data``: which are found, and what is left of a body."""

import pytest

from proxy.forwarding.formdata import boundary_of, key_fields, without

NAMES = frozenset({b"token"})


def part(name: bytes, value: bytes, more: bytes = b"") -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name, more, value)


def freed(body: bytes) -> tuple[list[bytes], bytes]:
    found = key_fields(body, b"b", NAMES)
    return [field.value for field in found], without(body, found)


END = b"--b--\r\n"
FILE = part(b"file", b"\r\n--bx\r\n-- b\x00\xff", b'; filename="a;name=token"\r\nContent-Type: image/png')


@pytest.mark.parametrize("before", [b"", b"\r\n", b"a preamble\r\n"])
@pytest.mark.parametrize(
    "field",
    [
        part(b"token", b"K"),
        part(b"Token", b"K"),
        b"--b\r\nContent-Disposition: form-data; name=token\r\n\r\nK\r\n",
        b'--b \t\r\ncontent-disposition:form-data;name="to\\ken"; x=y\r\n\r\nK\r\n',
        b'--b\r\nContent-Type: text/plain\r\nContent-Disposition: form-data; name="token"\r\n\r\nK\r\n',
    ],
)
def test_a_field_goes_with_its_part(before: bytes, field: bytes) -> None:
    """A field of a declared name is found wherever it stands; the other parts keep every byte."""
    for parts in ((field, FILE), (FILE, field), (FILE, field, FILE), (field,)):
        body = before + b"".join(parts) + END
        rest = before + b"".join(one for one in parts if one is not field) + END
        assert freed(body) == ([b"K"], rest)
    assert freed(before + field + FILE + field + END) == ([b"K", b"K"], before + FILE + END)


@pytest.mark.parametrize(
    "body",
    [
        FILE + END,
        part(b"tokens", b"K") + END,
        part(b"x", part(b"token", b"K").replace(b"--b", b"--c")) + END,
        part(b"token", b"K"),
        part(b"token", b"K")[:-2] + END,
        END + part(b"token", b"K") + END,
        b'--b\r\nContent-Disposition: form-data; name="token"; name="x"\r\n\r\nK\r\n' + END,
        b'--b\r\nContent-Disposition: attachment; name="token"\r\n\r\nK\r\n' + END,
        b'--b\r\nContent-Disposition: form-data; name="token\r\n\r\nK\r\n' + END,
        b"--b\r\nContent-Disposition: form-data; name*=utf-8''token\r\n\r\nK\r\n" + END,
        b'--b\r\nContent-Disposition: form-data; name="x"\r\nContent-Disposition: form-data; name="token"\r\n\r\nK\r\n'
        + END,
        b'--b\r\n\r\nContent-Disposition: form-data; name="token"\r\n\r\nK\r\n' + END,
        part(b"token", b"K").replace(b"\r\n", b"\n") + END,
        b"",
    ],
)
def test_what_is_not_plainly_such_a_field_stays(body: bytes) -> None:
    """Other names, parts that have not come whole, two readings: nothing is taken for a key or taken out."""
    assert freed(body) == ([], body)


@pytest.mark.parametrize(
    ("media", "boundary"),
    [
        (b"multipart/form-data; boundary=b", b"b"),
        (b'Multipart/Form-Data;charset=utf-8;Boundary="a b"', b"a b"),
        (b"multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxk", b"----WebKitFormBoundary7MA4YWxk"),
        (b"multipart/form-data", None),
        (b"multipart/form-data; boundary=", None),
        (b'multipart/form-data; boundary="a "', None),
        (b"multipart/form-data; boundary=a; boundary=b", None),
        (b"multipart/form-data; boundary=" + b"a" * 71, None),
        (b"multipart/mixed; boundary=b", None),
        (b"application/x-www-form-urlencoded", None),
        (b"", None),
    ],
)
def test_the_boundary_has_one_reading(media: bytes, boundary: bytes | None) -> None:
    """It stands once in the Content-Type of a form, quoted or not (RFC 2046 §5.1.1)."""
    assert boundary_of(media) == boundary
