"""The failover's state machine: states as data, and a journal entry before every effect.

It knows no vSphere: ports.py names what it needs of the two sites.
"""
