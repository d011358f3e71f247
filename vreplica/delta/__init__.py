"""Reads, hashes, copies and compares disks; knows only Disk, extents and errors."""
