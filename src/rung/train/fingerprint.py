"""What of a configuration a resumed run must share with its checkpoint."""

from dataclasses import asdict
from typing import Any

from rung.train.config import Config
from rung.train.layers import layer_record
from rung.train.schedules import warmup_share

_FALLING = ("cosine", "linear")  # schedules that end with the run

# Options that came later, and what checkpoints from before them were trained with.
_LATER: dict[str, Any] = {
    "precision": "float32",
    "scale_axis": "tensor",
    "others": "additive",
    "scales_from": None,
    "average_from": 0,
    "float_weights": "",
}


def fingerprint(config: Config) -> dict[str, Any]:
    """The fields that a resumed run must share with its checkpoint, as flat JSON values.

    Left out are where a run happens and how often it writes; and `epochs`, unless the schedule or
    the mean of weights depends on it, so that a finished run can go on.
    """
    flat: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("recipe", "optimizer", "format", "seed", "lr", "schedule", "epochs")
    }
    flat |= asdict(config.options) | asdict(config.optimizer_options)
    for name in ("checkpoint_minutes", "log_every", "max_loss", "eval_batch_size"):
        del flat[name]
    # What has no effect is left out, so that checkpoints from before these options still fit.
    if config.compute_format is not None:
        flat |= layer_record(config.compute_format, config.layers)
    flat.pop("workers", None)
    for name, default in _LATER.items():
        if name in flat and flat[name] == default:
            del flat[name]
    if config.update_format is None:
        flat.pop("update_rounding", None)
    if config.schedule not in _FALLING and not config.options.average_from:
        del flat["epochs"]
    flat["warmup_share"] = warmup_share(config)
    for name in ("warmup_steps", "warmup_share", "final_lr_share"):
        if config.schedule not in _FALLING or not flat[name]:
            del flat[name]
    return flat
