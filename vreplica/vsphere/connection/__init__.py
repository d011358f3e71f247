"""Carries calls to a vCenter or host: TLS with a pin, login, faults, tasks, property collector."""
