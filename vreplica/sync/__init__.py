"""One replication run of one VM: plan, copy, commit, verify, retention."""
