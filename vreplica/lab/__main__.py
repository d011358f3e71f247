"""Runs a lab in the foreground: python -m vreplica.lab serve DIR [--temporary]"""

from __future__ import annotations

import logging
import sys

from vreplica.lab.process import serve


def main(arguments: list[str]) -> int:
    if (
        arguments[:1] != ["serve"]
        or arguments[2:] not in ([], ["--temporary"])
        or not arguments[1:]
    ):
        print("usage: python -m vreplica.lab serve DIR [--temporary]", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    serve(arguments[1], temporary="--temporary" in arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
