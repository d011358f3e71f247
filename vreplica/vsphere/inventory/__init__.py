"""Reads what a site has: VMs, snapshots, changed areas, places, privileges, history."""
