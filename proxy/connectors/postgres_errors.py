"""What failures of PostgreSQL and its driver mean to us; their own texts may hold values and are not told."""

import asyncpg

from proxy.errors import StoreError, StoreReason

_REASONS: tuple[
    tuple[str, StoreReason, str], ...
] = (  # https://www.postgresql.org/docs/current/errcodes-appendix.html
    ("53100", "full", "the database server's disk is full"),
    ("53", "busy", "the database server has no connection or memory left"),
    ("58030", "io", "the database server's disk reports an error"),
    ("58", "io", "the database server's system reports an error"),
    ("XX001", "corrupt", "the database is damaged: restore a backup"),
    ("XX002", "corrupt", "an index of the database is damaged: REINDEX it or restore a backup"),
    ("25006", "readonly", "the database is read-only: a standby, or one whose disk is full"),
    ("55P03", "busy", "another process holds the vault's lock"),
    ("57014", "busy", "the database took too long"),
    ("25P03", "busy", "a transaction was left open for too long"),
    ("40", "busy", "another process was in the way"),
    ("57", "away", "the database server is starting or stopping"),
    ("08", "away", "the connection to the database is lost"),
    ("22", "other", "a value does not fit its column"),
    ("23", "conflict", "the change contradicts what is stored"),
    ("28", "other", "the database server refuses the user or password of storage.database_url"),
    ("3D000", "other", "there is no database of that name on the server"),
    ("42501", "other", "the database user lacks a right: see docs/postgresql.md for the grants"),
)
_DRIVER = (asyncpg.InterfaceError, asyncpg.InternalClientError)
FAILURES = (asyncpg.PostgresError, *_DRIVER, OSError, TimeoutError, EOFError)
"""Everything that the driver raises for a database that fails; cancellation is not among them."""

_DROPPED = frozenset({"away", "readonly", "io", "corrupt"})


def store_error(error: Exception) -> StoreError:
    """The failure with its reason and code, to be raised ``from None``."""
    state = getattr(error, "sqlstate", None)
    if not isinstance(state, str):
        return _unanswered(error)
    for prefix, reason, sentence in _REASONS:
        if state.startswith(prefix):
            return StoreError(f"the vault could not be used: {sentence} (SQLSTATE {state})", reason=reason)
    return StoreError(f"the vault could not be used (SQLSTATE {state})")


def _unanswered(error: Exception) -> StoreError:
    kind = type(error).__name__
    if isinstance(error, asyncpg.ClientConfigurationError):
        return StoreError("the vault could not be used: the driver cannot use storage.database_url")
    return StoreError(f"the vault could not be used: the database does not answer ({kind})", reason="away")


def spoils_connection(error: BaseException) -> bool:
    """True when the connection on which it happened must not be used again."""
    if isinstance(error, StoreError):
        return error.reason in _DROPPED
    return not isinstance(error, Exception)  # cancelled: a statement may be under way
