"""glue-bert: fine-tunes a BERT from a local folder on a sentence task of GLUE."""

from dataclasses import replace

from rung.train.config import DEFAULT_OPTIMIZER, Config
from rung.train.data import glue
from rung.train.data.glue import LAYOUTS
from rung.train.models.bert import load_classifier, load_encoder
from rung.train.optimizer_options import (
    AdamOptions,
    BBitMadamOptions,
    LMDOptions,
    LNSMadamOptions,
    MadamOptions,
    SGDOptions,
    SignedMadamOptions,
)
from rung.train.recipe_options import SentenceOptions
from rung.train.recipes.defaults import Defaults, choose, default_format, required_data_dir
from rung.train.task import Recipe
from rung.train.tasks import SentenceTask

# The largest weights of a pretrained encoder are up to 200 times their matrix's root mean square,
# and it depends on them: a lower bound would cut them before the first step. 8 bits of a ladder
# don't reach as far; 12 is where cutting the largest and raising the smallest cost least together.
_BOUND, _LADDER_BOUND = 256.0, 12.0
_DEFAULTS: Defaults = {
    "sgd": (0.01, SGDOptions(momentum=0.9, clip_norm=1.0)),
    "adam": (5e-5, AdamOptions(clip_norm=1.0)),
    "adamw": (5e-5, AdamOptions(weight_decay=0.01, clip_norm=1.0)),
    "madam": (1e-3, MadamOptions(scale_bound=_BOUND, additive_lr=5e-5)),
    "bbit-madam": (1e-3, BBitMadamOptions(scale_bound=_LADDER_BOUND, additive_lr=5e-5)),
    "lns-madam": (1.44e-3, LNSMadamOptions(scale_bound=_BOUND, additive_lr=5e-5)),
    # A step moves small weights by lr * knee * scale: about Adam's 5e-5. Nobody has tried it yet.
    "signed-madam": (2e-3, SignedMadamOptions(additive_lr=5e-5)),
    "lmd": (3e-3, LMDOptions(additive_lr=5e-5)),
}
_FILES = (
    "train.tsv and dev.tsv of a GLUE task (MNLI: dev_matched.tsv), plain, .gz or .xz, from "
    "gluebenchmark.com"
)


def glue_bert(optimizer: str = DEFAULT_OPTIMIZER) -> Config:
    """Configuration for an optimizer: SST-2, 3 epochs, 32 sentences of up to 64 tokens, cosine."""
    lr, options = choose(_DEFAULTS, optimizer)
    return Config(
        recipe="glue-bert",
        optimizer=optimizer,
        optimizer_options=options,
        options=SentenceOptions(batch_size=32, eval_batch_size=100),
        lr=lr,
        epochs=3,
        schedule="cosine",
        format=default_format(optimizer),
    )


def build(config: Config) -> SentenceTask:
    """Data and model of a configuration; nothing is downloaded.

    Raises:
        ValueError: No data folder or no checkpoint was given, their files are missing or damaged,
            the checkpoint can't classify sentences, or `max_length` doesn't fit it.
        ImportError: transformers is missing.
    """
    options = config.options
    assert isinstance(options, SentenceOptions)
    data = glue(required_data_dir(config, _FILES), options.task)
    if options.checkpoint is None:
        raise ValueError(
            "Recipe 'glue-bert' starts from a model in a local folder; give it by "
            "--set checkpoint=FOLDER, with config.json, model.safetensors and the tokenizer, as "
            "transformers' save_pretrained writes them."
        )
    checkpoint, classes = options.checkpoint, len(data.classes)
    pair = len(LAYOUTS[options.task].sentences) == 2
    encode = load_encoder(checkpoint, options.max_length, pair)
    # Read once to say what it is and lacks, and again by the task, whose head is drawn from the
    # run's generator.
    model = load_classifier(checkpoint, classes)
    data = replace(data, source=f"{data.source}; starts from {checkpoint}: {model.description}")
    return SentenceTask(data, options, encode, lambda: load_classifier(checkpoint, classes))


RECIPE = Recipe(
    name="glue-bert",
    model="a BERT from a local folder, fine-tuned",
    data="GLUE's SST-2, CoLA, MRPC, RTE, QNLI or MNLI (files)",
    metric="accuracy",
    configure=glue_bert,
    build=build,
)
