"""What a key may call (design §4).

``grammar`` of permits, ``verdicts`` by them alone, ``marked`` ones with the ``preset`` read-only and its
``graphql``, and ``overrides`` of the method.
"""

from proxy.forwarding.permits.grammar import WEBSOCKET, Permit, parse_permit, with_words
from proxy.forwarding.permits.overrides import (
    OVERRIDE_HEADERS,
    OVERRIDE_PARAMETERS,
    effective_method,
    hides_method,
)
from proxy.forwarding.permits.verdicts import Decider, check, check_with_any, compile_permits

__all__ = [
    "OVERRIDE_HEADERS",
    "OVERRIDE_PARAMETERS",
    "WEBSOCKET",
    "Decider",
    "Permit",
    "check",
    "check_with_any",
    "compile_permits",
    "effective_method",
    "hides_method",
    "parse_permit",
    "with_words",
]
