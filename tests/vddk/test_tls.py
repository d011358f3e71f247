"""What is said where the native library finds no OpenSSL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from vreplica.vddk.config import VddkConfig, locate
from vreplica.vddk.tls import tls_problem

ASK = "import sys; from pathlib import Path; from vreplica.vddk.tls import tls_problem; "
LIBRARY = locate(VddkConfig()).path


def test_nothing_is_said_where_openssl_is_there() -> None:
    assert tls_problem(LIBRARY) is None


def test_a_missing_openssl_is_named_with_the_remedy(tmp_path: Path) -> None:
    """In a process of its own: this one may have loaded OpenSSL already."""
    (tmp_path / "libssl.so.3").write_bytes(b"not a library")
    done = subprocess.run(
        [sys.executable, "-c", ASK + "print(tls_problem(Path(sys.argv[1])))", str(LIBRARY)],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path / "libssl.so.3") in done.stdout
    assert "needs OpenSSL 3: install it" in done.stdout


def test_a_library_of_others_is_not_asked(tmp_path: Path) -> None:
    assert "cannot be loaded" in (tls_problem(tmp_path / "libvixDiskLib.so.8") or "")
    source = tmp_path / "empty.c"
    source.write_text("int nothing;\n", "ascii")
    library = tmp_path / "libempty.so"
    subprocess.run(["gcc", "-shared", "-o", library, source], check=True)
    assert tls_problem(library) is None
