import copy
import gc
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rung.formats import LNS, Ladder, Pair, Sinh
from rung.tensor import CodedTensor

from .weights import KINDS, coded

USES = {
    "linear": ((6, 4), lambda w, x: F.linear(x, w), (3, 4)),
    "matmul": ((6, 4), lambda w, x: x @ w, (3, 6)),
    "transposed matmul": ((6, 4), lambda w, x: torch.matmul(x, w.t()), (3, 4)),
    "einsum": ((6, 4), lambda w, x: torch.einsum("bi,oi->bo", x, w), (3, 4)),
    "conv1d": ((5, 3, 2), lambda w, x: F.conv1d(x, w), (2, 3, 7)),
    "conv2d": ((5, 3, 2, 2), lambda w, x: F.conv2d(x, w, padding=1), (2, 3, 6, 6)),
    "conv_transpose2d": ((3, 5, 2, 2), lambda w, x: F.conv_transpose2d(x, w), (2, 3, 6, 6)),
    "embedding": ((9, 4), lambda w, x: F.embedding(x.abs().long() % 9, w), (3, 5)),
    "elementwise": ((6, 4), lambda w, x: (w * x).sin(), (6, 4)),
    "slice": ((6, 4), lambda w, x: w[1:3] * x, (2, 4)),
}


@pytest.mark.parametrize("use", USES, ids=str)
@pytest.mark.parametrize(("fmt", "signs"), KINDS)
def test_forward_and_gradient_equal_those_of_the_decoded_weight(use, fmt, signs):
    shape, compute, input_shape = USES[use]
    weight = nn.Parameter(coded(shape, fmt, signs))
    floats = weight.detach().decode().requires_grad_()
    x = torch.randn(input_shape, generator=torch.Generator().manual_seed(5))
    results = [compute(w, x.clone()) for w in (weight, floats)]
    for result in results:
        result.square().sum().backward()
    assert torch.equal(*results)
    assert type(weight.grad) is torch.Tensor
    assert torch.equal(weight.grad, floats.grad)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("fmt", ["ladder12", "lns12"])
def test_recurrent_layers_compute_with_coded_weights(layer, fmt):
    torch.manual_seed(0)
    module = layer(4, 5)
    reference = copy.deepcopy(module)
    for name, weight in list(module.named_parameters()):
        if weight.ndim == 2:
            stored = CodedTensor.from_float(weight, fmt, 1.0)
            setattr(module, name, nn.Parameter(stored))
            setattr(reference, name, nn.Parameter(stored.decode()))
    x = torch.randn(3, 2, 4)
    module(x)[0].sum().backward()
    reference(x)[0].sum().backward()
    for (name, ours), theirs in zip(module.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


def float_tensors_of(shape):
    gc.collect()
    with warnings.catch_warnings():
        # Looking at every object wakes deprecated module attributes.
        warnings.simplefilter("ignore")
        return [
            t
            for t in gc.get_objects()
            if type(t) is torch.Tensor
            and t.is_floating_point()
            and t.numel() == shape[0] * shape[1]
        ]


@pytest.mark.parametrize(("fmt", "signs"), KINDS)
def test_no_float_copy_outlives_the_forward_or_the_backward_pass(fmt, signs):
    shape = (173, 211)
    layer = nn.Linear(shape[1], shape[0], bias=False)
    layer.weight = nn.Parameter(coded(shape, fmt, signs))
    x = torch.randn(2, shape[1], requires_grad=True)
    y = layer(x)
    assert not float_tensors_of(shape)
    y.sum().backward()
    # The dense gradient has the weight's shape; nothing else has.
    assert [t.data_ptr() for t in float_tensors_of(shape)] in ([], [layer.weight.grad.data_ptr()])
    layer.weight.grad = None
    assert not float_tensors_of(shape)


def test_codes_changed_before_backward_are_noticed(parameter):
    x = torch.randn(3, 4, requires_grad=True)
    y = F.linear(x, parameter)
    with torch.no_grad():
        parameter.codes.add_(1)
    with pytest.raises(
        RuntimeError, match="codes were changed between the forward and the backwar"
    ):
        y.sum().backward()


def test_a_stale_weight_in_any_graph_is_noticed(parameter):
    from rung.optim import BBitMadam, LNSMadam, SignedMadam

    moved_by = {LNS: LNSMadam, Ladder: BBitMadam, Sinh: SignedMadam, Pair: SignedMadam}
    optimizer = moved_by[type(parameter.format)]
    x = torch.ones(6, 4, requires_grad=True)
    loss = (parameter * x).sum()
    parameter.grad = torch.ones(6, 4)
    optimizer([parameter], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_activation_checkpointing_keeps_its_hooks(parameter):
    from torch.utils.checkpoint import checkpoint

    layer = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4))
    layer[0].weight = parameter
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    gradients = []
    for run in (layer, lambda x: checkpoint(layer, x, use_reentrant=False)):
        layer.zero_grad()
        run(x.clone()).square().sum().backward()
        gradients.append([p.grad.clone() for p in layer.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)
    seen = []
    x.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t.shape) or t, lambda t: t):
        layer[0](x)
    assert torch.Size([3, 4]) in seen
    assert torch.Size([6, 4]) not in seen


def test_torch_func_differentiates_through_codes(parameter):
    layer = nn.Linear(4, 6)
    layer.weight = parameter
    x = torch.randn(4, generator=torch.Generator().manual_seed(0))
    expected = layer.weight.detach().decode().sum(0)
    torch.testing.assert_close(torch.func.grad(lambda x: layer(x).sum())(x), expected)
    jacobian = torch.func.jacrev(layer)(x)
    torch.testing.assert_close(jacobian, layer.weight.detach().decode())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("fmt", "signs"), KINDS)
def test_a_compiled_model_equals_eager_in_one_graph_and_follows_its_codes(fmt, signs):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    model[0].weight = nn.Parameter(coded(fmt=fmt, signs=signs))
    # The graph is what is tested; inductor's C++ step would need a compiler and a minute.
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(3, 4)
    for _ in range(3):
        model.zero_grad()
        compiled(x).square().sum().backward()
        ours = model[0].weight.grad.clone()
        model.zero_grad()
        y = model(x)
        y.square().sum().backward()
        assert torch.equal(compiled(x), y)
        assert torch.equal(ours, model[0].weight.grad)
        with torch.no_grad():
            model[0].weight.codes.add_(3)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 1
    torch._dynamo.reset()
