"""Does a GraphQL request only read? Pure (design §4).

What the service will run must be certain, so whatever two readers could take differently is refused: members
that are said twice, documents kept at the service, block strings, line ends that not all lexers see. Every
operation of the document must be a query, whichever ``operationName`` picks; fragments are no operations.
"""

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import unquote_to_bytes

MOST_BYTES = 65_536  # of a request: parsing is Python's, and nothing else happens meanwhile
MOST_DOCUMENTS = 4  # of a batch
_JSON = "application/json"
_MEMBERS = frozenset({"query", "variables", "operationName", "extensions"})
_CHARSETS = frozenset({"", "charset=utf-8", 'charset="utf-8"'})
# Ends of lines for some lexers and not for others: behind "#" they would decide what is a comment.
_ODD_ENDS = re.compile("\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_REMEMBERED = 512


class _Refused(Exception):  # noqa: N818  # a verdict, not a failure
    """Not certain to read only; the text says why."""


def is_json(content_type: bytes, coding: bytes) -> bool:
    """True for a body that is JSON in UTF-8 and nothing else: the one form that is judged.

    Args:
        content_type: field value, empty when there is none.
        coding: ``Content-Encoding``, likewise.
    """
    media_type, _, parameters = content_type.decode("latin-1").lower().partition(";")
    plain = coding.strip().lower() in {b"", b"identity"}
    return plain and media_type.strip() == _JSON and parameters.strip() in _CHARSETS


def why_not_body(body: bytes, without_fields: frozenset[str]) -> str:
    """Why a POST's JSON body is not certain to read only; empty if it is.

    Args:
        body: the whole of it.
        without_fields: what may not be selected, such as a field that answers with a token.
    """
    if len(body) > MOST_BYTES:
        return f"a GraphQL request of more than {MOST_BYTES} bytes is not judged"
    try:
        given = json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
        return _why_not(_documents(given), without_fields)
    except _Refused as refused:
        return str(refused)
    except (ValueError, RecursionError):
        return "the body is not JSON in UTF-8"


def why_not_query(query: bytes | None, without_fields: frozenset[str]) -> str:
    """Why a GET's query string is not certain to read only; empty if it is. See :func:`why_not_body`."""
    if query is None or len(query) > MOST_BYTES:
        return f"a GraphQL GET has its document in query=, of up to {MOST_BYTES} bytes"
    try:
        pairs = [_pair(part) for part in query.split(b"&")]
        return _why_not([_document(_once(pairs))], without_fields)
    except _Refused as refused:
        return str(refused)
    except ValueError:
        return "the query string is not UTF-8"


def _pair(part: bytes) -> tuple[str, str | None]:
    if b";" in part:
        raise _Refused("a query string with ';' has two readings")
    raw_name, _, raw_value = part.replace(b"+", b" ").partition(b"=")
    name, value = unquote_to_bytes(raw_name).decode("utf-8"), unquote_to_bytes(raw_value).decode("utf-8")
    return name, None if name == "extensions" and value in {"", "{}", "null"} else value


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Refused("a member is said twice")
    return members


def _no_constant(_: str) -> object:
    raise _Refused("NaN and Infinity are no JSON")


def _documents(given: object) -> list[str]:
    requests = given if isinstance(given, list) else [given]
    if not 0 < len(requests) <= MOST_DOCUMENTS:
        raise _Refused(f"a batch has 1 to {MOST_DOCUMENTS} requests")
    return [_document(request) for request in requests]


def _document(request: object) -> str:
    if not isinstance(request, dict):
        raise _Refused("a GraphQL request is a JSON object")
    unknown = sorted(request.keys() - _MEMBERS)
    if unknown or request.get("extensions"):
        raise _Refused("only query, variables and operationName are judged: no documents kept at the service")
    document, name = request.get("query"), request.get("operationName")
    if not isinstance(document, str) or not (name is None or isinstance(name, str)):
        raise _Refused("the document is missing: query is a string, and so is operationName")
    return document


def _why_not(documents: Iterable[str], without_fields: frozenset[str]) -> str:
    return next(filter(None, (_judged(document, without_fields) for document in documents)), "")


@lru_cache(_REMEMBERED)
def _judged(document: str, without_fields: frozenset[str]) -> str:
    """Why the document is not certain to read only. Callers send few documents, and those often."""
    if _ODD_ENDS.search(document) or '"""' in document:
        return "block strings and control characters in a GraphQL document are not judged"
    # graphql-core takes a tenth of a second to load, and only keys that may but read these services need it.
    from proxy.forwarding.permits.selections import why_not_document  # noqa: PLC0415  # see above

    return why_not_document(document, without_fields)
