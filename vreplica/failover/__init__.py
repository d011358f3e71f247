"""Failover and failback of a job or a group, from the preview to the commit."""
