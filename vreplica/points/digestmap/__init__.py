"""Digest maps: the hashes of what a replica holds, one file a disk."""
