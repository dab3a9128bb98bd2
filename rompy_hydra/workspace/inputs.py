"""The inputs of a run: which files its configuration means, what is wrong with them, and what identifies each.

    model.inputs  →  find_inputs  →  identify  →  placing.place_inputs  →  run directory

Finding comes before anything starts and lists all that is missing; identities go into `science_id` and the record.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rompy_hydra.errors import ConfigError, Finding, SiteError, did_you_mean
from rompy_hydra.plan.inputs import TEMPLATE_PREFIX, InputSpec, Mode
from rompy_hydra.record.store import RECORD_NAME, SCHEMA
from rompy_hydra.workspace.disk import clashing
from rompy_hydra.workspace.hashes import FileHashes
from rompy_hydra.workspace.layout import RunLayout

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_SAMPLED = 16  # files of a directory, of which up to three megabytes each are read


@dataclass(frozen=True, slots=True)
class FoundInput:
    """One file or directory that was found: `path` is absolute with every link followed, `name` is in the workspace.

    `is_listed`: it is one match of a pattern or one of a list, and not what the source names by itself.  `place` is
    where it lies for its identity: a file of a template lies in the template, wherever that is copied to.
    """

    input: str
    path: Path
    name: Path
    spec: InputSpec
    is_listed: bool
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One input with its identity, as the plan counts on it; a directory counts as the sum of its files.

    `sample` tells more of a content that is identified by place and time only: it is found again where it was moved to.
    """

    input: str
    path: Path
    name: Path
    mode: Mode
    bytes: int
    mtime_ns: int
    identity: str
    is_directory: bool = False
    sample: str | None = None

    def entry(self) -> dict[str, Any]:
        """What the record keeps of it."""
        moment = _EPOCH + timedelta(microseconds=self.mtime_ns // 1000)
        return {
            "name": self.input,
            "as": self.name.as_posix(),
            "path": str(self.path),
            "bytes": self.bytes,
            "mtime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "identity": self.identity,
            "mode": self.mode,
            **({"sample": self.sample} if self.sample is not None else {}),
        }


# ---- finding ---------------------------------------------------------------------------------------------------------


def find_inputs(
    specs: Mapping[str, InputSpec], *, base: Path, template_dir: Path | None = None
) -> tuple[list[FoundInput], list[Finding]]:
    """Every file that the inputs mean, and everything that is wrong with them.

    Relative sources start at `base`, those after `template:` in `template_dir`.  A finding is a required input that is
    missing or cannot be read, what is neither file nor directory, two inputs of one name in the workspace, and a link
    that would lead into another run.
    """
    found: list[FoundInput] = []
    findings: list[Finding] = []
    for key, spec in specs.items():
        for text in spec.sources:
            paths: list[Path] = []
            with _noted(findings):
                paths, is_pattern = _expand(key, spec, text, base, template_dir)
            for path in paths:
                with _noted(findings):
                    is_listed = is_pattern or not isinstance(spec.source, str)
                    place = _place(text, path, template_dir)
                    found += _checked(key, spec, text, path, is_listed=is_listed, place=place)
    for name in clashing(item.name for item in found):
        owners = sorted({item.input for item in found if item.name == name or name in item.name.parents})
        findings.append(
            Finding(
                key=f"model.inputs.{owners[0]}.as",
                value=str(name),
                rule=f"is the name of more than one thing in the workspace (inputs: {', '.join(owners)})",
                mend="set 'as' to another name, or to a directory of its own",
            )
        )
    return found, findings


def missing_inputs(specs: Mapping[str, InputSpec], *, base: Path, template_dir: Path | None = None) -> list[Finding]:
    """What is wrong with the inputs, as `find_inputs` finds it."""
    return find_inputs(specs, base=base, template_dir=template_dir)[1]


def clashes_with_files(found: Iterable[FoundInput | InputFile], files: Iterable[Path]) -> list[Finding]:
    """Inputs that would lie where the template puts a file."""
    found, files = list(found), list(files)
    inputs = {item.name: item.input for item in found}
    return [
        Finding(
            key=f"model.inputs.{inputs[name]}.as" if name in inputs else "model.template",
            value=str(name),
            rule="is a name of an input and of a file that the template makes",
            mend="set 'as' to another name",
        )
        for name in clashing([*inputs, *set(files)])
    ]


def template_names(specs: Mapping[str, InputSpec], found: Iterable[FoundInput]) -> dict[str, str | list[str] | None]:
    """What templates know as `inputs`: the name in the workspace, a list of them, None if it is not there."""
    names: dict[str, str | list[str] | None] = {}
    found = list(found)
    for key, spec in specs.items():
        own = [item for item in found if item.input == key]
        if (own and own[0].is_listed) or (
            not own and (not isinstance(spec.source, str) or glob.has_magic(spec.source))
        ):
            names[key] = [item.name.as_posix() for item in own]
        else:
            names[key] = own[0].name.as_posix() if own else None
    return names


@contextmanager
def _noted(findings: list[Finding]) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        findings += error.findings


def _wrong(key: str, text: str, rule: str, mend: str | None = None) -> ConfigError:
    return ConfigError("an input is missing", [Finding(f"model.inputs.{key}.source", rule, text, mend=mend)])


def _expand(key: str, spec: InputSpec, text: str, base: Path, template_dir: Path | None) -> tuple[list[Path], bool]:
    """The paths that one source means, and whether it is a pattern; a name that looks like one may be a name."""
    root, name = base.absolute(), text
    if text.startswith(TEMPLATE_PREFIX):
        if template_dir is None:
            raise _wrong(
                key, text, "lies in the template, but the model has none", "give a path, or set model.template"
            )
        root, name = template_dir.absolute(), text.removeprefix(TEMPLATE_PREFIX)
    elif text.startswith("~"):
        name = os.path.expanduser(text)  # noqa: PTH111  # leaves '~nobody' as it is where pathlib raises
    path = root / name
    try:
        path.lstat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise _wrong(key, text, f"{path} cannot be reached: {error.strerror}") from None
    else:
        return [path], False
    if not glob.has_magic(name):
        if spec.required:
            raise _wrong(key, text, "does not exist", _near(path))
        return [], False
    matches = [root / match for match in sorted(glob.glob(name, root_dir=root, recursive=True))]  # noqa: PTH207  # hidden files stay out
    if "**" in name:
        matches = [match for match in matches if not match.is_dir()]
    if not matches and spec.required:
        raise _wrong(key, text, "matches no file", _near(path))
    return matches, True


def _place(text: str, path: Path, template_dir: Path | None) -> str:
    if not text.startswith(TEMPLATE_PREFIX) or template_dir is None:
        return ""
    return f"{TEMPLATE_PREFIX}{os.path.relpath(path, template_dir.absolute())}"


def _checked(key: str, spec: InputSpec, text: str, path: Path, *, is_listed: bool, place: str) -> list[FoundInput]:
    """The file with its real path, or why it cannot be an input; nothing for an optional one that is not there."""
    try:
        real = Path(os.path.realpath(path, strict=True))
        mode = real.stat().st_mode
    except FileNotFoundError:
        if not spec.required:
            return []
        where_to = f" to nothing ({path.readlink()})" if path.is_symlink() else " that is gone"
        raise _wrong(key, text, f"{path} is a link{where_to}") from None
    except OSError as error:
        raise _wrong(key, text, f"{path} cannot be reached: {error.strerror}") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise _wrong(key, text, f"{path} is neither a file nor a directory")
    if not os.access(real, os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0), effective_ids=True):
        raise _wrong(key, text, f"{path} cannot be read: permission denied")
    if spec.mode in ("link", "hardlink") and (run := _run_that_holds(real)) is not None:
        raise _wrong(
            key,
            text,
            f"{path} belongs to the run {run}, and a link would let one run change or lose what another one uses",
            f"set model.inputs.{key}.mode=copy, or keep the file in a place of its own",
        )
    own = real.name if path.name in ("", "..") else path.name
    name = _name_in_workspace(key, spec, own, is_listed=is_listed)
    return [FoundInput(key, real, name, spec, is_listed, place or str(real))]


def _name_in_workspace(key: str, spec: InputSpec, own: str, *, is_listed: bool) -> Path:
    if spec.as_name is None:
        name = own
    elif is_listed or spec.as_name.endswith("/"):
        name = f"{spec.as_name.rstrip('/')}/{own}"
    else:
        name = spec.as_name
    try:
        RunLayout(Path("/")).file(name)  # for its refusals only
    except ConfigError as error:
        raise ConfigError(
            error.headline,
            [Finding(f"model.inputs.{key}.as", f.rule, name, mend="set 'as' to another name") for f in error.findings],
        ) from None
    return Path(name)


def _run_that_holds(path: Path) -> Path | None:
    """The run directory that `path` lies in, if it does: a parent with a record of ours."""
    for parent in path.parents:
        try:
            with (parent / RECORD_NAME).open("rb") as record:
                if SCHEMA.encode() in record.read(4096):
                    return parent
        except OSError:
            continue
    return None


def _near(path: Path) -> str | None:
    """The nearest name that exists: beside the file, or beside the first directory that does not."""
    while not path.parent.is_dir() and path.parent != path:
        path = path.parent
    try:
        names = os.listdir(path.parent)  # noqa: PTH208  # names, not paths
    except OSError:
        return None
    hint = did_you_mean(path.name, names, limit=5)
    return f"in {path.parent}: {hint}" if hint else f"{path.parent} is empty"


# ---- identity --------------------------------------------------------------------------------------------------------


def identify(
    found: Iterable[FoundInput], hashes: FileHashes, recorded: Mapping[str, tuple[str, str]] = MappingProxyType({})
) -> list[InputFile]:
    """The inputs with their identities; `hashes` lives as long as a sweep, so that a shared file is hashed once.

    * `stat`: the real path, the size and the time of change. A moved or newly fetched file is another one: to take two
      files for one would skip a run that is needed, to take one for two only repeats a run. (For a file of a template
      its path in there: the template may have been copied.)
    * `fast`, `sha256`, pinned: the content alone, wherever it lies.

    `recorded` are the inputs of a run that is to be reproduced, name in the workspace → (identity, sample): what has
    the same sample is the same file, wherever it lies and whenever it was fetched.

    Raises `ConfigError` for every pinned value that is not met, `SiteError` for what cannot be read.
    """
    files: list[InputFile] = []
    findings: list[Finding] = []
    for item in found:
        file = _identify(item, hashes)
        before = recorded.get(file.name.as_posix())
        if before is not None and file.sample is not None and before[1] == file.sample:
            file = replace(file, identity=before[0])
        files.append(file)
        if item.spec.pinned not in (None, file.identity):
            findings.append(
                Finding(
                    key=f"model.inputs.{item.input}.identity",
                    value=item.spec.pinned,
                    rule=f"{item.path} is another file: its content is {file.identity}",
                    mend="fetch the right file, or pin the identity of this one",
                )
            )
    if findings:
        raise ConfigError("an input is not the one that is pinned", findings)
    return files


def science_part(files: Iterable[InputFile]) -> list[list[str]]:
    """What `science_id` takes in: the name in the workspace and the identity of each input, sorted."""
    return sorted([file.name.as_posix(), file.identity] for file in files)


def _identify(item: FoundInput, hashes: FileHashes) -> InputFile:
    kind = "sha256" if item.spec.pinned else item.spec.identity
    files, is_directory = members_of(item.path)
    sample = None
    if kind == "stat":
        sample = sample_of(item.path, files, hashes) if len(files) <= _MOST_SAMPLED else None
        seen = {name: f"{status.st_size} {status.st_mtime_ns}" for name, status in files.items()}
        identity = f"stat:{_digest({'': item.place or str(item.path), **seen})}"
    else:
        hashed = hashes.sha256 if kind == "sha256" else hashes.fast
        seen = {name: hashed(item.path / name) for name in files}
        identity = f"{kind}:{_digest(seen)}" if is_directory else seen["."]
    return InputFile(
        input=item.input,
        path=item.path,
        name=item.name,
        mode=item.spec.mode,
        bytes=sum(status.st_size for status in files.values()),
        mtime_ns=max((status.st_mtime_ns for status in files.values()), default=0),
        identity=identity,
        is_directory=is_directory,
        sample=sample,
    )


def sample_of(path: Path, files: Iterable[str], hashes: FileHashes) -> str:
    """A hash of the first, the middle and the last megabyte of each of the files that an input consists of."""
    seen = {name: hashes.fast(path / name) for name in files}
    return seen["."] if list(seen) == ["."] else f"fast:{_digest(seen)}"


def _digest(parts: Mapping[str, str]) -> str:
    text = "".join(f"{name}\0{said}\0" for name, said in parts.items())
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def members_of(path: Path) -> tuple[dict[str, os.stat_result], bool]:
    """The files that an input consists of, and whether it is a directory: relative name → status; a file is `.`.

    Raises `SiteError` for what cannot be read, `ConfigError` for a link to a directory or a special file inside.
    """
    try:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            return {".": status}, False
        return dict(sorted(_below(path))), True
    except OSError as error:
        raise SiteError(f"cannot read the input {error.filename or path}: {error.strerror}") from error


def _below(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    def refuse(error: OSError) -> None:
        raise error

    for parent, directories, names in os.walk(directory, onerror=refuse):
        for name in [*names, *(name for name in directories if Path(parent, name).is_symlink())]:
            path = Path(parent, name)
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                rule = "is a link to a directory or a special file, inside an input directory"
                finding = Finding("model.inputs", rule, str(path), mend="give what it leads to as an input of its own")
                raise ConfigError(f"the input {directory} holds what is no file", [finding])
            yield path.relative_to(directory).as_posix(), status
