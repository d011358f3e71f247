"""The service: runs every scheduled job, on one mover or on several that share a catalog."""
