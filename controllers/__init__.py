"""Wasserstein policy gradient with particle policies: networks, replay, training, evaluation.

    from wpg.controllers import TrainConfig, train, load_run, evaluate

    train(TrainConfig(env="wpg/PandaReach-v0", steps=5000), out="runs/reach")
    run = load_run("runs/reach")
    print(evaluate(run.act("best"), run.make_env(), episodes=100).success_rate)

Every error raised on purpose is a `ControllersError`; its tree is drawn in `wpg.controllers.errors`.
"""

from wpg.controllers.algorithm.critic import Critic
from wpg.controllers.algorithm.gibbs import fit_gibbs
from wpg.controllers.algorithm.policy import LOG_STD_MAX, LOG_STD_MIN, ParticlePolicy
from wpg.controllers.config import Select, TrainConfig
from wpg.controllers.errors import (
    CheckpointFormatError,
    CheckpointWriteError,
    ConfigError,
    ControllersError,
    DemonstrationError,
    DivergenceError,
    FaultyEnvError,
    ForkedProcessError,
    RunFolderError,
    UnknownEnvError,
    UnsupportedEnvError,
)
from wpg.controllers.experience.demonstrations import (
    Demonstration,
    load_demonstrations,
    record,
    save_demonstrations,
)
from wpg.controllers.experience.environment import EnvSpec, flatten_obs, make_env
from wpg.controllers.experience.evaluation import Act, Evaluation, evaluate
from wpg.controllers.statistics import bootstrap_interval, wilson_interval
from wpg.controllers.training.progress import OnProgress, ProgressBar, TrainProgress
from wpg.controllers.training.run_folder import Run, load_run
from wpg.controllers.training.train import resume, train
from wpg.controllers.training.trainer import TrainResult

__all__ = [
    "LOG_STD_MAX",
    "LOG_STD_MIN",
    "Act",
    "CheckpointFormatError",
    "CheckpointWriteError",
    "ConfigError",
    "ControllersError",
    "Critic",
    "Demonstration",
    "DemonstrationError",
    "DivergenceError",
    "EnvSpec",
    "Evaluation",
    "FaultyEnvError",
    "ForkedProcessError",
    "OnProgress",
    "ParticlePolicy",
    "ProgressBar",
    "Run",
    "RunFolderError",
    "Select",
    "TrainConfig",
    "TrainProgress",
    "TrainResult",
    "UnknownEnvError",
    "UnsupportedEnvError",
    "bootstrap_interval",
    "evaluate",
    "fit_gibbs",
    "flatten_obs",
    "load_demonstrations",
    "load_run",
    "make_env",
    "record",
    "resume",
    "save_demonstrations",
    "train",
    "wilson_interval",
]
