"""Planned motions without a policy: ``wpg check``, ``wpg identify``; ``moving`` drives them all."""
