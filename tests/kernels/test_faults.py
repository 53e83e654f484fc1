"""What loops must never be handed: they see addresses, not shapes, devices or signs."""

import threading
import time

import pytest
import torch
from torch import nn

import rung
from rung.kernels.cpu import threads
from rung.optim import LMD, BBitMadam, Madam
from rung.tensor import CodedTensor


def stored(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(*shape, generator=generator)
    return nn.Parameter(CodedTensor.from_float(weight, "ladder8", 3.0, "seed", 0, "w"))


@pytest.mark.parametrize("kind", ["float", "codes"])
def test_a_moment_of_another_shape_is_refused_before_anything_is_written(kind):
    def made(*shape):
        if kind == "float":
            return Madam([nn.Parameter(torch.ones(*shape))])
        return BBitMadam([stored(*shape)], rounding="stochastic")

    small, large = made(8, 8), made(64, 65)
    large.load_state_dict(small.state_dict())
    param = large.param_groups[0]["params"][0]
    param.grad = torch.ones(64, 65)
    before = large.state[param]["step"].clone()
    with pytest.raises(ValueError, match=r"has shape \(64, 65\), and its state 'exp_avg_sq' must"):
        large.step()
    assert torch.equal(large.state[param]["step"], before)


def test_tensors_of_several_devices_go_to_the_reference_and_raise():
    param = nn.Parameter(torch.ones(4))
    optimizer = Madam([param])
    param.grad = torch.ones(4)
    optimizer.step()
    optimizer.state[param]["exp_avg_sq"] = torch.empty(4, device="meta")
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        optimizer.step()


def test_a_lazily_negated_gradient_moves_the_right_way():
    moved = []
    for grad in (torch._neg_view(torch.ones(3)), -torch.ones(3)):
        param = nn.Parameter(torch.ones(3))
        optimizer = Madam([param], lr=0.1)
        param.grad = grad
        optimizer.step()
        moved.append(param.detach().clone())
    torch.testing.assert_close(*moved, rtol=1e-6, atol=0)  # the reference's rounding differs
    assert bool((moved[0] > 1).all())


def test_a_float64_moment_of_a_float32_weight_is_served_by_the_reference():
    param = nn.Parameter(torch.ones(5))
    optimizer = Madam([param])
    param.grad = torch.ones(5)
    optimizer.step()
    optimizer.state[param]["exp_avg_sq"] = optimizer.state[param]["exp_avg_sq"].double()
    optimizer.step()
    assert bool((param < 1).all())


def test_nan_stays_nan_in_a_float_weight():
    param = nn.Parameter(torch.ones(40))
    optimizer = Madam([param], on_nonfinite="trust")
    param.grad = torch.ones(40)
    param.grad[3] = float("nan")
    optimizer.step()
    assert torch.isnan(param).nonzero().flatten().tolist() == [3]


def test_a_second_backward_pass_through_weights_that_lmd_has_moved_is_refused():
    param = nn.Parameter(torch.ones(4))
    optimizer = LMD([param], lr=0.1, m0=1.0, sigma=0.0)
    x = torch.ones(4, requires_grad=True)
    loss = (param * x).square().sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_linear_takes_its_arguments_by_name():
    weight = stored(256, 128)
    x = torch.randn(3, 128)
    named = torch.nn.functional.linear(input=x, weight=weight)
    assert torch.equal(named, torch.nn.functional.linear(x, weight))


@pytest.mark.parametrize("bias", [torch.zeros(7, 1, 256), torch.zeros(256, dtype=torch.float64)])
def test_linear_refuses_the_biases_that_torch_refuses(bias):
    with pytest.raises(RuntimeError, match="expand|dtype|type"):
        torch.nn.functional.linear(torch.randn(4, 128), stored(256, 128), bias)


def test_run_waits_for_all_even_if_one_fails():
    done = threading.Event()

    def work(begin, end):
        if begin:
            raise OSError("broken")
        time.sleep(0.05)
        done.set()

    with pytest.raises(OSError, match="broken"):
        threads.run(work, [(0, 1), (1, 2)])
    assert done.is_set()


def test_a_warning_of_step_names_the_users_line():
    param = nn.Parameter(torch.ones(2))
    optimizer = Madam([param])
    param.grad = torch.full((2,), float("nan"))
    with pytest.warns(UserWarning, match="was skipped") as caught:
        optimizer.step()
    assert caught[0].filename == __file__
    coded = BBitMadam([stored(4, 4)], lr=0.1)
    coded.param_groups[0]["lr"] = 0.001
    coded.param_groups[0]["params"][0].grad = torch.ones(4, 4)
    with pytest.warns(UserWarning, match="base precision") as caught:
        coded.step()
    assert caught[0].filename == __file__


def test_the_names_that_users_type_exist():
    assert callable(rung.kernels.info)
