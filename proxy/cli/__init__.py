"""The command line: parsing and printing only. One file a command group."""

import gc
import sys


def main() -> None:
    """``connector-proxy``: exit status 0 ok, 1 failed, 2 usage, 3 state or configuration."""
    gc.disable()  # loading modules makes nothing to collect, and looking for it takes a tenth of the time
    from proxy.cli.root import tree  # noqa: PLC0415  # importing a module of this folder loads no other
    from proxy.cli.session import run  # noqa: PLC0415  # the same

    words = sys.argv[1:]
    app = tree(words)
    gc.enable()
    sys.exit(run(app, words))
