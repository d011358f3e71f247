"""Tests of vreplica: a folder for each package, and whole-product runs in e2e/ and contract/."""
