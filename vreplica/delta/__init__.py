"""The engine: read -> hash -> ship -> apply. Knows only Disk, extents and errors."""
