import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from rung.hardware.energy import Counts, Elements, count


class Attention(nn.Module):
    """Queries, keys and values from linear layers; 3 heads of 4, values of 5."""

    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(12, 12), nn.Linear(12, 12)
        self.value = nn.Linear(12, 15)

    def forward(self, x, memory):
        query, key, value = self.query(x), self.key(memory), self.value(memory)
        parts = [part.unflatten(-1, (3, -1)).transpose(1, 2) for part in (query, key, value)]
        return F.scaled_dot_product_attention(*parts)


class Conv(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(8 * 25, 3),
        )


def of(counts, phase, layer):
    return [work for work in counts.works if (work.phase, work.layer) == (phase, layer)]


def test_a_linear_layer_counts_as_by_hand():
    counts = count(nn.Linear(8, 4), torch.ones(2, 8))
    (forward,) = of(counts, "forward", "")
    assert (forward.macs, forward.results) == (2 * 8 * 4, 2 * 4)
    assert forward.moved == Elements(weights=32, activations=16 + 8)
    assert of(counts, "input gradient", "") == []  # nobody asked for the data's gradient
    (weight,) = of(counts, "weight gradient", "")
    assert (weight.macs, weight.results) == (64, 32)
    assert weight.moved == Elements(activations=16, gradients=8 + 32)
    assert (counts.weights, counts.parameters) == (36, 36)
    assert forward.moved.bytes(8) == 56


def test_an_input_gradient_reads_the_weight():
    counts = count(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 3)), torch.ones(2, 8))
    (work,) = of(counts, "input gradient", "1")
    assert (work.macs, work.results) == (2 * 4 * 3, 2 * 4)
    assert work.moved == Elements(weights=12, gradients=2 * 3 + 2 * 4)


def test_a_convolution_with_stride_and_groups_counts_as_by_hand():
    x = torch.ones(2, 4, 9, 9)
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2))
    counts = count(model, x)
    macs = 2 * 8 * 5 * 5 * (2 * 3 * 3)  # images, channels, places, inputs of a filter
    for phase, results in (
        ("forward", 2 * 8 * 25),
        ("input gradient", 2 * 4 * 81),
        ("weight gradient", 8 * 2 * 9),
    ):
        (work,) = of(counts, phase, "1")
        assert (work.macs, work.results) == (macs, results)
    assert of(counts, "forward", "1")[0].moved == Elements(weights=144, activations=648 + 400)
    assert of(counts, "weight gradient", "1")[0].moved == Elements(
        activations=648, gradients=400 + 144
    )


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_counts_as_by_hand(groups):
    layer = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups)
    counts = count(nn.Sequential(nn.Conv2d(4, 4, 1), layer), torch.ones(2, 4, 5, 5))
    macs = 2 * 4 * 25 * (6 // groups * 9)  # every input goes into so many outputs
    for phase in ("forward", "input gradient", "weight gradient"):
        (work,) = of(counts, phase, "1")
        assert work.macs == macs


def test_attention_counts_as_by_hand_and_keeps_its_scores_on_the_chip():
    counts = count(Attention(), (torch.ones(2, 8, 12), torch.ones(2, 10, 12)))
    scores, query, key = 2 * 3 * 8 * 10, 2 * 3 * 8 * 4, 2 * 3 * 10 * 4
    value, output = 2 * 3 * 10 * 5, 2 * 3 * 8 * 5
    forward = of(counts, "forward", "")
    assert [work.macs for work in forward] == [scores * 4, scores * 5]
    assert sum((w.moved for w in forward), start=Elements()) == Elements(
        activations=query + key + value + output
    )
    backward = of(counts, "input gradient", "")
    assert sorted(work.macs for work in backward) == [scores * n for n in (4, 4, 5, 5)]
    # Gradients of the scores and of the values, then of queries and keys, one product each.
    assert sum((w.moved for w in backward), start=Elements()) == Elements(
        activations=query + key + value, gradients=2 * output + query + key + value
    )
    assert of(counts, "weight gradient", "") == []


def test_scores_as_large_as_a_key_are_left_out_once():
    x = torch.ones(2, 4, 12)  # 4 tokens, heads of 4
    counts = count(Attention(), (x, x))
    product = of(counts, "forward", "")[0]
    assert product.moved == Elements(activations=2 * 2 * 3 * 4 * 4)


def test_attention_by_hand_moves_its_scores():
    class Written(nn.Module):
        def forward(self, q, k, v):
            return (q @ k.transpose(-2, -1)).softmax(-1) @ v

    q, k, v = torch.ones(1, 8, 4), torch.ones(1, 10, 4), torch.ones(1, 10, 5)
    counts = count(Written(), (q, k, v), training=False)
    assert counts.moved.activations == 32 + 40 + 80 + 80 + 50 + 40


def test_an_embedding_moves_its_rows_and_multiplies_nothing():
    tokens = torch.tensor([[0, 1, 1, 5]])
    counts = count(nn.Embedding(100, 6), tokens)
    forward, backward = counts.works
    assert (forward.macs, forward.moved) == (0, Elements(weights=24, activations=24))
    assert (backward.phase, backward.macs) == ("weight gradient", 0)
    assert backward.moved == Elements(gradients=2 * 24)


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (lambda: nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3)), [(2, 5, 8)]),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 2)), [(2, 3, 9, 9)]),
        (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), [(2, 5, 8)]),
        (lambda: nn.Bilinear(4, 5, 6), [(2, 4), (2, 5)]),
    ],
    ids=["linear", "conv", "transformer", "bilinear"],
)
def test_totals_are_those_of_torchs_flop_counter(make, shapes):
    model, inputs = make(), [torch.ones(shape) for shape in shapes]
    counts = count(model, inputs)
    with (
        FlopCounterMode(display=False) as theirs,
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        model(*inputs).square().mean().backward()
    if counts.uncounted:  # an operator that neither of them knows
        assert counts.uncounted[0].startswith("aten::_trilinear")
        assert theirs.get_total_flops() == 2 * counts.macs
    else:
        assert theirs.get_total_flops() == 2 * counts.macs > 0


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (Conv, [(2, 2, 9, 9)]),
        (Attention, [(2, 8, 12), (2, 10, 12)]),
        (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), [(2, 5, 8)]),
    ],
    ids=["conv", "attention", "encoder"],
)
def test_the_meta_device_counts_what_the_cpu_counts(make, shapes):
    there = count(make(), [torch.ones(shape) for shape in shapes])
    with torch.device("meta"):
        model, inputs = make(), [torch.ones(shape) for shape in shapes]
    counts = count(model, inputs)
    assert counts == there
    assert all(parameter.is_meta for parameter in model.parameters())


def test_counting_changes_nothing():
    model, x = Conv(), torch.randn(2, 2, 9, 9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    count(model, x)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.get_rng_state().equal(state)


def test_inference_is_the_forward_pass():
    model, x = Conv(), torch.ones(2, 2, 9, 9)
    alone = count(model, x, training=False)
    assert alone == count(model, x).inference
    assert alone.weights == 0
    assert {work.phase for work in alone.works} == {"forward"}


def test_frozen_weights_have_no_gradient_and_no_update():
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 3))
    model[1].requires_grad_(False)
    counts = count(model, torch.ones(2, 8))
    assert of(counts, "weight gradient", "1") == []
    assert len(of(counts, "input gradient", "1")) == 1
    assert (counts.weights, counts.parameters) == (36, 51)


def test_a_tied_weight_counts_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    counts = count(model, torch.ones(2, 4))
    assert (counts.weights, counts.parameters) == (16, 16)
    assert len(of(counts, "weight gradient", "1")) == 1


@torch.library.custom_op("rung_energy_test::blend", mutates_args=())
def blend(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a @ b


def test_operators_that_may_hide_a_product_are_listed():
    class Hidden(nn.Module):
        def forward(self, x):
            return torch.ops.rung_energy_test.blend(x, x)

    counts = count(Hidden(), torch.ones(3, 3), training=False)
    assert counts.uncounted == ("rung_energy_test::blend in (model), forward",)
    assert counts.works == ()
    assert "not counted: rung_energy_test::blend" in str(counts)


def test_layers_of_a_stack_are_one_group():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    groups = count(model, torch.ones(1, 4)).by_group()
    assert list(groups) == ["*", "*.*"]
    assert groups["*.*"].of("forward").macs == 32


def test_counts_print_their_passes():
    text = str(count(nn.Linear(8, 4), torch.ones(2, 8)))
    assert "forward: 64 multiply-accumulates, 56 numbers" in text
    assert "update: 36 of 36 weights" in text


def test_a_loss_of_ones_own_is_differentiated():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return {"a": self.a(x), "b": self.b(x)}

    counts = count(Two(), {"x": torch.ones(1, 4)}, lambda output: output["a"].mean())
    assert len(of(counts, "weight gradient", "a")) == 1
    assert of(counts, "weight gradient", "b") == []


def test_what_cannot_be_counted_is_refused():
    linear, x = nn.Linear(4, 4), torch.ones(1, 4)
    with pytest.raises(TypeError, match=r"`batch` is a tensor, a tuple .* got int. Wrap any other"):
        count(linear, 3)
    with pytest.raises(ValueError, match=r"got Tensor with 1 tensors, none of them differentiable"):
        count(nn.ReLU(), x)
    with pytest.raises(ValueError, match=r"one differentiable number; got shape \(1, 4\)"):
        count(linear, x, lambda output: output)
    with pytest.raises(ValueError, match=r"one differentiable number; got 3\. Take the mean"):
        count(linear, x, lambda output: 3)
    with pytest.raises(ValueError, match=r"`phase` must be one of forward, input gradient"):
        Counts((), 0, 0).of("backward")
