"""Points from the rows of a file: a column for each key, a row for each point, cells are data and no grammar.

A cell arrives as it is written: `20110202.00`, `1997_10`, `Yasi (2011)`, `a,b.nc` are texts wherever a text may stand.
Where the schema wants a number (or a boolean) a cell is one, in any notation: `12e5`, `NaN`.  Where it does not say, a
cell is a number or a boolean only if that would be written just so: `0.1`, `5`, `true`, but not `007` or `1.50`.
A blank cell keeps the default.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import NoneType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rompy_hydra.compose.designs import Alternative, NoOverrideError, Parse, setting
from rompy_hydra.errors import ConfigError, Finding, MissingToolError, did_you_mean
from rompy_hydra.plan.names import RunId
from rompy_hydra.plan.sweep_spec import TableSpec

_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|infinity)|nan", re.ASCII | re.IGNORECASE)
_ONLY_PYTHON_READS = re.compile(r"[\d.eE+-]*\d_\d[\d_.eE+-]*", re.ASCII)
_BOOLEANS = {"true": True, "false": False}
_PARQUET = (".parquet", ".pq")
_DELIMITERS = {".tsv": "\t", ".tab": "\t"}

Kinds = Callable[[str], Sequence[Any]]
"""What the schema takes at a key; nothing where it does not say."""

Unknown = Callable[[str, Sequence[str]], Finding | None]
"""What is wrong with a key that a column names, in the company of the others; None if nothing is."""


@dataclass(frozen=True, slots=True)
class _Column:
    number: int
    title: str
    key: str
    kinds: tuple[Any, ...]


@dataclass(eq=False)
class TableAxis:
    """The rows of one file; it is read again each time."""

    path: Path
    spec: TableSpec
    parse: Parse
    kinds: Kinds
    pinned: frozenset[str]
    columns: tuple[_Column, ...] = ()
    name_column: int | None = None
    width: int = 0
    _count: int | None = field(default=None, repr=False)

    def __iter__(self) -> Iterator[Alternative]:
        names: dict[str, str] = {}
        for where, cells in _rows(self.path):
            yield self._alternative(where, cells, names)

    def count(self) -> int:
        """How many rows there are."""
        if self._count is None:
            self._count = sum(1 for _ in _rows(self.path))
        return self._count

    def _alternative(self, where: str, cells: Sequence[Any], names: dict[str, str]) -> Alternative:
        findings: list[Finding] = []
        if len(cells) != self.width:
            rule = f"has {len(cells)} cells, and the header has {self.width}"
            findings.append(Finding(key="", rule=rule, where=where, mend="quote a cell with a comma in it"))
            cells = [*cells, *[None] * self.width][: self.width]
        overrides = []
        for column in self.columns:
            cell = cells[column.number]
            if _is_blank(cell):
                continue
            try:
                overrides.append(setting(column.key, self._value(cell, column.kinds), self.parse))
            except NoOverrideError as error:
                findings.append(
                    Finding(key=column.key, value=str(cell), rule=str(error), where=f"{where}, column '{column.title}'")
                )
        return Alternative(tuple(overrides), self._name(where, cells, names, findings), where, tuple(findings))

    def _value(self, cell: Any, kinds: Sequence[Any]) -> Any:
        return _typed_cell(cell, kinds) if _is_parquet(self.path) else cell_value(cell, kinds)

    def _name(self, where: str, cells: Sequence[Any], names: dict[str, str], findings: list[Finding]) -> str | None:
        if self.name_column is None or _is_blank(cell := cells[self.name_column]):
            return None
        name = str(cell)
        rule = None
        try:
            TypeAdapter(RunId).validate_python(name)
        except ValidationError as error:
            rule = error.errors(include_url=False)[0]["msg"].replace("a run_id", "a point's name")
        if name in names:
            rule = f"names two points; the other one is in {names[name]}"
        if rule is not None:
            findings.append(Finding(key=self.spec.name, value=repr(name), rule=rule, where=where))
            return None
        names[name] = where
        return name


def table_axis(
    spec: TableSpec,
    *,
    cwd: Path,
    parse: Parse,
    kinds: Kinds,
    unknown: Unknown,
    pinned: frozenset[str],
    today: Callable[[str], str] = str,
) -> TableAxis:
    """The rows of a file; `today` gives the name that a renamed key has now.

    Raises `ConfigError` for a file that cannot be read and for every column that is wrong.
    """
    path = cwd / Path(spec.file).expanduser()
    header = _header(path, spec)
    axis = TableAxis(path, spec, parse, kinds, pinned)
    axis.width = len(header)
    findings: list[Finding] = []
    columns: list[_Column] = []
    for number, title in enumerate(header):
        key = today(spec.columns.get(title, title))
        if title == spec.name and title not in spec.columns:
            axis.name_column = number
        elif title in spec.ignore or key in pinned:
            continue
        elif (finding := _wrong_column(path, number, key, columns, lambda key: unknown(key, header))) is not None:
            findings.append(finding)
        else:
            columns.append(_Column(number, title, key, tuple(kinds(key))))
    mentioned = [*spec.columns, *spec.ignore, *([spec.name] if spec.name != "name" else [])]
    findings += [
        Finding(key="sweep.table", value=title, rule=f"{path} has no such column", mend=did_you_mean(title, header))
        for title in mentioned
        if title not in header
    ]
    if findings:
        raise ConfigError(f"the table {path} is wrong", findings)
    axis.columns = tuple(columns)
    return axis


def _wrong_column(
    path: Path, number: int, key: str, before: Sequence[_Column], unknown: Callable[[str], Finding | None]
) -> Finding | None:
    where = f"{path}:1, column {number + 1}"
    if not key:
        return Finding(key="sweep.table", rule="a column has no title", where=where, mend="give it a key, or remove it")
    if any(column.key == key for column in before):
        return Finding(key=key, rule="two columns set it", where=where)
    finding = unknown(key)
    if finding is None:
        return None
    return Finding(key=key, rule=finding.rule, where=where, mend=finding.mend)


# -- cells -----------------------------------------------------------------------------------------------------------


def cell_value(cell: str, kinds: Sequence[Any]) -> Any:
    """What a cell of text means for a field that takes these kinds.

    Raises `NoOverrideError` for what would be read as another number than a person sees.
    """
    types = [kind for kind in kinds if isinstance(kind, type)]
    takes_text = any(issubclass(kind, (str, PurePath)) for kind in types)
    takes_numbers = any(issubclass(kind, (int, float)) and kind is not bool for kind in types)
    takes_booleans = bool in types
    if takes_text and not (takes_numbers or takes_booleans):
        return cell
    if (takes_numbers or takes_booleans) and not takes_text and len(types) == len(kinds):
        return _as_number_or_boolean(cell.strip(), types)
    return _as_written(cell)


def _as_number_or_boolean(cell: str, types: Sequence[type]) -> Any:
    if bool in types and cell.lower() in _BOOLEANS:
        return _BOOLEANS[cell.lower()]
    if NoneType in types and cell == "null":
        return None
    if _WHOLE.fullmatch(cell):
        return int(cell)
    if _NUMBER.fullmatch(cell):
        return float(cell)
    if _ONLY_PYTHON_READS.fullmatch(cell):
        raise NoOverrideError("is no number: '_' groups digits in programs only")
    return cell  # a duration, perhaps; validation says what is wrong with it


def _as_written(cell: str) -> Any:
    """A number or a boolean if it would be written with these very characters."""
    if cell in _BOOLEANS:
        return _BOOLEANS[cell]
    if _WHOLE.fullmatch(cell) and str(int(cell)) == cell:
        return int(cell)
    if (
        _NUMBER.fullmatch(cell)
        and (number := float(cell)) == number
        and not math.isinf(number)
        and repr(number) == cell
    ):
        return number
    return cell


def _typed_cell(cell: Any, kinds: Sequence[Any]) -> Any:
    """A cell that has a type already (Parquet)."""
    types = [kind for kind in kinds if isinstance(kind, type)]
    if isinstance(cell, (bool, int, float)):
        is_text = any(issubclass(k, (str, PurePath)) for k in types) and not any(
            issubclass(k, (int, float)) for k in types
        )
        return str(cell) if is_text else cell
    if isinstance(cell, (list, tuple)):
        return [_typed_cell(item, ()) for item in cell]
    if isinstance(cell, dict):
        return {key: _typed_cell(item, ()) for key, item in cell.items()}
    if cell is None or isinstance(cell, str):
        return cell
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in _PARQUET


def _is_blank(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


# -- files -----------------------------------------------------------------------------------------------------------


def _header(path: Path, spec: TableSpec) -> list[str]:
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*") if p.is_file()] if path.parent.is_dir() else []
        finding = Finding(key="sweep.table", value=spec.file, rule="no such file", mend=did_you_mean(path.name, near))
        raise ConfigError(f"the table {path} does not exist", [finding])
    if _is_parquet(path):
        return [str(name) for name in _parquet(path).schema_arrow.names]
    for cells in _csv_rows(path):
        return [title.strip() for title in cells[1]]
    raise ConfigError(
        f"the table {path} is empty", [Finding(key="sweep.table", value=spec.file, rule="holds no header")]
    )


def _rows(path: Path) -> Iterator[tuple[str, Sequence[Any]]]:
    """(where, cells) of every row below the header."""
    if _is_parquet(path):
        yield from _parquet_rows(path)
        return
    rows = _csv_rows(path)
    next(rows, None)
    for line, cells in rows:
        yield f"{path}:{line}", cells


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every line that holds anything."""
    delimiter = _DELIMITERS.get(path.suffix.lower(), ",")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
            before = 0
            for cells in reader:
                line, before = before + 1, reader.line_num  # a cell may hold line ends
                if any(cell.strip() for cell in cells):
                    yield line, cells
    except (csv.Error, UnicodeDecodeError) as error:
        finding = Finding(key="sweep.table", rule=str(error), where=f"{path}:{before + 1}")
        raise ConfigError(f"the table {path} cannot be read", [finding]) from None


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingToolError(
            f"reading {path.name} needs pyarrow, which is not installed; type: pip install 'rompy-hydra[tables]',"
            " or write the table as CSV"
        ) from None
    try:
        return parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        finding = Finding(key="sweep.table", rule=str(error).splitlines()[0], where=str(path))
        raise ConfigError(f"the table {path} cannot be read", [finding]) from None


def _parquet_rows(path: Path) -> Iterator[tuple[str, Sequence[Any]]]:
    number = 0
    for batch in _parquet(path).iter_batches(batch_size=1024):
        for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            number += 1
            yield f"{path}, row {number}", cells
