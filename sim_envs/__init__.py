"""Robot arms and tasks on MuJoCo and PyBullet.

Importing this package registers the environments ``wpg/…`` with Gymnasium; it imports no engine. Without an
import, ``gymnasium.make("wpg.sim_envs:wpg/PandaReach-v0")`` does the same.

Its parts, where each imports only those below it::

    tasks, identification    environments; the arm's parameters from run logs
    engines                  make_robot(): a simulated arm behind the interface that real ones have
    models                   URDF and MJCF files made ready for the engines, and the scene
    effects                  what sets a real arm apart from its model
    errors, registration     what can go wrong; the environments' ids
"""

from wpg.sim_envs.registration import register_envs

register_envs()
