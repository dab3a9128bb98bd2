"""Every path of a run directory; nobody else joins paths.

<output_dir>/<run_id>/
  run.json                             the record
  .hydra/{config,overrides,hydra}.yaml
  .source/                             what it was composed from: `run --from` needs no more
  logs/{stdout,stderr,check}.log
  …                                    the generated workspace and the model's outputs

A point of a sweep is flat: few inodes, so its logs lie beside the record, and `.hydra/` is kept once for the sweep.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from rompy_hydra.errors import ConfigError, Finding, SiteError
from rompy_hydra.record.store import RECORD_NAME

OWN_NAMES = frozenset({RECORD_NAME, ".hydra", ".source", "logs"})
_FLAT_NAME = re.compile(r"(stdout|stderr|check)(\.\d+)?\.log\Z")


@dataclass(frozen=True, slots=True)
class RunLayout:
    """The paths of one run."""

    run_dir: Path
    flat: bool = False

    @property
    def record(self) -> Path:
        """The record."""
        return self.run_dir / RECORD_NAME

    @property
    def logs(self) -> Path:
        """The directory of the logs."""
        return self.run_dir if self.flat else self.run_dir / "logs"

    def log(self, stream: str, attempt: int = 1) -> Path:
        """What an attempt printed: `stdout.log`, `stderr.log`; from the second attempt on `stdout.2.log` and so on."""
        return self.logs / (f"{stream}.log" if attempt == 1 else f"{stream}.{attempt}.log")

    @property
    def hydra(self) -> Path:
        """The composed configuration as Hydra users expect it."""
        return self.run_dir / ".hydra"

    @property
    def source(self) -> Path:
        """What the run was composed from: a snapshot, and what dirty work trees differed by."""
        return self.run_dir / ".source"

    def file(self, relative: str) -> Path:
        """A file of the workspace; a name that leaves the run directory or is one of ours is refused."""
        parts = Path(relative).parts
        if not parts or Path(relative).is_absolute() or ".." in parts:
            raise ConfigError(
                f"the workspace file '{relative}' would lie outside the run directory",
                [Finding(key="model.template", rule="names a file outside the run directory", value=relative)],
            )
        if parts[0] in OWN_NAMES or (self.flat and _FLAT_NAME.match(parts[0])):
            raise ConfigError(
                f"the workspace file '{relative}' has a name that the run directory keeps for itself",
                [
                    Finding(
                        key="model.template",
                        rule=f"'{parts[0]}' is one of {', '.join(sorted(OWN_NAMES))}"
                        + (" or a log of a point" if self.flat else ""),
                        value=relative,
                        mend="rename the template file",
                    )
                ],
            )
        return self.run_dir / relative


def run_directory(output_dir: Path, run_id: str) -> RunLayout:
    """Where a run lies: one directory directly below `output_dir`, never through a symbolic link.

    Raises `SiteError` where the name is taken by a link or a file, `ConfigError` where it would leave `output_dir`.
    """
    directory = output_dir / run_id
    if directory.parent != output_dir or run_id in ("", ".", ".."):
        raise ConfigError(
            f"run_id '{run_id}' leaves the output directory",
            [Finding(key="run_id", value=run_id, rule="must name one directory directly below output_dir")],
        )
    if directory.is_symlink():
        raise SiteError(f"{directory} is a symbolic link; a run's directory must be a real one (choose another run_id)")
    if directory.exists() and not directory.is_dir():
        raise SiteError(f"{directory} exists and is no directory (choose another run_id)")
    return RunLayout(directory)


def remove_empty(directory: Path) -> None:
    """Remove a directory that holds nothing: it was made for a run that did not come about.  Never where we stand."""
    with contextlib.suppress(OSError):
        if directory.resolve() != Path.cwd():
            directory.rmdir()
