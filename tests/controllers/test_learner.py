"""The update's gradients against autograd on its losses."""

import copy

import pytest
import torch
from textbook import textbook

from wpg.controllers.algorithm import flow
from wpg.controllers.algorithm.actor import ACTOR_SAMPLES, ActorBatch
from wpg.controllers.algorithm.batch import Batch
from wpg.controllers.algorithm.critic import Critic
from wpg.controllers.algorithm.learner import Learner
from wpg.controllers.algorithm.normalisation import BatchUse
from wpg.controllers.algorithm.optimiser import FlatAdam
from wpg.controllers.algorithm.policy import ParticlePolicy
from wpg.controllers.algorithm.settings import LearnerSettings

ROWS, OBS, ACTION, K = 32, 5, 3, 4
STILL = BatchUse(0.0, False)
"""Leaves the running statistics unchanged, so that the same gradient can be computed twice."""


def make_learner():
    generator = torch.Generator().manual_seed(0)
    policy = ParticlePolicy(OBS, ACTION, num_particles=K, hidden=16, generator=generator)
    settings = LearnerSettings(
        gamma=0.9,
        learning_rate=1e-3,
        policy_delay=1,
        initial_tau=0.2,
        temperature_pace=3.0,
        target_entropy=-1.0,
        norm_warmup=0,
    )
    made = Learner(policy, Critic(OBS, ACTION, hidden=16, generator=generator), settings, generator=generator)
    for _ in range(3):
        made.update(make_batch(generator))
    made.publish_policy()
    return made


@pytest.fixture
def learner():
    return make_learner()


def make_batch(generator):
    obs, next_obs = torch.randn(2, ROWS, OBS, generator=generator)
    action = torch.rand(ROWS, ACTION, generator=generator) * 2 - 1
    reward = torch.randn(ROWS, generator=generator)
    return Batch(obs, action, reward, (reward > 1).float(), next_obs)


def flat(gradients):
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


def test_critic_gradient_equals_autograd(learner):
    batch = make_batch(torch.Generator().manual_seed(1))
    components, noise = torch.arange(ROWS).unsqueeze(1) % K, torch.randn(ROWS, 1, ACTION)
    with torch.no_grad():
        ours, loss, _ = learner.critic_gradient(batch, learner.frozen_policy, components, noise, STILL)
        mixture = learner.frozen_policy(batch.next_obs)
        next_u = flow.reparameterise(noise, mixture.choose(components)).squeeze(1)
        next_log_prob = flow.log_density(next_u, mixture)
    states, actions = torch.cat([batch.obs, batch.next_obs]), torch.cat([batch.action, next_u.tanh()])
    values = textbook(learner.critic.network, torch.cat([states, actions], 1), STILL).squeeze(-1)
    target = flow.critic_target(
        batch.reward,
        batch.terminated,
        values[:, ROWS:].detach().amin(0),
        next_log_prob,
        gamma=0.9,
        tau=learner.tau(),
    )
    expected, _ = flow.critic_loss(values[:, :ROWS], target)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(
        ours, flat(torch.autograd.grad(expected, list(learner.critic.parameters()))), atol=1e-5
    )


def test_policy_gradient_equals_autograd(learner):
    obs = torch.randn(ROWS, OBS)
    components, noise = torch.randint(K, (ROWS, ACTOR_SAMPLES)), torch.randn(ROWS, ACTOR_SAMPLES, ACTION)
    actor = learner.wait_for_actor()
    with torch.no_grad():
        ours, by_log_tau, entropy, _ = actor.gradient(obs, components, noise, STILL)
    mixture = actor.policy.mixture(textbook(actor.policy.network, obs, STILL))
    u = flow.reparameterise(noise, mixture.choose(components)).flatten(0, 1)
    states, repeated = obs.repeat_interleave(ACTOR_SAMPLES, 0), mixture.repeat(ACTOR_SAMPLES)
    with torch.no_grad():
        log_prob, score = flow.log_density_and_score(u, repeated)
    gradient = flow.value_gradient(u, lambda action: actor.critic(states, action).amin(0))
    loss = flow.actor_loss(u, flow.velocity(u, gradient, score, learner.tau()))
    expected = flat(torch.autograd.grad(loss, list(actor.policy.parameters())))
    assert entropy.item() == pytest.approx(-log_prob.mean().item(), rel=1e-5)
    assert torch.allclose(ours, expected, atol=1e-5)
    assert by_log_tau.item() == pytest.approx(-(log_prob.mean().item() - 1.0), rel=1e-4)


@pytest.mark.parametrize("learning_rate", [1e-3, 1e-4])
def test_the_temperature_keeps_its_pace_while_the_step_size_falls(learner, learning_rate):
    learner.set_learning_rate(learning_rate)
    before = learner.wait_for_actor().log_tau.item()
    learner.update(make_batch(torch.Generator().manual_seed(1)))
    # Adam's first step is its step size, whatever the gradient.
    assert abs(learner.wait_for_actor().log_tau.item() - before) == pytest.approx(3 * learning_rate, rel=0.05)


@pytest.mark.parametrize(("previous", "weight"), [(0, 1.0), (5, 1 / 2), (45, 1 / 10), (10_000, 1 / 500)])
def test_the_average_covers_a_fifth_of_the_updates_and_five_hundred_at_most(learner, previous, weight):
    actor = learner.wait_for_actor()
    noise = torch.randn(ROWS, ACTOR_SAMPLES, ACTION)
    components = torch.randint(K, (ROWS, ACTOR_SAMPLES))
    before = flat(actor.average.parameters())
    actor.update(ActorBatch(torch.randn(ROWS, OBS), components, noise, previous, 1e-2))
    expected = torch.lerp(before, flat(actor.policy.parameters()), weight)
    assert torch.allclose(flat(actor.average.parameters()), expected, atol=1e-6)


def test_the_flat_optimiser_is_adam():
    start, pace = [torch.randn(3, 2), torch.randn(4)], 2.0
    ours = [tensor.clone() for tensor in start]
    optimiser = FlatAdam(ours, 1e-2, pace=pace)
    expected, first, second = flat(start), 0.0, 0.0
    for step in range(1, 4):
        gradient = torch.randn(10)
        optimiser.step(gradient)
        first = 0.5 * first + 0.5 * gradient
        second = 0.999 * second + 0.001 * gradient.square()
        moments = first / (1 - 0.5**step), second / (1 - 0.999**step)
        expected = expected - pace * 1e-2 * moments[0] / (moments[1].sqrt() + 1e-8)
    assert torch.allclose(flat(ours), expected, atol=1e-6)


def test_gradient_of_the_action_value_equals_autograd(learner):
    obs, action = torch.randn(ROWS, OBS), (torch.rand(ROWS, ACTION) * 2 - 1).requires_grad_(True)
    values = textbook(learner.critic.network, torch.cat([obs, action], 1), None).squeeze(-1)
    (expected,) = torch.autograd.grad(values.amin(0).sum(), action)
    assert torch.allclose(learner.critic.action_gradient(obs, action.detach()), expected, atol=1e-5)


def test_the_published_policy_is_that_of_the_actor(learner):
    obs = torch.randn(ROWS, OBS)
    for ours, theirs in zip(learner.frozen_policy(obs), learner.wait_for_actor().policy(obs), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_rewards_scale_loss_and_value_but_nothing_else(learner):
    batch = make_batch(torch.Generator().manual_seed(1))
    learner.update(batch._replace(reward=1e12 * batch.reward))
    assert learner.metrics()["critic_loss"] > 1e20
    assert learner.first_fault() is None
    with torch.no_grad():
        next(learner.critic.parameters()).fill_(1e9)
    assert learner.first_fault().startswith("critic parameters = ")
    learner.update(batch._replace(reward=torch.inf * batch.reward))
    assert learner.first_fault().startswith("critic_loss = ")


def test_an_update_of_the_actor_takes_effect_with_the_next(learner):
    obs = torch.randn(ROWS, OBS)
    before = learner.frozen_policy(obs).mean
    for _ in range(2):
        expected = learner.wait_for_actor().policy(obs).mean
        followed = copy.deepcopy(learner.critic.state_dict())
        learner.update(make_batch(torch.Generator().manual_seed(1)))
        assert torch.allclose(learner.frozen_policy(obs).mean, expected, atol=1e-5)
        for name, tensor in learner.wait_for_actor().critic.state_dict().items():
            assert torch.equal(tensor, followed[name]), name
    assert not torch.allclose(learner.frozen_policy(obs).mean, before, atol=1e-5)


def test_each_half_of_the_update_is_one_graph(learner):
    """`compiled` needs this; the compiled code is tested by `benchmarks/update_speed.py`."""
    batch = make_batch(torch.Generator().manual_seed(1))
    components, noise = torch.randint(K, (ROWS, ACTOR_SAMPLES)), torch.randn(ROWS, ACTOR_SAMPLES, ACTION)
    other, use = make_learner(), BatchUse(torch.tensor(0.5), False)
    of_critic = batch, learner.frozen_policy, components[:, :1], noise[:, :1], use
    of_policy = batch.obs, components, noise, use
    whole = {"fullgraph": True, "backend": "aot_eager"}
    with torch.no_grad():
        expected = *learner.critic_gradient(*of_critic), *learner.wait_for_actor().gradient(*of_policy)
        found = (
            *torch.compile(other.critic_gradient, **whole)(*of_critic),
            *torch.compile(other.wait_for_actor().gradient, **whole)(*of_policy),
        )
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    statistics = other.tensors()
    for name, tensor in learner.tensors().items():  # running statistics have moved
        assert torch.allclose(statistics[name], tensor, atol=1e-6), name
