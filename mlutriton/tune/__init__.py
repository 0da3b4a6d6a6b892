"""Autotuning by simulated cycles: which configuration of a kernel is fastest for a shape of its problem.

    from mlutriton.tune import tune

    tuning = tune("softmax.py::softmax", shapes=[{"rows": 4096, "columns": 1024}], space={"ROWS": [1, 2, 4, 8]})
    tuning.results[0].best.configuration

The command ``mlutriton tune`` does the same. A kernel that was tuned loads what was found with :func:`tuned`.
"""

from mlutriton.tune.engines import DaskEngine, Engine, LocalEngine
from mlutriton.tune.result import ShapeResult, Tuning
from mlutriton.tune.session import tune
from mlutriton.tune.space import Space
from mlutriton.tune.trial import Configuration, Outcome, Shape, Status
from mlutriton.tune.tuned_file import TunedFile, load_tuned, tuned

__all__ = [
    "Configuration",
    "DaskEngine",
    "Engine",
    "LocalEngine",
    "Outcome",
    "Shape",
    "ShapeResult",
    "Space",
    "Status",
    "TunedFile",
    "Tuning",
    "load_tuned",
    "tune",
    "tuned",
]
