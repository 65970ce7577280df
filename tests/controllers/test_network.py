"""The hand-written gradient and the folded form against autograd on the textbook form."""

import pytest
import torch
from textbook import textbook

from wpg.controllers.algorithm.critic import Critic
from wpg.controllers.algorithm.network import FoldedMlp
from wpg.controllers.algorithm.normalisation import BatchUse, batch_use
from wpg.controllers.algorithm.policy import ParticlePolicy


def make(normalise: bool, dtype: torch.dtype, *, members: int = 1, out: int = 3) -> FoldedMlp:
    generator = torch.Generator().manual_seed(1)
    sizes = [5, 16, 16, out]
    network = FoldedMlp(sizes, members=members, normalise=normalise, generator=generator).to(dtype)
    for layer in network.own_layers():
        if layer.norm is not None:
            for tensor, mean in ((layer.norm.scale, 1), (layer.norm.shift, 0), (layer.norm.running_mean, 0)):
                tensor.data.normal_(mean, 0.3, generator=generator)
            layer.norm.running_var.uniform_(0.2, 3, generator=generator)
    return network


@pytest.mark.parametrize(
    ("normalise", "use"), [(False, None), (True, BatchUse(0.0, False)), (True, BatchUse(0.0, True))]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (3, 2)])
def test_gradient_equals_autograd(normalise, use, dtype, tolerance, shape):
    members, out = shape
    network = make(normalise, dtype, members=members, out=out)
    generator = torch.Generator().manual_seed(2)
    x = (torch.randn(32, 5, generator=generator, dtype=dtype) * 2 + 3).requires_grad_(True)
    expected = textbook(network, x, use)
    grad = torch.randn(expected.shape, generator=generator, dtype=dtype) / 32
    expected_grads = torch.autograd.grad(expected, [x, *network.parameters()], grad)
    with torch.no_grad():
        output, steps = network.record(x, use)
        by_input, by_parameters = network.gradients(steps, grad, by_input=True, by_parameters=True)
    assert torch.allclose(output, expected, atol=tolerance)
    for a, b in zip([by_input, *by_parameters], expected_grads, strict=True):
        assert torch.allclose(a, b, atol=tolerance)


def test_running_statistics_follow_the_batch():
    network = make(True, torch.float32)
    norm = network.own_layers()[0].norm
    before = norm.running_var.clone()
    x = torch.randn(64, 5) * 3 + 7
    network.record(x, BatchUse(0.25, False))
    assert torch.allclose(norm.running_var, 0.75 * before + 0.25 * x.var(0, unbiased=False), atol=1e-5)
    network.record(x, BatchUse(1.0, False))
    assert torch.allclose(norm.running_mean, x.mean(0), atol=1e-5)


def test_running_statistics_average_all_batches_at_first_and_the_last_twenty_later():
    def rate(number):
        return batch_use(number, 0, torch.device("cpu")).rate.item()

    assert [rate(number) for number in range(3)] == pytest.approx([1, 1 / 2, 1 / 3])
    assert [rate(number) for number in (18, 19, 20, 1000)] == pytest.approx([1 / 19, 1 / 20, 1 / 20, 1 / 20])


def test_renormalisation_begins_after_the_warmup():
    uses = [batch_use(number, 3, torch.device("cpu")).renormalise for number in range(5)]
    assert uses == [False, False, False, True, True]


def test_the_frozen_network_has_the_gradient_of_the_textbook_form():
    network = make(True, torch.float32)
    x = torch.randn(8, 5, requires_grad=True)
    inputs = [x, *network.parameters()]
    ours, theirs = (
        torch.autograd.grad(output.sum(), inputs) for output in (network(x), textbook(network, x, None))
    )
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_bfloat16_products_stay_near_float32():
    network = make(True, torch.float32)
    x = torch.randn(64, 5)
    exact = network(x)
    network.low_precision = True
    assert not torch.equal(network(x), exact)
    assert torch.allclose(network(x), exact, atol=0.05)


def trained(module):
    for step in range(5):
        obs = torch.randn(64, 4) * torch.tensor([1.0, 10, 0.01, 100]) + torch.tensor([0.0, 50, 1, -3])
        actions = [torch.rand(64, 2) * 2 - 1] if isinstance(module, Critic) else []
        module.network.record(torch.cat([obs, *actions], 1), BatchUse(1 / (step + 1), False))
    return module


def test_folded_critic_equals_critic():
    critic = trained(Critic(4, 2, hidden=32))
    obs, action = torch.randn(9, 4), torch.rand(9, 2) * 2 - 1
    x = torch.cat([obs, action], 1).expand(2, 9, 6)
    layers = critic.folded_layers()
    for index, (weight, bias) in enumerate(layers):
        x = torch.baddbmm(bias, x, weight)
        x = x.relu() if index < len(layers) - 1 else x
    assert [tuple(weight.shape) for weight, _ in layers] == [(2, 6, 32), (2, 32, 32), (2, 32, 1)]
    assert torch.allclose(x[..., 0], critic(obs, action), atol=1e-5)


@pytest.mark.parametrize("normalise", [True, False])
def test_folded_policy_equals_policy(normalise):
    policy = ParticlePolicy(4, 2, num_particles=3, hidden=32, normalise=normalise)
    if normalise:
        trained(policy)
    obs = torch.randn(9, 4)
    x = obs
    layers = policy.folded_layers()
    for index, (weight, bias) in enumerate(layers):
        x = x @ weight + bias
        x = x.relu() if index < len(layers) - 1 else x
    mean, log_std, stretch = policy(obs)
    heads = x.view(9, 3, 3, 2)
    assert torch.allclose(heads[:, 0], mean, atol=1e-5)
    assert torch.allclose(heads[:, 1].clamp(-5, 2), log_std, atol=1e-5)
    assert torch.allclose(heads[:, 2].clamp(-8, 8), stretch, atol=1e-5)
