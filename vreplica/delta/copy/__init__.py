"""Copies one disk: reads, hashes, leaves out what the target has already, writes."""
