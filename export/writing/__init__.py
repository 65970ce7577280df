"""Writing the artifact, where the policy was trained: what needs torch and onnx, and nothing outside does.

``writer`` writes the file, of what ``sources``, ``stable_baselines`` or ``module`` read; ``graph``,
``choice`` and ``builder`` make the graph of ``networks`` and ``models``, ``golden`` and ``parity`` hold it
against the policy.
"""
