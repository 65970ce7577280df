"""Arms of bus servos, Feetech and Dynamixel: drivers, and the servos' own end for emulated arms.

``robot`` is what both drivers share, ``feetech_robot`` and ``dynamixel_robot`` are the drivers; ``bus``
talks to the servos, ``readings`` keeps what they answer, ``models`` has their registers, ``calibration``
their zeros and directions, ``checks`` and ``limits`` what is verified and set before they move. ``device``,
``dynamixel_device`` and ``emulated_servo`` are the other end of the wire, with a simulated arm behind it.
"""
