"""Hostile bytes made from the grammar of RFC 9112: requests of callers, answers of upstreams.

Deterministic. Every case has an id that names its family, and what is expected of a proxy:

- ``refuse``: an error answer or a closed connection; nothing of it reaches the upstream.
- ``pass``: forwarded, and answered by the upstream.
- ``either``: a proxy may do both; what leaves it has to be clean.

A request case holds the places ``{KEY}`` (a good proxy key) and ``{AT}`` (the path of the service, with
which the upstream recognises the case); :func:`concrete` fills them. Smuggled requests aim at ``SMUG``.
"""

import answer_cases
import framing_cases
import head_cases
import line_cases
from hostile import AUTH, HOST, LINE, Answer, Case


def requests() -> list[Case]:
    """All hostile requests, each once, in a fixed order."""
    families = (
        framing_cases.transfer_codings,
        framing_cases.transfer_coding_names,
        framing_cases.lengths,
        framing_cases.both_framings,
        framing_cases.chunk_sizes,
        framing_cases.chunk_ends,
        framing_cases.trailers,
        head_cases.head_bytes,
        head_cases.head_lines,
        head_cases.hosts,
        line_cases.versions,
        line_cases.targets,
        line_cases.methods,
        line_cases.request_lines,
        line_cases.foreign_protocols,
        line_cases.oversized,
        line_cases.expectations,
        line_cases.connection_options,
        line_cases.pipelines,
    )
    found: dict[bytes, Case] = {}
    for family in families:
        for case in family():
            found.setdefault(case.data, case)
    cases = list(found.values())
    assert len({case.name for case in cases}) == len(cases), "names are unique"
    return cases


def prefix_requests() -> list[bytes]:
    """Twenty requests whose every prefix is tried (R15)."""
    get = b"GET {AT} HTTP/1.1\r\n" + HOST + AUTH
    return [
        get + b"\r\n",
        get + b"Accept: */*\r\n\r\n",
        get + b"Connection: close\r\n\r\n",
        get + b"X-Empty:\r\n\r\n",
        get + b"Cookie: a=b\r\n\r\n",
        b"\r\n" + get + b"\r\n",
        b"GET {AT}?a=b&c=%20 HTTP/1.1\r\n" + HOST + AUTH + b"\r\n",
        b"GET {AT}/a%2Fb HTTP/1.1\r\n" + HOST + AUTH + b"\r\n",
        b"GET {AT} HTTP/1.0\r\n" + HOST + AUTH + b"\r\n",
        b"GET {AT} HTTP/1.1\r\nHost: [::1]:80\r\n" + AUTH + b"\r\n",
        b"GET {AT} HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\n\r\n",
        b"OPTIONS {AT} HTTP/1.1\r\n" + HOST + AUTH + b"\r\n",
        b"DELETE {AT} HTTP/1.1\r\n" + HOST + AUTH + b"\r\n",
        b"HEAD {AT} HTTP/1.1\r\n" + HOST + AUTH + b"\r\n",
        b"QUERY {AT} HTTP/1.1\r\n" + HOST + AUTH + b"Content-Length: 0\r\n\r\n",
        LINE + HOST + AUTH + b"Content-Length: 5\r\n\r\nhello",
        LINE + HOST + AUTH + b"Content-Length: 0\r\n\r\n",
        LINE + HOST + AUTH + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        LINE + HOST + AUTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        LINE + HOST + AUTH + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    ]


def answers() -> list[Answer]:
    """All hostile upstream answers, each once, in a fixed order."""
    cases = [case for family in answer_cases.FAMILIES for case in family()]
    assert len({case.name for case in cases}) == len(cases), "names are unique"
    return cases
