"""The bundled native library, qemu-img, and a disk that is written together with its model."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vreplica.vddk.config import VddkConfig
from vreplica.vddk.handle import DiskHandle
from vreplica.vddk.library import Library

Tool = Callable[[str, str], str]
Serve = Callable[[socket.socket], object]
SECTOR = 512


@pytest.fixture(scope="session")
def library() -> Library:
    return Library.load(VddkConfig(isolation=False))


class QemuImg:
    """qemu-img as an independent reader and writer."""

    def __init__(self, program: str) -> None:
        self._program = program

    def run(self, *args: str | Path) -> str:
        command = [self._program, *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def check(self, image: Path) -> None:
        self.run("check", "-q", image)

    def compare(self, raw: Path, image: Path) -> None:
        self.run("compare", "-q", "-f", "raw", "-F", "vmdk", raw, image)

    def convert(self, raw: Path, image: Path, options: str) -> None:
        self.run("convert", "-q", "-f", "raw", "-O", "vmdk", "-o", options, raw, image)

    def map(self, image: Path) -> Any:
        return json.loads(self.run("map", "--output=json", image))


@pytest.fixture(scope="session")
def qemu_img(tool: Tool) -> QemuImg:
    return QemuImg(tool("qemu-img", "qemu-utils"))


class Model:
    """A raw file that says what a disk must hold. Seeded: tests repeat exactly."""

    def __init__(self, path: Path, capacity: int, seed: int = 1) -> None:
        self.path = path
        self.capacity = capacity
        self.random = random.Random(seed)
        with path.open("wb") as file:
            file.truncate(capacity)

    def churn(self, handle: DiskHandle, writes: int) -> None:
        """The same random writes to disk and model: sizes and places odd and even, zeros too."""
        for number in range(writes):
            sectors = self.random.choice([1, 7, 128, 129, 300, 2048])
            start = self.random.randrange(self.capacity // SECTOR - sectors)
            if number % 2:
                start -= start % 128
            size = sectors * SECTOR
            data = bytes(size) if number % 4 == 0 else self.random.randbytes(size)
            self.write(handle, start * SECTOR, data)

    def write(self, handle: DiskHandle, offset: int, data: bytes) -> None:
        handle.write_from(offset, memoryview(data))
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def fill(self, writes: int) -> None:
        """Random content in the model only, for others to convert."""
        with self.path.open("r+b") as file:
            for _ in range(writes):
                size = self.random.choice([512, 65536, 300 * SECTOR])
                file.seek(self.random.randrange((self.capacity - size) // SECTOR) * SECTOR)
                file.write(self.random.randbytes(size))

    def assert_equal(self, handle: DiskHandle) -> None:
        assert handle.capacity_bytes == self.capacity
        step = 1 << 20
        with self.path.open("rb") as file:
            for offset in range(0, self.capacity, step):
                expected = file.read(min(step, self.capacity - offset))
                got = bytearray(len(expected))
                handle.read_into(offset, memoryview(got))
                assert got == expected, f"differs in the MiB at {offset}"


@pytest.fixture
def new_model(tmp_path: Path) -> Callable[..., Model]:
    def make(capacity: int = (40 << 20) + 77 * SECTOR, seed: int = 1) -> Model:
        return Model(tmp_path / f"model-{seed}.raw", capacity, seed)

    return make


@pytest.fixture
def listen() -> Iterator[Callable[[Serve], int]]:
    """`listen(serve)`: the port of a server that has `serve` answer each connection."""
    threads, sockets = [], []

    def start(serve: Serve) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    client.settimeout(60)
                    with client, contextlib.suppress(OSError):
                        serve(client)

        threads.append(threading.Thread(target=answer))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield start
    for listener in sockets:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(30)
