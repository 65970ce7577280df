"""Evaluations of the policy during training."""

from wpg.controllers.acting import make_act
from wpg.controllers.algorithm.learner import Learner
from wpg.controllers.config import ResolvedConfig
from wpg.controllers.experience.environment import Env, EnvSpec, episode_seed
from wpg.controllers.experience.evaluation import (
    TRAINING_EVALUATION_STREAM,
    Evaluation,
    LastEvaluation,
    run_episodes,
)


class TrainingEvaluation:
    """Evaluates the averaged policy of a run, and counts the evaluations that reached its `stop_at_success`.

    Args:
        env: an environment with the observations that the policy sees.
        spec: of that environment.
        config: settings of the run.
    """

    def __init__(self, env: Env, spec: EnvSpec, config: ResolvedConfig) -> None:
        self.env, self.spec, self.config = env, spec, config
        self.last = LastEvaluation()
        self.streak = 0
        """Number of evaluations in a row that reached `stop_at_success`."""

    def evaluate(self, learner: Learner, step: int) -> Evaluation:
        """Run `eval_episodes` episodes, whose seeds depend on the training step."""
        config = self.config
        average = learner.wait_for_actor().average
        act = make_act(average, learner.critic, self.spec, config.select, seed=config.seed)
        seeds = [
            episode_seed(config.seed, TRAINING_EVALUATION_STREAM, step, index)
            for index in range(config.eval_episodes)
        ]
        result = run_episodes(act, self.env, seeds)
        self.last = LastEvaluation(result.return_mean, result.success_rate)
        goal = config.stop_at_success
        reached = goal is not None and result.success_rate is not None and result.success_rate >= goal
        self.streak = self.streak + 1 if reached else 0
        return result

    def succeeded(self) -> bool:
        """Whether enough evaluations in a row reached `stop_at_success`."""
        return self.streak >= self.config.stop_evaluations
