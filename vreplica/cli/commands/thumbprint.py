"""`thumbprint`: prints the thumbprint of a server's certificate."""

from __future__ import annotations

import click

from vreplica.cli import exit_codes
from vreplica.cli.options import command
from vreplica.cli.render.output import Output
from vreplica.cli.server_address import parse_server


@click.command()
@click.argument("server", metavar="HOST[:PORT]")
@command
def thumbprint(out: Output, server: str) -> int:
    """Print the SHA-256 thumbprint of a server's certificate, for `sha256` in the job file.

    A URL such as https://HOST/sdk works too. Nothing is sent to the server. Compare the thumbprint
    with what its administrator says before you trust it.
    """
    host, port = parse_server(server)
    from vreplica.vsphere.connection.certificate import probe_certificate

    sha256, sha1 = probe_certificate(host, port)
    out.answer("thumbprint", {"host": host, "port": port, "sha256": sha256, "sha1": sha1}, sha256)
    return exit_codes.OK
