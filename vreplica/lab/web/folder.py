"""/folder: serves the files of datastores over HTTPS, as vCenter does.

GET /folder/web/web.vmx?dcPath=site-a-dc&dsName=site-a-ds1      with Range
PUT, DELETE                                                     likewise

The caller has a session's cookie, or sends name and password (HTTP Basic).
"""

from __future__ import annotations

import base64
import re
import secrets
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from vreplica.lab.api.privileges import require_privilege
from vreplica.lab.api.vmodl import MethodFault, vim
from vreplica.lab.site.site import Site
from vreplica.units import MIB

BROWSE = "Datastore.Browse"
CHANGE = "Datastore.FileManagement"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")
_PIECE = MIB


class DatastoreFiles:
    """Answers the requests for /folder of one site."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def serve(self, request: Any) -> None:
        user = request.call().user or self.known(request.headers.get("Authorization", ""))
        if not user:
            request.refuse(401)
            return
        parts = urlsplit(request.path)
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        rest = unquote(parts.path).removeprefix("/folder").strip("/")
        store = self.find_datastore(query.get("dcPath"), query.get("dsName", ""))
        reading = request.command in ("GET", "HEAD")
        try:
            if store is None:
                raise FileNotFoundError
            name = f"[{store.folder}] {rest}"
            path = self.site.disks.path(name)
        except (MethodFault, FileNotFoundError):
            request.refuse(404)
            return
        try:
            require_privilege(self.site, user, BROWSE if reading else CHANGE, store)
            if reading:
                self.site.disks.require_readable(path, name)
            else:
                self.site.disks.require_unused(path, name)
        except MethodFault:
            # Not allowed, or in use by a VM.
            request.refuse(403)
            return
        {"GET": self.get, "HEAD": self.get, "PUT": self.put, "DELETE": self.delete}[
            request.command
        ](request, path)

    def known(self, header: str) -> str:
        """The user whose name and password a request carries; empty where they are not right."""
        kind, _, text = header.partition(" ")
        if kind.lower() != "basic":
            return ""
        try:
            user, _, password = base64.b64decode(text, validate=True).decode().partition(":")
        except ValueError:
            return ""
        found = self.site.users.get(user)
        return user if found is not None and found["password"] == password else ""

    def find_datastore(self, path: str | None, name: str) -> Any:
        """The datastore of a datacenter, named by its inventory path with or without a slash."""
        found = self.site.datacenter
        if path is not None:
            found = self.site.content.searchIndex.FindByInventoryPath(path)
        if not isinstance(found, vim.Datacenter):
            return None
        return next((d for d in found.datastore if d.name == name), None)

    def get(self, request: BaseHTTPRequestHandler, path: Path) -> None:
        if path.is_dir():
            names = sorted(p.name + ("/" if p.is_dir() else "") for p in path.iterdir())
            body = "".join(f'<a href="{n}">{n}</a>\n' for n in names).encode()
            request.reply(200, body, "text/html; charset=utf-8")  # type: ignore[attr-defined]
            return
        if not path.is_file():
            request.reply(404, b"")  # type: ignore[attr-defined]
            return
        size = path.stat().st_size
        start, end, status = 0, size, 200
        asked = _RANGE.match(request.headers.get("Range", ""))
        if asked and (asked[1] or asked[2]):
            if asked[1]:
                start, end = (
                    int(asked[1]),
                    min(size, int(asked[2] or size) + (1 if asked[2] else 0)),
                )
            else:
                start = max(0, size - int(asked[2]))
            status = 206
            if start >= end:
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{size}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
        request.send_response(status)
        request.send_header("Content-Type", "application/octet-stream")
        request.send_header("Content-Length", str(end - start))
        request.send_header("Accept-Ranges", "bytes")
        if status == 206:
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        request.end_headers()
        if request.command == "HEAD":
            return
        with path.open("rb") as file:
            file.seek(start)
            while start < end and (piece := file.read(min(_PIECE, end - start))):
                request.wfile.write(piece)
                start += len(piece)
        request.wfile.flush()

    def put(self, request: Any, path: Path) -> None:
        if not path.parent.is_dir():
            request.refuse(404)
            return
        status = 200 if path.exists() else 201
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}~")
        try:
            self.receive(request, fresh)
            fresh.replace(path)
        except MethodFault:
            request.refuse(507)
            return
        finally:
            fresh.unlink(missing_ok=True)
        request.reply(status, b"")

    def receive(self, request: Any, path: Path) -> None:
        """Writes the body of a request to a file. Raises NoDiskSpace, with the rest unread."""
        length = request.headers.get("Content-Length")
        # A chunked body has no length: it has to be read before its size is known.
        pieces = request.pieces() if length else [request.body()]
        size = int(length) if length else len(pieces[0])
        self.site.disks.require_space(self.site.disks.ds_path(path), size)
        with path.open("wb") as file:
            file.writelines(pieces)

    def delete(self, request: Any, path: Path) -> None:
        if path.is_file():
            path.unlink()
            request.reply(204, b"")
        else:
            request.reply(404, b"")
