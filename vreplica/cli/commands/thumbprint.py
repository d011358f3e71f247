"""thumbprint: what a server's certificate is, to be compared and put into the job file."""

from __future__ import annotations

import re

import click

from vreplica.cli import exits
from vreplica.cli.options import command
from vreplica.cli.render.output import Output

_SERVER = re.compile(r"\[(?P<v6>[^\]]+)\](?::(?P<port6>\d+))?|(?P<host>[^:/]+)(?::(?P<port>\d+))?")


@click.command(short_help="Print a server's certificate thumbprint.")
@click.argument("server", metavar="HOST[:PORT]")
@command
def thumbprint(out: Output, server: str) -> int:
    """Print the SHA-256 thumbprint of a server's certificate, for `sha256` in the job file.

    Nothing is sent to the server. Compare the thumbprint with what its administrator says
    before you trust it.
    """
    host, port = parse_server(server)
    from vreplica.vsphere.connection.certificate import probe_certificate

    sha256, sha1 = probe_certificate(host, port)
    out.answer({"host": host, "port": port, "sha256": sha256, "sha1": sha1}, sha256)
    return exits.OK


def parse_server(text: str) -> tuple[str, int]:
    """`vc.example`, `vc.example:8443`, `[fd00::7]:443`; also a bare IPv6 address."""
    if "/" in text:
        name = text.partition("://")[2].strip("/") or text
        raise click.BadParameter(
            f"{text} is a URL, or part of one; give {name}", param_hint="HOST[:PORT]"
        )
    if text.count(":") > 1 and not text.startswith("["):
        return text, 443
    match = _SERVER.fullmatch(text)
    port = int(match["port6"] or match["port"] or 443) if match else 0
    if not match or not 0 < port < 65536:
        raise click.BadParameter(f"{text} is not HOST or HOST:PORT", param_hint="HOST[:PORT]")
    return match["v6"] or match["host"], port
