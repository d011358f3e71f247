"""Reads the manifest of a quiesced snapshot of a Windows guest, which names its VSS writers.

    [ds] web/vss_manifests3.zip ── backup components document   (always)
                                └─ one document per VSS writer  (only for an application quiesce)

`backupManifest` in the snapshot tree only says that the file exists. Without writers in it, the
guest froze its file systems and nothing more (VDDK 8.0 Programming Guide, "Windows Backup
Implementations"). The file is read over /folder, which needs the privilege Datastore.Browse.

The content comes from the guest and is not trusted. Sizes are bounded, and nothing is parsed as
XML (no entities): only the names of the root element and of the writer are searched for.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from vreplica.units import MIB
from vreplica.vsphere.errors import BadReply
from vreplica.vsphere.inventory.tree import datacenter_of
from vreplica.vsphere.model import VmRef
from vreplica.vsphere.names import split_path

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

ARCHIVE_MAX: Final = 16 * MIB
DOCUMENT_MAX: Final = 4 * MIB
DOCUMENTS_MAX: Final = 500

ROOT = re.compile(r"<\s*(?:\w+:)?WRITER_?METADATA\b", re.IGNORECASE)
"""Root of a writer's document (VSS writer metadata schema, VssWriterMetadataInfo)."""
NAME = re.compile(r"friendlyName\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")


def writers_in(archive: bytes) -> tuple[str, ...]:
    """Returns the names of the VSS writers with a document in the manifest. Raises ValueError."""
    found: list[str] = []
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            for entry in opened.infolist()[:DOCUMENTS_MAX]:
                if entry.is_dir():
                    continue
                with opened.open(entry) as document:
                    text = _text(document.read(DOCUMENT_MAX))
                root = ROOT.search(text)
                if root:
                    name = NAME.search(text, root.start())
                    found.append((name[1] or name[2] or "") if name else entry.filename)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError) as error:
        raise ValueError(f"the manifest cannot be read as a ZIP file: {error}") from None
    return tuple(found)


def _text(document: bytes) -> str:
    """Decodes a document: VSS writes UTF-16, others UTF-8. Bytes that cannot be decoded are kept
    as replacement characters, which do not change the names."""
    encoding = "utf-16" if document[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    return document.decode(encoding, errors="replace")


def fetch(link: ServerLink, vm: VmRef, directory: str, manifest: str) -> bytes:
    """Downloads a file from a VM's snapshot directory. Raises BadReply, HostUnreachable.

    directory: `[ds1] web/`, manifest: relative to it (VirtualMachineSnapshotTree.backupManifest).
    """
    datastore, folder = split_path(directory)
    path = "/".join(p for p in (folder.strip("/"), manifest.strip("/")) if p)
    here = datacenter_of(link, vm)
    query = {"dsName": datastore, "dcPath": here[1] if here else ""}
    operation = f"reading {manifest}"
    status, data = link.download(
        operation, f"/folder/{quote(path)}?{urlencode(query, quote_via=quote)}", ARCHIVE_MAX
    )
    if status != 200:
        hint = "; the user needs the privilege Datastore.Browse" if status in (401, 403) else ""
        raise BadReply(link.endpoint.host, operation, f"HTTP {status}{hint}").at(vm=vm.name)
    return data
