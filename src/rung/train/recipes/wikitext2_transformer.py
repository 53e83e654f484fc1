"""wikitext2-transformer: a word-level transformer on WikiText-2, as in Bernstein et al. 2020."""

from rung.train.config import DEFAULT_OPTIMIZER, Config
from rung.train.data import wikitext2
from rung.train.models import WordTransformer
from rung.train.optimizer_options import (
    AdamOptions,
    BBitMadamOptions,
    LMDOptions,
    LNSMadamOptions,
    MadamOptions,
    SGDOptions,
)
from rung.train.recipe_options import WordOptions
from rung.train.recipes.defaults import Defaults, choose, default_format, required_data_dir
from rung.train.task import Recipe
from rung.train.tasks import WordTask

# SGD as in PyTorch's word language model, whose gradient is clipped at 0.25; lr of table 1.
_DEFAULTS: Defaults = {
    "sgd": (1.0, SGDOptions(momentum=0.0, clip_norm=0.25)),
    "adam": (1e-3, AdamOptions()),
    "adamw": (1e-3, AdamOptions(weight_decay=0.01)),
    "madam": (0.01, MadamOptions()),
    "bbit-madam": (0.01, BBitMadamOptions()),
    "lns-madam": (0.0144, LNSMadamOptions()),
    "lmd": (None, LMDOptions()),
}
_FILES = (
    "wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens of wikitext-2-v1, plain, .gz or .xz"
)


def wikitext2_transformer(optimizer: str = DEFAULT_OPTIMIZER) -> Config:
    """Configuration for an optimizer: 20 epochs, 20 columns, windows of 35, lr / 10 on plateaus."""
    lr, options = choose(_DEFAULTS, optimizer)
    return Config(
        recipe="wikitext2-transformer",
        optimizer=optimizer,
        optimizer_options=options,
        options=WordOptions(batch_size=20, eval_batch_size=10, max_loss=100.0, plateau_patience=1),
        lr=lr,
        epochs=20,
        schedule="plateau",
        format=default_format(optimizer),
    )


def build(config: Config) -> WordTask:
    """Data and model of a configuration.

    Raises:
        ValueError: No data folder was given, its files are missing or damaged, or the text is too
            short for the batch size.
    """
    options = config.options
    assert isinstance(options, WordOptions)
    data = wikitext2(required_data_dir(config, _FILES), options.train_tokens)
    return WordTask(
        data,
        options,
        lambda words: WordTransformer(
            words,
            width=options.width,
            heads=options.heads,
            feed_forward=options.feed_forward,
            layers=options.layers,
            dropout=options.dropout,
        ),
    )


RECIPE = Recipe(
    name="wikitext2-transformer",
    model="transformer, 2 layers, width 200, 13.8 M weights at 33,278 words",
    data="WikiText-2 (text files of tokens)",
    metric="perplexity",
    configure=wikitext2_transformer,
    build=build,
)
