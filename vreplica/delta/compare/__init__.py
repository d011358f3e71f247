"""Compares two disks without any code of the copier."""
