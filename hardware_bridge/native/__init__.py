"""Both ends of the native frame protocol: ``robot``, the driver, and ``device``, which any arm can follow."""
