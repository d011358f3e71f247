"""The guest of a lab VM: its files, database, network, services, and what vSphere does in it."""
