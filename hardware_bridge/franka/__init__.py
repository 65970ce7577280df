"""A Franka arm over its control interface (FCI), at 1 kHz, from a process of its own.

::

    bridge                        gateway process                            robot
    FrankaRobot ── NativeRobot ◄──────────────────► NativeDevice
                                 native frames over FciArm ── CommandStream
                                 a socket pair      FciConnection ◄─────────► libfranka, 1 kHz

Libfranka wants an answer every millisecond and keeps the interpreter's lock while it waits, so that nothing
else may live beside it. The gateway speaks the native frames to the bridge: sessions, watchdog and limits are
those of every other robot.
"""
