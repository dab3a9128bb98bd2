"""record → verdicts: whether the inputs, the workspace and the outputs of a run are what its record says.

    RUN             every file beside the record: by size and sha256
    RUN, OTHER      every output beside that of another run: by bytes, or by NetCDF fields with a tolerance

Nothing is written, nothing is trusted but the bytes that are read now; files are read once, a block at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from rompy_hydra.errors import RecordError, RompyHydraError
from rompy_hydra.postprocess.products import METRICS_NAME, PAGE_WITH_ALL, PICTURES
from rompy_hydra.record.fields import NotComparable, field_differences, is_netcdf
from rompy_hydra.record.outputs import list_outputs
from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import RECORD_NAME, utc
from rompy_hydra.run.observe import observe
from rompy_hydra.sweep.description import find_sweep, read_description
from rompy_hydra.sweep.packed import find_pack
from rompy_hydra.sweep.table import directory_of, plan_lines
from rompy_hydra.workspace.hashes import FileHashes
from rompy_hydra.workspace.inputs import members_of, sample_of

_BLOCK = 1 << 20
_MOST_DIFFERENCES = 5


class Same(StrEnum):
    """What can be said of one file."""

    SAME = "same"
    CHANGED = "changed"
    MISSING = "missing"
    EXTRA = "extra"
    NOT_RECORDED = "not_recorded"

    @property
    def is_good(self) -> bool:
        """Whether nothing speaks against it."""
        return self in (Same.SAME, Same.NOT_RECORDED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One file: `kind` is input, workspace, output or run; `run` is the directory that it belongs to."""

    run: str
    kind: str
    path: str
    verdict: Same
    detail: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain data."""
        return {
            "run": self.run,
            "kind": self.kind,
            "path": self.path,
            "verdict": self.verdict.value,
            "detail": self.detail,
        }


def verify(directory: Path, against: Path | None = None, tolerance: float | None = None) -> Iterator[Verdict]:
    """Of a run, or of every point of a sweep; `against` is another one, of the same kind.

    Raises `RecordError` for what is neither, or has not ended.
    """
    directory = directory.absolute()
    against = against.absolute() if against is not None else None
    if (sweep := find_sweep(directory)) is None:
        yield from _verify_run(directory, against, tolerance)
        return
    points = _points(directory)
    pack = find_pack(sweep)
    if against is not None and find_sweep(against) is None:
        raise RecordError(f"{directory} is a sweep and {against} is none: they cannot be compared")
    others = _points(against) if against is not None else {}
    for place in dict.fromkeys([*points, *others]):
        run, other = directory / place, against / place if against is not None else None
        if against is not None and place not in others:
            yield Verdict(str(run), "run", ".", Same.EXTRA, f"the other sweep has no point {place}")
        elif place not in points:
            yield Verdict(str(run), "run", ".", Same.MISSING, f"the other sweep has a point {place}")
        elif pack is not None and not run.is_dir():
            restore = f"rompy-hydra postprocess {directory} --restore"
            why = f"it is packed in {pack.archive}; bring it back: {restore}"
            yield Verdict(str(run), "run", ".", Same.MISSING, why)
        elif not (run / RECORD_NAME).is_file():
            yield Verdict(str(run), "run", ".", Same.MISSING, "it has no record: it has not ended, or never began")
        elif other is not None and not (other / RECORD_NAME).is_file():
            yield Verdict(str(run), "run", ".", Same.EXTRA, "the other one has no record")
        else:
            yield from _verify_run(run, other, tolerance)


def other_of(directory: Path) -> Path | None:
    """The run that a run was made from by `run --from`, if it is still there."""
    try:
        told = observe(directory).get("reproduces")
    except RecordError:
        return None
    other = Path(str(told["directory"])) if isinstance(told, dict) else None
    return other if other is not None and (other / RECORD_NAME).is_file() else None


def _points(sweep_dir: Path) -> dict[str, None]:
    layout = find_sweep(sweep_dir)
    assert layout is not None
    fan_out = bool(read_description(layout).get("fan_out"))
    places = (directory_of(layout, line, fan_out=fan_out) for line in plan_lines(layout) if not line.get("invalid"))
    return {str(place.relative_to(layout.sweep_dir)): None for place in places}


def _ended(directory: Path) -> dict[str, Any]:
    data = observe(directory)
    if not RunState(data["state"]).is_final:
        raise RecordError(f"the run {directory} is {data['state']}; it is verified when it has ended")
    return data


def _verify_run(directory: Path, against: Path | None, tolerance: float | None) -> Iterator[Verdict]:
    data = _ended(directory)
    if against is None:
        found = [*_inputs(data), *_workspace(directory, data)]
        yield from (Verdict(str(directory), *said) for said in found)
        yield from (Verdict(str(directory), "output", *said) for said in _outputs(directory, data))
        return
    other = _ended(against)
    yield from (Verdict(str(directory), "input", *said) for said in _inputs_of_both(data, other))
    yield from (
        Verdict(str(directory), "output", *said)
        for said in _outputs_of_both(directory, data, against, other, tolerance)
    )


Said = tuple[str, Same, str]


# -- beside the record ---------------------------------------------------------------------------------------------


def _inputs(data: Mapping[str, Any]) -> Iterator[tuple[str, str, Same, str]]:
    for entry in data.get("inputs") or []:
        path = Path(entry["path"])
        try:
            verdict, detail = _input(path, entry)
        except FileNotFoundError:
            verdict, detail = Same.MISSING, f"{path} is gone"
        except (RompyHydraError, OSError) as error:
            is_gone = not path.exists()
            verdict, detail = (Same.MISSING if is_gone else Same.CHANGED), f"{path}: {error}"
        yield "input", str(entry["as"]), verdict, detail


def _input(path: Path, entry: Mapping[str, Any]) -> tuple[Same, str]:
    files, is_directory = members_of(path)
    size = sum(status.st_size for status in files.values())
    kind, _, digest = str(entry["identity"]).partition(":")
    if size != entry["bytes"]:
        return Same.CHANGED, f"{path}: {entry['bytes']} bytes were recorded, it has {size}"
    if kind == "sha256" and not is_directory:
        return _beside(path, digest, _sha256(path))
    wanted = entry["identity"] if kind == "fast" else entry.get("sample")
    if wanted is not None:
        now = sample_of(path, files, _Hashes())
        if now != wanted:
            return Same.CHANGED, f"{path}: {wanted} was recorded, it is {now}"
        return Same.SAME, "by samples of its content" if size > 3 * _BLOCK else ""
    if kind == "sha256":
        return _beside(path, digest, _sha256_of_directory(path, files))
    return Same.NOT_RECORDED, f"{path}: its size is the recorded one; no hash of its content was recorded"


def _beside(path: Path, then: str, now: str) -> tuple[Same, str]:
    return (Same.SAME, "") if now == then else (Same.CHANGED, f"{path}: sha256 {then} was recorded, it is {now}")


class _Hashes(FileHashes):
    """Hashes without a cache: what was the same last week is looked at again."""

    def __init__(self) -> None:
        super().__init__(environ={})


def _sha256_of_directory(path: Path, files: Mapping[str, Any]) -> str:
    """As `workspace.inputs` identifies a directory."""
    told = "".join(f"{name}\0sha256:{_sha256(path / name)}\0" for name in files)
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()


def _workspace(directory: Path, data: Mapping[str, Any]) -> Iterator[tuple[str, str, Same, str]]:
    made = {entry["path"] for entry in data.get("outputs") or []}
    for entry in data.get("workspace") or []:
        name = entry["path"]
        if name in made:
            continue  # the run has changed it: it is an output
        path = directory / name
        if not path.is_file():
            yield "workspace", name, Same.MISSING, ""
        elif "sha256" not in entry:
            yield "workspace", name, Same.NOT_RECORDED, "it is copied from the template as it is"
        else:
            is_same = _sha256(path) == entry["sha256"]
            yield "workspace", name, Same.SAME if is_same else Same.CHANGED, ""


def _outputs(directory: Path, data: Mapping[str, Any]) -> Iterator[Said]:
    recorded = {entry["path"]: entry for entry in data.get("outputs") or []}
    where_to = _where_to(data)
    for name, entry in recorded.items():
        yield (name, *_output(directory / name, entry, where_to))
    is_cut = "not listed" in str(data.get("outputs_note", ""))
    after = _products(directory, data)
    for name in _made(directory, data):
        if name in recorded:
            continue
        if _is_product(name, after):
            yield name, Same.NOT_RECORDED, "the postprocessor made it, after the record"
        elif is_cut:
            yield name, Same.NOT_RECORDED, "the record lists the first outputs only"
        else:
            yield name, Same.EXTRA, "the record knows nothing of it"


def _where_to(data: Mapping[str, Any]) -> str:
    """What may have become of outputs that are not there."""
    if isinstance(data.get("pruned"), dict):
        return f"the outputs were pruned at {data['pruned'].get('at')}"
    done = ((data.get("processed") or {}).get("archive") or {}).get("answer") or {}
    if done.get("success") and done.get("archive"):
        return f"it may be in {done['archive']}; bring it back: rompy-hydra postprocess RUN --restore"
    return ""


def _output(path: Path, entry: Mapping[str, Any], where_to: str) -> tuple[Same, str]:
    try:
        if path.is_symlink() or not path.is_file():
            return Same.MISSING, where_to
        status = path.stat()
        if status.st_size != entry["bytes"]:
            return Same.CHANGED, f"{entry['bytes']} bytes were recorded, it has {status.st_size}"
        if "sha256" in entry:
            now = _sha256(path)
            is_same = now == entry["sha256"]
            return (Same.SAME, "") if is_same else (Same.CHANGED, f"sha256 {entry['sha256']} was recorded, it is {now}")
    except OSError as error:
        return Same.CHANGED, f"it cannot be read: {error.strerror}"
    is_touched = utc(status.st_mtime_ns / 1e9) != entry.get("mtime")
    what = "its size is the recorded one, its time of change is not" if is_touched else "size and time are as recorded"
    return Same.NOT_RECORDED, f"{what}; no sha256 was recorded"


def _made(directory: Path, data: Mapping[str, Any]) -> list[str]:
    """What lies there now and is neither ours, nor generated, nor an input."""
    logs = [directory / Path(path).name for path in (data.get("logs") or {}).values()]
    logs += [path for path in directory.glob("*.log") if "sweep" in data]
    given = {entry["path"] for entry in data.get("workspace") or []} - {e["path"] for e in data.get("outputs") or []}
    inputs = tuple(str(entry["as"]) for entry in data.get("inputs") or [])
    return [
        name
        for entry in list_outputs(str(directory), own=[str(path) for path in logs]).entries
        if (name := entry["path"]) not in given
        and not any(name == given_name or name.startswith(f"{given_name}/") for given_name in inputs)
    ]


def _manifest_of(name: str) -> str:
    """The archive whose manifest a file is, by its name."""
    return name.removesuffix(".manifest.jsonl")


def _products(directory: Path, data: Mapping[str, Any]) -> set[str]:
    """Files below the run that its postprocessor speaks of."""

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, tuple)):
            for inner in value:
                yield from texts(inner)
        elif isinstance(value, Mapping):
            for inner in value.values():
                yield from texts(inner)

    then = Path(str((data.get("config") or {}).get("output_dir", "")), str(data["run_id"]))
    found = {METRICS_NAME, PICTURES, PAGE_WITH_ALL}
    for text in texts([data.get("postprocess") or {}, data.get("processed") or {}]):
        path = Path(text)
        for base in (directory, then):
            if path.is_relative_to(base):
                found.add(path.relative_to(base).as_posix())
        if not path.is_absolute():
            found.add(path.as_posix())
    return found - {".", ""}


def _is_product(name: str, products: set[str]) -> bool:
    """One of them, what lies in one, or what goes with one (`a.tar.gz.manifest.jsonl`)."""
    parts = [*PurePosixPath(name).parents][:-1]
    return name in products or any(str(part) in products for part in parts) or _manifest_of(name) in products


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- beside another run --------------------------------------------------------------------------------------------


def _inputs_of_both(data: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Said]:
    ours, theirs = ({str(e["as"]): e for e in d.get("inputs") or []} for d in (data, other))
    for name in dict.fromkeys([*ours, *theirs]):
        if name not in theirs:
            yield name, Same.EXTRA, "the other run has no such input"
        elif name not in ours:
            yield name, Same.MISSING, "the other run has it"
        else:
            a, b = ours[name], theirs[name]
            kinds = [key for key in ("sample", "identity") if a.get(key) and b.get(key)]
            is_same = any(a[key] == b[key] for key in kinds)
            told = next((f"{a[key]} here, {b[key]} there" for key in kinds), "")
            yield name, Same.SAME if is_same else Same.CHANGED, "" if is_same else told


def _outputs_of_both(
    directory: Path, data: Mapping[str, Any], against: Path, other: Mapping[str, Any], tolerance: float | None
) -> Iterator[Said]:
    ours, theirs = set(_made(directory, data)), set(_made(against, other))
    for made, run, record in ((ours, directory, data), (theirs, against, other)):
        after, recorded = _products(run, record), {entry["path"] for entry in record.get("outputs") or []}
        made -= {name for name in made if name not in recorded and _is_product(name, after)}
    homes = _home(directory, data), _home(against, other)
    for name in sorted(ours | theirs):
        if name not in theirs:
            yield name, Same.EXTRA, "the other run has no such file"
        elif name not in ours:
            yield name, Same.MISSING, "the other run has it"
        else:
            yield (name, *_file_of_both(name, (directory, against), homes, tolerance))


def _home(directory: Path, data: Mapping[str, Any]) -> str:
    """Where it lay when it ran."""
    logs = [Path(path).parent for path in (data.get("logs") or {}).values()]
    for place in logs:
        return str(place.parent if place.name == "logs" else place)
    return str(directory)


def _file_of_both(
    name: str, runs: tuple[Path, Path], homes: tuple[str, str], tolerance: float | None
) -> tuple[Same, str]:
    one, other = (run / name for run in runs)
    try:
        sizes = one.stat().st_size, other.stat().st_size
        if sizes[0] == sizes[1] and _same_bytes(one, other):
            return Same.SAME, ""
        if tolerance is not None and is_netcdf(one) and is_netcdf(other):
            found = list(_first(field_differences(one, other, tolerance, homes)))
            if found:
                return Same.CHANGED, "; ".join(found)
            return Same.SAME, "its fields" if tolerance == 0 else f"its fields, within {tolerance:g}"
    except (OSError, NotComparable) as error:
        return Same.CHANGED, str(error)
    return Same.CHANGED, f"{sizes[0]} bytes here, {sizes[1]} there" if sizes[0] != sizes[1] else "other bytes"


def _first(sentences: Iterator[str]) -> Iterator[str]:
    for number, sentence in enumerate(sentences):
        if number == _MOST_DIFFERENCES:
            yield "…"
            return
        yield sentence


def _same_bytes(one: Path, other: Path) -> bool:
    with one.open("rb") as a, other.open("rb") as b:
        while True:
            x, y = a.read(_BLOCK), b.read(_BLOCK)
            if x != y:
                return False
            if not x:
                return True
