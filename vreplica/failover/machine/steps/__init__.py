"""The steps of a failover, one file for each thing that is done to a side."""
