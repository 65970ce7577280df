"""Robot models: URDF and MJCF files made ready for both engines, and what a scene puts around the arm."""
