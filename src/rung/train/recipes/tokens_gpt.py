"""tokens-gpt: a GPT on files of 16-bit token ids, as nanoGPT's prepare.py writes them."""

from rung.train.config import DEFAULT_OPTIMIZER, Config
from rung.train.data import token_files
from rung.train.recipe_options import TokenFileOptions
from rung.train.recipes.defaults import required_data_dir
from rung.train.recipes.gpt import build_gpt, gpt_config
from rung.train.task import Recipe
from rung.train.tasks import WindowTask

_FILES = "train.bin and val.bin, 16-bit token ids as nanoGPT's prepare.py writes them"


def tokens_gpt(optimizer: str = DEFAULT_OPTIMIZER) -> Config:
    """Configuration for an optimizer: 10 epochs of 1,000 steps, 12 windows of 1,024, cosine."""
    options = TokenFileOptions(
        batch_size=12,
        eval_batch_size=12,
        context=1024,
        steps_per_epoch=1000,
        # About nanoGPT's 200 batches; an epoch has no need of all the four million of OpenWebText.
        eval_tokens=2_000_000,
        preset="gpt2",
        warmup_steps=200,
        final_lr_share=0.1,
        max_loss=100.0,
    )
    return gpt_config("tokens-gpt", optimizer, options, epochs=10)


def build(config: Config) -> WindowTask:
    """Data and model of a configuration.

    Raises:
        ValueError: No data folder was given, its files are missing or damaged, hold ids beyond the
            vocabulary, or are too short for the context.
    """
    options = config.options
    assert isinstance(options, TokenFileOptions)
    data = token_files(
        required_data_dir(config, _FILES), options.vocabulary_size, options.train_tokens
    )
    return WindowTask(data, options, lambda tokens: build_gpt(options, tokens), "token")


RECIPE = Recipe(
    name="tokens-gpt",
    model="GPT-2, 12 layers, width 768, 124 M weights",
    data="train.bin and val.bin of nanoGPT (16-bit token ids)",
    metric="loss per token",
    configure=tokens_gpt,
    build=build,
)
