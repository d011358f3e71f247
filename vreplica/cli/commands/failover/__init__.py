"""The commands that move VMs to their replicas and back.

choose      picks the target of a command: a job, a group, or a job by the service
options     the options that these commands share, as one value
decision    shows what is known and asks for the decision
carry_out   carries a verb out and turns its outcome into an exit code
"""
