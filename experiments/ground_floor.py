"""The first figures of Rung: runs of `rung train`, collected into one JSON file each.

    python experiments/ground_floor.py digits
    python experiments/ground_floor.py fashion --data-dir /usr/share/datasets/fashion-mnist
    python experiments/ground_floor.py wikitext --data-dir DIR --note "which text this is"

Runs that are finished are not run again; an interrupted one resumes. Figures go to
experiments/results/NAME.json as they fall; docs/tables.py makes the docs' tables of them.
"""

from runs import main

BBIT = ["--optimizer", "bbit-madam", "--format"]

# Label -> flags. SGD's gradient is clipped at 0.25 by the recipe itself (wikitext).
FIVE = {
    "SGD": ["--optimizer", "sgd"],
    "AdamW": ["--optimizer", "adamw"],
    "Madam float32": ["--optimizer", "madam"],
    "Madam 12 bits": [*BBIT, "ladder12"],
    "Madam 8 bits": [*BBIT, "ladder8"],
}
EXPERIMENTS = {
    "digits": {
        "recipe": "digits-cnn",
        "runs": FIVE,
        "common": [],
        "seeds": [0, 1, 2],
    },
    "fashion": {
        "recipe": "fashion-resnet18",
        "runs": FIVE,
        "common": ["--epochs", "2", "--schedule", "cosine", "--set", "width=16"],
        "seeds": [0],
    },
    "wikitext": {
        "recipe": "wikitext2-transformer",
        "runs": FIVE,
        "common": ["--epochs", "1", "--set", "train_tokens=500000"],
        "seeds": [0],
    },
}


if __name__ == "__main__":
    main(__doc__.split("\n")[0], EXPERIMENTS)
