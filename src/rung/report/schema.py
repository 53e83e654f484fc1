"""What the JSON files of a run folder must hold, and one check that names what is wrong."""

from dataclasses import dataclass
from typing import Any

FORMAT_VERSION = 1
"""Newest version of the run folder that this package reads."""


@dataclass(frozen=True, slots=True)
class Maybe:
    """A value that may also be null."""

    spec: Any


# A dict lists keys (a final "?" marks one that may be missing), a list gives the spec of each item.
_NUMBER = (int, float)
_NULLABLE = Maybe(_NUMBER)

CONFIG = {
    "format_version": int,
    "recipe": str,
    "optimizer": str,
    "format": Maybe(str),
    "update_format?": Maybe(str),
    "layers?": Maybe(dict),
    "seed": int,
    "lr?": _NULLABLE,
    "epochs?": _NULLABLE,
    "schedule?": Maybe(str),
    "batch_size?": Maybe(int),
    "options?": Maybe(dict),
    "data?": Maybe(str),
    "device?": Maybe(str),
    "command?": Maybe(str),
    "environment?": Maybe(dict),
}

TRAIN_RECORD = {"step": int, "loss": _NULLABLE, "lr?": _NULLABLE}
EVAL_RECORD = {"step": int, "split": str, "loss": _NULLABLE, "metric": dict}

_MEDIANS = {
    "low": _NUMBER,
    "high": _NUMBER,
    "counts": [int],
    "mean": _NUMBER,
    "std": _NUMBER,
    "skewness": _NULLABLE,
    "excess_kurtosis": _NULLABLE,
    "ks": _NULLABLE,
}
MEDIANS_RECORD = {
    "step": int,
    "tensors": [
        {"name": str, "kind": str, "numel": int, "positive": _MEDIANS, "negative": _MEDIANS}
    ],
}

DIAGNOSTICS = {
    "step": int,
    "lr": _NULLABLE,
    "depth": int,
    "descent_bound": _NULLABLE,
    "layers": [
        {
            "name": str,
            "kind": str,
            "shape": [int],
            "numel": int,
            "format": Maybe(str),
            "weight_bytes": _NUMBER,
            "state_bytes": _NUMBER,
            "angle": _NULLABLE,
            "log_abs_w": Maybe({"edges": [_NUMBER], "counts": [int], "zeros": int}),
            "rungs": Maybe(
                {
                    "system?": str,
                    "bits": int,
                    "levels?": int,
                    "base_precision": _NUMBER,
                    "knee?": _NUMBER,
                    "counts": [int],
                }
            ),
        }
    ],
}

_SCORES = {"loss": _NULLABLE, "metric": _NULLABLE, "ece": _NULLABLE}

SUMMARY = {
    "format_version": int,
    "status": str,
    "metric": {
        "name": str,
        "split": str,
        "higher_is_better": bool,
        "final": _NULLABLE,
        "best": _NULLABLE,
    },
    "parameters": int,
    "bytes": {
        "weights": _NUMBER,
        "state": _NUMBER,
        "weights_per_weight": _NULLABLE,
        "state_per_weight": _NULLABLE,
    },
    "by_part": [
        {"name": str, "numel": int, "weight_bytes": _NUMBER, "state_bytes": _NUMBER},
    ],
    "time": {"seconds": _NULLABLE, "steps": int, "ms_per_step": _NULLABLE},
    "skipped_steps?": Maybe(int),
    "posterior?": Maybe({"samples": int, **_SCORES, "mean": _SCORES, "median": _SCORES}),
}


def check(value: Any, spec: Any, file: str, where: str = "") -> None:
    """Compare a parsed JSON value with its spec.

    Args:
        value: What `json.loads` returned.
        spec: One of the specs of this file, or a part of one.
        file: Name of the file, for the error's text.
        where: Dotted path of ``value`` inside the file; empty at the top.

    Raises:
        ValueError: A key is missing or a value has another type; the text names file and key.
    """
    if isinstance(spec, Maybe):
        if value is not None:
            check(value, spec.spec, file, where)
    elif isinstance(spec, dict):
        _check_type(value, dict, file, where)
        for key, inner in spec.items():
            name = key.removesuffix("?")
            path = f"{where}.{name}" if where else name
            if name in value:
                check(value[name], inner, file, path)
            elif not key.endswith("?"):
                raise ValueError(
                    f"{file} must hold `{path}`; got keys {', '.join(value) or 'none'}. {WAY_OUT}"
                )
    elif isinstance(spec, list):
        _check_type(value, list, file, where)
        for index, item in enumerate(value):
            check(item, spec[0], file, f"{where}[{index}]")
    else:
        _check_type(value, spec, file, where)


WAY_OUT = "The file is damaged or not Rung's: restore it from a copy, or train this run again."


def _check_type(value: Any, types: Any, file: str, where: str) -> None:
    # JSON's true and false are ints to Python, but never a number of a run.
    fits = isinstance(value, types) and (types is bool or not isinstance(value, bool))
    if not fits:
        wanted = types if isinstance(types, tuple) else (types,)
        names = " or ".join(kind.__name__ for kind in wanted)
        got = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
        place = f"at `{where}`" if where else "at its top"
        raise ValueError(f"{file} must hold {names} {place}; got {got}. {WAY_OUT}")
