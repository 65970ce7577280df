"""The run log: what the control loop leaves of a run, and how it is read back.

``recorder`` is the interface that the loop records by, ``recording`` turns its calls into records: ``log``
has them written to an MCAP file by the process in ``writer``, ``memory`` keeps them. ``schema`` defines
channels and records, ``messages`` makes a channel's messages of a record, and ``reader`` reads a file.
"""
