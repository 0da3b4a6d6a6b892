"""The one definition of element-wise arithmetic, shared by the compiler, the ISA and the simulator."""

from mlutriton.arithmetic.evaluate import evaluate, rounded
from mlutriton.arithmetic.formats import Primitives
from mlutriton.arithmetic.functions import FUNCTIONS, apply_function
from mlutriton.arithmetic.operations import OPERATIONS, Operation

__all__ = ["FUNCTIONS", "OPERATIONS", "Operation", "Primitives", "apply_function", "evaluate", "rounded"]
