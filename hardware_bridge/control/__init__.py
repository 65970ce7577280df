"""The control loop of a run; ``loop`` is where to begin.

At every tick of the ``metronome`` it reads (``sensing``), decides (``deciding``) and commands (``motion``),
in the phases of ``lifecycle``. ``lookout`` and ``hazards`` tell what is wrong; ``holding``, ``orders`` and
``parking`` stop the arm, and leave it; ``guard`` bounds what a policy asks for, ``safety`` what is sent.
"""
