"""What a run says about itself in config.json and summary.json."""

from dataclasses import asdict
from typing import Any

from rung.train.environment import environment
from rung.train.folder import FORMAT_VERSION
from rung.train.layers import layer_record
from rung.train.measure import byte_summary
from rung.train.session import Session


def config_record(session: Session, command: str) -> dict[str, Any]:
    """Content of config.json."""
    config = session.config
    return {
        "format_version": FORMAT_VERSION,
        "recipe": config.recipe,
        "optimizer": config.optimizer,
        "format": config.format,
        "update_format": config.update_format,
        "layers": None
        if config.compute_format is None
        else layer_record(config.compute_format, config.layers),
        "seed": config.seed,
        "lr": config.lr,
        "epochs": config.epochs,
        "schedule": config.schedule,
        "batch_size": config.options.batch_size,
        "options": asdict(config.options) | asdict(config.optimizer_options),
        "data": session.task.source,
        "device": config.device,
        "command": command,
        "environment": environment(),
    }


def summary_record(session: Session, config: dict[str, Any], reason: str | None) -> dict[str, Any]:
    """Content of summary.json.

    Args:
        session: The run at its end.
        config: Content of config.json.
        reason: Why training diverged, or None if it finished.
    """
    counters, metric = session.counters, session.task.metric
    averaged = {} if session.average is None else {"averaged": session.average.record()}
    return {
        **{key: config[key] for key in ("format_version", "recipe", "optimizer", "format", "seed")},
        "status": "finished" if reason is None else "diverged",
        "reason": reason,
        "metric": {
            "name": metric.name,
            "split": metric.split,
            "higher_is_better": metric.higher_is_better,
            "final": counters.final,
            "best": counters.best,
        },
        "loss": {"train": counters.train_loss, "eval": counters.eval_loss},
        **byte_summary(session.model, session.optimizer),
        "time": {
            "seconds": round(session.seconds, 3),
            "steps": counters.step,
            "ms_per_step": session.ms_per_step,
        },
        "skipped_steps": counters.skipped,
        **averaged,
        "command": config["command"],
        "environment": config["environment"],
    }
