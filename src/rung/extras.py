"""Optional dependencies: imported when first needed, named with the pip command when missing."""

import importlib
from types import ModuleType

# Import name -> (project name, the extra of Rung that brings it).
_EXTRAS = {
    "PIL": ("Pillow", "images"),
    "jinja2": ("Jinja2", "train"),
    "matplotlib": ("matplotlib", "train"),
    "rich": ("rich", "train"),
    "sklearn": ("scikit-learn", "train"),
    "transformers": ("transformers", "hf"),
    "typer": ("typer", "train"),
}


def require(module: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: Import path, e.g. ``"sklearn.datasets"``; its first part must be a known extra.

    Returns:
        The imported module.

    Raises:
        ImportError: The package is not installed; the text names the pip command.
        ValueError: ``module`` belongs to no extra of Rung.
    """
    root = module.partition(".")[0]
    if root not in _EXTRAS:
        known = ", ".join(sorted(_EXTRAS))
        raise ValueError(f"`module` must belong to an extra of Rung ({known}); got {module!r}.")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module missing inside an installed package is a different fault and keeps its own text.
        if error.name is None or error.name.partition(".")[0] != root:
            raise
        project, extra = _EXTRAS[root]
        raise ImportError(
            f"This needs {project}, which comes with the extra `{extra}`: "
            f"pip install 'rung[{extra}]'"
        ) from error
