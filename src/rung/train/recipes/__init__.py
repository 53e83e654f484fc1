"""Recipes: one file each; a function returns a complete configuration, another reads the data."""

from rung.train.recipes import (
    chars_gpt,
    cifar10_cgan,
    cifar10_resnet18,
    cifar10_vit,
    cifar100_resnet18,
    digits_cnn,
    digits_mlp,
    digits_vit,
    fashion_resnet18,
    folder_vit,
    glue_bert,
    imagenet_resnet50,
    tokens_gpt,
    wikitext2_transformer,
    words_gpt,
)
from rung.train.task import Recipe

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        digits_cnn.RECIPE,
        digits_mlp.RECIPE,
        digits_vit.RECIPE,
        fashion_resnet18.RECIPE,
        cifar10_resnet18.RECIPE,
        cifar100_resnet18.RECIPE,
        cifar10_vit.RECIPE,
        cifar10_cgan.RECIPE,
        folder_vit.RECIPE,
        imagenet_resnet50.RECIPE,
        wikitext2_transformer.RECIPE,
        chars_gpt.RECIPE,
        words_gpt.RECIPE,
        tokens_gpt.RECIPE,
        glue_bert.RECIPE,
    )
}
"""All recipes by name."""


def get(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ValueError: No recipe has this name; the text lists those that exist.
    """
    if name not in RECIPES:
        raise ValueError(f"Unknown recipe {name!r}; the recipes are: {', '.join(RECIPES)}.")
    return RECIPES[name]


__all__ = ["RECIPES", "get"]
