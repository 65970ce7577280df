"""``wpg transfer``: will a policy work on another arm or in another simulator, and what limits it?

*Place B* is where the policy is to work, and *A* a simulator that it is compared with: the one that the
policy was trained in, or the same with identified actuators.
"""
