"""The run log: what the control loop leaves of a run, and how it is read back.

``recorder`` is what the loop is given, ``log`` records to an MCAP file through the process in ``writer``,
``memory`` keeps the same in memory; ``schema`` has channels and records, ``reader`` reads a file.
"""
