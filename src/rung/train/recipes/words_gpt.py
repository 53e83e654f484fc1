"""words-gpt: a GPT on the words of WikiText, in windows drawn at random."""

from rung.train.config import DEFAULT_OPTIMIZER, Config
from rung.train.data import wikitext2
from rung.train.recipe_options import GPTOptions
from rung.train.recipes.defaults import required_data_dir
from rung.train.recipes.gpt import build_gpt, gpt_config
from rung.train.task import Recipe
from rung.train.tasks import WindowTask

_FILES = (
    "wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens of wikitext-2-v1 or any text laid "
    "out like it, plain, .gz or .xz"
)


def words_gpt(optimizer: str = DEFAULT_OPTIMIZER) -> Config:
    """Configuration for an optimizer: 10 epochs, 32 windows of 256 words, cosine after warm-up."""
    options = GPTOptions(
        batch_size=32,
        eval_batch_size=16,
        context=256,
        dropout=0.2,
        warmup_steps=100,
        max_loss=100.0,
    )
    return gpt_config("words-gpt", optimizer, options, epochs=10)


def build(config: Config) -> WindowTask:
    """Data and model of a configuration.

    Raises:
        ValueError: No data folder was given, its files are missing or damaged, or the text is too
            short for the context.
    """
    options = config.options
    assert isinstance(options, GPTOptions)
    data = wikitext2(required_data_dir(config, _FILES), options.train_tokens)
    return WindowTask(
        data, options, lambda words: build_gpt(options, words), "word", perplexity=True
    )


RECIPE = Recipe(
    name="words-gpt",
    model="GPT, 6 layers, width 384, 23 M weights at 33,278 words",
    data="WikiText-2 (text files of tokens)",
    metric="perplexity",
    configure=words_gpt,
    build=build,
)
