"""`ModelRun`: the seed's API over the workflow.

run = ModelRun(run_id="test", output_dir="runs", model="veros_acc")
run.generate()
run.run(backend=LocalConfig(timeout=3600))      # True or False; `run.record` holds the rest
run.postprocess(processor="noop")
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rompy_hydra import workflow
from rompy_hydra.backends.complaints import path_in, rules_by_key
from rompy_hydra.backends.config import BaseBackendConfig, LocalConfig
from rompy_hydra.backends.loading import load_one
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.errors import ConfigError, Finding, RecordError
from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.postprocess import process
from rompy_hydra.record import store
from rompy_hydra.redaction import redact
from rompy_hydra.run.command import command_key
from rompy_hydra.run.observe import observe
from rompy_hydra.run.planner import open_executor
from rompy_hydra.run.plugin import executor_of, seed_call
from rompy_hydra.steps.jobs import fill_workspace
from rompy_hydra.steps.prepare import prepare
from rompy_hydra.workspace.layout import run_directory
from rompy_hydra.workspace.run_record import RunRecord
from rompy_hydra.workspace.template import get_template


class ModelRun:
    """One simulation run from Python.

    `model` is the name of a template, a mapping as in `conf/model/*.yaml`, or an object with a `run()` method,
    which runs in a child process of its own.  Everything else is a key of a run's configuration
    (`resources=…`, `env_vars=…`, `on_existing=…`).
    """

    def __init__(
        self,
        run_id: str = "run",
        output_dir: str | Path = "runs",
        model: str | Mapping[str, Any] | object | None = None,
        backend: BaseBackendConfig | Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """Validate; nothing is written.  Raises `ConfigError` with every finding."""
        self._object = model if not isinstance(model, (str, Mapping)) and model is not None else None
        self._sources = find_sources()
        described, self._template_directory = self._describe(model)
        self._data: dict[str, Any] = {
            "run_id": run_id,
            "output_dir": str(output_dir),
            "model": described,
            "backend": backend if backend is not None else LocalConfig(),
            **settings,
        }
        self._plan = self._plan_with(self._data["backend"])
        self._workspace: Path | None = None
        self.record: RunRecord | None = None

    @classmethod
    def from_file(cls, path: str | Path) -> ModelRun:
        """A run described by a YAML or JSON file; `ConfigError` names file, line, key and rule."""
        source = Path(path)
        data = load_one(source)
        try:
            return cls(**{str(k): v for k, v in data.items()})
        except ConfigError as error:
            located = [Finding(f.key, f.rule, f.value, f.where or str(source), f.mend) for f in error.findings]
            raise ConfigError(f"{source}: {error.headline}", located) from None

    @classmethod
    def from_record(cls, run_dir: str | Path, overrides: Sequence[str] = (), **settings: str | Path) -> ModelRun:
        """An earlier run once more, from its record alone, as `rompy-hydra run --from` does it.

        `overrides` are in Hydra's grammar (`["resources.ranks=4"]`); `run_id=` and `output_dir=` say where it is to lie
        (default: the next free name beside the first one, seen from the current directory).

        Raises `RecordError` for what is no run, `ConfigError` with everything that is gone or another one now.
        """
        from contextlib import ExitStack

        from rompy_hydra.compose.from_record import plan_from_record
        from rompy_hydra.steps.reproduce import open_recorded

        if unknown := settings.keys() - {"run_id", "output_dir"}:
            raise TypeError(f"from_record() has no argument {', '.join(sorted(unknown))}; give it among the overrides")
        quoted = [f"{name}='{str(value).replace(chr(39), chr(92) + chr(39))}'" for name, value in settings.items()]
        kept = ExitStack()  # the snapshot stays for as long as the run may want to read its templates
        try:
            recorded = kept.enter_context(open_recorded(Path(run_dir)))
            run = cls.from_plan(plan_from_record(recorded, [*overrides, *quoted], find_sources(), cwd=Path.cwd()))
        except BaseException:
            kept.close()
            raise
        weakref.finalize(run, kept.close)
        return run

    @classmethod
    def from_plan(cls, plan: RunPlan) -> ModelRun:
        """The run of a plan that was composed on the command line, as a seed-style backend sees it."""
        run = cls.__new__(cls)
        run.__dict__.update(
            _object=None,
            _sources=find_sources(),
            _template_directory=plan.template_directory,
            _data={name: getattr(plan.spec, name) for name in RunSpec.model_fields},
            _plan=plan,
            _workspace=None,
            record=None,
        )
        return run

    def placed(self, run_dir: Path, workspace: Path) -> ModelRun:
        """The same run in the directory that it got, its workspace filled: `generate` then has nothing left to do."""
        spec = self._plan.spec.model_copy(update={"run_id": run_dir.name, "output_dir": run_dir.parent})
        run = copy.copy(self)
        run.__dict__.update(_plan=self._plan.model_copy(update={"spec": spec}), _workspace=workspace)
        return run

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self._plan.run_id

    @property
    def output_dir(self) -> Path:
        """The directory that holds the run's own (`output_dir / run_id`)."""
        return self._plan.output_dir

    @property
    def run_dir(self) -> Path:
        """The run's own directory."""
        return run_directory(self.output_dir, self.run_id).run_dir

    @property
    def model(self) -> Any:
        """The model object, or the model's description."""
        return self._object if self._object is not None else self._plan.spec.model

    def generate(self) -> str:
        """Render the workspace into the run's directory and return its path; the same twice changes nothing."""
        workspace = self._workspace
        if workspace is None:
            prepared = prepare(self._plan, target=self._target())
            layout = run_directory(self.output_dir, self.run_id)
            layout.run_dir.mkdir(parents=True, exist_ok=True)
            fill_workspace(layout, prepared)
            workspace = layout.run_dir
        generate = getattr(self._object, "generate", None)
        if callable(generate):
            generate(self)
        return str(workspace)

    def run(
        self, backend: BaseBackendConfig | Mapping[str, Any] | None = None, workspace_dir: str | Path | None = None
    ) -> bool:
        """Run to the end; True if it succeeded.  The cause of a False stands in `self.record`.

        Raises `ConfigError`, `MissingToolError` or `SiteError` where the request is impossible.
        """
        plan = self._plan_for(backend)
        target: Callable[[], object] | None = seed_call(plan, self)
        if target is None and getattr(plan.spec.backend, command_key(plan.spec.backend), None) is None:
            target = self._target()
        backend_config = plan.spec.backend
        stream = getattr(backend_config, "stream_output", False)
        with open_executor(executor_of(backend_config), stream_output=stream) as executor:
            self.record = workflow.run(
                plan, executor, target=target, workspace_dir=Path(workspace_dir) if workspace_dir is not None else None
            )
        return self.record.succeeded

    def postprocess(self, processor: Any = "noop", **options: Any) -> dict[str, Any]:
        """Process the outputs; the answer holds `success` and what the processor has to say.

        `processor` is a name, a configuration, a class or an object with `process(model_run, **options)`.  What goes
        wrong in there is an answer too (`success: False`, `error`); an unknown name or option raises `ConfigError`.
        """
        return process(processor, self, options)

    def status(self) -> dict[str, Any]:
        """The record as the truth stands now."""
        if not (self.run_dir / store.RECORD_NAME).exists():
            raise RecordError(f"the run {self.run_id} has not been started")
        return observe(self.run_dir)

    def _target(self) -> Callable[[], object] | None:
        method = getattr(self._object, "run", None)
        if self._object is None or not callable(method):
            return None
        return lambda: _call(method, self)

    def _describe(self, model: object) -> tuple[dict[str, Any], Path | None]:
        if self._object is not None:
            if not callable(getattr(self._object, "run", None)):
                raise ConfigError(
                    f"a model object needs a run() method; {type(self._object).__name__} has none",
                    [
                        Finding(
                            key="model", rule="no run() method", mend="give a template's name or an object with run()"
                        )
                    ],
                )
            return {"name": type(self._object).__name__.strip("_") or "model"}, None
        data: dict[str, Any] = {"template": model} if isinstance(model, str) else dict(model or {"name": "command"})  # type: ignore[call-overload]
        if data.get("template") is None:
            return {"name": "command", **data}, None
        template = get_template(str(data["template"]), self._sources.template_roots)
        merged = {**template.defaults, **data}
        merged["parameters"] = {**template.defaults["parameters"], **(data.get("parameters") or {})}
        return merged, template.directory

    def _plan_for(self, backend: BaseBackendConfig | Mapping[str, Any] | None) -> RunPlan:
        if self._plan.reproduced is None:
            return self._plan_with(backend if backend is not None else self._data["backend"])
        if backend is None:
            return self._plan  # what was recorded is not described anew
        try:
            spec = RunSpec.model_validate({**self._data, "backend": backend})
        except ValidationError as error:
            raise ConfigError("the run is described wrongly", _findings(error, {"backend": backend})) from None
        config = {**self._plan.config, "backend": redact(spec.backend.model_dump(mode="json"))}
        return self._plan.model_copy(update={"spec": spec, "config": config})

    def _plan_with(self, backend: Any) -> RunPlan:
        data = {**self._data, "backend": backend}
        findings: list[Finding] = []
        parameters: dict[str, Any] = dict(data["model"].get("parameters") or {})
        spec: RunSpec | None = None
        try:
            spec = RunSpec.model_validate(data)
        except ValidationError as error:
            findings += _findings(error, data)
        if self._template_directory is not None:
            template = get_template(self._template_directory.name, [self._template_directory.parent])
            try:
                parameters = template.parameters_model.model_validate(parameters).model_dump(mode="json")
            except ValidationError as error:
                findings += _findings(error, parameters, "model.parameters.")
        if spec is None or findings:
            raise ConfigError("the run is described wrongly", findings)
        spec = spec.model_copy(update={"output_dir": Path.cwd() / spec.output_dir})
        return RunPlan(
            spec=spec,
            base=Path.cwd(),
            parameters=parameters,
            template_directory=self._template_directory,
            config=redact(spec.model_dump(mode="json")),
            repositories=tuple(r.conf for r in self._sources.repositories),
        )


def _call(method: Callable[..., object], run: ModelRun) -> object:
    """A model's `run(model_run)` as ROMPY calls it, or a plain `run()`."""
    import inspect

    try:
        takes = [
            p
            for p in inspect.signature(method).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        return method()
    return method(run) if takes else method()


def _findings(error: ValidationError, data: Any, prefix: str = "") -> list[Finding]:
    rules = rules_by_key(error, lambda location: path_in(data, location))
    return [Finding(key=prefix + ".".join(map(str, path)), rule=rule) for path, rule in rules.items()]
