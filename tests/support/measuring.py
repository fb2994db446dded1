"""What of a test run coverage looks at: a pytest plugin.

To trace a program costs about as much as what it does, and most programs that tests start do what tests in this
process have done. So a program counts only where its test is marked ``traced``. Coverage looks away from tests
marked ``untraced`` and from properties, if they are not marked ``traced``: they repeat a thousand times what
other tests do once.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager

import coverage
import pytest

_PREFIX = "COVERAGE_PROCESS_"
_SETTINGS = {name: value for name, value in os.environ.items() if name.startswith(_PREFIX)}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Programs started from here on are traced, or not."""
    _tell_programs(traced=_is_traced(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """An untraced test runs at the speed that it has without coverage."""
    tracer = coverage.Coverage.current()
    if tracer is None or not _repeats(item):
        return (yield)
    tracer.stop()
    try:
        return (yield)
    finally:
        tracer.start()
        _tell_programs(traced=_is_traced(item))


@contextmanager
def untraced_programs() -> Generator[None, None, None]:
    """Programs that are given their environment in here are not traced."""
    before = any(name in os.environ for name in _SETTINGS)
    _tell_programs(traced=False)
    try:
        yield
    finally:
        _tell_programs(traced=before)


def _repeats(item: pytest.Item) -> bool:
    if item.get_closest_marker("untraced") is not None:
        return True
    is_property = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    return is_property and not _is_traced(item)


def _is_traced(item: pytest.Item) -> bool:
    return item.get_closest_marker("traced") is not None


def _tell_programs(*, traced: bool) -> None:
    for name, value in _SETTINGS.items():
        if traced:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)
