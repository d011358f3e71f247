"""One site of the lab: what its parts know of each other, its faults, its kept state."""
