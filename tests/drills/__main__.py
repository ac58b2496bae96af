"""`python -m tests.drills NAME [arguments]` runs one campaign: a module of this package with `main(arguments) -> int`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path


def main() -> int:
    names = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if module.name != "__main__")
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        print(f"usage: python -m tests.drills {'|'.join(names)} [arguments]", file=sys.stderr)
        return 2
    outcome: int = importlib.import_module(f"tests.drills.{sys.argv[1]}").main(sys.argv[2:])
    return outcome


if __name__ == "__main__":
    sys.exit(main())
