"""Machine files: TOML in which every value says where it comes from and how sure it is.

    name = "mine"
    extends = "mlu590-m9"
    clusters = { value = 4, confidence = "assumed", source = "half a board" }

``extends`` names a preset, or a file (ending in ``.toml``) relative to the one that says it. This module knows the form
of such a file; which parameters there are, and what they mean, is said by :mod:`mlutriton.isa.machine`.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from mlutriton.diagnostics import ArgumentError, Location

PRESET_DIRECTORY = Path(__file__).parent / "machines"
SHARED_DIRECTORY = PRESET_DIRECTORY / "shared"
DEFAULT_MACHINE_NAME = "mlu590-m9"

Value = int | float | bool
Confidence = Literal["sourced", "derived", "assumed"]
CONFIDENCES: tuple[Confidence, ...] = get_args(Confidence)
ENTRY_KEYS = ("value", "confidence", "source")
EXAMPLE_ENTRY = '{ value = ..., confidence = "assumed", source = "..." }'


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a value comes from.

    Attributes:
        confidence: ``sourced``: stated or measured there; ``derived``: computed from such; ``assumed``: a guess.
        source: a key of ``machines/shared/sources.toml`` with the place in it; for an assumption, the reason.
    """

    confidence: Confidence
    source: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number (or yes/no) that a machine has.

    Attributes:
        name: the key in machine files and the attribute of ``Machine``.
        kind: ``int``, ``float`` or ``bool``.
        unit: the unit of the value; empty for counts, shares and yes/no.
        doc: what it means, in one sentence.
        section: the group that it is listed in.
        zero_allowed: False when the value must be above 0.
        at_most: the upper bound, where there is one.
    """

    name: str
    kind: type[Value]
    unit: str
    doc: str
    section: str
    zero_allowed: bool
    at_most: float

    @property
    def expected(self) -> str:
        """What a legal value is, in words."""
        if self.kind is bool:
            return "true or false"
        noun = "integer" if self.kind is int else "number"
        bound = f"non-negative {noun}" if self.zero_allowed else f"positive {noun}"
        limit = "" if self.at_most == math.inf else f" of at most {self.at_most:,}"
        unit = f" ({self.unit})" if self.unit else ""
        return f"a {bound}{limit}{unit}"

    def convert(self, value: object) -> Value | None:
        """The value in this parameter's own type, or None if it is not legal."""
        if self.kind is bool or isinstance(value, bool):
            return value if self.kind is bool and isinstance(value, bool) else None
        if not isinstance(value, int | float) or (self.kind is int and not isinstance(value, int)):
            return None
        if not (0 <= value <= self.at_most) or math.isinf(value) or (value == 0 and not self.zero_allowed):
            return None
        return self.kind(value)


@dataclass(frozen=True, slots=True)
class MachineValues:
    """What a machine file says, complete and checked value by value."""

    name: str
    values: Mapping[str, Value]
    provenance: Mapping[str, Provenance]


def preset_names() -> tuple[str, ...]:
    """Names of the machines that come with the package, sorted."""
    return tuple(sorted(path.stem for path in PRESET_DIRECTORY.glob("*.toml")))


def preset_path(name: str, location: Location | None = None) -> Path:
    """The file of a preset.

    Raises:
        ArgumentError: E0105 if there is no such preset.
    """
    names = preset_names()
    if name in names:
        return PRESET_DIRECTORY / f"{name}.toml"
    wanted = name.lower().replace("_", "-")
    boards = [known for known in names if wanted and known.startswith(wanted)]
    close = boards or difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    raise ArgumentError(
        "E0105",
        f"there is no machine {name!r}",
        location=location,
        note=f"the machines are {', '.join(names)}",
        help=(f"did you mean {' or '.join(close)}? " if close else "")
        + 'a machine file of your own is named by its path, e.g. "my-machine.toml"',
    )


def path_of(name_or_path: str | Path) -> Path:
    """The file meant by a preset's name or by a path (a ``Path``, or a text with a ``/`` or ending in ``.toml``).

    Raises:
        ArgumentError: E0105 if there is no such preset.
    """
    if isinstance(name_or_path, Path) or name_or_path.endswith(".toml") or "/" in name_or_path:
        return Path(name_or_path)
    return preset_path(name_or_path)


def invalid(summary: str, *, path: Path | None = None, key: str = "", note: str = "", help: str = "") -> ArgumentError:
    """The error of a machine file (or, without a path, of a replaced value) that cannot be used."""
    location = None if path is None else Location(str(path), _line_of(path, key) if key else 0)
    return ArgumentError("E0106", summary, location=location, note=note, help=help)


def unknown_parameter(key: str, names: Iterable[str], path: Path | None = None) -> ArgumentError:
    """The error of a key that is no parameter."""
    begun = [name for name in names if key and name.startswith(key)]
    close = begun[:3] or difflib.get_close_matches(key, list(names), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "docs/reference/machines.md lists the parameters"
    return invalid(f"a machine has no parameter {key!r}", path=path, key=key, help=hint)


def illegal_value(parameter: Parameter, value: object, path: Path | None = None) -> ArgumentError:
    """The error of a value that its parameter cannot have."""
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    summary = f"{parameter.name} is {shown}; expected {parameter.expected}"
    return invalid(summary, path=path, key=parameter.name, note=parameter.doc)


def read_machine_file(path: Path, parameters: Mapping[str, Parameter]) -> MachineValues:
    """Read a machine file and the files that it extends.

    Raises:
        ArgumentError: E0105 if a file or preset is not there, E0106 if what is there is not a complete, legal machine.
    """
    values: dict[str, Value] = {}
    provenance: dict[str, Provenance] = {}
    name: object = None
    chain: list[Path] = []
    following: Path | None = path
    while following is not None:
        current = following
        chain.append(current.resolve())
        document = _parse(current)
        own_name = document.pop("name", None)
        name = own_name if current is path else name
        following = _extended(current, document.pop("extends", None))
        for key, entry in document.items():
            if key not in parameters:
                raise unknown_parameter(key, parameters, current)
            value, origin = _read_entry(current, parameters[key], entry)
            values.setdefault(key, value)
            provenance.setdefault(key, origin)
        if following is not None and following.resolve() in chain:
            raise invalid(
                f"machine files extend each other in a circle through {following}", path=current, key="extends"
            )
    if not isinstance(name, str) or not name:
        raise invalid('name is missing; expected name = "..."', path=path, key="name")
    missing = [f"{key}: {parameter.expected}" for key, parameter in parameters.items() if key not in values]
    if missing:
        keys = ", ".join(line.split(":")[0] for line in missing)
        raise invalid(
            f"machine {name!r} lacks {len(missing)} of {len(parameters)} parameters: {keys}",
            path=path,
            note="\n".join(missing),
            help=f"write each as key = {EXAMPLE_ENTRY}\n"
            f'or take the rest from a preset: extends = "{DEFAULT_MACHINE_NAME}"',
        )
    return MachineValues(name, values, provenance)


def format_machine_file(
    name: str, values: Mapping[str, Value], provenance: Mapping[str, Provenance], parameters: Mapping[str, Parameter]
) -> str:
    """The text of a machine file that extends nothing and reads back as the same machine."""
    lines = [f"name = {_quoted(name)}"]
    section = ""
    for key, parameter in parameters.items():
        if parameter.section != section:
            section = parameter.section
            lines += ["", f"# {section}"]
        value = values[key]
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        origin = provenance[key]
        lines.append(
            f'{key} = {{ value = {shown}, confidence = "{origin.confidence}", source = {_quoted(origin.source)} }}'
        )
    return "\n".join(lines) + "\n"


def _parse(path: Path) -> dict[str, Any]:
    try:
        if path.is_char_device() or path.is_block_device():
            raise OSError("it is a device, which may have no end")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(
            "E0105",
            f"the machine file {path} cannot be read: {error.strerror or error}",
            location=Location(str(path), 0),
        ) from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are both ValueErrors
        place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line, column = (int(place[1]), int(place[2])) if place else (0, 0)
        location = Location(str(path), line, column)
        raise ArgumentError("E0106", f"not a TOML file: {error}", location=location) from error


def _extended(path: Path, extends: object) -> Path | None:
    if extends is None:
        return None
    if not isinstance(extends, str) or not extends:
        raise invalid(
            f"extends is {extends!r}; expected the name of a preset or a path that ends in .toml",
            path=path,
            key="extends",
        )
    if extends.endswith(".toml"):
        return path.parent / extends
    return preset_path(extends, Location(str(path), _line_of(path, "extends")))


def _read_entry(path: Path, parameter: Parameter, entry: object) -> tuple[Value, Provenance]:
    key = parameter.name
    if not isinstance(entry, dict):
        raise invalid(
            f"{key} is a bare value; expected value, confidence and source",
            path=path,
            key=key,
            help=f"write {key} = {EXAMPLE_ENTRY.replace('...', str(entry), 1)}",
        )
    fields = cast("dict[str, object]", entry)
    if set(fields) != set(ENTRY_KEYS):
        raise invalid(
            f"{key} has {', '.join(fields) or 'nothing'}; expected exactly {', '.join(ENTRY_KEYS)}", path=path, key=key
        )
    confidence, source = fields["confidence"], fields["source"]
    if confidence not in CONFIDENCES:
        choices = ", ".join(CONFIDENCES)
        raise invalid(f"{key} has confidence {confidence!r}; expected one of {choices}", path=path, key=key)
    if not isinstance(source, str) or not source:
        raise invalid(f"{key} has source {source!r}; expected a text that says where it is from", path=path, key=key)
    value = parameter.convert(fields["value"])
    if value is None:
        raise illegal_value(parameter, fields["value"], path)
    return value, Provenance(confidence, source)


def _line_of(path: Path, key: str) -> int:
    """The line on which a key stands, counted from 1; 0 if none does."""
    pattern = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]|\s*\[+\s*{re.escape(key)}\b")
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if pattern.match(line)), 0)


def _quoted(text: str) -> str:
    # JSON strings are TOML basic strings, but for DEL, which JSON leaves bare.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
