"""Profiles of launches: where their cycles went, what bounded them, and what a change would save.

Everything that is said of a change has been replayed: the recorded trace on another machine, or an altered trace.

Example:
    with mlutriton.profile.record() as launches:
        kernel[grid](...)
    print(mlutriton.profile.examine(launches.groups()[0].slowest).advice)
"""

from mlutriton.profile.advice import Advice, Limit
from mlutriton.profile.examination import Examination, examine
from mlutriton.profile.launches import Launches, LaunchGroup, record
from mlutriton.profile.sensitivity import Gain, sensitivity

__all__ = [
    "Advice",
    "Examination",
    "Gain",
    "LaunchGroup",
    "Launches",
    "Limit",
    "examine",
    "record",
    "sensitivity",
]
