import inspect
import re
from dataclasses import dataclass, fields, replace

import pytest
import torch

from rung.optim import LMD
from rung.train import RECIPES, get_recipe, with_settings
from rung.train.config import OPTIMIZERS, RIVALS, default_optimizer, setting_names
from rung.train.fields import Count, check_fields
from rung.train.fingerprint import fingerprint
from rung.train.optimizer_options import AdamOptions, LMDOptions, SGDOptions
from rung.train.recipe_options import CharacterOptions


def digits(optimizer="adamw"):
    return get_recipe("digits-cnn").configure(optimizer)


FORMATS = {"bbit-madam": "ladder8", "signed-madam": "sinh8", "lns-madam": "lns8"}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_configuration_for_every_optimizer(name, optimizer):
    config = RECIPES[name].configure(optimizer)
    assert config.recipe == name
    assert config.optimizer == optimizer
    assert config.format == FORMATS.get(optimizer)
    assert config.compute_format == ("lns8" if optimizer == "lns-madam" else None)


def test_a_variant_edits_fields():
    variant = replace(digits(), seed=3, epochs=2)
    assert (variant.seed, variant.epochs, variant.lr) == (3, 2, digits().lr)
    with pytest.raises(AttributeError, match="cannot assign to field 'seed'"):
        variant.seed = 4


def test_settings_are_typed():
    config = with_settings(
        get_recipe("fashion-resnet18").configure("bbit-madam"),
        ["width=16", "flip=false", "state=log8", "scale_bound=2", "clip_norm=1e-1"],
    )
    assert config.options.width == 16
    assert config.options.flip is False
    assert config.optimizer_options.state == "log8"
    assert config.optimizer_options.clip_norm == 0.1
    assert with_settings(config, ["clip_norm=none"]).optimizer_options.clip_norm is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"lr": 0.0}, "`lr` must be a number greater than 0 or none; got 0.0"),
        ({"lr": float("nan")}, "`lr` must be a number greater than 0 or none; got nan"),
        ({"lr": "big"}, "`lr` must be a number greater than 0 or none; got 'big'"),
        ({"epochs": 0}, "`epochs` must be an integer at least 1; got 0"),
        ({"epochs": 1.5}, "`epochs` must be an integer at least 1; got 1.5"),
        ({"epochs": True}, "`epochs` must be an integer at least 1; got True"),
        ({"seed": -1}, r"`seed` must be an integer in \[0, "),
        ({"threads": 0}, "`threads` must be an integer at least 1 or none; got 0"),
        (
            {"schedule": "step"},
            "`schedule` must be one of plateau, cosine, linear, constant; got 'step'",
        ),
        ({"optimizer": "lion"}, "Unknown optimizer 'lion'; the optimizers are: sgd, adam, adamw,"),
        ({"format": "ladder8"}, "only optimizer 'bbit-madam' trains; got format='ladder8' with"),
        ({"optimizer_options": SGDOptions()}, "must be AdamOptions for optimizer 'adamw'; got SGD"),
    ],
)
def test_wrong_fields_are_refused(change, text):
    with pytest.raises(ValueError, match=text):
        replace(digits(), **change)


def test_bbit_madam_needs_a_known_ladder():
    with pytest.raises(ValueError, match="`format` must name a ladder for optimizer 'bbit-madam'"):
        replace(digits("bbit-madam"), format=None)
    with pytest.raises(ValueError, match="Unknown format 'ladder99'.*ladder8"):
        replace(digits("bbit-madam"), format="ladder99")
    with pytest.raises(ValueError, match="whose weights live on it; got format='lns8'.*lns-madam"):
        replace(digits("bbit-madam"), format="lns8")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "madam", "lns-madam", "lmd"])
def test_all_other_optimizers_compute_in_a_format_and_refuse_a_ladder(optimizer):
    for name in ("lns8", "lns6_b4", "mxfp6_e3m2", "mxfp4_k16+ceil", "bf16", "fp8_e4m3", None):
        assert replace(digits(optimizer), format=name).compute_format == name
    with pytest.raises(ValueError, match=f"got format='ladder8' with optimizer='{optimizer}'.*lns"):
        replace(digits(optimizer), format="ladder8")
    with pytest.raises(ValueError, match="Unknown format 'lnsx'.*lns8"):
        replace(digits(optimizer), format="lnsx")


@pytest.mark.parametrize(
    ("optimizer", "names"),
    [
        ("bbit-madam", (None, "none", "ladder4", "lnsx")),
        ("signed-madam", ("sinh4", "sinh8+knee0.1")),
        ("lns-madam", ("lns8", "lns6_b4")),
        ("lmd", ("mxfp6_e3m2", "mxfp4", "mxfp4_k16", "mxint8", "bf16", "fp8_e5m2")),
    ],
)
def test_a_format_chooses_its_optimizer(optimizer, names):
    assert {default_optimizer(name) for name in names} == {optimizer}


def test_only_an_lns_can_be_the_format_of_updates():
    for optimizer in OPTIMIZERS:
        if optimizer in ("bbit-madam", "signed-madam", "lmd", *RIVALS):
            continue
        config = with_settings(digits(optimizer), ["update_format=lns10"])
        assert config.update_format == "lns10"
        with pytest.raises(ValueError, match="`update_format` must name a log.*lns4, .*lns16"):
            with_settings(config, ["update_format=ladder8"])
        with pytest.raises(ValueError, match="Unknown format 'float'; the formats are: .*lns16"):
            with_settings(config, ["update_format=float"])
    assert with_settings(digits("madam"), ["update_format=lns12"]).update_format == "lns12"
    assert digits("lmd").update_format is None
    assert digits("adamw").update_format is None
    assert digits("bbit-madam").update_format is None
    assert digits("lns-madam").update_format == "lns16"


def test_settings_of_layers_need_a_format_to_compute_in():
    lns = replace(digits(), format="lns8")
    settings = ["backward_format=lns10", "weight_scale=row", "float_layers=head"]
    assert with_settings(lns, settings).layers.backward_format == "lns10"
    with pytest.raises(ValueError, match="`weight_scale` says how layers compute in a format; got"):
        with_settings(digits(), settings)
    with pytest.raises(ValueError, match="`backward_format` says how.*optimizer='bbit-madam'"):
        with_settings(digits("bbit-madam"), settings[:1])


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("widht=3", "Unknown setting 'widht' for recipe 'digits-cnn' with.*: batch_size, .*beta1"),
        ("rounding=nearest", "Unknown setting 'rounding'"),
        ("batch_size", "A setting has the form KEY=VALUE; got 'batch_size'"),
        ("batch_size=many", "`batch_size` must be an integer at least 1; got 'many'"),
        ("batch_size=0", "`batch_size` must be an integer at least 1; got 0"),
        ("flip=perhaps", "`flip` must be true or false; got 'perhaps'"),
        ("beta1=1", r"`beta1` must be a number in \[0, 1\); got 1.0"),
        ("crop_padding=1.5", "`crop_padding` must be an integer at least 0; got '1.5'"),
    ],
)
def test_wrong_settings_are_refused(setting, text):
    with pytest.raises(ValueError, match=text):
        with_settings(digits(), [setting])


def test_options_of_lmd_are_those_of_the_optimizer():
    options, own = LMDOptions(), inspect.signature(LMD).parameters
    for field in fields(options):
        if field.name not in ("beta1", "beta2", "clip_norm"):
            assert getattr(options, field.name) == own[field.name].default, field.name
    assert own["betas"].default is None
    assert (options.beta1, options.beta2) == (None, None)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (["beta1=0.5"], "`beta1` and `beta2` must be given together.*beta1=0.5 and beta2=None"),
        (["state=fp16"], "`state` must be .* name of an LNS without a zero.*got state='fp16'"),
        (["state=ladder8"], "`state` must be .* an LNS without a zero.*got state='ladder8'"),
        (["state=mxfp4"], "`state` must be .* an LNS without a zero.*got state='mxfp4'"),
        (["state=lns8+zero"], r"`state` must be .* an LNS without a zero.*='lns8\+zero'"),
        (["parts_format=mxfp5"], "Unknown format 'mxfp5'; the formats are: .*mxfp6_e3m2"),
        (["prior=uniform"], "`prior` must be one of lognormal, exponential, gaussian, constant"),
        (["update=adam"], "`update` must be one of sign, rms; got 'adam'"),
        (["evaluate=sample"], "`evaluate` must be one of mean, median; got 'sample'"),
        (["samples=0"], "`samples` must be an integer at least 1; got 0"),
        (["sigma=-1"], "`sigma` must be a number at least 0; got -1"),
        (["sigma=4.1"], "`sigma` must be from 0 to 4, beyond which .* float32; got sigma=4.1"),
        (["offset=0"], "`offset` must be a number greater than 0; got 0"),
        (["reach=0"], "`reach` must be a number greater than 0 or none; got 0"),
    ],
)
def test_wrong_options_of_lmd_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        with_settings(digits("lmd"), settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [("sigma", 5.0), ("state", "lns8+zero"), ("state", "fp16"), ("parts_format", "mxfp5")],
)
def test_options_of_lmd_are_refused_in_the_optimizers_words(name, value):
    weight = torch.nn.Parameter(torch.arange(1.0, 5.0))
    with pytest.raises(ValueError, match=f"{name}={value}|{value!r}".replace("+", r"\+")) as own:
        LMD([weight], **{name: value})
    with pytest.raises(ValueError, match=f"^{re.escape(str(own.value))}$"):
        LMDOptions(**{name: value})


def test_medians_may_be_codes():
    options = with_settings(digits("lmd"), ["state=lns16", "beta1=0.5", "beta2=0.8"])
    assert options.optimizer_options.state == "lns16"
    assert options.optimizer_options.beta2 == 0.8


def test_choices_are_listed():
    with pytest.raises(ValueError, match="`state` must be one of .*log8, rows, factored; got .fp8"):
        with_settings(digits("madam"), ["state=fp8"])


def test_cross_field_rules():
    with pytest.raises(ValueError, match="`heads` must divide `width`; got heads=3 and width=64"):
        CharacterOptions(batch_size=2, heads=3, width=64)
    with pytest.raises(ValueError, match="`valid_fraction` must be less than 1; got 1.0"):
        CharacterOptions(batch_size=2, valid_fraction=1.0)


def test_unknown_recipes_and_optimizers_are_listed():
    with pytest.raises(ValueError, match="Unknown recipe 'mnist'; the recipes are: digits-cnn, "):
        get_recipe("mnist")
    with pytest.raises(ValueError, match="Unknown optimizer 'lion'; the optimizers are: sgd"):
        get_recipe("digits-cnn").configure("lion")


def test_setting_names_of_recipe_optimizer_and_layers_never_collide():
    for recipe in RECIPES.values():
        for optimizer in OPTIMIZERS:
            config = recipe.configure(optimizer)
            owners = (config.options, config.optimizer_options, config.layers)
            assert len(setting_names(config)) == sum(len(fields(owner)) for owner in owners)
            assert len(setting_names(config)) == len(set(setting_names(config)))


def test_the_fingerprint_forgets_where_a_run_happens():
    config = digits()
    assert fingerprint(config) == fingerprint(replace(config, threads=1, data_dir="x"))
    assert fingerprint(config) != fingerprint(replace(config, lr=0.5))
    assert fingerprint(config) != fingerprint(replace(config, epochs=99))
    lns = replace(config, format="lns8")
    assert fingerprint(lns) != fingerprint(config)
    assert fingerprint(lns) != fingerprint(with_settings(lns, ["backward_rounding=stochastic"]))
    assert fingerprint(config) != fingerprint(with_settings(config, ["update_format=lns10"]))
    constant = replace(config, schedule="constant")
    assert fingerprint(constant) == fingerprint(replace(constant, epochs=99))
    assert fingerprint(config) != fingerprint(
        replace(config, optimizer_options=AdamOptions(weight_decay=0.5))
    )


def test_checkpoints_from_before_lns_still_fit():
    # The fields that the first release wrote for AdamW on digits.
    old = {
        "recipe": "digits-cnn",
        "optimizer": "adamw",
        "format": None,
        "seed": 0,
        "lr": 0.002,
        "schedule": "cosine",
        "epochs": 30,
        "batch_size": 32,
        "plateau_factor": 0.1,
        "plateau_patience": 2,
        "crop_padding": 1,
        "flip": False,
        "train_examples": None,
        "beta1": 0.9,
        "beta2": 0.999,
        "weight_decay": 0.01,
        "clip_norm": None,
    }
    now = fingerprint(digits())
    assert {name for name in now if now[name] != old.get(name)} == set()
    assert old.keys() <= now.keys()


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_what_shapes_a_falling_schedule_counts_only_there(schedule):
    config = replace(digits(), schedule=schedule)
    assert fingerprint(config) != fingerprint(replace(config, epochs=99))
    assert fingerprint(config).keys().isdisjoint({"warmup_steps", "warmup_share", "final_lr_share"})
    shaped = with_settings(config, ["warmup_steps=5", "warmup_share=0.3", "final_lr_share=0.1"])
    assert fingerprint(shaped)["warmup_steps"] == 5
    assert fingerprint(shaped)["warmup_share"] == 0.3
    assert fingerprint(shaped)["final_lr_share"] == 0.1
    for schedule in ("constant", "plateau"):
        assert fingerprint(replace(shaped, schedule=schedule)) == fingerprint(
            replace(config, schedule=schedule)
        )


def test_the_warm_up_of_an_optimizer_counts_like_one_that_was_asked_for():
    config = replace(get_recipe("digits-mlp").configure("signed-madam"), schedule="cosine")
    assert fingerprint(config)["warmup_share"] == 0.2
    assert fingerprint(config) == fingerprint(with_settings(config, ["warmup_share=0.2"]))
    assert "warmup_share" not in fingerprint(with_settings(config, ["warmup_share=0"]))
    assert "warmup_share" not in fingerprint(replace(config, schedule="constant"))


def test_a_field_of_another_class_is_named():
    @dataclass(frozen=True)
    class Outer:
        inner: SGDOptions
        count: Count | None = None

    check_fields(Outer(SGDOptions()))
    with pytest.raises(ValueError, match="`inner` must be of type SGDOptions; got 3"):
        check_fields(Outer(3))


def test_bf16_is_for_layers_that_compute_in_no_format():
    config = get_recipe("digits-mlp").configure("adamw")
    assert with_settings(config, ["precision=bf16"]).options.precision == "bf16"
    coded = replace(config, format="lns8")
    text = r"`precision` must be 'float32' where layers .* got precision='bf16' with format='lns8'"
    with pytest.raises(ValueError, match=text):
        with_settings(coded, ["precision=bf16"])
    # A ladder is how weights are stored, not what layers compute in.
    stored = get_recipe("digits-mlp").configure("bbit-madam")
    assert with_settings(stored, ["precision=bf16"]).format == "ladder8"


def test_checkpoints_from_before_bf16_still_fit():
    config = get_recipe("digits-mlp").configure("adamw")
    assert "precision" not in fingerprint(config)
    assert fingerprint(with_settings(config, ["precision=bf16"]))["precision"] == "bf16"


@pytest.mark.parametrize("optimizer", ["bbit-madam", "lns-madam"])
def test_checkpoints_from_before_scales_by_channel_still_fit(optimizer):
    config = digits(optimizer)
    assert "scale_axis" not in fingerprint(config)
    assert fingerprint(with_settings(config, ["scale_axis=channel"]))["scale_axis"] == "channel"
    with pytest.raises(ValueError, match="`scale_axis` must be one of tensor, channel; got 'row'"):
        with_settings(config, ["scale_axis=row"])


def test_a_ladder_of_another_range_is_a_format_of_bbit_madam_only():
    assert replace(digits("bbit-madam"), format="ladder8+range30").format == "ladder8+range30"
    assert default_optimizer("ladder8+range30") == "bbit-madam"
    with pytest.raises(ValueError, match="A ladder stores weights.*got format='ladder8.range30'"):
        replace(digits(), format="ladder8+range30")
    with pytest.raises(ValueError, match="a range greater than 1"):
        replace(digits("bbit-madam"), format="ladder8+range1")


def test_a_sinh_ladder_is_a_format_of_signed_madam_only():
    assert replace(digits("signed-madam"), format="sinh6").format == "sinh6"
    assert digits("signed-madam").compute_format is None
    with pytest.raises(ValueError, match="A sinh ladder stores .*only optimizer 'signed-mad"):
        replace(digits(), format="sinh8")
    assert replace(digits("signed-madam"), format="pair8").format == "pair8"
    assert default_optimizer("pair16") == "signed-madam"
    with pytest.raises(ValueError, match="A pair of ladders stores .*only optimizer 'signed-mad"):
        replace(digits(), format="pair8")
    with pytest.raises(
        ValueError, match="name a sinh ladder or a pair of ladders for .*; got format='ladder8'. It"
    ):
        replace(digits("signed-madam"), format="ladder8")
    with pytest.raises(ValueError, match="must name a sinh ladder .*; got None. Use .*'sinh8'"):
        replace(digits("signed-madam"), format=None)
    with pytest.raises(
        ValueError,
        match="must name a ladder .*; got format='sinh8'. It is for --optimizer signed-madam",
    ):
        replace(digits("bbit-madam"), format="sinh8")


def test_a_moment_a_row_is_for_madam_and_bbit_madam():
    assert with_settings(digits("bbit-madam"), ["state=rows"]).optimizer_options.state == "rows"
    with pytest.raises(ValueError, match="`state` must be one of fp32, bf16, log8; got 'rows'"):
        with_settings(digits("lns-madam"), ["state=rows"])
