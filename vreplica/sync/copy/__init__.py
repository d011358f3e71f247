"""Copies the disks of one run, and goes on with a copy that broke off."""
