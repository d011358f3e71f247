"""Fixtures of every test: a lab for a module, and pyVmomi clients of its sites for a test."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyVim.connect import SmartConnect
from pyVmomi import SoapStubAdapter, vim

from vreplica.lab import Lab, LabControl


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.create(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="module")
def control(lab: Lab) -> LabControl:
    return LabControl(lab.directory)


def unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture
def connect() -> Iterator[Callable[..., Any]]:
    """`connect(spec, user=..., password=...)`: a ServiceInstance that is logged in.

    pyvmomi keeps its connections open after a logout and after a failed login; they are closed
    at the end of the test.
    """
    stubs = []

    def make(spec: Any, user: str | None = None, password: str | None = None) -> Any:
        stub = SoapStubAdapter(
            host=spec.host, port=spec.port, version="vim.version.v8_0_3_0", sslContext=unchecked()
        )
        stubs.append(stub)
        instance = vim.ServiceInstance("ServiceInstance", stub)
        instance.content.sessionManager.Login(user or spec.user, password or spec.password)
        return instance

    yield make
    for stub in stubs:
        stub.DropConnections()


@pytest.fixture
def si(lab: Lab) -> Iterator[Any]:
    """A pyvmomi ServiceInstance of site-a, made the way scripts make it."""
    spec = lab.specs[0]
    instance = SmartConnect(
        host=spec.host, port=spec.port, user=spec.user, pwd=spec.password, sslContext=unchecked()
    )
    yield instance
    instance.content.sessionManager.Logout()
    instance._stub.DropConnections()
