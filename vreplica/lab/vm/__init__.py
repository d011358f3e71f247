"""A lab VM: configuration, power, snapshots, disks, moves."""
