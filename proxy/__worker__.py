"""What the supervisor starts for each worker; it brings the same package along that the supervisor runs."""

import importlib.util
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_found = importlib.util.find_spec("proxy")
if _found is None or _found.origin is None or Path(_found.origin).resolve().parent != _PACKAGE:
    sys.path.insert(0, str(_PACKAGE.parent))

from proxy.worker import main  # noqa: E402  # only now is it sure which one that is

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
