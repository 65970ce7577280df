"""The run log: what the control loop records of a run, and how it is read back.

``recorder`` has the interface that the loop reports to, and turns reports into the records of ``schema``.
``log`` passes the records to the process in ``writer``, which writes them to an MCAP file; ``messages`` makes
a channel's messages of a record, and ``reader`` reads a file.
"""
