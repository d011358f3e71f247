"""python -m vreplica.lab serve DIR"""

from __future__ import annotations

import logging
import sys

from vreplica.lab.process import serve


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] != "serve":
        print("usage: python -m vreplica.lab serve DIR", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    serve(arguments[1])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
