"""The control loop of a run; begin reading at ``loop``.

At every tick of ``rate_timer`` the loop reads the robot (``state_reader``), asks the policy
(``policy_runner``) and commands the arm (``motion``). ``lifecycle`` holds the phase of the run; ``homing``
leads the arm to where ``start_conditions`` allow a goal to begin. ``hazard_monitor`` finds what is wrong.
``mode_commander`` arms, holds and stops the robot, with ``final_stop`` and ``emergency_stop``.
``attended_arm`` joins these parts, for the loop and for the planned motions of ``wpg check`` and
``wpg identify``.
``target_limiter`` bounds what a policy asks for, and ``safety`` filters every command that is sent.
"""
