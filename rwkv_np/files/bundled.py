"""The trained models that are included in the package."""

from pathlib import Path

MODELS = Path(__file__).parent / "models"

# By generation; beside each lies its card, NAME.md. `load` takes the file's name without its ending.
BUNDLED_MODELS = {4: MODELS / "python-help.safetensors", 7: MODELS / "python-help-7.safetensors"}
BUNDLED_MODEL = BUNDLED_MODELS[4]


def find_bundled(name) -> Path | None:
    """Return the path of a bundled model by its name, or None.

    Examples
    --------
    >>> find_bundled("python-help").name, find_bundled("somebody/model")
    ('python-help.safetensors', None)
    """
    return next((path for path in BUNDLED_MODELS.values() if path.stem == str(name)), None)
