"""The failover's state machine: states as data, a journal before every effect; knows no vSphere."""
