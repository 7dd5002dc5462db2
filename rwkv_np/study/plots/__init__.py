"""Pictures: each function draws one idea on matplotlib axes and returns the axes or the figure.

All share one style (``with plots.style(): ...``) and colours that colour-blind readers can tell apart. By subject:

=============  ====================================================================================
training       `loss_curve`, `accuracy_curves`
state          `half_lives`, `state_heatmaps`, `head_matrices`, `decay_of_difference`
attention      `attention_weights`, `attention_maps`, `signed_attention_maps`
precision      `overflow`, `error_growth`
cost           `cost_curves`, `growth`
cascade        `wavefront`
diagrams       `block_diagram`
passes         `scan_tree`, `chunk_passes`: the forms that are parallel in time
rooms          `package_map`, of this package
curves         `lines`
theme          `style`, colours, and what all of these share
=============  ====================================================================================
"""

from .attention import attention_maps, attention_weights, signed_attention_maps
from .cascade import wavefront
from .cost import cost_curves, growth
from .curves import lines
from .diagrams import block_diagram
from .passes import chunk_passes, scan_tree
from .precision import error_growth, overflow
from .rooms import package_map
from .state import decay_of_difference, half_lives, head_matrices, state_heatmaps
from .theme import BLUE, COLOURS, DIVERGING, GENERATION_COLORS, GREEN, GREY, ORANGE, PINK, SEQUENTIAL, style
from .training import accuracy_curves, loss_curve

__all__ = [
    "BLUE", "COLOURS", "DIVERGING", "GENERATION_COLORS", "GREEN", "GREY", "ORANGE", "PINK", "SEQUENTIAL",
    "accuracy_curves", "attention_maps", "attention_weights", "block_diagram", "chunk_passes", "cost_curves",
    "decay_of_difference", "error_growth", "growth", "half_lives", "head_matrices", "lines", "loss_curve",
    "overflow", "package_map", "scan_tree", "signed_attention_maps", "state_heatmaps", "style", "wavefront",
]
