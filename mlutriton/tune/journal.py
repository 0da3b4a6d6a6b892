"""The journal of a search: a line for each outcome, appended as it comes, so that a search can be resumed."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

from mlutriton.diagnostics import ArgumentError
from mlutriton.tune.trial import Outcome, Status, Trial

FORMAT = "mlutriton tuning journal 1"


class Journal:
    """Outcomes of a search by their trials, on disk and here.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, stream: TextIO, known: Mapping[str, dict[str, Any]]) -> None:
        self.path = path
        self._stream = stream
        self._known = dict(known)

    @staticmethod
    def begin(path: Path, identity: Mapping[str, Any]) -> Journal:
        """A new journal, in the place of one that is there.

        Args:
            path: the file.
            identity: what decides the outcomes, by name.

        Raises:
            ArgumentError: E0503, it cannot be written.
        """
        stream = _opened(path)
        stream.truncate(0)
        journal = Journal(path, stream, {})
        journal._write([{"format": FORMAT, **identity}])
        return journal

    @staticmethod
    def resume(path: Path, identity: Mapping[str, Any]) -> Journal:
        """The journal of an earlier process; a line that it was writing when it died is dropped.

        Raises:
            ArgumentError: E0503, it cannot be read, is no journal, or is that of another search.
        """
        if not path.exists():
            raise ArgumentError("E0503", f"there is nothing to resume in {path}", help="leave out --resume")
        stream = _opened(path)
        try:
            whole, header, known = _read(path)
            _check_identity(path, header, identity)
            stream.truncate(whole)
        except BaseException:
            stream.close()
            raise
        return Journal(path, stream, known)

    def outcomes(self, trials: Sequence[Trial]) -> list[Outcome] | None:
        """What came of trials; None unless all of them are known."""
        lines = [self._known.get(trial.key) for trial in trials]
        if None in lines:
            return None
        return [_outcome(trial, line) for trial, line in zip(trials, lines, strict=True) if line is not None]

    def append(self, outcomes: Iterable[Outcome]) -> None:
        """Keep outcomes; one that is known already is not written again."""
        lines = [
            {
                "trial": each.trial.key,
                "status": each.status,
                "cycles": each.cycles,
                "bound_cycles": each.bound_cycles,
                "code": each.code,
                "reason": each.reason,
            }
            for each in outcomes
            if each.trial.key not in self._known
        ]
        self._known |= {str(line["trial"]): line for line in lines}
        self._write(lines)

    def _write(self, lines: Iterable[Mapping[str, Any]]) -> None:
        try:
            self._stream.write("".join(f"{json.dumps(line)}\n" for line in lines))
            self._stream.flush()
        except OSError as problem:
            raise _unwritable(self.path, problem) from None

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _read(path: Path) -> tuple[int, dict[str, Any], dict[str, dict[str, Any]]]:
    """Bytes of the whole lines of a journal, its first line, and the others by their trials.

    Raises:
        ArgumentError: E0503, it cannot be read or is no journal.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise ArgumentError("E0503", f"cannot read {path}: {problem.strerror}", help="leave out --resume") from None
    whole = content[: content.rfind(b"\n") + 1]
    try:
        header, *lines = [json.loads(line) for line in whole.splitlines()]
        if header["format"] != FORMAT:
            raise ValueError(header["format"])
        for line in lines:
            _outcome(Trial(0, {}), line)
        return len(whole), header, {str(line["trial"]): line for line in lines}
    except (ValueError, KeyError, TypeError):
        raise ArgumentError("E0503", f"{path} is no tuning journal", help="add --force to write a new one") from None


def _check_identity(path: Path, header: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    differing = [name for name, value in identity.items() if header.get(name) != json.loads(json.dumps(value))]
    if differing:
        raise ArgumentError(
            "E0503",
            f"{path} is the journal of another search: {', '.join(differing)} differ",
            note="\n".join(f"{name}: {_short(header.get(name))}, now {_short(identity[name])}" for name in differing),
            help="add --force to begin anew, or --output DIRECTORY to keep both",
        )


def _outcome(trial: Trial, line: Mapping[str, Any]) -> Outcome:
    return Outcome(trial, Status(line["status"]), line["cycles"], line["bound_cycles"], line["code"], line["reason"])


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _opened(path: Path) -> TextIO:
    """The file for appending, which this process alone may write until it closes it or ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = cast("TextIO", path.open("a", encoding="utf-8"))
    except OSError as problem:
        raise _unwritable(path, problem) from None
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise ArgumentError(
            "E0503",
            f"another process is writing {path}",
            help="wait for it, or choose another directory: --output DIRECTORY",
        ) from None
    except OSError:
        pass  # the file system knows no locks
    return stream


def _unwritable(path: Path, problem: OSError) -> ArgumentError:
    return ArgumentError("E0503", f"cannot write {path}: {problem.strerror}", help="choose another: --output DIRECTORY")
