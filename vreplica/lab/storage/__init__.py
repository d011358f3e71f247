"""The datastores of a lab site, their disk files, and change tracking of a disk."""
