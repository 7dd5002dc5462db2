"""Pictures: each function draws one idea on matplotlib axes and returns the axes or the figure.

All share one style (``with plots.style(): ...``) and colours that colour-blind readers can tell apart. By subject:

=============  ====================================================================================
training       `loss_curve`, `loss_since_reset`, `accuracy_curves`
state          `half_lives`, `state_heatmaps`, `head_matrices`, `decay_of_difference`
attention      `attention_weights`, `attention_maps`, `signed_attention_maps`, `two_forms`
precision      `overflow`, `drift`, `error_growth`
cost           `cost_curves`, `growth`, `against_length`
cascade        `wavefront`
diagrams       `scan_tree`, `block_diagram`
rooms          `package_map`, of this package
curves         `lines`, `bars`
theme          `style`, colours, and what all of these share
=============  ====================================================================================
"""

from .attention import attention_maps, attention_weights, signed_attention_maps, two_forms
from .cascade import wavefront
from .cost import against_length, cost_curves, growth
from .curves import bars, lines
from .diagrams import block_diagram, scan_tree
from .precision import drift, error_growth, overflow
from .rooms import package_map
from .state import decay_of_difference, half_lives, head_matrices, state_heatmaps
from .theme import BLUE, COLOURS, DIVERGING, GENERATION_COLORS, GREEN, GREY, ORANGE, PINK, SEQUENTIAL, style
from .training import accuracy_curves, loss_curve, loss_since_reset

__all__ = [
    "BLUE", "COLOURS", "DIVERGING", "GENERATION_COLORS", "GREEN", "GREY", "ORANGE", "PINK", "SEQUENTIAL",
    "accuracy_curves", "against_length", "attention_maps", "attention_weights", "bars", "block_diagram", "cost_curves",
    "decay_of_difference", "drift", "error_growth", "growth", "half_lives", "head_matrices", "lines", "loss_curve",
    "loss_since_reset", "overflow", "package_map", "scan_tree", "signed_attention_maps", "state_heatmaps", "style",
    "two_forms", "wavefront",
]
