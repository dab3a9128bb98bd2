"""`visualize`: pictures of a run's results → `pictures/` with its page; in a point of a sweep `pictures.html` alone."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import MissingToolError, SiteError
from rompy_hydra.postprocess import RunLike
from rompy_hydra.postprocess.analysis.errors import NothingToProcessError
from rompy_hydra.postprocess.analysis.results import result_files
from rompy_hydra.postprocess.analyze import MOST_NOTES, chosen, failure, record_of, require
from rompy_hydra.postprocess.config import VisualizePostprocessorConfig
from rompy_hydra.postprocess.products import LISTING, PAGE_WITH_ALL, PICTURES, Pictured, products_of

if TYPE_CHECKING:
    from rompy_hydra.postprocess.analysis.fields import Field
    from rompy_hydra.postprocess.pictures.scene import Look, Scene

_LIBRARIES = ("xarray", "h5netcdf", "scipy", "cftime", "matplotlib")
_FEW_TIMES = 3
_FEW_SAMPLES = 32


class VisualizePostprocessor:
    """Draws maps, sections, time series, spectra and an animation, and a page that shows them."""

    options_class = "VisualizePostprocessorConfig"

    def process(self, model_run: RunLike, **options: Any) -> dict[str, Any]:
        """`{"success": True, "pictures": [FILE, …], "gallery": FILE}`, or `success: False` and why.

        The options are the fields of `VisualizePostprocessorConfig`.  The run's outputs are only read; the pictures of
        an earlier call are replaced when all new ones are drawn.
        """
        settings = VisualizePostprocessorConfig(**options)
        directory = Path(model_run.output_dir) / str(model_run.run_id)
        try:
            self.check_tools(options)
            return _visualize(directory, record_of(model_run, directory), settings)
        except (NothingToProcessError, MissingToolError, SiteError) as error:
            return failure(str(error))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return failure(f"{where}{error.strerror or error}; the pictures of before are as they were")

    @staticmethod
    def check_tools(options: Mapping[str, Any]) -> None:
        """`MissingToolError` before anything runs, where a package is not there; nothing is imported."""
        require(_LIBRARIES, "analysis")
        if any(str(options.get(key) or "").startswith("cmo.") for key in ("colormap", "signed_colormap")):
            require(("cmocean",), "colormaps")

    @staticmethod
    def is_still_done(answer: Mapping[str, Any]) -> bool:
        """Whether what an earlier call made is still there."""
        made = [answer.get("gallery"), *(answer.get("pictures") or ())]
        return all(Path(str(path)).is_file() for path in made)


def _visualize(directory: Path, record: Mapping[str, Any], settings: VisualizePostprocessorConfig) -> dict[str, Any]:
    from rompy_hydra.postprocess.analysis import reading, writing
    from rompy_hydra.postprocess.pictures import style
    from rompy_hydra.postprocess.pictures.scene import Look

    writing.remove_litter(directory)
    paths = result_files(directory, record, settings.files)
    separate = settings.separate_files if settings.separate_files is not None else not record.get("sweep")
    look = Look(settings.dpi, settings.colormap, settings.signed_colormap)
    notes: list[str] = []
    aside = Path(tempfile.mkdtemp(prefix=f".{PICTURES}.", suffix=".partial", dir=directory))
    try:
        with reading.opened(paths, top=directory, dry_depth_m=settings.dry_depth) as fields, style.drawing():
            for name in filter(None, (settings.colormap, settings.signed_colormap)):
                style.colormap_of(name)  # a wrong name is wrong for every picture
            scenes = _scenes(fields, settings, look, notes)
            drawn = [_draw(scene, aside, settings.output_format) for scene in scenes]
        if not drawn:
            asked = ", ".join(settings.pictures)
            raise NothingToProcessError(f"nothing could be drawn ({asked}): {'; '.join(notes) or 'no variable fits'}")
        gallery, pictures = _put(directory, drawn, record, separate=separate)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    message = f"{len(drawn)} pictures: {gallery}"
    answer: dict[str, Any] = {"success": True, "gallery": str(gallery), "pictures": pictures, "message": message}
    return {**answer, "notes": notes[:MOST_NOTES]} if notes else answer


def _draw(scene: Scene, folder: Path, form: str) -> Pictured:
    """One picture at a time: its figure is gone before the next one is drawn."""
    from rompy_hydra.postprocess.pictures import style

    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in scene.name)
    path = folder / f"{name}.{'gif' if scene.write else form}"
    if scene.write is not None:
        scene.write(path)
    elif scene.draw is not None:
        style.save(scene.draw(), path)
    return Pictured(path, scene.kind, scene.title, scene.alt)


def _put(
    directory: Path, drawn: Sequence[Pictured], record: Mapping[str, Any], *, separate: bool
) -> tuple[Path, list[str]]:
    """Bring the pictures to where they stay; those that an earlier call made and this one did not are removed."""
    from rompy_hydra.postprocess.analysis.writing import written
    from rompy_hydra.postprocess.pictures.gallery import page

    before = products_of(directory)
    title = str(record.get("run_id") or directory.name)
    about = [text for text in (_about(record),) if text]
    html = page(title, about, drawn, before.metrics, embedded=not separate)
    folder = directory / PICTURES
    if not separate:
        with written(directory / PAGE_WITH_ALL) as path:
            path.write_text(html, encoding="utf-8")
        return directory / PAGE_WITH_ALL, []
    folder.mkdir(exist_ok=True)
    placed = [picture.path.replace(folder / picture.path.name) for picture in drawn]
    with written(folder / "index.html") as path:
        path.write_text(html, encoding="utf-8")
    listing = [{"file": p.path.name, "kind": p.kind, "title": p.title, "alt": p.alt} for p in drawn]
    with written(folder / LISTING) as path:
        path.write_text(json.dumps({"pictures": listing}, indent=1) + "\n", encoding="utf-8")
    for old in before.pictures:
        if old.path not in placed:
            old.path.unlink(missing_ok=True)
    return folder / "index.html", [str(path) for path in placed]


def _about(record: Mapping[str, Any]) -> str:
    told = [f"model {record['model']}"] if record.get("model") else []
    told += [f"state {record['state']}"] if record.get("state") else []
    told += [f"ended {record['ended_at']}"] if record.get("ended_at") else []
    return ", ".join(told)


def _scenes(
    fields: Sequence[Field], settings: VisualizePostprocessorConfig, look: Look, notes: list[str]
) -> Iterator[Scene]:
    from rompy_hydra.postprocess.pictures.choice import told_apart, worth_drawing

    asked = told_apart(chosen(fields, settings.variables))
    best, flat = worth_drawing(asked, None if settings.variables else settings.most)
    if flat:
        notes.append(f"not drawn, the same everywhere or missing: {', '.join(field.name for field in flat)}")
    beds = {
        f.file: f for f in fields if f.name.rpartition(".")[2] == "elevation" and f.mesh is not None and f.time is None
    }
    drawers = {
        "maps": _maps,
        "sections": _sections,
        "timeseries": _timeseries,
        "spectra": _spectra,
        "animation": _animation,
    }
    for kind in dict.fromkeys(settings.pictures):
        yield from drawers[kind](best, beds, settings, look, notes)


def _bed_of(field: Field, beds: Mapping[str, Field]) -> Any:
    bed = beds.get(field.file)
    return bed.read() if bed is not None and field.mesh is not None else None


def _maps(
    best: Sequence[Field],
    beds: Mapping[str, Field],
    settings: VisualizePostprocessorConfig,
    look: Look,
    notes: list[str],
) -> Iterator[Scene]:
    from rompy_hydra.postprocess.pictures import maps

    for drawn in best:
        field = maps.wet_only(drawn, settings.dry_depth)
        if not maps.can_be_mapped(field):
            continue
        try:
            bed = _bed_of(field, beds)
            yield maps.scene(maps.layer_of(field, settings.time, settings.level), look, bed=bed)
            if _has_maxima(field):
                yield maps.scene(maps.greatest_of(field), look, bed=bed, suffix="_greatest")
        except NothingToProcessError as error:
            notes.append(f"map of {field.name}: {error}")


def _has_maxima(field: Field) -> bool:
    from rompy_hydra.postprocess.pictures.choice import MAXIMA

    long = field.time is not None and len(field.time) >= _FEW_TIMES
    return long and field.name.rpartition(".")[2] in MAXIMA and field.axis("depth") is None


def _sections(
    best: Sequence[Field],
    beds: Mapping[str, Field],
    settings: VisualizePostprocessorConfig,
    look: Look,
    notes: list[str],
) -> Iterator[Scene]:
    from rompy_hydra.postprocess.analysis.spectra import is_elevation
    from rompy_hydra.postprocess.pictures import sections

    for field in best:
        try:
            if sections.can_be_cut(field):
                yield sections.scene(sections.cut_of(field, settings.time, settings.section), look)
            elif field.mesh is not None and is_elevation(field) and field.time is not None and field.file in beds:
                yield sections.profile_scene(field, beds[field.file].read(), look, settings.section)
        except NothingToProcessError as error:
            notes.append(f"section of {field.name}: {error}")


def _timeseries(
    best: Sequence[Field],
    _: Mapping[str, Field],
    settings: VisualizePostprocessorConfig,
    look: Look,
    notes: list[str],
) -> Iterator[Scene]:
    import numpy as np

    from rompy_hydra.postprocess.analysis import spectra, stations
    from rompy_hydra.postprocess.analysis.summary import course_of
    from rompy_hydra.postprocess.pictures import lines

    moving = [field for field in best if field.time is not None and not spectra.is_spectral(field)]
    few = [field.name for field in moving if len(field.axes[0]) < _FEW_TIMES]
    if few:
        notes.append(f"no time series of {', '.join(few)}: fewer than {_FEW_TIMES} records")
    for field in moving:
        if field.name in few or (_is_bound(field) and not settings.variables):
            continue
        try:
            if stations.can_be_sampled(field) and (settings.points or spectra.is_elevation(field)):
                points = settings.points or stations.usual_points(field)
                found = stations.sample(field, points, settings.level, notes)
                dry = [station.name for station in found if not np.isfinite(station.values).any()]
                if dry:
                    notes.append(f"no values of {field.name} at {', '.join(dry)}: it is dry there")
                if len(dry) < len(found):
                    yield lines.stations_scene(field, [s for s in found if s.name not in dry], look)
            else:
                yield lines.course_scene(field, course_of(field), look)
        except NothingToProcessError as error:
            notes.append(f"time series of {field.name}: {error}")


def _is_bound(field: Field) -> bool:
    """The mean depth over all triangles is the volume of water: it stays as it is."""
    return field.mesh is not None and field.name.rpartition(".")[2] == "depth"


def _spectra(
    best: Sequence[Field],
    _: Mapping[str, Field],
    settings: VisualizePostprocessorConfig,
    look: Look,
    notes: list[str],
) -> Iterator[Scene]:
    from rompy_hydra.postprocess.analysis import reading, spectra, stations
    from rompy_hydra.postprocess.pictures import lines

    for field in best:
        if spectra.is_spectral(field):
            taken = {
                axis.name: len(axis) // 2 if axis.kind != "time" else settings.time % len(axis)
                for axis in field.axes
                if axis.kind not in ("frequency", "direction")
            }
            where = ", ".join(
                axis.text(taken[axis.name]) if axis.kind == "time" else f"{axis.name} {axis.text(taken[axis.name])}"
                for axis in field.axes
                if axis.name in taken
            )
            yield lines.written_spectrum_scene(field, spectra.integrated(field, taken), look, where)
    even_short = settings.pictures == ["spectra"]
    for field in best:
        if field.time is None or not stations.can_be_sampled(field) or not spectra.is_elevation(field):
            continue
        if len(field.time) < (spectra.MIN_SAMPLES if even_short else _FEW_SAMPLES):
            notes.append(f"no spectrum of {field.name}: {len(field.time)} records say little")
            continue
        found = []
        try:
            points = settings.points or stations.usual_points(field)
            for station in stations.sample(field, points, settings.level, notes):
                seconds = reading.seconds_axis(field.axes[0])
                found.append((station, spectra.welch(seconds, station.values, segment=settings.segment)))
        except NothingToProcessError as error:
            notes.append(f"spectrum of {field.name}: {error}")
        found = [(station, spectrum) for station, spectrum in found if spectrum.m0 > 0]
        if found:
            yield lines.spectra_scene(field, found, look)


def _animation(
    best: Sequence[Field],
    beds: Mapping[str, Field],
    settings: VisualizePostprocessorConfig,
    look: Look,
    notes: list[str],
) -> Iterator[Scene]:
    from rompy_hydra.postprocess.pictures import animation, maps

    moving = [field for field in best if field.time is not None and maps.can_be_mapped(field)]
    long = [field for field in moving if len(field.axes[0]) >= _FEW_TIMES]
    if not long:
        notes.append(f"no animation: no map has {_FEW_TIMES} records")
    for field in (maps.wet_only(field, settings.dry_depth) for field in (long if settings.variables else long[:1])):
        yield animation.scene(field, look, frames=settings.frames, level=settings.level, bed=_bed_of(field, beds))
