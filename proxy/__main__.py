"""``python -m proxy`` is ``connector-proxy``."""

from proxy.cli import main

if __name__ == "__main__":
    main()
