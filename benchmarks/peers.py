"""The packages that rwkv_np is compared with, in the Python that has them."""

import importlib.metadata

PACKAGES = "torch", "transformers", "rwkv", "fla-core"


def versions():
    """Return the versions of the packages that rwkv_np is compared with, as far as this Python has them."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found
