"""The event log: lifecycle events, other libraries' records, and (``accesslog``) one event a request.

structlog renders them all. Messages and tracebacks' values of other libraries are not written, because they
may hold bytes of a request (R143): only their template, the exception's type and the places in the code.
"""

import logging
import re
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Literal, Protocol, get_args

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from proxy import admintokens, keys

Format = Literal["auto", "console", "json"]
Level = Literal["debug", "info", "warning", "error"]

_KEY = re.compile(
    "(?i)"
    + "".join(
        "(" + "|".join(f"{one}|%(?:25)*{ord(one.upper()):x}|%(?:25)*{ord(one):x}" for one in letters) + ")"
        for letters in map(dict.fromkeys, zip(keys.PREFIX, admintokens.PREFIX, strict=True))
    )
    + "([0-9a-z]{0,8})[0-9a-z_%]*"
)  # each character of the prefix plain, percent-encoded, or encoded over again
_LOGGER_NAME = "connector_proxy"
_FRAMES = 12


def escape(text: str) -> str:
    r"""Control characters, line separators and direction marks as ``\x..`` or ``\u....`` (R155)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def mask_keys(text: str) -> str:
    """Proxy keys and admin tokens cut to their public id, also when percent-encoded or incomplete."""
    lowered = text.lower()
    return _KEY.sub(_masked, text) if "%" in text or "cpk" in lowered or "cpa" in lowered else text


def _masked(found: re.Match[str]) -> str:
    prefix = keys.PREFIX if found.group(3).lower().endswith(("k", "b")) else admintokens.PREFIX  # %6b, %4b
    return f"{prefix}{found.group(5)}_[secret]"


@lru_cache(maxsize=8)
def second(whole: int) -> str:
    """Seconds since the epoch as text, without the zone."""
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def rfc3339(moment: float) -> str:
    """Seconds since the epoch as text, to the millisecond."""
    whole = int(moment)
    return "%s.%03dZ" % (second(whole), (moment - whole) * 1000)  # noqa: UP031  # half the time


class Stream(Protocol):
    """What is needed of where events go."""

    def write(self, text: str, /) -> object:
        """Write whole lines; may raise OSError or ValueError."""

    def flush(self) -> None:
        """Hold nothing back."""

    def isatty(self) -> bool:
        """Whether a person reads along."""
        ...


@dataclass(slots=True)
class Output:
    """Where events go and how they look; one write a batch, from any thread.

    ``worker``: number of the process among several that share the log; every event then tells it.
    ``is_json``: events are JSON, one a line.
    """

    stream: Stream
    processors: tuple[Processor, ...]
    level: Level
    worker: int | None = None
    is_json: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def render(self, fields: EventDict) -> str:
        """One event through structlog's processors, without a line end."""
        if self.worker is not None:
            fields["worker"] = self.worker
        value: object = fields
        for processor in self.processors:
            value = processor(None, str(fields["level"]), value)  # type: ignore[arg-type]  # a chain of processors
        return str(value)

    def write(self, text: str) -> None:
        """Write whole lines at once. A log that cannot be written never stops the proxy."""
        try:
            with self._lock:
                self.stream.write(text)
                self.stream.flush()
        except (OSError, ValueError):  # disk full, pipe or stream closed
            return


def configure(
    format: Format = "auto",  # noqa: A002  # the setting's name
    level: Level = "info",
    stream: Stream | None = None,
    worker: int | None = None,
) -> Output:
    """Set structlog and the standard loggers up for this process; ``auto`` is console on a terminal.

    Args:
        format: see :data:`Format`.
        level: the least that is written; requests count as info, those answered 5xx as warning.
        stream: standard error when None.
        worker: see Output.
    """
    stream = sys.stderr if stream is None else stream
    on_terminal = stream.isatty()
    console = format == "console" or (format == "auto" and on_terminal)
    output = Output(
        stream, _rendering(console=console, colors=on_terminal), level, worker, is_json=not console
    )
    of_worker: tuple[Processor, ...] = ()
    if worker is not None:
        of_worker = (lambda _, __, fields: {**fields, "worker": worker},)
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            _timestamp,
            _escape_values,
            *of_worker,
            *output.processors,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _Lines(output),
        cache_logger_on_first_use=False,
    )
    _take_over_standard_logging(level)
    return output


def event(name: str, *, level: Level = "info", **fields: object) -> None:
    """A lifecycle event. ``name`` is a constant; the values are safe to show (a Secret shows its mask)."""
    getattr(structlog.get_logger(_LOGGER_NAME), level)(name, **fields)


def crash(name: str, error: BaseException, **fields: object) -> None:
    """An unexpected exception: its type and where it came from, never its text, which may hold a secret."""
    event(
        name,
        level="error",
        error_type=type(error).__qualname__,
        frames=frames_of(error.__traceback__),
        **fields,
    )


def frames_of(trace: TracebackType | None) -> list[str]:
    """``file:line function`` of the innermost frames, without source lines or values."""
    found = traceback.extract_tb(trace)[-_FRAMES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in found]


class _Lines:
    """What structlog hands finished lines to."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def msg(self, line: str) -> None:
        self._output.write(line + "\n")

    debug = info = warning = error = critical = msg


def _escape_values(_: WrappedLogger, __: str, fields: EventDict) -> EventDict:
    for name, value in fields.items():
        if isinstance(value, str) and not value.isprintable():
            fields[name] = escape(value)
    return fields


def _timestamp(_: WrappedLogger, __: str, fields: EventDict) -> EventDict:
    return {"timestamp": rfc3339(time.time()), **fields}


def _to_json(fields: object, **_: object) -> str:
    return orjson.dumps(fields, default=repr).decode()


def _rendering(*, console: bool, colors: bool) -> tuple[Processor, ...]:
    if not console:
        return (structlog.processors.JSONRenderer(serializer=_to_json),)
    plain = structlog.dev.plain_traceback  # the default one shows local variables
    return (structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False, exception_formatter=plain),)


class _LibraryRecords(logging.Handler):
    """Other libraries' records as events: logger, template, exception type, places; no arguments, no text."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        fields: dict[str, object] = {
            "logger": record.name,
            "template": str(record.msg).partition("\n")[0][:200],
            "place": f"{record.module}:{record.lineno}",
        }
        if error is not None:
            fields["error_type"] = type(error).__qualname__
            fields["frames"] = frames_of(error.__traceback__)
        level = record.levelname.lower()
        event("library", level=level if level in get_args(Level) else "error", **fields)  # type: ignore[arg-type]  # checked


def _take_over_standard_logging(level: Level) -> None:
    root = logging.getLogger()
    for handler in tuple(root.handlers):
        if isinstance(handler, _LibraryRecords):
            root.removeHandler(handler)
    root.addHandler(_LibraryRecords())
    root.setLevel(logging.ERROR if level == "error" else logging.WARNING)
    for name in ("aiohttp.access", "aiohttp.internal"):
        logging.getLogger(name).disabled = True
    logging.getLogger("asyncio").setLevel(logging.WARNING)
