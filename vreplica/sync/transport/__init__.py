"""Opens the disks of a job's VMs, one file a transport."""
