"""The trained model that is included in the package."""

from pathlib import Path

BUNDLED_MODEL = Path(__file__).parent / "models" / "python-help.safetensors"      # python-help.md is its model card
