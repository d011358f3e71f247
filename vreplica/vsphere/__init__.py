"""Everything that is done to vCenter and ESXi, through pyVmomi and with a pinned certificate.

    from vreplica.vsphere.session import connect

`connect(endpoint)` gives a `Session`; everything it answers are frozen values (`model`), every
failure is one of `errors`. pyVmomi's objects stay inside.
"""
