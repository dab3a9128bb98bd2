"""`run --from RUN`: an earlier run once more, from its record; tells what differs around it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rompy_hydra.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rompy_hydra.compose.sources import Sources
    from rompy_hydra.plan.run_plan import RunPlan
    from rompy_hydra.steps.prepare import Prepared
    from rompy_hydra.steps.reproduce import Recorded


def run_again(args: argparse.Namespace, sources: Sources, drive: Callable[[RunPlan], int]) -> int:
    """Plan, tell, run; with `--dry-run` only the first two."""
    _check_flags(args)
    from rompy_hydra.steps.reproduce import open_recorded, prepare_again

    with open_recorded(Path(args.from_run)) as recorded:
        plan = _plan(recorded, args.overrides, sources)
        prepared = prepare_again(plan, make=not args.dry_run)
        for line in _told(recorded, prepared, sources):
            print(line, file=sys.stderr, flush=True)
        if args.dry_run:
            print(f"nothing was written or started; it would be in {_free(plan)}")
            return EXIT_OK
        return drive(plan)


def _free(plan: RunPlan) -> Path:
    """The directory that it would get."""
    place, number = plan.output_dir / plan.run_id, 1
    while plan.spec.on_existing == "new" and place.exists():
        number += 1
        place = plan.output_dir / f"{plan.run_id}-{number}"
    return place


def _plan(recorded: Recorded, overrides: list[str], sources: Sources) -> RunPlan:
    from rompy_hydra.compose.from_record import plan_from_record

    return plan_from_record(recorded, overrides, sources, cwd=Path.cwd())


def _check_flags(args: argparse.Namespace) -> None:
    given = {"--multirun": args.multirun, "--cfg": args.cfg, "--info": args.info, "--rev": args.rev}
    given |= {"--emit-script": args.emit_script, "--config-name": args.config_name != "config"}
    for flag, is_given in given.items():
        if is_given:
            raise UsageError(f"--from and {flag} do not go together: one run is taken as it was recorded")


def _told(recorded: Recorded, prepared: Prepared, sources: Sources) -> Iterator[str]:
    """What a person should know: whether it is the same simulation, and what differs around it."""
    from rompy_hydra.record.differences import differences, revision
    from rompy_hydra.record.provenance import git_state

    before = prepared.plan.reproduced
    assert before is not None
    known = [entry for entry in before.provenance.get("config_repositories") or [] if isinstance(entry, dict)]
    revisions = [f"{e.get('repository') or e.get('path')} at {revision(e)}" for e in known if revision(e)]
    yield f"from the record of {recorded.run_dir}" + (f" ({', '.join(revisions)})" if revisions else "")
    for diff in before.diffs:
        yield f"  its work tree was dirty: {diff}"
    if recorded.why_not:
        yield f"  its snapshot is not whole: {recorded.why_not}"
    for line in before.left_out:
        yield f"  left out, it means nothing with what was chosen: {line}"
    found = [str(difference) for difference in differences(before.provenance, prepared.provenance)]
    users = [r for r in sources.repositories if not r.is_packaged]
    for entry, repository in zip(known, users, strict=False):
        now = revision(git_state(repository.conf))
        if now is not None and now != revision(entry):
            found.append(
                f"config repository {repository.conf}: {revision(entry) or '(none)'} → {now} (not looked at: the "
                "configuration comes from the record)"
            )
    moved = {entry["as"]: entry["path"] for entry in recorded.data.get("inputs") or []}
    for file in prepared.inputs:
        then = moved.get(file.name.as_posix())
        if then is not None and then != str(file.path):
            found.append(f"input {file.input}: {then} → {file.path}")
    yield from (f"  differs: {text}" for text in found)
    if prepared.science_id == before.science_id:
        yield f"  the same simulation: science_id {before.science_id}"
    else:
        yield f"  another simulation: science_id {before.science_id} → {prepared.science_id}"
