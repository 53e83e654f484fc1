from dataclasses import dataclass, fields, replace

import pytest

from rung.train import RECIPES, get_recipe, with_settings
from rung.train.config import OPTIMIZERS, fingerprint
from rung.train.fields import Count, check_fields
from rung.train.options import AdamOptions, CharacterOptions, SGDOptions


def digits(optimizer="adamw"):
    return get_recipe("digits-cnn").configure(optimizer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_configuration_for_every_optimizer(name, optimizer):
    config = RECIPES[name].configure(optimizer)
    assert config.recipe == name
    assert config.optimizer == optimizer
    assert (config.format is not None) == (optimizer == "bbit-madam")


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
        ({"lr": 0.0}, "`lr` must be a number greater than 0; got 0.0"),
        ({"lr": float("nan")}, "`lr` must be a number greater than 0; got nan"),
        ({"lr": "big"}, "`lr` must be a number greater than 0; got 'big'"),
        ({"epochs": 0}, "`epochs` must be an integer at least 1; got 0"),
        ({"epochs": 1.5}, "`epochs` must be an integer at least 1; got 1.5"),
        ({"epochs": True}, "`epochs` must be an integer at least 1; got True"),
        ({"seed": -1}, r"`seed` must be an integer in \[0, "),
        ({"threads": 0}, "`threads` must be an integer at least 1 or none; got 0"),
        ({"schedule": "step"}, "`schedule` must be one of plateau, cosine, constant; got 'step'"),
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


def test_choices_are_listed():
    with pytest.raises(ValueError, match="`state` must be one of fp32, bf16, log8; got 'fp8'"):
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


def test_setting_names_of_recipe_and_optimizer_never_collide():
    for recipe in RECIPES.values():
        for optimizer in OPTIMIZERS:
            config = recipe.configure(optimizer)
            ours = {field.name for field in fields(config.options)}
            assert ours.isdisjoint(field.name for field in fields(config.optimizer_options))


def test_the_fingerprint_forgets_where_a_run_happens():
    config = digits()
    assert fingerprint(config) == fingerprint(replace(config, threads=1, data_dir="x"))
    assert fingerprint(config) != fingerprint(replace(config, lr=0.5))
    assert fingerprint(config) != fingerprint(replace(config, epochs=99))
    constant = replace(config, schedule="constant")
    assert fingerprint(constant) == fingerprint(replace(constant, epochs=99))
    assert fingerprint(config) != fingerprint(
        replace(config, optimizer_options=AdamOptions(weight_decay=0.5))
    )


def test_a_field_of_another_class_is_named():
    @dataclass(frozen=True)
    class Outer:
        inner: SGDOptions
        count: Count | None = None

    check_fields(Outer(SGDOptions()))
    with pytest.raises(ValueError, match="`inner` must be of type SGDOptions; got 3"):
        check_fields(Outer(3))
