"""Observation terms from outside the robot, such as an object's pose: how they come in, and how to send them.

``source`` has the protocol and keeps the newest reading of each term, ``link`` is a source behind datagrams
and ``local`` one in the bridge's own process; ``sender`` is the other end, ``check`` what ``wpg check``
watches.
"""
