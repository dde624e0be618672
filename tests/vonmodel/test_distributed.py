"""Parts of a batch, and what processes exchange; two real ones train in tests/cli/test_devices.py."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from tests.harness import TIMEOUT_S, free_port
from vonmodel.distributed import (
    Part,
    averaging_gradients,
    gather_objects,
    joined_everywhere,
    mean_everywhere,
    own_gradients,
    process_count,
)
from vonmodel.networks import ShapeGenerator
from vonmodel.networks.blocks import SharedBatchNorm, share_batch_norms
from vonmodel.training.stage import ImagePool


def test_parts_are_the_whole_batch() -> None:
    rows = [row for index in range(3) for row in Part(index, 3).rows(12)]
    assert rows == list(range(12))
    for count in (13, 2, 0):
        with pytest.raises(ValueError, match="cannot be divided evenly into 3 parts"):
            Part(0, 3).rows(count)


def test_a_process_alone_exchanges_nothing() -> None:
    values = torch.ones(2, requires_grad=True)
    assert process_count() == 1
    assert joined_everywhere(values) is values
    assert mean_everywhere(values) is values
    assert gather_objects("a") == ["a"]
    alone = nn.Linear(2, 1)
    assert averaging_gradients(alone) is alone
    with own_gradients(alone):
        assert alone(values).requires_grad


def test_the_shared_batch_norm_is_batch_norm() -> None:
    torch.manual_seed(0)
    plain = nn.BatchNorm3d(3)
    with torch.no_grad():
        plain.weight.uniform_()
        plain.bias.uniform_()
    shared = SharedBatchNorm.of(plain)
    features = 5 + torch.randn(2, 3, 4, 4, 4)
    leaves = [features.clone().requires_grad_() for _ in range(2)]
    for norm, leaf in zip((plain, shared), leaves, strict=True):
        norm(leaf).square().sum().backward()
    torch.testing.assert_close(leaves[1].grad, leaves[0].grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shared.weight.grad, plain.weight.grad, atol=1e-4, rtol=1e-4)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value, msg=name)
    for norm in (plain, shared):
        norm.eval()
    assert torch.equal(plain(leaves[0]), shared(leaves[0]))


def test_a_network_keeps_its_names_and_values() -> None:
    network = ShapeGenerator(32, 8, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    share_batch_norms(network)
    assert not any(type(module) is nn.BatchNorm3d for module in network.modules())
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_pieces_of_a_batch_use_their_own_decisions_of_a_pool() -> None:
    fakes = torch.arange(8.0).view(-1, 1, 1, 1)
    pool = ImagePool(100)
    for index in range(2):
        shown = pool.exchange(fakes[4 * index : 4 * index + 4], torch.Generator().manual_seed(0), Part(index, 2))
        assert torch.equal(shown, fakes[4 * index : 4 * index + 4])
    assert pool.images is not None
    assert torch.equal(pool.images, fakes)


TWO = """
import torch
from torch import nn
from vonmodel.training.stage import ImagePool
from vonmodel.training.losses import gradient_penalty
from vonmodel.networks.blocks import SharedBatchNorm
from vonmodel.distributed import (
    Part, any_everywhere, averaging_gradients, backward, joined_everywhere, own_gradients, processes_joined, rank,
    stacked_everywhere, gather_objects,
)
from vonmodel.projection.framing import normalize_depth

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
volumes, depth = torch.randn(4, 2, 3, 3, 3, generator=generator), torch.rand(4, 1, 5, 5, generator=generator)
images = [torch.randn(4, 1, 2, 2, generator=generator) for _ in range(6)]

class Learner(nn.Module):
    def __init__(self, shared):
        super().__init__()
        torch.manual_seed(0)
        self.norm = SharedBatchNorm.of(nn.BatchNorm3d(2)) if shared else nn.BatchNorm3d(2)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.shared = shared

    def forward(self, rows):
        normal = normalize_depth((depth[rows] * self.scale).square() + self.scale, "batch", everywhere=self.shared)
        return self.norm(volumes[rows] * self.scale).tanh().square().mean() + normal.tanh().square().mean()

# The same network several times, and the derivative of its derivative.
class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(54, 3), nn.Tanh(), nn.Linear(3, 1))

    def forward(self, rows):
        real = volumes[rows].flatten(1)
        penalty = gradient_penalty(self.network, real, real.flip(1), depth[rows, 0, 0, 0])
        return self.network(real).mean() - self.network(real.flip(1)).square().mean() + penalty

def learn(rows, shared):
    learner = Learner(shared)
    passed = averaging_gradients(learner) if shared else learner
    backward(passed(rows))
    return [each.grad for each in learner.parameters()] + [learner.norm.running_mean, learner.norm.running_var]

def criticise(pieces, shared):
    critic = Critic()
    passed = averaging_gradients(critic) if shared else critic
    for number in range(3):  # the exchange is rearranged after the first
        critic.zero_grad()
        for rows in pieces[:-1]:
            with own_gradients(passed):
                backward(passed(rows) / len(pieces))
        backward(passed(pieces[-1]) / len(pieces))
    return [each.grad for each in critic.parameters()]

def shown(rows, part):
    pool = ImagePool(5)
    made = [pool.exchange(each[rows], torch.Generator().manual_seed(i), part) for i, each in enumerate(images)]
    return [*made, pool.images]

everything = slice(0, 4)
expected, whole, judged = learn(everything, False), shown(everything, Part()), criticise([everything], False)
with processes_joined(torch.device("cpu")):
    part = Part(rank(), 2)
    rows = slice(2 * rank(), 2 * rank() + 2)
    for one, other in zip(learn(rows, True), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    for pieces in ([rows], [slice(2 * rank() + piece, 2 * rank() + piece + 1) for piece in range(2)]):
        for one, other in zip(criticise(pieces, True), judged, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    own = shown(rows, part)
    for one, other in zip(own[:-1], whole[:-1], strict=True):
        assert torch.equal(one, other[rows])
    assert torch.equal(own[-1], whole[-1])
    assert any_everywhere(rank() == 1) and not any_everywhere(False)
    assert gather_objects(rank()) == [0, 1]
    assert joined_everywhere(torch.tensor([rank()])).tolist() == [0, 1]
    assert stacked_everywhere(torch.tensor(float(rank()))).tolist() == [0.0, 1.0]
"""


def test_two_processes_are_as_one() -> None:
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO],
            env={**os.environ, **shared, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=TIMEOUT_S)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
