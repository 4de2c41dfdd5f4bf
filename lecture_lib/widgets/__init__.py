"""Interactive pictures whose mathematics runs in the browser: live in Jupyter, in Colab and, with no kernel, in slides.

Each widget is a module with a class of synced traits and a file of JavaScript beside it, which follows kit.js and what
it shares with others in one module. `base` holds what all share, `measured` what those share whose data a notebook
measured. host.js runs the widgets where there is no kernel.
"""

from lecture_lib.widgets.estimators import Estimators
from lecture_lib.widgets.exit_text import ExitText
from lecture_lib.widgets.exits import Exits
from lecture_lib.widgets.expert_calculator import ExpertCalculator
from lecture_lib.widgets.interpolation import Interpolation
from lecture_lib.widgets.modalities import Modalities
from lecture_lib.widgets.roofline import Roofline
from lecture_lib.widgets.routing import Routing
from lecture_lib.widgets.savings import Savings
from lecture_lib.widgets.sparse_maps import SparseMaps
from lecture_lib.widgets.temperature import Temperature

__all__ = [
    "Estimators",
    "ExitText",
    "Exits",
    "ExpertCalculator",
    "Interpolation",
    "Modalities",
    "Roofline",
    "Routing",
    "Savings",
    "SparseMaps",
    "Temperature",
]
