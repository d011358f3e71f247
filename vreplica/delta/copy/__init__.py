"""Copies one disk: reads, hashes, drops what is there already, writes."""
