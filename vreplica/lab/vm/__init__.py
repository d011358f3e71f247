"""A VM of the lab: configuration, power, snapshots, disk chains, clones and moves."""
