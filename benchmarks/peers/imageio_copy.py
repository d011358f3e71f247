"""Copies with the client of ovirt-imageio, NBD at both ends, like its command `ovirt-img`.

    python -m benchmarks.peers.imageio_copy SOURCE FORMAT TARGET FORMAT [--bitmap NAME]

With a bitmap it copies only the dirty extents. It uses the copier and servers (qemu-nbd) of
imageio, and nothing of this project.
"""

from __future__ import annotations

import argparse

from ovirt_imageio.client import _api, _io


def main() -> None:
    parser = argparse.ArgumentParser(description="One copy by ovirt-imageio.")
    for name in ("source", "source_format", "target", "target_format"):
        parser.add_argument(name)
    parser.add_argument("--bitmap")
    options = parser.parse_args()
    workers = _api.MAX_WORKERS
    with (
        _api._open_nbd(
            options.source,
            options.source_format,
            read_only=True,
            shared=workers,
            bitmap=options.bitmap,
        ) as source,
        _api._open_nbd(options.target, options.target_format, shared=workers) as target,
    ):
        _io.copy(
            source,
            target,
            dirty=options.bitmap is not None,
            max_workers=workers,
            zero=False,
            hole=False,
        )
        target.flush()


if __name__ == "__main__":
    main()
