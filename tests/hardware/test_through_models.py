import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from rung import store_weights_
from rung.formats import get
from rung.hardware.datapath import Datapath
from rung.hardware.through import through_datapath
from rung.nn import Policy, convert_
from rung.tensor import CodedTensor

WIDE = Datapath(fraction_bits=16, accumulator_bits=44)
WIDE_ZERO = Datapath(fraction_bits=16, accumulator_bits=44, zero=True)
NARROW = Datapath(conversion="mitchell", accumulator_bits=20, dropped_bits=16, zero=True)


def small_net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 3)
    )


def test_the_report_has_the_modules_names_and_hooks_are_taken_off():
    net = small_net().eval()
    with torch.no_grad(), through_datapath(WIDE_ZERO, "lns8+zero", net) as report:
        result = net(torch.randn(2, 1, 4, 4))
    assert not result.requires_grad
    assert [(layer.name, layer.outputs) for layer in report.layers] == [("0", 128), ("3", 6)]
    assert "0             1      128               0  0.000%" in str(report)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_products_in_floating_point_are_named():
    x = torch.randn(1, 1, 4, 4, 4)
    with through_datapath(WIDE, "lns8") as report:
        result = F.conv3d(x, torch.ones(1, 1, 2, 2, 2))
        torch.einsum("ij,jk->ik", x[0, 0, 0], x[0, 0, 0])
        torch.arange(4) @ torch.arange(4)
        assert (torch.zeros(0, 4) @ x[0, 0, 0]).shape == (0, 4)
    assert torch.equal(result, F.conv3d(x, torch.ones(1, 1, 2, 2, 2)))
    assert report.left == {"conv3d": 1, "einsum": 1, "matmul": 1}
    assert "in floating point: conv3d (1), einsum (1), matmul (1)" in str(report)


def test_attention_computes_its_projections_through_the_datapath():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with through_datapath(WIDE_ZERO, "lns8+zero", layer) as report:
        layer(torch.randn(2, 5, 8))
    assert [(row.name, row.calls) for row in report.layers] == [
        ("self_attn", 2),
        ("linear1", 1),
        ("linear2", 1),
    ]
    assert report.left == {"scaled_dot_product_attention": 1}


@pytest.mark.parametrize("stored", ["lns8", "lns16", "lns10_b8", "ladder8"])
@pytest.mark.parametrize("design", [WIDE, WIDE_ZERO], ids=["no zero", "zero"])
def test_weights_in_codes_are_taken_as_their_codes_where_they_are_the_formats(stored, design):
    net = nn.Linear(40, 6, bias=False)
    store_weights_(net, stored)
    weight = net.weight
    assert isinstance(weight, CodedTensor)
    fmt = get("lns8+zero" if design.zero else "lns8")
    x = torch.randn(3, 40)
    with through_datapath(design, fmt):
        result = net(x)
    result.sum().backward()
    if stored in ("lns8", "lns16"):
        decoded = get("lns8").decode_shifted(weight.codes, weight.scale, weight.format)
        if design.zero:  # the smallest magnitude becomes the next one
            low = decoded.abs() < weight.scale * 2 ** (-126.5 / 8)
            decoded = torch.where(low, decoded * 2 ** (1 / 8), decoded)
    else:
        decoded = fmt.quantize(weight.decode(), 0)
    a = fmt.quantize(x)
    torch.testing.assert_close(result, a @ decoded.T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(weight.grad, a.sum(0).expand(6, 40))


def test_a_converted_model_keeps_its_quantizers():
    net = small_net()
    convert_(net, Policy())
    x = torch.randn(2, 1, 4, 4)
    net(x).square().sum().backward()
    expected = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    with through_datapath(WIDE_ZERO, "lns8+zero", net) as report:
        result = net(x)
    result.square().sum().backward()
    assert [layer.name for layer in report.layers] == ["0", "3"]
    torch.testing.assert_close(result, net(x), rtol=1e-3, atol=1e-3)
    for parameter, grad in zip(net.parameters(), expected, strict=True):
        # Errors are rounded to four codes an octave, and may fall to either side of a boundary.
        torch.testing.assert_close(
            parameter.grad, grad, rtol=0.2, atol=0.05 * float(grad.abs().max())
        )


def test_blocks_nest_and_end():
    x, w = torch.randn(4, 20), torch.randn(3, 20)
    with through_datapath(WIDE_ZERO, "lns8+zero") as outer:
        with through_datapath(NARROW, "lns8+zero") as inner:
            narrow = F.linear(x, w)
        wide = F.linear(x, w)
    assert not torch.equal(narrow, wide)
    assert (outer.layers[0].calls, inner.layers[0].calls) == (1, 1)
    with (
        pytest.raises(ZeroDivisionError, match="division by zero"),
        through_datapath(WIDE, "lns8"),
    ):
        _ = 1 / 0
    assert torch.equal(F.linear(x, w), x @ w.T)


def test_a_block_is_one_threads():
    x, w, found = torch.randn(4, 20), torch.randn(3, 20), []
    with through_datapath(NARROW, "lns8+zero") as report:
        thread = threading.Thread(target=lambda: found.append(F.linear(x, w)))
        thread.start()
        thread.join()
    assert torch.equal(found[0], F.linear(x, w))
    assert not report.layers


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "after"])
def test_a_checkpoint_is_computed_again_through_the_datapath(inside):
    net = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    x = torch.randn(3, 8, requires_grad=True)
    with through_datapath(NARROW, "lns8+zero"):
        (expected,) = torch.autograd.grad(net(x).sum(), x)
    with through_datapath(NARROW, "lns8+zero", net) as report:
        total = checkpoint(net, x, use_reentrant=False).sum()
        if inside:
            (grad,) = torch.autograd.grad(total, x)
    if not inside:
        (grad,) = torch.autograd.grad(total, x)
    assert torch.equal(grad, expected)
    assert len(report.layers) == 2


def test_autocast_decides_on_the_results_dtype_only():
    x, w = torch.randn(4, 20), torch.randn(3, 20, requires_grad=True)
    with through_datapath(WIDE_ZERO, "lns8+zero"):
        plain = F.linear(x, w)
        with torch.autocast("cpu", torch.bfloat16):
            result = F.linear(x, w)
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, plain.bfloat16())
    result.sum().backward()
    assert w.grad.dtype == torch.float32


def test_nan_is_never_made_finite():
    x, w = torch.randn(4, 20), torch.randn(3, 20)
    w[1, 3] = torch.nan
    with through_datapath(WIDE_ZERO, "lns8+zero"):
        result = F.linear(x, w)
    assert torch.equal(result.isnan(), torch.tensor([[False, True, False]]).expand(4, 3))


def test_a_small_network_learns_through_mitchells_approximation():
    net = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
    x = torch.rand(64, 2)
    y = (x[:, :1] - x[:, 1:]).abs()
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    design = Datapath(conversion="mitchell", dropped_bits=16, zero=True)
    losses = []
    for _ in range(60):
        with through_datapath(design, "lns8+zero"):
            loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_model_breaks_its_graph():
    net, x = small_net(), torch.randn(2, 1, 4, 4)
    with through_datapath(NARROW, "lns8+zero") as report:
        expected = net(x)
        assert torch.equal(torch.compile(net, backend="eager")(x), expected)
        torch._dynamo.reset()
        with pytest.raises(torch._dynamo.exc.Unsupported, match="bit-true integers"):
            torch.compile(net, backend="eager", fullgraph=True)(x)
    assert [layer.calls for layer in report.layers] == [2, 2]
    torch._dynamo.reset()
