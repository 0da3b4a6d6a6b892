"""What ``mlutriton tune`` does: from the words that were typed to a search, and from its result to tables and files."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import mlutriton.tune.plot as plots
from mlutriton.cli.console import console, error_console, progress_bar
from mlutriton.configuration import set_machine
from mlutriton.diagnostics import ArgumentError
from mlutriton.files import write_whole
from mlutriton.profile.lossless_table import LosslessTable
from mlutriton.tune import ShapeResult, Space, Status, Tuning
from mlutriton.tune.assignments import assignments, json_objects, value_of
from mlutriton.tune.engines import engine_of
from mlutriton.tune.session import PreparedSearch, RequestedSearch, prepare, searched
from mlutriton.tune.session import Progress as SearchProgress
from mlutriton.tune.source import SourceFile, split
from mlutriton.tune.trial import Shape, shown
from mlutriton.tune.verification import Verification, verify
from mlutriton.waiting import shown_otherwise

FAILED = 1
INTERRUPTED = 130

_LINES_OF_FAILURES = 5

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Request:
    """The options of the command, as they were typed; see its help."""

    kernel: str
    space: list[str] | None
    where: str | None
    shapes: list[str] | None
    launch: str | None
    arguments: list[str] | None
    grid: str
    search: str
    trials: int | None
    seed: int
    machine: str | None
    workers: int | None
    engine: str
    output: Path | None
    resume: bool
    force: bool
    verify: bool
    verify_shape: str | None
    top: int
    json: bool


def run(request: Request) -> None:
    """Search, report and write what was found.

    Raises:
        ArgumentError: E0111, E0501 to E0504: the request makes no sense.
        typer.Exit: nothing could be timed, or a winner's values are wrong, or it was interrupted.
        OSError: a result cannot be written.
    """
    if request.machine:
        set_machine(request.machine)
    engine = engine_of(request.engine, request.workers)
    wanted = RequestedSearch(
        request.kernel,
        shapes=_shapes(request.shapes),
        space=_space(request.space, request.where),
        launch=request.launch,
        arguments=assignments(request.arguments) if request.arguments else None,
        grid=request.grid,
        search=request.search,
        trials=request.trials,
        seed=request.seed,
    )
    prepared = prepare(wanted)
    directory = request.output or Path(f"tune-{prepared.kernel_name}")
    journal = _journal(directory, resume=request.resume, force=request.force)
    reference = _reference(prepared) if request.verify else None
    with _Watch(prepared) as watch, shown_otherwise():
        try:
            tuning = searched(prepared, engine=engine, journal=journal, resume=request.resume, progress=watch.show)
        except KeyboardInterrupt:
            watch.stop()
            _report_interruption(watch.last, directory)
            raise typer.Exit(INTERRUPTED) from None
    out = console()
    try:
        if request.json:
            typer.echo(tuning.to_json())
        else:
            _report(out, tuning, request)
    finally:
        _write(tuning, directory)  # also where nobody reads the report to its end
    if not request.json:
        out.print(
            f"Written to {directory}: {', '.join(sorted(each.name for each in directory.iterdir()))}", soft_wrap=True
        )
    # What --json prints has to stay JSON.
    told = error_console() if request.json else out
    is_wrong = request.verify and _is_wrong(told, prepared, tuning, reference, request.verify_shape)
    if is_wrong or any(each.best is None for each in tuning.results):
        raise typer.Exit(FAILED)


def _shapes(texts: list[str] | None) -> list[Shape] | None:
    """The shapes that were typed; None if none was.

    Raises:
        ArgumentError: E0502, a text is no shape.
    """
    if texts is None:
        return None
    shapes: list[Shape] = []
    for text in texts:
        if text.lstrip().startswith(("[", "{")):
            shapes += json_objects(text, "--shape")
        elif "=" not in text:
            shapes += json_objects(SourceFile.at(text).text, text)
        else:
            shapes.append({name: value_of(value) for name, value in assignments([text]).items()})
    return shapes


def _space(texts: list[str] | None, where: str | None) -> Space | None:
    """The space that was typed, or that a Python file has; None if none was.

    Raises:
        ArgumentError: E0501, E0502, there is no such space.
    """
    if texts is None:
        if where is not None:
            raise ArgumentError("E0502", "--where needs a --space", help="add --space NAME=VALUES")
        return None
    if len(texts) == 1 and "=" not in texts[0]:
        path, name = split(texts[0])
        found = getattr(SourceFile.at(path).module(), name or "SPACE", None)
        if found is None:
            raise ArgumentError("E0501", f"{path} has no {name or 'SPACE'}", help="type --space FILE.py::NAME")
        if where is not None:
            raise ArgumentError("E0502", "--where goes with NAME=VALUES", help='write {"where": ...} in the file')
        return Space.of_object(found() if callable(found) else found)
    return Space.of_texts(texts, where)


def _journal(directory: Path, *, resume: bool, force: bool) -> Path:
    """The journal to write, unless it would replace another.

    Raises:
        ArgumentError: E0503, it would.
    """
    journal = directory / JOURNAL
    if resume and force:
        raise ArgumentError("E0503", "--resume goes on and --force begins anew", help="leave one out")
    if journal.exists() and not (resume or force):
        raise ArgumentError(
            "E0503",
            f"{directory} has the journal of an earlier search",
            help="add --resume to go on with it, --force to replace it, or --output DIRECTORY to keep both",
        )
    return journal


class _Watch:
    """A progress bar with the best so far, on a terminal; what is known when it is interrupted, everywhere."""

    def __init__(self, prepared: PreparedSearch) -> None:
        columns = (
            TextColumn("{task.completed:,}/{task.total:,}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = progress_bar(*columns)
        self._task = self._bar.add_task("", total=prepared.search.total)
        self._shapes = prepared.shapes
        self.last: list[tuple[Shape, str]] = []

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away."""
        self._bar.stop()

    def show(self, progress: SearchProgress) -> None:
        """Show how far the search is."""
        self._bar.start()  # a thread, which begins after the workers were forked
        self.last = [
            (shape, f"{best.cycles:,} cycles with {shown(best.configuration)}")
            for shape, best in zip(self._shapes, progress.best, strict=True)
            if best is not None
        ]
        description = escape(self.last[-1][1]) if self.last else ""
        self._bar.update(self._task, completed=progress.done, description=description)


def _report_interruption(best: list[tuple[Shape, str]], directory: Path) -> None:
    for shape, text in best:
        typer.echo(f"best so far{' for ' * bool(shape)}{shown(shape)}: {text}", err=True)
    words = [word for word in sys.argv[1:] if word not in ("--resume", "--force")]
    typer.echo(f"interrupted; {directory / JOURNAL} has what is known. Go on with:", err=True)
    typer.echo(f"  mlutriton {shlex.join([*words, '--resume'])}", err=True)


def _write(tuning: Tuning, directory: Path) -> None:
    """Write the results beside the journal.

    Raises:
        OSError: one cannot be written.
    """
    texts = {
        "results.json": tuning.to_json(),
        "results.csv": tuning.to_csv(),
        "configs.py": tuning.to_python(),
        "tuned.json": tuning.to_tuned(),
    }
    for name, text in texts.items():
        write_whole(directory / name, text.encode())
    for number in range(len(tuning.results)):
        try:
            plots.plot(tuning, number, directory / f"plot-{number}.png")
        except ArgumentError as missing:
            typer.echo(f"no plot: {missing.summary}; {missing.help}", err=True)
            break


def _report(out: Console, tuning: Tuning, request: Request) -> None:
    cause = "the kernel's own prune_configs_by" if request.space is None else "the condition"
    for result in tuning.results:
        out.print(_table(tuning, result, request.top))
        out.print(escape(_summary(result, cause)), soft_wrap=True)
        for code, reason, count in result.failures[:_LINES_OF_FAILURES]:
            code_text = f"{code} " if code else ""
            out.print(f"  {count:,} failed: {escape(f'{code_text}{reason}')}", soft_wrap=True)
        out.print()
    out.print(escape(tuning.to_python()), soft_wrap=True)
    out.print(f"Cycles and times are simulated; the search took {tuning.host_seconds:.1f} s on this host.", style="dim")


def _table(tuning: Tuning, result: ShapeResult, top: int) -> Table:
    shape = shown(result.shape)
    title = f"{tuning.kernel}{' for ' * bool(shape)}{shape}, simulated on {tuning.machine.name}"
    table = LosslessTable(title=escape(title))
    names = list(dict.fromkeys(name for each in result.ranked[:top] for name in each.configuration))
    for name in names:
        table.add_column(escape(name), justify="right", no_wrap=True)
    for heading in ("cycles", "time us", "of the best", "schedule bound"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in result.ranked[:top]:
        cycles, best = each.cycles or 0, (result.ranked[0].cycles or 1)
        table.add_row(
            *(escape(str(each.configuration.get(name, ""))) for name in names),
            f"{cycles:,}",
            f"{tuning.machine.time_us(cycles):,.2f}",
            f"{cycles / best:.2f}x",
            f"{each.bound_cycles or 0:,}",
        )
    return table


def _summary(result: ShapeResult, cause: str) -> str:
    counts = [
        f"{result.count(Status.TIMED):,} timed",
        f"{result.count(Status.SKIPPED):,} skipped, whose schedule bound is above the best",
        f"{result.count(Status.FAILED):,} failed",
    ]
    left_out = f"; {result.excluded:,} left out by {cause}" if result.excluded else ""
    return f"{len(result.outcomes):,} configurations: {', '.join(counts)}{left_out}"


def _reference(prepared: PreparedSearch) -> Any:
    """The reference that winners will be compared with; None for the cases of the file, of which there are some.

    Raises:
        ArgumentError: E0501, there is nothing.
    """
    name = f"reference_{prepared.kernel_name}"
    if prepared.recipe is not None and hasattr(prepared.recipe.file.module(), name):
        return getattr(prepared.recipe.file.module(), name)
    verify(prepared.evaluator.kernel, prepared.evaluator.plan, (), cases=prepared.cases)
    return None


def _is_wrong(out: Console, prepared: PreparedSearch, tuning: Tuning, reference: Any, verify_shape: str | None) -> bool:
    shape = None if verify_shape is None else (_shapes([verify_shape]) or [None])[0]
    done: list[Verification] = verify(
        prepared.evaluator.kernel,
        prepared.evaluator.plan,
        tuning.results,
        cases=prepared.cases,
        reference=reference,
        shape=shape,
    )
    for each in done:
        verdict = "differs from" if each.problems else "equals"
        text = f"{shown(each.configuration)} on {each.what}: {verdict} the reference, max error {each.max_error:.2g}"
        out.print(escape(text), style="red" if each.problems else None, soft_wrap=True)
        for problem in each.problems:
            out.print(escape(problem), style="red", soft_wrap=True)
    return any(each.problems for each in done)
