"""One file a command of `vreplica-sync`."""
