"""Copies the disks of one run, and resumes a copy that broke off."""
