"""Digest maps: one digest for each block of a replica's disk, in one file per disk."""
