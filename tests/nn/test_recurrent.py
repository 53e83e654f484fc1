import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from rung.nn.quantizer import Quantizer, Quantizers
from rung.nn.recurrent import FORWARDS, cell, sequence

OFF = Quantizers()
# torch's own words about its own path.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
LNS8 = Quantizers(*(Quantizer(name) for name in ["lns8", "lns8", "lns8", "lns8"]))
CELLS = [
    lambda: nn.RNNCell(3, 5),
    lambda: nn.RNNCell(3, 5, nonlinearity="relu", bias=False),
    lambda: nn.LSTMCell(3, 5),
    lambda: nn.GRUCell(3, 5),
    lambda: nn.GRUCell(3, 5, bias=False),
]
LAYERS = [
    lambda: nn.RNN(3, 5),
    lambda: nn.RNN(3, 5, nonlinearity="relu", num_layers=2, bidirectional=True, batch_first=True),
    lambda: nn.LSTM(3, 5),
    lambda: nn.LSTM(3, 5, num_layers=3, bias=False),
    lambda: nn.LSTM(3, 5, num_layers=2, bidirectional=True, proj_size=4, batch_first=True),
    lambda: nn.GRU(3, 5, num_layers=2, bidirectional=True),
    lambda: nn.GRU(3, 5, bias=False, batch_first=True),
]


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tensors(values):
    leaves = torch.utils._pytree.tree_leaves(values)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]


def assert_close(ours, theirs):
    assert type(ours) is type(theirs)
    for a, b in zip(tensors(ours), tensors(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def gradients(module, values):
    scalar = sum((x * draw(*x.shape, seed=i)).sum() for i, x in enumerate(tensors(values)))
    return torch.autograd.grad(scalar, list(module.parameters()))


def state_of(module, batch, seed=7):
    """A state as the module takes it; `batch` is a tuple, empty for one sequence."""
    lead = ()
    h_size = module.hidden_size
    if isinstance(module, nn.RNNBase):
        lead = (module.num_layers * (2 if module.bidirectional else 1),)
        h_size = module.proj_size or h_size
    h = draw(*lead, *batch, h_size, seed=seed)
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return h, draw(*lead, *batch, module.hidden_size, seed=seed + 1)
    return h


@pytest.fixture(params=CELLS)
def torch_cell(request):
    torch.manual_seed(0)
    return request.param()


@pytest.fixture(params=LAYERS)
def layer(request):
    torch.manual_seed(0)
    return request.param()


@pytest.mark.parametrize("batch", [(), (4,)])
@pytest.mark.parametrize("has_state", [False, True])
def test_a_cell_without_quantizers_is_torchs(torch_cell, batch, has_state):
    x = draw(*batch, 3)
    hx = state_of(torch_cell, batch) if has_state else None
    ours, theirs = cell(torch_cell, OFF, x, hx), torch_cell(x, hx)
    assert_close(ours, theirs)
    assert_close(gradients(torch_cell, ours), gradients(torch_cell, theirs))


@pytest.mark.parametrize("is_batched", [False, True])
@pytest.mark.parametrize("has_state", [False, True])
def test_a_layer_without_quantizers_is_torchs(layer, is_batched, has_state):
    x = draw(6, 6, 3) if is_batched else draw(6, 3)
    hx = state_of(layer, (6,) if is_batched else ()) if has_state else None
    ours, theirs = sequence(layer, OFF, x, hx), layer(x, hx)
    assert_close(ours, theirs)
    assert_close(gradients(layer, ours), gradients(layer, theirs))


@pytest.mark.parametrize("has_state", [False, True])
@pytest.mark.parametrize("is_sorted", [False, True])
def test_packed_sequences_are_torchs(layer, has_state, is_sorted):
    lengths = [5, 3, 3, 1] if is_sorted else [3, 1, 5, 3]
    packed = pack_sequence(
        [draw(n, 3, seed=i) for i, n in enumerate(lengths)], enforce_sorted=is_sorted
    )
    hx = state_of(layer, (4,)) if has_state else None
    ours, theirs = sequence(layer, OFF, packed, hx), layer(packed, hx)
    assert_close(ours, theirs)
    assert_close(gradients(layer, ours), gradients(layer, theirs))
    for a, b in zip(pad_packed_sequence(ours[0]), pad_packed_sequence(theirs[0]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_padding_behind_a_sequence_changes_nothing():
    torch.manual_seed(0)
    layer = nn.LSTM(3, 5, bidirectional=True)
    x = draw(6, 2, 3)
    packed = pack_padded_sequence(x, torch.tensor([6, 4]))
    x[4:, 1] = 100.0
    again = pack_padded_sequence(x, torch.tensor([6, 4]))
    assert torch.equal(sequence(layer, LNS8, packed)[0].data, sequence(layer, LNS8, again)[0].data)


def test_dropout_is_between_layers_and_in_training_only():
    torch.manual_seed(0)
    layer = nn.GRU(3, 5, num_layers=2, dropout=1.0)
    x = draw(4, 2, 3)
    silent = copy.deepcopy(layer)
    with torch.no_grad():
        silent.weight_ih_l1.zero_()
    silent.dropout = 0.0
    assert_close(sequence(layer, OFF, x), sequence(silent, OFF, x))
    layer.eval()
    assert_close(sequence(layer, OFF, x), layer(x))


def test_products_are_quantized_and_gates_are_not():
    # One weight of 1 and a state of 0: the only rounding is that of the input.
    rnn = nn.RNNCell(1, 1, bias=False)
    with torch.no_grad():
        rnn.weight_ih.fill_(1.0)
        rnn.weight_hh.fill_(1.0)
    x = torch.tensor([[0.3], [1.0]])
    quantizer = Quantizer("lns4")
    only = Quantizers(activation=quantizer)
    assert torch.equal(cell(rnn, only, x), torch.tanh(quantizer.q(x)))


@pytest.mark.parametrize("make", [*CELLS, *LAYERS])
def test_quantized_gradients_point_with_the_float_ones(make):
    torch.manual_seed(0)
    module = make()
    x = draw(6, 3) if isinstance(module, nn.RNNCellBase) else draw(6, 6, 3)
    forward = FORWARDS[type(module)]
    quantized = torch.cat([g.flatten() for g in gradients(module, forward(module, LNS8, x))])
    float32 = torch.cat([g.flatten() for g in gradients(module, module(x))])
    assert torch.nn.functional.cosine_similarity(quantized, float32, dim=0) > 0.98


def test_inputs_that_torch_refuses_are_refused():
    with pytest.raises(ValueError, match=r"takes \(in,\) or \(batch, in\); got .* 3 dimensions"):
        cell(nn.GRUCell(3, 5), OFF, draw(2, 2, 3))
    layer = nn.LSTM(3, 5)
    with pytest.raises(ValueError, match="takes 2 or 3 dimensions; got 1"):
        sequence(layer, OFF, draw(3))
    with pytest.raises(RuntimeError, match="sequence length to be larger than 0"):
        sequence(layer, OFF, draw(0, 2, 3))
    with pytest.raises(RuntimeError, match="input.size"):
        sequence(layer, OFF, draw(4, 2, 7))
    with pytest.raises(RuntimeError, match=r"Expected hidden\[0\] size"):
        sequence(layer, OFF, draw(4, 2, 3), (draw(1, 3, 5), draw(1, 3, 5)))
