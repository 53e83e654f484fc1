import pytest
import torch
from torch import nn

from rung.optim import LMD, split_parameters
from rung.optim.posterior import point_probabilities, predict


class Net(nn.Module):
    """A classifier with dropout, which sampling must not wake."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)
        )
        self.fail = False

    def forward(self, x):
        if self.fail:
            raise MemoryError("no room for activations")
        return self.layers(x)


@pytest.fixture
def made():
    torch.manual_seed(0)
    model = Net()
    return model, LMD(split_parameters(model), sigma=0.5, seed=3), torch.randn(11, 5)


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_probabilities_are_the_mean_over_samples(made):
    model, optimizer, inputs = made
    found = predict(model, optimizer, inputs, samples=4)
    expected = torch.zeros(11, 3, dtype=torch.float64)
    model.eval()
    for draw in range(4):
        with optimizer.evaluated("sample", draw=draw), torch.no_grad():
            expected += model(inputs).double().softmax(-1) / 4
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(-1), torch.ones(11, dtype=torch.float64))


def test_samples_differ_and_seeds_share_none(made):
    model, optimizer, inputs = made
    singles = [predict(model, optimizer, inputs, samples=1, seed=seed) for seed in range(6)]
    for first in range(6):
        for second in range(first):
            assert not torch.equal(singles[first], singles[second])
    torch.testing.assert_close(
        predict(model, optimizer, inputs, samples=3, seed=1), sum(singles[3:]) / 3
    )
    assert torch.equal(predict(model, optimizer, inputs), predict(model, optimizer, inputs))


def test_batches_change_nothing_but_memory(made):
    model, optimizer, inputs = made
    whole = predict(model, optimizer, inputs)
    for size in (1, 4, 11, 50):
        torch.testing.assert_close(predict(model, optimizer, inputs, batch_size=size), whole)


def test_without_noise_the_average_is_the_point():
    torch.manual_seed(0)
    model = Net()
    optimizer, inputs = LMD(split_parameters(model), sigma=0.0), torch.randn(4, 5)
    point = point_probabilities(model, inputs)
    torch.testing.assert_close(predict(model, optimizer, inputs, samples=3), point)


def test_weights_modes_and_statistics_are_restored(made):
    model, optimizer, inputs = made
    model.train()
    model.layers[1].eval()
    with optimizer.evaluated("mean"):  # parameters hold what was given until the first block
        before, modes = snapshot(model), [module.training for module in model.modules()]
    predict(model, optimizer, inputs)
    model.fail = True
    with pytest.raises(MemoryError, match="no room for activations"):
        predict(model, optimizer, inputs)
    assert [module.training for module in model.modules()] == modes
    after = snapshot(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not optimizer.sampling


def test_outputs_over_positions_keep_their_shape():
    model = nn.Linear(5, 3)
    optimizer = LMD(split_parameters(model))
    found = predict(model, optimizer, torch.randn(2, 7, 5))
    assert found.shape == (2, 7, 3)
    assert found.dtype == torch.float64


def test_wrong_numbers_are_refused(made):
    model, optimizer, inputs = made
    with pytest.raises(ValueError, match="`samples` must be at least 1; got 0. For one point"):
        predict(model, optimizer, inputs, samples=0)
    with pytest.raises(ValueError, match="`seed` must be 0 or more; got -1"):
        predict(model, optimizer, inputs, seed=-1)
    text = r"`seed` must be less than 2\^31 / `samples` = 268435456.*; got seed=268435456 with sam"
    with pytest.raises(ValueError, match=text):
        predict(model, optimizer, inputs, samples=8, seed=2**28)
    assert predict(model, optimizer, inputs, samples=8, seed=2**28 - 1).shape == (11, 3)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1 or None; got 0"):
        predict(model, optimizer, inputs, batch_size=0)


def test_a_sample_in_place_is_refused(made):
    model, optimizer, inputs = made
    with (
        optimizer.sampled(),
        pytest.raises(RuntimeError, match="evaluated"),
    ):
        predict(model, optimizer, inputs)
