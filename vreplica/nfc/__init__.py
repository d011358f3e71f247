"""vSphere disks over the ESXi host's NFC service, without VDDK.

    from vreplica.nfc.open import open_nfc_disk

    with closing(open_nfc_disk(session.stub, vm="vm-42", path="[ds1] web/web.vmdk")) as disk:
        disk.read_into(0, view)

`open_nfc_disk` is all that a replication needs. Beforehand `check_host_access` tells whether
ticket, port 902, certificate and login of the VM's host are good, and `authd.probe` whether a port
answers at all. docs/transports.md says when to prefer VDDK and what is known of the protocol.
"""
