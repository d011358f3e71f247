"""Everything that vreplica does to vCenter and ESXi, over a connection with a pinned certificate.

    session.py      `connect` gives a `Session`, with one method for each thing that can be done
    model.py        the frozen values that it returns
    errors.py       the errors that it raises
    change_id.py    the marks of changed block tracking
    connection/     carries calls: TLS, login, faults, tasks, the property collector
    inventory/      reads
    operations/     changes

pyVmomi's objects stay inside this package. Names are imported from their modules.
"""
