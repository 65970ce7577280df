"""A robot that is not there: a simulated arm behind real bytes, and what goes wrong with one.

``emulator`` serves an ``arm`` over a link, and ``loopback`` in the driver's own thread; ``faults`` are of
link and device, ``goal_judge`` judges goals that carry no number, ``camera`` looks at a simulated object,
and ``kinematic_robot`` is an arm without dynamics. The servos' own end stands with their drivers.
"""
