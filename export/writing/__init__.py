"""Writing of artifacts, which needs torch and onnx and runs where the policy was trained.

``runs`` and ``zips`` export run folders and policies of Stable-Baselines3. ``writer`` writes the file from a
policy that ``sources``, ``stable_baselines`` or ``module`` has read. ``graph``, ``choice`` and ``builder``
make the ONNX graph from ``networks``; ``golden`` and ``parity`` compare it with the policy of ``models``, in
float64.
"""
