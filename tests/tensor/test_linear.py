import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch.autograd import forward_ad

from rung.tensor import CodedTensor, linear

from .weights import KINDS, coded

# torch's own, at the first jvp or graph of a process.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SHAPE = (160, 176)  # large enough for `linear`
FUSED = [kind for kind in KINDS if kind[0] not in ("sinh8", "pair16")]


def operands(fmt="lns8", signs="packed", rows=(3,), dtype=torch.float32):
    weight = nn.Parameter(coded(SHAPE, fmt, signs, dtype=dtype))
    x = torch.randn((*rows, SHAPE[1]), generator=torch.Generator().manual_seed(1)).to(dtype)
    assert linear.serves(x, weight)
    return x.requires_grad_(), weight


@pytest.mark.parametrize("rows", [(), (1,), (3, 5)], ids=str)
@pytest.mark.parametrize(("fmt", "signs"), FUSED)
def test_a_layer_and_its_gradients_are_those_of_the_decoded_weight(fmt, signs, rows):
    x, weight = operands(fmt, signs, rows)
    layer = nn.Linear(SHAPE[1], SHAPE[0])
    floats = weight.detach().decode().requires_grad_()
    bias = layer.bias.detach().clone().requires_grad_()
    layer.weight = weight
    other = x.detach().clone().requires_grad_()
    y, expected = layer(x), F.linear(other, floats, bias)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-4)
    y.sin().sum().backward()
    expected.sin().sum().backward()
    pairs = [(x, other), (weight, floats), (layer.bias, bias)]
    for ours, theirs in pairs:
        assert type(ours.grad) is torch.Tensor
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=2e-3)
    with torch.no_grad():
        assert torch.equal(layer(x), y)


@pytest.mark.parametrize("fmt", ["sinh8", "pair16"])
def test_where_signs_are_free_weights_are_decoded_as_a_whole(fmt):
    weight = nn.Parameter(coded(SHAPE, fmt, "packed"))
    floats = weight.detach().decode().requires_grad_()
    x = torch.randn((3, SHAPE[1]), generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert not linear.serves(x, weight)
    y = F.linear(x, weight)
    assert torch.equal(y, F.linear(x, floats))
    y.sum().backward()
    F.linear(x, floats).sum().backward()
    assert torch.equal(weight.grad, floats.grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_floats_keep_their_dtype(dtype):
    x, weight = operands(dtype=dtype)
    y = F.linear(x, weight)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == weight.grad.dtype == dtype
    expected = F.linear(x.float(), weight.detach().decode().float())
    torch.testing.assert_close(y.float(), expected, rtol=2e-2, atol=0.2)


def test_what_needs_no_gradient_gets_none():
    x, weight = operands()
    F.linear(x.detach(), weight).sum().backward()
    assert x.grad is None
    assert weight.grad is not None
    frozen = weight.detach()
    F.linear(x, frozen).sum().backward()
    torch.testing.assert_close(x.grad, frozen.decode().sum(0).expand(3, -1), rtol=1e-4, atol=1e-4)


def test_gradients_of_gradients():
    x, weight = operands()
    floats = weight.detach().decode().requires_grad_()
    results = []
    for w in (weight, floats):
        (first,) = torch.autograd.grad(F.linear(x, w).sin().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), [x, w]))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_codes_changed_before_backward_are_noticed():
    x, weight = operands()
    y = F.linear(x, weight)
    with torch.no_grad():
        weight.codes.add_(1)
    with pytest.raises(RuntimeError, match="codes were changed between the forward and the back"):
        y.sum().backward()


def test_shapes_that_do_not_fit_are_refused_by_torch_as_ever():
    _, weight = operands()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        F.linear(torch.randn(3, 5), weight)


@pytest.mark.parametrize(
    "change",
    [
        lambda x, w: (torch.randn(65, SHAPE[1]), w),
        lambda x, w: (x[:0], w),
        lambda x, w: (x.double(), w.to(torch.float64)),
        lambda x, w: (x, CodedTensor.from_float(w.decode(), "lns8", torch.full(SHAPE, 3.0))),
        lambda x, w: (x, coded((4, SHAPE[1]))),
    ],
    ids=["many rows", "no rows", "float64", "a scale each", "a small weight"],
)
def test_the_rest_is_decoded_as_a_whole(change):
    x, weight = operands()
    x, weight = change(x.detach(), weight.detach())
    assert not linear.serves(x, weight)
    assert torch.equal(F.linear(x, weight), F.linear(x, weight.decode()))


def test_autocast_decides_the_dtype_as_ever():
    x, weight = operands()
    with torch.autocast("cpu", torch.bfloat16):
        assert F.linear(x, weight).dtype == torch.bfloat16


@pytest.mark.parametrize(("fmt", "signs"), FUSED)
def test_forward_mode_differentiates_with_respect_to_x_and_to_the_weight(fmt, signs):
    x, weight = operands(fmt, signs)
    x, values = x.detach(), weight.detach().decode()
    along_x, along_weight = torch.randn(x.shape), torch.randn(SHAPE)
    y, of_x = torch.func.jvp(lambda x: F.linear(x, weight), (x,), (along_x,))
    torch.testing.assert_close(y, F.linear(x, values), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(of_x, along_x @ values.t(), rtol=1e-5, atol=1e-4)
    with forward_ad.dual_level():
        y = F.linear(forward_ad.make_dual(x, along_x), weight)
        torch.testing.assert_close(forward_ad.unpack_dual(y).tangent, of_x)
        y = F.linear(x, forward_ad.make_dual(weight.detach(), along_weight))
        tangent = forward_ad.unpack_dual(y).tangent
        torch.testing.assert_close(tangent, x @ along_weight.t(), rtol=1e-5, atol=1e-4)


class Recorder:
    """A backend that keeps the operators of every graph, forwards and backwards."""

    def __init__(self):
        self.graphs = []

    def __call__(self, module, inputs):
        def keep(module, inputs):
            self.graphs.append([str(node.target) for node in module.graph.nodes])
            return make_boxed_func(module.forward)

        return aot_autograd(fw_compiler=keep, bw_compiler=keep)(module, inputs)


def two_layers(fmt, signs):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(SHAPE[1], SHAPE[0]), nn.ReLU(), nn.Linear(SHAPE[0], SHAPE[0]))
    model[0].weight = nn.Parameter(coded(SHAPE, fmt, signs))
    model[2].weight = nn.Parameter(coded((SHAPE[0], SHAPE[0]), fmt, signs, seed=1))
    return model


def results(call, model, x):
    """The output, and the gradients of x and of every parameter."""
    x = x.clone().requires_grad_()
    model.zero_grad()
    y = call(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad.clone() for p in model.parameters())]


@pytest.fixture
def fresh_dynamo():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize(("fmt", "signs"), FUSED)
def test_a_compiled_model_multiplies_by_the_operator_and_follows_its_codes(fmt, signs):
    model, recorder = two_layers(fmt, signs), Recorder()
    compiled = torch.compile(model, fullgraph=True, backend=recorder)
    x = torch.randn(3, SHAPE[1])
    for _ in range(3):
        for ours, eager in zip(results(compiled, model, x), results(model, model, x), strict=True):
            assert torch.equal(ours, eager)
        with torch.no_grad():
            assert torch.equal(compiled(x), model(x))
            model[0].weight.codes.add_(3)
    forward, backward, inference = recorder.graphs
    assert forward.count("rung.linear_codes.default") == 2
    assert backward.count("rung.linear_codes_grad.default") == 2
    assert inference.count("rung.linear_codes.default") == 2
    assert not [name for graph in recorder.graphs for name in graph if "index_select" in name]


@pytest.mark.usefixtures("fresh_dynamo")
def test_a_compiled_model_takes_every_batch_with_one_graph_for_few_rows_and_one_for_many():
    model, recorder = two_layers("lns8", "packed"), Recorder()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=recorder)
    for rows in (3, 5, 64, 65, 200, 7):
        x = torch.randn(rows, SHAPE[1])
        for ours, eager in zip(results(compiled, model, x), results(model, model, x), strict=True):
            torch.testing.assert_close(ours, eager)
    few, _, many, _ = recorder.graphs
    assert "rung.linear_codes.default" in few
    assert "rung.linear_codes.default" not in many


def test_an_exported_model_multiplies_by_the_operator():
    model = two_layers("lns8", "packed")
    x = torch.randn(3, SHAPE[1])
    program = torch.export.export(model, (x,))
    assert "linear_codes" in program.graph_module.code
    assert torch.equal(program.module()(x), model(x))
