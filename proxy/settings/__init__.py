"""Typed settings from file, environment and command line; the only place that reads ``os.environ``."""

import os
from collections.abc import Mapping

from proxy.settings.accounts import DeclaredKey, Registration, Source
from proxy.settings.kinds import Listen, SecretSource
from proxy.settings.load import default_data_dir, load_settings
from proxy.settings.model import Data, Egress, Settings

__all__ = [
    "Data",
    "DeclaredKey",
    "Egress",
    "Listen",
    "Registration",
    "SecretSource",
    "Settings",
    "Source",
    "default_data_dir",
    "environment",
    "load_settings",
]


def environment() -> Mapping[str, str]:
    """The process's environment, for :func:`load_settings` and :meth:`SecretSource.read`."""
    return os.environ
