"""Robot arms and tasks on MuJoCo and PyBullet.

Importing this package registers the environments ``wpg/…`` with Gymnasium; it imports no engine. Without an
import, ``gymnasium.make("wpg.sim_envs:wpg/PandaReach-v0")`` does the same.

- :func:`~wpg.sim_envs.engines.make_robot`: a simulated robot behind the interface that real ones have.
- :mod:`~wpg.sim_envs.reach`, :mod:`~wpg.sim_envs.push`, :mod:`~wpg.sim_envs.pick_and_place`,
  :mod:`~wpg.sim_envs.insert`: tasks, each written once for all engines and arms.
- :mod:`~wpg.sim_envs.errors`: what can go wrong.
"""

from wpg.sim_envs.registration import register_envs

register_envs()
