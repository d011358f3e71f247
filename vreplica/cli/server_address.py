"""Reads the address of a vCenter or an ESXi host as an operator gives it."""

from __future__ import annotations

import re

import click

_SERVER = re.compile(r"\[(?P<v6>[^\]]+)\](?::(?P<port6>\d+))?|(?P<host>[^:/@]+)(?::(?P<port>\d+))?")
_URL = re.compile(r"https?://(?P<server>[^/?#]*)[^\s]*", re.IGNORECASE)
HTTPS_PORT = 443


def parse_server(text: str) -> tuple[str, int]:
    """Host and port of `vc.example`, `vc.example:8443`, `[fd00::7]:443`, a bare IPv6 address, or
    a URL of the server such as `https://vc.example/sdk`.

    The connection always uses TLS, so `http:` in a URL gives no other port. Raises BadParameter.
    """
    url = _URL.fullmatch(text.strip())
    server = url["server"] if url else text.strip().removesuffix("/")
    if server.count(":") > 1 and not server.startswith("["):
        return server, HTTPS_PORT
    match = _SERVER.fullmatch(server)
    port = int(match["port6"] or match["port"] or HTTPS_PORT) if match else 0
    if not match or not 0 < port < 65536:
        raise click.BadParameter(
            f"{text} is not HOST, HOST:PORT or https://HOST", param_hint="HOST[:PORT]"
        )
    return match["v6"] or match["host"], port
