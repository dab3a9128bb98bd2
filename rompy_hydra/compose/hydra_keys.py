"""What we make of Hydra's flags, keys and groups: each is honoured, or refused with a sentence; none is ignored.

One table for the composer (which refuses), the command line (which has the flags), the docs and the tests.  It speaks
of Hydra by name only: reading it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rompy_hydra.errors import Finding, did_you_mean


@dataclass(frozen=True, slots=True)
class Word:
    """A flag, key or group of Hydra's.

    `what` it does here; or `why` it is refused and what to write instead (`mend`).  With both, it is honoured for the
    values in `only` and refused for any other.  Where it is `single`, it is honoured for a single run.
    """

    name: str
    what: str | None = None
    why: str | None = None
    mend: str | None = None
    only: tuple[Any, ...] = ()
    single: bool = False

    @property
    def honoured(self) -> bool:
        """Whether there is a way to use it."""
        return self.what is not None

    def allows(self, value: object) -> bool:
        """Whether this value is honoured."""
        return value in self.only if self.only else self.honoured


_OUR_HELP = "the help is our own"
_NO_LAUNCHER = "runs are started by a backend, not by a launcher plug-in"
_NO_SWEEPER = "points are made by Hydra's grammar, not by a sweeper plug-in"
_SWEEP_VALUES = "give the values as overrides with -m, or below hydra.sweeper.params"
_FILLED_IN = "Hydra fills it in"
_OF_A_POINT = "it is given to each point of a sweep"

FLAGS: tuple[Word, ...] = (
    Word("KEY=VALUE", "Hydra's override grammar: values, group choices, `+`, `++`, `~`; with `-m` also sweeps."),
    Word("--help, -h", "Our own help. What Hydra shows there beside it: `--info defaults`, `--cfg job`."),
    Word("--version", "The version of rompy-hydra; `--info all` names Hydra's."),
    Word("--cfg, -c", "`job`, `hydra` or `all`: prints the composed configuration, runs nothing; no credential in it."),
    Word("--resolve", "With `--cfg`: interpolations resolved."),
    Word("--package, -p", "With `--cfg`: only this part."),
    Word("--run, -r", "One run, which is the default."),
    Word(
        "--multirun, -m",
        "A sweep. With `--cfg` nothing runs: every point is shown (Hydra refuses that), and what is wrong in any.",
    ),
    Word(
        "--info, -i",
        "`all` (the default), `config`, `defaults`, `defaults-tree`, `plugins` or `searchpath`, for our composition.",
    ),
    Word("--config-name, -cn", "The root configuration, `config` if none is given."),
    Word(
        "--config-dir, -cd",
        "A config repository of yours; may be repeated. Its options come before ours (in Hydra: after).",
    ),
    Word(
        "--config-path, -cp",
        "A config repository too, the first of all; relative to the current directory. "
        "The packaged options stay available behind it.",
    ),
    Word(
        "--shell-completion, -sc",
        "`install=`, `uninstall=` or `query=` with `bash`, `zsh` or `fish`.",
    ),
    Word(
        "--hydra-help",
        why="Hydra's help speaks of flags and groups that mean something else here",
        mend="see 'rompy-hydra run --help', --info and docs/hydra.md",
    ),
    Word(
        "--experimental-rerun",
        why="a pickled configuration of Hydra's is not a record of ours",
        mend="give the overrides that stand in .hydra/overrides.yaml of the run",
    ),
)

KEYS: tuple[Word, ...] = (
    Word("hydra.run.dir", "The run's directory (its name becomes `run_id`); relative to the current directory."),
    Word("hydra.sweep.dir", "The directory of a sweep; a single run has none, as in Hydra."),
    Word("hydra.sweep.subdir", "The directory of a point below it."),
    Word("hydra.searchpath", "More sources of options, searched last: directories or `pkg://module`."),
    Word("hydra.job.name", "A name, for `${hydra:job.name}` and the log file of `hydra.job_logging`."),
    Word(
        "hydra.job.env_set",
        "Variables of the run's environment, below every `env_vars` of ours; new keys need no `+`.",
    ),
    Word("hydra.job.env_copy", "Variables copied into it from the environment of the command; each must be set."),
    Word(
        "hydra.job.chdir",
        "`true` is what we do: a run starts in its own directory; our own process stays where it is.",
        why="a run starts in its own directory",
        mend="leave it out; backend.working_dir is where a run starts",
        only=(None, True),
    ),
    Word("hydra.job.config.override_dirname", "How `${hydra:job.override_dirname}` is put together."),
    Word(
        "hydra.job.override_dirname",
        why="it is made from the overrides",
        mend="set hydra.job.config.override_dirname, or use a key of your own below vars",
    ),
    Word("hydra.job.id", why=_OF_A_POINT, mend="use a key of your own below vars"),
    Word("hydra.job.num", why=_OF_A_POINT, mend="use a key of your own below vars"),
    Word("hydra.job.config_name", why="it is the name on the command line", mend="use --config-name"),
    Word(
        "hydra.callbacks",
        "Called in our process: `on_run_start`, `on_job_start`, `on_job_end`, `on_run_end`. The job is a process of "
        "its own, so `task_function` is a stand-in, and `job_return.return_value` is the run's record. What a "
        "callback raises is told and not fatal, as in Hydra.",
        single=True,
    ),
    Word(
        "hydra.job_logging",
        "Python logging of our process from the start of the job on, for callbacks and postprocessors. Applied only "
        "where it is set or an option of `hydra/job_logging` is chosen; else logging is left alone.",
        single=True,
    ),
    Word("hydra.hydra_logging", "The same, from the end of composing on.", single=True),
    Word(
        "hydra.verbose",
        "`true` or names of loggers: their level is DEBUG, and `hydra.hydra_logging` is applied so that it is seen.",
        single=True,
    ),
    Word(
        "hydra.output_subdir",
        "`null`: no `.hydra/` in the run's directory.",
        why="a run's directory keeps the name .hydra for it",
        mend="leave it out (.hydra), or set it to null (none)",
        only=(None, ".hydra"),
    ),
    Word(
        "hydra.mode",
        "`RUN`, and `MULTIRUN` with `-m`.",
        why="a sweep is asked for by a flag",
        mend="add -m",
        only=(None, "RUN"),
    ),
    Word("hydra.env", "Free values, for `${hydra:env.KEY}`."),
    Word("hydra.sweeper.params", "Sweeps in a file, key to values, as Hydra's own sweeper has them; read with `-m`."),
    Word("hydra.sweeper", why=_NO_SWEEPER, mend=_SWEEP_VALUES),
    Word("hydra.launcher", why=_NO_LAUNCHER, mend="choose where to run with backend=…"),
    Word("hydra.help", why=_OUR_HELP, mend="leave it out"),
    Word("hydra.hydra_help", why=_OUR_HELP, mend="leave it out"),
    Word("hydra.overrides", why=_FILLED_IN, mend="give overrides on the command line"),
    Word("hydra.runtime", why=_FILLED_IN, mend="leave it out"),
    Word("hydra", why="its keys are looked at one by one", mend="write hydra.KEY=VALUE"),
)

GROUPS: tuple[Word, ...] = (
    Word("hydra/output", "An option of yours may set honoured keys; our root config sets `hydra.run.dir` after it."),
    Word("hydra/env", "An option of yours may set honoured keys."),
    Word("hydra/callbacks", "See `hydra.callbacks`.", single=True),
    Word("hydra/job_logging", "See `hydra.job_logging`.", single=True),
    Word("hydra/hydra_logging", "See `hydra.hydra_logging`.", single=True),
    Word("hydra/sweeper", "`basic`: its grammar is ours.", why=_NO_SWEEPER, mend=_SWEEP_VALUES, only=("basic",)),
    Word("hydra/launcher", why=_NO_LAUNCHER, mend="choose where to run with backend=…"),
    Word("hydra/help", why=_OUR_HELP, mend="leave it out"),
    Word("hydra/hydra_help", why=_OUR_HELP, mend="leave it out"),
)

# What Hydra itself chooses; another choice is the user's.
DEFAULT_CHOICES: Mapping[str, str | None] = {
    "hydra/output": "default",
    "hydra/launcher": "basic",
    "hydra/sweeper": "basic",
    "hydra/help": "default",
    "hydra/hydra_help": "default",
    "hydra/hydra_logging": "default",
    "hydra/job_logging": "default",
    "hydra/callbacks": None,
    "hydra/env": "default",
}

# Maps with free keys: a new key needs no `+`, as in the open maps of ours.
OPEN_MAPS = ("hydra.job.env_set", "hydra.callbacks", "hydra.job_logging", "hydra.hydra_logging", "hydra.sweeper.params")

# What is done in our own process, and only if somebody asks for it.
HOOKS = ("hydra.callbacks", "hydra.job_logging", "hydra.hydra_logging", "hydra.verbose")

_BY_NAME = {word.name: word for word in (*KEYS, *GROUPS)}


def is_hydras(name: str) -> bool:
    """Whether a key or group belongs to Hydra's part."""
    return name == "hydra" or name.startswith(("hydra.", "hydra/"))


def word_of(name: str) -> Word | None:
    """The word that speaks for a dotted key (itself or the nearest above it) or for a group."""
    above = name
    while above and above not in _BY_NAME:
        above = above.rpartition(".")[0]
    return _BY_NAME.get(above) if above != "hydra" or name == "hydra" else None


def may_be_deleted(name: str) -> bool:
    """Whether `~KEY` makes sense: entries of maps with free keys, and callbacks."""
    return name == "hydra/callbacks" or any(name.startswith(f"{key}.") for key in OPEN_MAPS)


def flag(name: str) -> Word:
    """The word of a flag by its long form."""
    return next(word for word in FLAGS if word.name.split(", ")[0] == name)


def words_table(words: Iterable[Word]) -> str:
    """Words as a table in Markdown: `docs/hydra.md` holds them."""
    rows = [("", "honoured", "what it does, or why not and what to write instead"), ("---", "---", "---")]
    for word in words:
        names = ", ".join(f"`{name}`" for name in word.name.split(", "))
        values = ", ".join(f"`{_shown(value)}`" for value in word.only)
        says = [word.what] if word.what else []
        if word.why:
            rest = "Anything else is refused: " if word.only else "Refused: "
            says.append(f"{rest}{word.why}; {word.mend}.")
        honoured = "for a single run" if word.single else "yes" if word.honoured else "no"
        rows.append((names, f"for {values}" if word.only else honoured, " ".join(says)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def refusals(
    names: Iterable[str], value_of: Callable[[str], object], where: Callable[[str], str], *, sweeping: bool = False
) -> Iterator[Finding]:
    """A finding for each thing that a user set and we refuse; one for each word, however many keys below it are set.

    `names` are dotted keys and groups, `value_of` gives what one is set to, `where` who set it.
    """
    told: set[str] = set()
    for name in names:
        word = word_of(name)
        about = (word.name if word else name).replace("/", ".")  # hydra/launcher and hydra.launcher are one matter
        value = value_of(name)
        if about in told or (word and _is_right(word, value, sweeping=sweeping)):
            continue
        told.add(about)
        if word is None:
            mend = did_you_mean(name, _BY_NAME.keys() - {"hydra"})
            yield Finding(key=name, rule="Hydra has no such key", where=where(name), mend=mend)
        elif word.single:
            mend = "leave it out, or start single runs"
            yield Finding(key=name, rule="is refused in a sweep, in this version", where=where(name), mend=mend)
        else:
            shown = _shown(value) if word.only else None
            yield Finding(key=name, value=shown, rule=f"is refused: {word.why}", where=where(name), mend=word.mend)


def _is_right(word: Word, value: object, *, sweeping: bool) -> bool:
    if sweeping and word.name == "hydra.mode":
        return True
    if sweeping and word.single:
        return "logging" not in word.name and (value is None or value is False)  # taken away again
    return word.allows(value)
