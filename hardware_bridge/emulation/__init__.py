"""Emulated robots: a simulated arm behind the bytes of a device protocol, and faults of link and device.

``emulator`` serves an ``arm`` over a link in real time.
``servo_device`` and ``dynamixel_device`` answer for the servos of a bus, each an ``emulated_servo``.
``faults`` disturbs link and device. ``goal_checker`` checks goals that carry no number against the limits.
``camera`` looks at a simulated object, and ``kinematic_robot`` is an arm without dynamics.
"""
