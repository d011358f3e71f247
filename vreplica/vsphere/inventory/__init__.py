"""Reads what a site has: VMs, devices, places, history, privileges."""
