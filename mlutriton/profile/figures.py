"""The figures of a profile as plain data, for JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from mlutriton.profile.examination import Examination
from mlutriton.profile.launches import Launches, LaunchGroup

FORMAT = "mlutriton profile"
VERSION = 1


def figures(script: str, launches: Launches) -> dict[str, Any]:
    """Everything that a profile says of a script's launches."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "simulated": True,
        "script": script,
        "child_processes": launches.child_processes,
        "child_launches": launches.child_launches,
        "groups": [_group(group) for group in launches.groups()],
    }


def _group(group: LaunchGroup) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kernel": group.kernel,
        "variant": group.variant,
        "grid": group.grid,
        "machine": group.machine,
        "launches": group.launches,
        "cycles": group.cycles,
        "least_cycles": group.least_cycles,
        "most_cycles": group.most_cycles,
        "time_us": group.time_us,
    }
    return found | ({"slowest": examination_figures(Examination(group.slowest))} if group.slowest else {})


def examination_figures(found: Examination) -> dict[str, Any]:
    """What there is to say of one launch."""
    return {
        "run": json.loads(found.run.to_json()),
        "bounded_by": found.bounded_by.name,
        "core_cycles": found.core_cycles,
        "queues": {use.queue.value: {"busy_cycles": use.busy_cycles, "share": use.share} for use in found.queues},
        "limits": [asdict(each) for each in found.limits],
        "gains": [asdict(each) for each in found.gains],
        "advice": [asdict(each) | {"text": str(each)} for each in found.advice],
        "lines": [
            {
                "file": part.file,
                "line": line.number,
                "share": line.share,
                "compute_cycles": line.cost.compute_cycles,
                "io_cycles": line.cost.io_cycles,
                "move_cycles": line.cost.move_cycles,
                "scalar_cycles": line.cost.scalar_cycles,
                "bytes": line.cost.bytes,
                "stalled_cycles": dict(line.stalls),
            }
            for part in found.source
            for line in part.lines
            if line.cost is not None
        ],
    }
