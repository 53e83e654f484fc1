import pytest
import torch

import rung
from rung.optim import split_parameters
from rung.train.models import ConditionalGAN
from rung.train.models.cgan import ConditionalBatchNorm2d, pack


def batch(count=4, noise=8, classes=10, seed=0):
    draws = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 32, 32, generator=draws) * 2 - 1
    labels = torch.randint(classes, (count,), generator=draws)
    wanted = torch.randint(classes, (count,), generator=draws)
    return images, labels, torch.randn(count, noise, generator=draws), wanted


@pytest.fixture
def model():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return ConditionalGAN(10, noise=8, width=4)


def test_the_published_sizes_are_the_default():
    model = ConditionalGAN(10)
    # Of SNGAN's networks for CIFAR-10; ours also has the tables of classes.
    sizes = [sum(p.numel() for p in part.parameters()) for part in model.children()]
    assert sizes == [4_304_387, 1_055_105]


def test_generated_images_lie_in_the_range_of_real_ones(model):
    _, _, noise, wanted = batch()
    images = model.generator(noise, wanted)
    assert images.shape == (4, 3, 32, 32)
    assert bool((images.abs() <= 1).all())


def test_a_packed_batch_comes_out_as_it_went_in(model):
    parts = batch()
    images, labels, noise, wanted = model._unpack(pack(*parts))
    for found, expected in zip((images, labels, noise, wanted), parts, strict=True):
        assert torch.equal(found, expected)


def test_the_losses_are_the_hinge_losses(model):
    images, labels, noise, wanted = batch()
    model.eval()
    of_discriminator, of_generator = model(pack(images, labels, noise, wanted))
    fake = model.discriminator(model.generator(noise, wanted), wanted)
    real = model.discriminator(images, labels)
    expected = (1 - real).clamp_min(0).mean() + (1 + fake).clamp_min(0).mean()
    torch.testing.assert_close(of_discriminator, expected)
    torch.testing.assert_close(of_generator, -fake.mean())


@pytest.mark.parametrize("fmt", [None, "ladder8", "lns16"])
def test_each_loss_moves_its_own_part_only(model, fmt):
    if fmt is not None:
        rung.store_weights_(model, fmt)
    inputs = pack(*batch())
    for place, (own, other) in enumerate(
        ((model.discriminator, model.generator), (model.generator, model.discriminator))
    ):
        model.zero_grad()
        model(inputs)[place].backward()
        assert all(p.grad is None or not bool(p.grad.any()) for p in other.parameters())
        assert all(p.grad is not None for p in own.parameters())
        assert any(bool(p.grad.any()) for p in own.parameters())


def test_the_generators_gradient_is_that_of_the_whole_chain(model):
    images, labels, noise, wanted = batch()
    model.eval()
    model(pack(images, labels, noise, wanted)).sum().backward()
    found = [p.grad.clone() for p in model.generator.parameters()]
    model.zero_grad()
    (-model.discriminator(model.generator(noise, wanted), wanted).mean()).backward()
    for grad, p in zip(found, model.generator.parameters(), strict=True):
        torch.testing.assert_close(grad, p.grad)


def test_power_iteration_runs_in_training_only_and_once_a_step(model):
    inputs = pack(*batch())
    layer = model.discriminator.blocks[1].conv1
    before = layer.left.clone()
    model.eval()
    model(inputs)
    assert torch.equal(layer.left, before)
    model.train()
    model(inputs)
    after = layer.left.clone()
    assert not torch.equal(after, before)
    layer.left.copy_(before)
    layer.iterate_()
    assert torch.equal(layer.left, after)


def test_tables_of_the_norms_learn_by_addition_and_begin_at_one_and_zero(model):
    additive = {id(p) for p in split_parameters(model).additive}
    for norm in model.modules():
        if isinstance(norm, ConditionalBatchNorm2d):
            assert {id(norm.gain), id(norm.offset)} <= additive
            assert bool((norm.gain == 1).all())
            assert not bool(norm.offset.any())
    table = model.discriminator.table.weight
    assert id(table) not in additive


def test_the_class_chooses_gain_and_offset():
    norm = ConditionalBatchNorm2d(2, 3).eval()
    with torch.no_grad():
        norm.gain.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        norm.offset.copy_(torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
    found = norm(torch.ones(2, 2, 1, 1), torch.tensor([2, 0]))
    expected = torch.tensor([[9.0, 11.0], [1.0, 3.0]])[:, :, None, None]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
