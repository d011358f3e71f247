"""The engine: reads, hashes, compares and copies disks. Knows only Disk, extents and errors."""
