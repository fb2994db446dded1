"""The command line: parsing and printing only. One file a command group."""

import sys

from proxy.cli.root import app
from proxy.cli.session import run


def main() -> None:
    """``connector-proxy``: exit status 0 ok, 1 failed, 2 usage, 3 state or configuration."""
    sys.exit(run(app))
