"""Disks to copy in benchmarks and tests: generated from a recipe, of a pattern, or a raw file."""
