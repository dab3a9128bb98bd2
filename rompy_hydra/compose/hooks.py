"""What Hydra's users hang on a run, in our own process: callbacks and logging.

Only for a configuration that asks for one of them (`hydra_keys.HOOKS`); without it, logging is left alone and nothing
here is imported or called.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from rompy_hydra.compose import resolvers
from rompy_hydra.compose.composer import JOB_NAME, Composition
from rompy_hydra.errors import ConfigError, Finding
from rompy_hydra.record import store
from rompy_hydra.record.states import RunState
from rompy_hydra.workspace.layout import RunLayout


class Hooks:
    """The callbacks of one run, told what happens to it as Hydra would tell them; and its logging.

    `complain` is given a sentence for each callback that failed: that is told, and not fatal.  Raises `ConfigError`
    for a callback that cannot be made, or logging that cannot be configured.
    """

    def __init__(self, composition: Composition, complain: Callable[[str], None]) -> None:
        self._composition = composition
        self._complain = complain
        self._config = _whole(composition)
        self._configure_logging("hydra_logging", wanted=bool(composition.hydra.verbose))
        self._callbacks = self._make_callbacks()

    def run_starts(self) -> None:
        """Before anything is written."""
        self._tell("on_run_start", config_name=self._config_name)

    def watch(self, event: str, layout: RunLayout) -> None:
        """What the workflow tells of the run: `starting` (its directory is there, its process is not), `ended`."""
        if event == "starting":
            self._config.hydra.runtime.output_dir = str(layout.run_dir)
            resolvers.register_hydra(self._config.hydra)
            if self._callbacks:
                HydraConfig.instance().set_config(self._config)
            self._configure_logging("job_logging")
            self._tell("on_job_start", task_function=run_in_its_own_process)
        elif event == "ended":
            told = self._job_return(store.read_record(layout.run_dir))
            self._tell("on_job_end", reverse=True, job_return=told)

    def run_ended(self, record: dict[str, Any]) -> None:
        """All is done, the postprocess too."""
        told = self._job_return(record)
        self._tell("on_run_end", reverse=True, config_name=self._config_name, job_return=told)

    @property
    def _config_name(self) -> str:
        return self._composition.request.config_name

    def _make_callbacks(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, settings in self._config.hydra.callbacks.items():
            if settings is None:  # taken away again by `hydra.callbacks.NAME=null`
                continue
            try:
                made[str(name)] = instantiate(settings)
            except Exception as error:  # foreign code, and Hydra's search for it
                raise self._error(f"hydra.callbacks.{name}", "the callback cannot be made", error) from error
        return made

    def _configure_logging(self, name: str, *, wanted: bool = False) -> None:
        key = f"hydra.{name}"
        if not wanted and not self._composition.sets(key):
            return
        try:
            configure_log(self._config.hydra[name], self._config.hydra.verbose)
        except Exception as error:  # logging's own errors and those of the classes it is told to use
            raise self._error(key, "logging cannot be configured", error) from error

    def _error(self, key: str, headline: str, error: Exception) -> ConfigError:
        cause = error.__cause__ or error
        rule = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        return ConfigError(
            headline, [Finding(key=key, rule=rule, where=self._composition.provenance.origin(key).where)]
        )

    def _tell(self, method: str, *, reverse: bool = False, **what: Any) -> None:
        names = reversed(self._callbacks) if reverse else iter(self._callbacks)
        for name in names:
            try:
                getattr(self._callbacks[name], method)(config=self._config, **what)
            except Exception as error:  # noqa: BLE001  # foreign code: whatever it raises is its failure, not the run's
                self._complain(f"the callback '{name}' failed in {method}: {type(error).__name__}: {error}")

    def _job_return(self, record: dict[str, Any]) -> JobReturn:
        succeeded = record["state"] == RunState.SUCCEEDED.value
        hydra = self._config.hydra
        told = JobReturn(
            overrides=OmegaConf.to_container(hydra.overrides.task, resolve=False),  # type: ignore[arg-type]  # a list
            cfg=self._composition.config,
            hydra_cfg=OmegaConf.masked_copy(self._config, "hydra"),
            working_dir=hydra.runtime.output_dir if not OmegaConf.is_missing(hydra.runtime, "output_dir") else None,
            task_name=JOB_NAME,
            status=JobStatus.COMPLETED if succeeded else JobStatus.FAILED,
        )
        told.return_value = record if succeeded else RunFailedError(record)
        return told


class RunFailedError(Exception):
    """What `job_return.return_value` raises for a run that failed, as Hydra's raises what its job raised."""

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__(record.get("reason") or f"the run is {record.get('state')}")
        self.record = record


def run_in_its_own_process(config: DictConfig) -> None:
    """What a callback is given as `task_function`: the job itself is a process of its own, started by a backend."""
    raise NotImplementedError("the job of rompy-hydra is a process of its own; start it by `rompy-hydra run`")


def _whole(composition: Composition) -> DictConfig:
    """The configuration with Hydra's part in it, as callbacks know it; a copy, which they may change."""
    config = deepcopy(composition.config)
    with open_dict(config):
        config["hydra"] = deepcopy(composition.hydra)
    return config
