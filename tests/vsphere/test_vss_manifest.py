"""VSS manifests: writers count, the backup components document alone does not."""

from __future__ import annotations

import io
import zipfile

import pytest

from vreplica.vsphere.inventory.vss_manifest import writers_in

COMPONENTS = '<BACKUP_COMPONENTS xmlns="x-schema:#VssComponentMetadata" version="1.2"/>'
WRITER = (
    '<WRITER_METADATA xmlns="x-schema:#VssWriterMetadataInfo" version="1.1"><IDENTIFICATION '
    'writerId="e8132975" instanceId="5e1c" friendlyName="{}" usage="BOOTABLE_SYSTEM_STATE"/>'
    "</WRITER_METADATA>"
)


def archive(**documents: str | bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in documents.items():
            made.writestr(f"{name}.xml", text)
    return data.getvalue()


def test_writers_are_named() -> None:
    found = writers_in(
        archive(
            bcd=COMPONENTS,
            a=WRITER.format("System Writer"),
            b=("\ufeff" + WRITER.format("SqlServerWriter")).encode("utf-16-le"),
        )
    )
    assert found == ("System Writer", "SqlServerWriter")


def test_the_components_alone_are_no_writer() -> None:
    assert writers_in(archive(bcd=COMPONENTS)) == ()
    assert writers_in(archive()) == ()


def test_a_writer_without_a_name_counts() -> None:
    assert writers_in(archive(w="<WRITER_METADATA/>")) == ("w.xml",)


@pytest.mark.parametrize("data", [b"", b"not a zip", archive(a=WRITER.format("x"))[:-30]])
def test_what_is_no_archive_is_told(data: bytes) -> None:
    with pytest.raises(ValueError, match="ZIP"):
        writers_in(data)


def test_a_damaged_entry_is_told() -> None:
    data = bytearray(archive(a=WRITER.format("x") * 50))
    data[45:60] = b"\0" * 15
    with pytest.raises(ValueError, match="ZIP"):
        writers_in(bytes(data))


def test_a_huge_document_is_read_only_to_its_limit() -> None:
    assert writers_in(archive(a=b"\0" * (64 << 20))) == ()
