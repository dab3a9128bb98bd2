"""`report`: a run or a sweep as one HTML file to look at."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rompy_hydra.errors import EXIT_OK, RompyHydraError, SiteError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rompy_hydra.verbs import Parser

_AGAIN_S = 5.0


def report(words: list[str], parser_of: Parser) -> int:
    """`report RUN|SWEEP`: write one HTML file; with --watch again and again while it runs."""
    parser = parser_of("report", "RUN|SWEEP [--output FILE] [--watch] [--open]")
    parser.description = (
        "One HTML file about a run (RUN/report.html) or a sweep (SWEEP/report/index.html); it needs no network."
    )
    parser.add_argument("directory", metavar="RUN|SWEEP", help="the directory of a run, of a point, or of a sweep")
    parser.add_argument("--output", "-o", metavar="FILE", help="where to write it")
    parser.add_argument("--watch", action="store_true", help="write it again and again until nothing runs any more")
    parser.add_argument("--open", action="store_true", help="show it in a browser")
    args = parser.parse_intermixed_args(words)
    directory = Path(args.directory).absolute()
    make, default = _maker(directory)
    output = Path(args.output).absolute() if args.output else default
    if output.is_dir():
        raise UsageError(f"--output {output} is a directory: name a file, as {output / 'report.html'}")
    runs = make(output, args.watch)
    print(_relative(output), flush=True)
    if args.open:
        _open(output)
    while args.watch and runs:
        time.sleep(_AGAIN_S)
        runs = make(output, True)
    return EXIT_OK


def _maker(directory: Path) -> tuple[Callable[[Path, bool], bool], Path]:
    """What writes the page (path, whether it is to reload itself) and says whether it still runs; the usual path."""
    from rompy_hydra.report.page import write_page
    from rompy_hydra.sweep.description import find_sweep

    if (layout := find_sweep(directory)) is not None:
        from rompy_hydra.report.facts import Reader
        from rompy_hydra.report.sweep_page import sweep_page

        reader = Reader(layout)

        def of_sweep(path: Path, refresh: bool) -> bool:
            facts = reader.read()
            write_page(path, sweep_page(facts, path, refresh=refresh and facts.is_running))
            return facts.is_running

        return of_sweep, directory / "report" / "index.html"

    from rompy_hydra.report.run_page import read_run, run_page, usual_place

    read_run(directory)  # a directory that is no run is told as such
    origins = _origins(directory)

    def of_run(path: Path, refresh: bool) -> bool:
        record = read_run(directory)
        runs = not record.state.is_final
        write_page(path, run_page(record, path, origins=origins, refresh=refresh and runs))
        return runs

    return of_run, usual_place(directory)


def _origins(run_dir: Path) -> dict[str, str]:
    """Who set each value of a run, from the snapshot of its configuration; empty where that cannot be told any more."""
    from rompy_hydra.compose.composer import compose
    from rompy_hydra.compose.explain import Explainer
    from rompy_hydra.compose.from_record import request_of
    from rompy_hydra.steps.reproduce import open_recorded

    try:
        with open_recorded(run_dir) as recorded:
            if not recorded.confs or not recorded.data.get("choices"):
                return {}
            explainer = Explainer(compose(request_of(recorded, os.environ)), cwd=recorded.base)
            told = {one.key: one.winner.where for one in explainer.all() if one.winner is not None}
            return {key: recorded.shown(where) for key, where in told.items()}
    except RompyHydraError:  # a variable that was set then, a template that is gone: the report has less to tell
        return {}


def _relative(path: Path) -> str:
    """The path as somebody who stands here would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _open(path: Path) -> None:
    import webbrowser

    try:
        opened = webbrowser.open(path.as_uri())
    except webbrowser.Error as error:
        raise SiteError(f"no browser could be started ({error}); open {path} yourself") from error
    if not opened:
        print(f"no browser was found here; open {path} yourself", file=sys.stderr)
