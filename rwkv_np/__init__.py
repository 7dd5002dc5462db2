"""RWKV, the RNN that trains like a Transformer, in plain NumPy.

RWKV-4 (https://arxiv.org/abs/2305.13048), RWKV-5 and 6 (https://arxiv.org/abs/2404.05892), RWKV-7
(https://arxiv.org/abs/2503.14456). Start reading at `rwkv_np.wkv4`; docs/architecture.md has the reading order.
"""

from . import ops, wkv4, wkv6, wkv7
from .files.checkpoint import load, save, save_hf
from .files.errors import CheckpointError, CheckpointWarning
from .files.states import load_state, save_state
from .rwkv4 import RWKV4
from .rwkv5 import RWKV5
from .rwkv6 import RWKV6
from .rwkv7 import RWKV7
from .sampling import generate

__version__ = "0.1.0"
__all__ = ["RWKV4", "RWKV5", "RWKV6", "RWKV7", "CheckpointError", "CheckpointWarning", "generate", "load",
           "load_state", "ops", "save", "save_hf", "save_state", "wkv4", "wkv6", "wkv7"]
