"""Planned motions without a policy, those of ``wpg check`` and ``wpg identify``; ``moving`` drives them all."""
