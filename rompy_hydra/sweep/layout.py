"""Every path of a sweep directory; nobody else joins paths.

<sweep_dir>/
  sweep.json            what the sweep is: written last of the planning, so that without it nothing was submitted
  plan.jsonl            a line for each point, in their order
  events.jsonl          what happened, only ever appended to
  events.reserve        room for the last lines on a full disk
  .hydra/               as Hydra users expect it, once for the sweep
  snapshot/             configs and templates as they were at submission
  jobs/<batch>/         what a scheduler got, and what its tasks say of themselves; few files are left when all ended
  <point>/…             the runs; above 1,000 points a thousand to a directory: 012/12345/
  .lease                who drives it now;  .cancel: what is to be ended;  .digest.json: a rebuildable summary
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rompy_hydra.errors import ConfigError, Finding, SiteError

SWEEP_NAME = "sweep.json"
FAN_OUT_ABOVE = 1000
DRAFT_MARK = ".planning-"
OWN_NAMES = frozenset(
    {SWEEP_NAME, "plan.jsonl", "events.jsonl", "events.reserve", "snapshot", "report", "driver.log", "jobs"}
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class SweepLayout:
    """The paths of one sweep."""

    sweep_dir: Path

    @property
    def description(self) -> Path:
        """What the sweep is."""
        return self.sweep_dir / SWEEP_NAME

    @property
    def plan(self) -> Path:
        """A line for each point."""
        return self.sweep_dir / "plan.jsonl"

    @property
    def events(self) -> Path:
        """What happened."""
        return self.sweep_dir / "events.jsonl"

    @property
    def reserve(self) -> Path:
        """Room for the last events on a full disk."""
        return self.sweep_dir / "events.reserve"

    @property
    def digest(self) -> Path:
        """The summary of the events up to some byte."""
        return self.sweep_dir / ".digest.json"

    @property
    def lease(self) -> Path:
        """Who drives it."""
        return self.sweep_dir / ".lease"

    @property
    def cancel(self) -> Path:
        """What is to be ended."""
        return self.sweep_dir / ".cancel"

    @property
    def snapshot(self) -> Path:
        """Configs and templates as they were at submission."""
        return self.sweep_dir / "snapshot"

    @property
    def aside(self) -> Path:
        """Points whose lines would be too long."""
        return self.snapshot / "points"

    @property
    def hydra(self) -> Path:
        """The composed configuration as Hydra users expect it."""
        return self.sweep_dir / ".hydra"

    @property
    def warm_up(self) -> Path:
        """The directory of a run that nobody measures."""
        return self.sweep_dir / ".warm-up"

    @property
    def driver_log(self) -> Path:
        """What a driver without a terminal prints."""
        return self.sweep_dir / "driver.log"

    def batch(self, token: str) -> Path:
        """What a scheduler got under this token."""
        return self.sweep_dir / "jobs" / token

    @property
    def is_sweep(self) -> bool:
        """Whether a sweep was submitted here."""
        return self.description.is_file()

    def point(self, relative: str) -> Path:
        """The directory of a point."""
        return self.sweep_dir / relative


def point_directory(number: int, name: str, subdir: str | None, *, fan_out: bool) -> str:
    """Where a point lies below its sweep: where somebody said (`hydra.sweep.subdir`), else by its name."""
    if subdir is not None:
        return subdir
    return f"{number // 1000:03d}/{name}" if fan_out else name


def check_point_directory(text: str, number: int) -> str | None:
    """Why a point cannot lie there; None if it can."""
    path = PurePosixPath(text)
    parts = path.parts
    if path.is_absolute() or not parts or ".." in parts or _CONTROL.search(text):
        return f"point {number}: '{text}' is no directory below the sweep's"
    if any(len(part.encode("utf-8", "surrogateescape")) > 240 for part in parts):
        return f"point {number}: '{text[:40]}…' is too long for the name of a directory"
    if parts[0] in OWN_NAMES or parts[0].startswith("."):
        return f"point {number}: '{text}' has a name that the sweep keeps for itself"
    return None


def check_free(directory: Path) -> None:
    """Refuse a directory that holds something: a sweep is continued by `resume`, never by accident.

    Raises `ConfigError`; `SiteError` for what is no directory or cannot be looked into.
    """
    try:
        is_free = not any(directory.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise SiteError(f"{directory} exists and is no directory; choose another hydra.sweep.dir") from error
    except OSError as error:
        raise SiteError(f"the sweep directory {directory} cannot be used: {error.strerror}") from error
    if not is_free:
        is_sweep = SweepLayout(directory).is_sweep
        what = "is a sweep already" if is_sweep else "holds something already"
        mend = f"type: rompy-hydra resume {directory}" if is_sweep else "choose another directory"
        finding = Finding(key="hydra.sweep.dir", value=str(directory), rule=what, mend=mend)
        raise ConfigError(f"the sweep directory {directory} {what}", [finding])


def draft_directory(directory: Path) -> SweepLayout:
    """A new directory beside the one that a sweep is to have: it is planned there, and appears when it is complete."""
    draft = directory.with_name(f".{directory.name[:200]}{DRAFT_MARK}{secrets.token_hex(4)}")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
    except OSError as error:
        raise SiteError(
            f"the sweep directory {directory} cannot be made: {error.strerror}; choose another output_dir"
        ) from error
    return SweepLayout(draft)


def publish(draft: SweepLayout, directory: Path) -> SweepLayout:
    """Give a planned sweep its name, in one step; of two that want it, one gets it."""
    try:
        draft.sweep_dir.rename(directory)
    except OSError as error:
        check_free(directory)
        raise SiteError(f"the sweep directory {directory} cannot be made: {error.strerror}") from error
    return SweepLayout(directory)
