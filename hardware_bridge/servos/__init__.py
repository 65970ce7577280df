"""Drivers for arms of bus servos, Feetech and Dynamixel.

``robot`` is what both drivers share; ``feetech_robot`` and ``dynamixel_robot`` are the drivers. ``bus`` talks
to the servos and ``readings`` keeps what they answer. ``models`` holds their registers, and ``calibration``
their zeros and directions. ``checks`` and ``limits`` verify and set what must be right before servos move.
"""
