"""Writing of artifacts, which needs torch and onnx and runs where the policy was trained.

``runs`` and ``zips`` export run folders and policies of Stable-Baselines3. ``exportable_policy`` and
``module`` bring a policy into the form that ``writer`` writes. ``graph``, ``choice`` and ``builder`` make the
ONNX graph from ``networks``; ``golden`` and ``parity`` compare it with the policy of ``models``, in float64.
"""
