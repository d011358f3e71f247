"""Compares copies by the engine with copies by other programs: `python -m benchmarks.peers`."""
