import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import rung
from rung.train.models import GPT, DigitsCNN, ResNet50, ViT, WordTransformer, resnet18
from rung.train.models.vit import cut_patches
from rung.train.models.word_transformer import sinusoids


def small_words(**changes: object) -> WordTransformer:
    return WordTransformer(**({"vocabulary_size": 50, "width": 16, "feed_forward": 24} | changes))


def small_gpt(**changes: object) -> GPT:
    options = {"vocabulary_size": 50, "layers": 2, "width": 16, "heads": 2, "context": 12}
    return GPT(**(options | changes))


def small_vit(**changes: object) -> ViT:
    sizes = {"image_size": 8, "patch": 2, "channels": 1, "layers": 2, "width": 16, "heads": 2}
    return ViT(10, **(sizes | changes))


def weights(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def tokens(vocabulary: int, *shape: int) -> torch.Tensor:
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(0))


CASES = {
    "digits": (DigitsCNN, lambda: images(3, 1, 8, 8), (3, 10)),
    "resnet": (lambda: resnet18(7, width=4), lambda: images(3, 3, 32, 32), (3, 7)),
    "resnet grey": (lambda: resnet18(10, 1, 4), lambda: images(3, 1, 28, 28), (3, 10)),
    "resnet50": (lambda: ResNet50(7, width=2), lambda: images(3, 3, 64, 64), (3, 7)),
    "words": (small_words, lambda: tokens(50, 9, 3), (9, 3, 50)),
    "vit": (small_vit, lambda: images(3, 1, 8, 8), (3, 10)),
    "gpt without biases": (
        lambda: small_gpt(bias=False),
        lambda: tokens(50, 3, 12),
        (3, 12, 50),
    ),
    "gpt": (small_gpt, lambda: tokens(50, 3, 12), (3, 12, 50)),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_have_the_stated_shape(case):
    build, inputs, shape = CASES[case]
    assert build()(inputs()).shape == shape


@pytest.mark.parametrize("case", CASES)
def test_gradients_reach_every_parameter(case):
    torch.manual_seed(0)
    build, inputs, shape = CASES[case]
    model = build()
    targets = tokens(shape[-1], math.prod(shape[:-1]))
    F.cross_entropy(model(inputs()).flatten(0, -2), targets).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def resnet_weights(classes: int, in_channels: int, w: int) -> int:
    convolutions = 9 * in_channels * w + 4 * 9 * w * w
    norms, channels = 5 * 2 * w, w
    for out in (2 * w, 4 * w, 8 * w):
        convolutions += 9 * channels * out + 3 * 9 * out * out + channels * out
        norms += 5 * 2 * out
        channels = out
    return convolutions + norms + channels * classes + classes


def test_parameter_counts_are_those_written_out():
    digits = 9 * 32 + 2 * 32 + 9 * 32 * 64 + 2 * 64 + 1024 * 80 + 80 + 80 * 10 + 10
    assert weights(DigitsCNN()) == digits == 101_722
    assert weights(resnet18(10)) == resnet_weights(10, 3, 64) == 11_173_962
    assert weights(resnet18(100)) == resnet_weights(100, 3, 64) == 11_220_132
    assert weights(resnet18(10, 1, 16)) == resnet_weights(10, 1, 16) == 701_178
    # torchvision's resnet50.
    assert weights(ResNet50(1000)) == 25_557_032


def test_parameter_counts_of_the_language_models_are_those_written_out():
    layer = (600 * 200 + 600) + (200 * 200 + 200) + 2 * (200 * 200 + 200) + 2 * 400
    words = 2 * 33_278 * 200 + 33_278 + 2 * layer
    assert weights(WordTransformer(33_278)) == words == 13_828_478
    gpt = 103 * 128 + 128 * 128 + 4 * (12 * 128**2 + 13 * 128) + 2 * 128
    assert weights(GPT(103)) == gpt == 822_912


def test_the_gpt_of_124_million_weights_has_that_many():
    with torch.device("meta"):
        assert weights(GPT(50_257, layers=12, width=768, heads=12, context=1024)) == 124_439_808


def test_a_future_word_does_not_change_past_logits():
    model = small_words().eval()
    first = tokens(50, 9, 3)
    second = first.clone()
    second[6:] = (second[6:] + 1) % 50
    torch.testing.assert_close(model(first)[:6], model(second)[:6])
    assert not torch.allclose(model(first)[6:], model(second)[6:])


def test_a_future_character_does_not_change_past_logits():
    model = small_gpt().eval()
    first = tokens(50, 3, 12)
    second = first.clone()
    second[:, 7:] = (second[:, 7:] + 1) % 50
    torch.testing.assert_close(model(first)[:, :7], model(second)[:, :7])
    assert not torch.allclose(model(first)[:, 7:], model(second)[:, 7:])


def test_a_past_token_changes_the_logits_after_it():
    for model, axis in ((small_words().eval(), 0), (small_gpt().eval(), 1)):
        first = tokens(50, 8, 8)
        second = first.clone()
        second.select(axis, 0).add_(1).remainder_(50)
        last = model(first).select(axis, 7) - model(second).select(axis, 7)
        assert last.abs().max() > 1e-6


def test_positions_tell_equal_tokens_apart():
    for model, axis in ((small_words().eval(), 0), (small_gpt().eval(), 1)):
        logits = model(torch.full((8, 8), 3))
        assert not torch.allclose(logits.select(axis, 1), logits.select(axis, 5))


def test_fresh_language_models_know_nothing():
    torch.manual_seed(0)
    targets = tokens(1000, 35 * 20 + 1)[1:]
    gpt = GPT(1000)(tokens(1000, 20, 35)).flatten(0, 1)
    words = WordTransformer(1000)(tokens(1000, 35, 20)).flatten(0, 1)
    assert F.cross_entropy(gpt, targets).item() == pytest.approx(math.log(1000), abs=0.1)
    # Uniform(-0.1, 0.1) over normed features of width 200: logits of variance 2/3, half of it loss.
    expected = math.log(1000) + 200 * 0.1**2 / 3 / 2
    assert F.cross_entropy(words, targets).item() == pytest.approx(expected, abs=0.15)


def test_the_gpt_head_is_the_embedding():
    model = small_gpt()
    assert model.head.weight is model.token_embedding.weight
    assert "head.weight" not in dict(model.named_parameters())


def test_gpt_weights_start_with_the_stated_spread():
    torch.manual_seed(0)
    model = GPT(500, layers=8)
    for name, parameter in model.named_parameters():
        if name.endswith("projection.weight"):
            assert parameter.std().item() == pytest.approx(0.02 / 4, rel=0.05), name
        elif parameter.dim() == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name
        elif name.endswith("bias"):
            assert not parameter.any(), name


def test_word_embedding_and_decoder_start_uniform_and_apart():
    model = WordTransformer(500)
    for weight in (model.embedding.weight, model.decoder.weight):
        assert 0.099 < weight.abs().max().item() <= 0.1
    assert model.embedding.weight is not model.decoder.weight
    assert not model.decoder.bias.any()


def test_positions_are_sine_and_cosine_of_falling_frequency():
    table = sinusoids(40, 6)
    for t in (0, 1, 39):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert float(table[t, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-5)
            assert float(table[t, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-5)


def test_language_models_give_the_same_logits_twice_in_evaluation():
    for model in (small_words(dropout=0.5), small_gpt(dropout=0.5)):
        inputs = tokens(50, 5, 5)
        assert not torch.equal(model(inputs), model(inputs))
        model.eval()
        assert torch.equal(model(inputs), model(inputs))


def test_evaluation_without_gradients_equals_evaluation_with_them():
    model = small_words().eval()
    inputs = tokens(50, 9, 3)
    with torch.no_grad():
        fast = model(inputs)
    torch.testing.assert_close(fast, model(inputs))


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of `heads`; got width=16 and heads=3"):
        small_gpt(heads=3)
    with pytest.raises(ValueError, match="multiple of `heads`; got width=16 and heads=3"):
        small_words(heads=3)
    with pytest.raises(ValueError, match="must be even .* got width=15 and heads=1"):
        small_words(width=15, heads=1)


def test_a_window_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match="no longer than the context of 12; got a window of 13"):
        small_gpt()(tokens(50, 1, 13))


def test_a_resnet_without_width_is_refused():
    with pytest.raises(ValueError, match="`width` must be at least 1; got 0"):
        resnet18(10, width=0)
    with pytest.raises(ValueError, match="`width` must be at least 1; got 0"):
        ResNet50(10, width=0)


def test_presets_of_the_gpt_have_the_published_sizes():
    with torch.device("meta"):
        assert weights(GPT.preset("gpt2", 50_257)) == 124_439_808
        assert weights(GPT.preset("gpt2")) == 124_439_808 + 47 * 768
        # Without biases: 12 blocks of 13 D less, and one norm.
        plain = GPT.preset("gpt2", 50_257, bias=False)
        assert weights(plain) == 124_439_808 - (12 * 11 + 1) * 768
        baby = GPT.preset("gpt_baby", 65, context=256, bias=False)
        assert weights(baby) == 65 * 384 + 256 * 384 + 6 * (12 * 384**2 + 2 * 384) + 384
        assert (GPT.preset("gpt_micro").context, baby.context) == (1024, 256)
    with pytest.raises(ValueError, match="Unknown GPT 'gpt3'; the sizes are: gpt_micro, gpt_mini"):
        GPT.preset("gpt3")


def test_presets_of_the_vit_have_the_published_sizes():
    with torch.device("meta"):
        # timm's vit_tiny_patch16_224 and vit_small_patch16_224.
        assert weights(ViT.preset("vit_tiny", 1000)) == 5_717_416
        assert weights(ViT.preset("vit_small", 1000)) == 22_050_664
        digits = ViT.preset("vit_digits", 10, image_size=8, patch=2, channels=1)
    block = 12 * 64**2 + 13 * 64
    assert weights(digits) == 5 * 64 + 64 + 17 * 64 + 4 * block + 2 * 64 + 650 == 202_186
    with pytest.raises(ValueError, match="Unknown ViT 'vit_huge'; the sizes are: vit_digits, vit_"):
        ViT.preset("vit_huge", 10)


def test_patches_embedded_by_a_linear_layer_are_a_convolution_of_their_stride():
    model, inputs = small_vit(channels=3), images(2, 3, 8, 8)
    linear = model.patch_embedding
    kernel = linear.weight.view(16, 3, 2, 2)
    expected = F.conv2d(inputs, kernel, linear.bias, stride=2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(linear(cut_patches(inputs, 2)), expected)


def test_vit_weights_start_away_from_zero_with_the_stated_spread():
    torch.manual_seed(0)
    for std in (0.02, 0.07):
        model = small_vit(width=64, initial_std=std)
        for name, parameter in model.named_parameters():
            if name.startswith("patch_embedding"):
                # As torch starts a linear layer of 4 inputs.
                assert parameter.abs().max().item() <= 0.5
            elif parameter.ndim > 1:
                assert parameter.std().item() == pytest.approx(std, rel=0.25), name
            elif "norm" in name and name.endswith("weight"):
                assert (parameter == 1).all(), name
            else:
                assert not parameter.any(), name


def test_the_place_of_a_patch_and_every_patch_change_the_logits():
    torch.manual_seed(0)
    model, inputs = small_vit(initial_std=0.3).eval(), images(1, 1, 8, 8)
    logits = model(inputs)
    assert not torch.allclose(logits, model(inputs.flip(-1)))
    for row in range(4):
        for column in range(4):
            changed = inputs.clone()
            changed[0, 0, 2 * row, 2 * column] += 1
            assert not torch.allclose(logits, model(changed))


@pytest.mark.parametrize("size", [{"image_size": 9}, {"patch": 0}, {"patch": 3}])
def test_an_image_that_patches_do_not_fill_is_refused(size):
    with pytest.raises(ValueError, match="`image_size` must be a multiple of `patch`, both"):
        small_vit(**size)


def test_images_of_another_size_are_refused():
    for shape in ((2, 1, 8, 10), (2, 3, 8, 8)):
        text = r"`images` must have shape \(B, 1, 8, 8\); got \(2, "
        with pytest.raises(ValueError, match=text):
            small_vit()(images(*shape))
    with pytest.raises(ValueError, match="multiple of `heads`; got width=16 and heads=3"):
        small_vit(heads=3)


def test_every_weight_of_a_vit_is_stored_and_all_of_its_products_are_converted():
    torch.manual_seed(0)
    model, inputs = small_vit(), images(3, 1, 8, 8)
    report = rung.store_weights_(model, "ladder8")
    stored = {entry.name for entry in report.entries if entry.format is not None}
    assert stored == {name for name, weight in model.named_parameters() if weight.ndim > 1}
    assert {"class_token", "position_embedding", "patch_embedding.weight"} <= stored
    rung.nn.convert_(model)
    rung.nn.audit(model, (inputs,), lambda outputs: outputs.square().mean(), strict=True)
    model(inputs).square().mean().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())
