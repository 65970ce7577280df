"""The control loop of a run; ``loop`` is where to begin.

At every tick of the ``metronome`` it reads (``sensing``), decides (``deciding``) and commands (``motion``),
in the phases of ``lifecycle``. ``hazards``, ``holding`` and ``parking`` are what stops the arm, and how it is
left; ``guard`` bounds what a policy asks for, ``safety`` what is sent.
"""
