"""The Slurm backend, asked before anything is written: does the request hold, what is asked of the scheduler.

    SlurmConfig + site + settled resources  →  SlurmSettings (directives, set-up of the node)  →  one job script

Nothing is asked of the cluster here: a dry run works without one.  What is installed on the nodes only they know,
unless their disks are ours (`check_paths: submit_host` and no modules): then programs are looked up here.
"""

from __future__ import annotations

import math
import os
import sysconfig
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

from rompy_hydra.backends.config import SlurmConfig
from rompy_hydra.errors import ConfigError, Finding, MissingToolError, did_you_mean
from rompy_hydra.plan.resources import Resources, SettledResources, thread_variables
from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.plan.spec import PartitionSpec, RunSpec
from rompy_hydra.redaction import looks_like_credential
from rompy_hydra.run.command import command_words, launcher_words, own_words
from rompy_hydra.run.placement import says_cpus
from rompy_hydra.run.program import Machinery, Program, find_run_program
from rompy_hydra.run.secret_values import secret_places
from rompy_hydra.run.slurm_script import Retry, SlurmSettings, secret_names
from rompy_hydra.units.durations import format_duration, parse_slurm_time
from rompy_hydra.units.sizes import format_memory, parse_memory

# What we set ourselves, in the words of sbatch; an option that says it again would contradict the record.
_OURS: Mapping[str, str] = {
    "--job-name": "job_name",
    "-J": "job_name",
    "--output": "output_file",
    "-o": "output_file",
    "--error": "error_file",
    "-e": "error_file",
    "--partition": "partition",
    "-p": "partition",
    "--account": "account",
    "-A": "account",
    "--qos": "qos",
    "-q": "qos",
    "--reservation": "reservation",
    "--constraint": "constraint",
    "-C": "constraint",
    "--nodes": "nodes",
    "-N": "nodes",
    "--ntasks": "ntasks",
    "-n": "ntasks",
    "--ntasks-per-node": "ntasks_per_node",
    "--cpus-per-task": "cpus_per_task",
    "-c": "cpus_per_task",
    "--mem": "memory",
    "--mem-per-cpu": "memory",
    "--gres": "gres",
    "--gpus": "gpus",
    "-G": "gpus",
    "--time": "time_limit",
    "-t": "time_limit",
    "--mail-type": "mail_type",
    "--mail-user": "mail_user",
    "--signal": "signal",
    "--exclusive": "exclusive",
    "--export": "export",
    "--chdir": "working_dir",
    "-D": "working_dir",
    "--array": "",
    "-a": "",
    "--comment": "",
    "--open-mode": "",
    "--wrap": "",
    "--parsable": "",
    "--wait": "",
    "-W": "",
    "--test-only": "",
    "--export-file": "",
    "--input": "",
    "-i": "",
}


class SlurmPlanner:
    """A batch job of Slurm."""

    def __init__(self, *, tell: Callable[[str], None] | None = None) -> None:
        del tell

    def key(self, spec: RunSpec) -> Hashable:
        """All of the backend's configuration and of the site's."""
        return spec.backend.model_dump_json(), spec.site.model_dump_json()

    def place(self, spec: RunSpec, settled: SettledResources) -> SettledResources:
        """What Slurm is asked for: the backend's own numbers where they say more, held against the site's partitions.

        Raises:
            ConfigError: where backend and resources contradict each other, or the partition cannot give it.
        """
        config = _config(spec)
        findings: list[Finding] = []
        ranks, threads = settled.ranks, settled.threads
        is_parallel = settled.parallel in ("mpi", "hybrid")
        if is_parallel and spec.resources.ranks is None and spec.resources.cpus is None and config.ntasks:
            ranks = config.ntasks
        if settled.parallel in ("openmp", "hybrid") and spec.resources.threads is None and config.cpus_per_task:
            threads = config.cpus_per_task
        if is_parallel and config.ntasks is not None and config.ntasks != ranks:
            findings.append(_contradiction("ntasks", config.ntasks, "ranks", ranks))
        if settled.nodes is not None and config.nodes is not None and spec.resources.nodes not in (None, config.nodes):
            findings.append(_contradiction("nodes", config.nodes, "nodes", settled.nodes))
        nodes = settled.nodes if spec.resources.nodes is not None or config.nodes is None else config.nodes
        if not findings and nodes is None and ranks == 1:
            nodes = 1
        limits = {
            "resources.time_limit": settled.time_limit,
            "backend.time_limit": _seconds(config.time_limit),
            "backend.timeout": config.timeout,
        }
        said = {key: seconds for key, seconds in limits.items() if seconds is not None}
        notes = list(settled.notes)
        if len(set(said.values())) > 1:
            least = min(said, key=lambda key: said[key])
            others = ", ".join(f"{key}={format_duration(seconds)}" for key, seconds in said.items() if key != least)
            notes.append(f"the smaller time limit counts: {least}={format_duration(said[least])} (not {others})")
        memory = parse_memory(config.memory) if config.memory is not None else settled.memory
        placed = settled.model_copy(
            update={
                "ranks": ranks,
                "threads": threads,
                "cpus": max(settled.cpus, ranks * threads),
                "nodes": nodes,
                "memory": memory,
                "time_limit": min(
                    (s for key, s in said.items() if key != "backend.timeout"), default=settled.time_limit
                ),
                "notes": tuple(notes),
            }
        )
        findings += _against_partition(spec, placed)
        findings += _against_options(config)
        if findings:
            raise ConfigError("the batch job cannot be asked for like this", findings)
        return placed

    def environment(self, spec: RunSpec, resources: SettledResources, _env_files: Sequence[Path]) -> dict[str, str]:
        """The named variables: threads, the site's directories, `backend.export`, then run, model, backend; later wins.

        `${secret:NAME}` stays as it is; that the node will find it is checked in `settings`.
        """
        config = _config(spec)
        env = thread_variables(resources.threads) if says_cpus(spec.resources, resources) else {}
        if launcher_words(spec, resources) and os.geteuid() == 0:
            env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        places = {"ROMPY_HYDRA_SCRATCH": spec.site.scratch, "ROMPY_HYDRA_PROJECT": spec.site.project}
        env |= {name: path for name, path in places.items() if path is not None}
        return env | _exported(config) | spec.env_vars | spec.model.env_vars | config.env_vars

    def program(
        self, spec: RunSpec, resources: SettledResources, environment: Mapping[str, str], machinery: Machinery
    ) -> Program:
        """The words as the node gets them; looked up here where the node's disks are ours."""
        check = spec.model.success.check
        words = Program(
            (*launcher_words(spec, resources), *own_words(spec)), command_words(check) if check is not None else ()
        )
        path = os.pathsep.join(filter(None, [environment.get("PATH") or os.environ.get("PATH"), *_own_path(spec)]))
        if _config(spec).check_paths != "submit_host" or spec.site.modules or spec.site.setup:
            return words
        launcher = launcher_words(spec, resources)
        try:
            return find_run_program(spec, resources, {"PATH": path}, machinery)
        except MissingToolError as error:
            if launcher and launcher[0] in str(error).partition("\n")[0]:
                return words  # a launcher may be on the nodes only
            raise MissingToolError(
                f"{error}\n    if the nodes have it and this machine does not: backend.check_paths=run_host"
            ) from error

    def settings(
        self, plan: RunPlan, resources: SettledResources, env_files: Sequence[Path], *, make: bool = True
    ) -> SlurmSettings:
        """Everything that sbatch is told, and how the node is made ready."""
        del make
        spec, config, site = plan.spec, _config(plan.spec), plan.spec.site
        given = {**_exported(config), **spec.env_vars, **spec.model.env_vars, **config.env_vars}
        name, _, before = (config.signal or "").partition("@")
        cpus = max(config.cpus_per_task or 1, math.ceil(resources.cpus / resources.ranks))
        ntasks = config.ntasks if config.ntasks is not None and resources.ranks == 1 else resources.ranks
        return SlurmSettings(
            partition=config.queue or config.partition,
            account=config.account,
            qos=config.qos,
            reservation=config.reservation,
            constraint=config.constraint,
            nodes=resources.nodes,
            ntasks=ntasks,
            ntasks_per_node=config.ntasks_per_node if resources.ranks > 1 else None,
            cpus_per_task=cpus,
            memory_bytes=resources.memory,
            gres=config.gres,
            gpus=config.gpus if config.gpus is not None else resources.gpus or None,
            exclusive=config.exclusive,
            time_limit_s=resources.time_limit,
            signal=name or None,
            signal_before_s=int(before or 60),
            mail_type=config.mail_type,
            mail_user=config.mail_user if config.mail_type is not None else None,
            options=tuple(config.additional_options),
            job_name=config.job_name,
            output_file=config.output_file,
            error_file=config.error_file,
            shell=site.shell,
            purge=site.purge,
            modules=tuple(site.modules),
            module_init=site.module_init,
            setup=tuple(site.setup),
            base=str(plan.base),
            path=_own_path(spec),
            secrets=tuple((name, secret_places(name, env_files, given)) for name in secret_names(given)),
            site=site.name,
            charge_rate=site.charge_rate,
            retry=_retry(spec),
            checks_paths=config.check_paths == "submit_host",
        )

    def choose_cpus(self, _asked: Resources, _settled: SettledResources) -> None:
        """Slurm binds, not we."""


def _config(spec: RunSpec) -> SlurmConfig:
    assert isinstance(spec.backend, SlurmConfig)
    return spec.backend


def _seconds(time_limit: str | None) -> float | None:
    return None if time_limit is None else float(parse_slurm_time(time_limit))


def _own_path(spec: RunSpec) -> tuple[str, ...]:
    """Where the programs of our own environment are: behind the node's PATH, as on this machine."""
    scripts = sysconfig.get_path("scripts")
    return (scripts,) if _config(spec).check_paths == "submit_host" and scripts else ()


def _retry(spec: RunSpec) -> Retry | None:
    """What the node tries again by itself; where more is to be asked for each time, only a new job can."""
    rules = spec.retry
    if rules.attempts == 1 or rules.scale:
        return None
    return Retry(
        attempts=rules.attempts,
        states=tuple(rules.on_states),
        exit_codes=tuple(rules.on_exit_codes),
        wait_s=rules.wait,
        max_wait_s=rules.max_wait,
    )


def _exported(config: SlurmConfig) -> dict[str, str]:
    findings = []
    for name in config.export:
        if name not in os.environ:
            findings.append(
                Finding("backend.export", f"the variable {name} is not set here", mend=f"set {name}, or leave it out")
            )
        elif looks_like_credential(name):
            findings.append(
                Finding(
                    "backend.export",
                    f"{name} looks like a credential, and would be written into the job script",
                    mend=f"env_vars.{name}='${{secret:{name}}}' is found on the node",
                )
            )
    if findings:
        raise ConfigError("variables cannot be handed on to the job", findings)
    return {name: os.environ[name] for name in config.export}


def _contradiction(key: str, value: int, resource: str, settled: int) -> Finding:
    return Finding(
        key=f"backend.{key}",
        value=str(value),
        rule=f"but resources.{resource} comes to {settled}",
        mend=f"leave backend.{key} to the resources (null), or set resources.{resource}={value}",
    )


def _against_options(config: SlurmConfig) -> list[Finding]:
    """Options of sbatch that say again what has a field of its own, or that would break what we do."""
    findings = []
    for number, option in enumerate(config.additional_options):
        name = option.partition("=")[0].split()[0]
        short = name[:2] if not name.startswith("--") else name
        known = name if name in _OURS else short if short in _OURS and len(short) == 2 else None
        if known is None or option.startswith("--exclusive="):  # `=user` is more than our yes or no
            continue
        field = _OURS[known]
        mend = f"set backend.{field}" if field else "leave it out"
        rule = f"{known} is set by us" + ("" if field else " and must be as it is")
        findings.append(Finding(f"backend.additional_options[{number}]", rule, value=option, mend=mend))
    return findings


def _against_partition(spec: RunSpec, placed: SettledResources) -> list[Finding]:
    """What the site's partition cannot give, as far as the site says what it has."""
    site, config = spec.site, _config(spec)
    name = config.queue or config.partition
    if not site.partitions or name is None:
        return []
    if name not in site.partitions:
        key = "backend.queue" if config.queue else "backend.partition"
        rule = f"the site {site.name} has no such partition"
        return [Finding(key, rule, value=name, mend=did_you_mean(name, site.partitions))]
    has = site.partitions[name]
    return [*_too_long(name, has, placed), *_too_large(name, has, placed)]


def _too_long(name: str, has: PartitionSpec, placed: SettledResources) -> list[Finding]:
    asked = placed.time_limit
    if has.time_limit is None or asked is None or asked <= has.time_limit:
        return []
    rule = f"jobs in partition {name} may take {format_duration(has.time_limit)}"
    return [
        Finding("resources.time_limit", rule, value=format_duration(asked), mend="ask for less, or another partition")
    ]


def _too_large(name: str, has: PartitionSpec, placed: SettledResources) -> list[Finding]:
    findings = []
    nodes = placed.nodes or 1
    if has.nodes is not None and nodes > has.nodes:
        findings.append(Finding("resources.nodes", f"partition {name} has {has.nodes}", value=str(nodes)))
    on_one = math.ceil(placed.cpus / nodes) if placed.nodes is not None else placed.cpus // placed.ranks
    if has.cpus is not None and on_one > has.cpus:
        rule = f"a node of partition {name} has {has.cpus} CPUs, and {on_one} would be asked of one"
        findings.append(
            Finding("resources.cpus", rule, value=str(placed.cpus), mend="ask for more nodes, or fewer CPUs")
        )
    if has.memory is not None and placed.memory is not None and placed.nodes is not None:
        on_one_bytes = placed.memory / nodes
        if on_one_bytes > has.memory:
            rule = f"a node of partition {name} has {format_memory(has.memory)}"
            findings.append(Finding("resources.memory", rule, value=format_memory(placed.memory)))
    return findings
