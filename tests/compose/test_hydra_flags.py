"""Hydra's flags, keys and groups, as `compose/hydra_keys.py` lists them: each is proved to be honoured or refused.

`@proves("hydra.run.dir")` marks the test of what a word does; a word that claims to be honoured and has none fails.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from hydra._internal.utils import get_args_parser
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore

from rompy_hydra.cli import main
from rompy_hydra.compose.bridge import to_plan
from rompy_hydra.compose.composer import Composition, compose
from rompy_hydra.compose.hydra_keys import DEFAULT_CHOICES, FLAGS, GROUPS, KEYS, Word, word_of, words_table
from rompy_hydra.compose.invocation import command_request, compose_command
from rompy_hydra.compose.show import shown_config
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.compose.tree import ends
from rompy_hydra.errors import ConfigError, Finding
from rompy_hydra.plan.run_plan import RunPlan

DOCUMENT = Path(__file__).parents[2] / "docs" / "hydra.md"
PROVED: set[str] = set()
_Test = TypeVar("_Test", bound=Callable[..., Any])
CALLBACKS = """\
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback

class Tell(Callback):
    def __init__(self, path, fails_in=""):
        self.path, self.fails_in = path, fails_in

    def tell(self, method, config, job_return=None):
        if method == self.fails_in:
            raise RuntimeError("of its own")
        with open(self.path, "a") as file:
            print(method, config.run_id, job_return.status.name if job_return else "-", file=file)

    def on_run_start(self, config, **more):
        self.tell("on_run_start", config)

    def on_job_start(self, config, *, task_function, **more):
        assert HydraConfig.get().runtime.output_dir.endswith("/out/r")
        self.tell("on_job_start", config)

    def on_job_end(self, config, job_return, **more):
        self.tell("on_job_end", config, job_return)

    def on_run_end(self, config, config_name, job_return, **more):
        self.tell("on_run_end", config, job_return)
"""

LOGGED_TELL = """\
    def tell(self, method, config, job_return=None):
        import logging
        logging.getLogger("mine").debug(method)
        self.note(method, config, job_return)

    def note("""


def proves(*names: str) -> Callable[[_Test], _Test]:
    PROVED.update(names)
    return lambda function: function


def composed(*overrides: str, conf: Path | None = None, environ: dict[str, str] | None = None) -> Composition:
    sources = find_sources([str(conf)] if conf else [], environ={})
    return compose_command(["model=command", *overrides], sources, environ=environ or {})


def planned(*overrides: str, conf: Path | None = None) -> RunPlan:
    return to_plan(composed(*overrides, conf=conf), cwd=Path("/here"))


def findings(*overrides: str, conf: Path | None = None) -> list[Finding]:
    with pytest.raises(ConfigError) as caught:
        planned(*overrides, conf=conf)
    return list(caught.value.findings)


def repository(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        path = tmp_path / "conf" / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "conf"


def experiment(tmp_path: Path, text: str) -> Path:
    """A repository with `experiment=mine`; its text begins in the second line."""
    return repository(tmp_path, experiment__mine=f"# @package _global_\n{text}")


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The street door in this process, typed in an empty directory."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    gc.enable()  # `run` goes without


def rompy(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rompy_hydra", *words]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=100, check=False
    )


def run_true(cwd: Path, *overrides: str, **env: str) -> subprocess.CompletedProcess[str]:
    words = ("run", "model=command", "backend.command=true", "output_dir=out", "run_id=r", *overrides)
    return rompy(*words, cwd=cwd, **env)


# -- the list is whole, and true ---------------------------------------------------------------------------------


def test_every_flag_of_hydra_is_in_the_list() -> None:
    known = {name for word in FLAGS for name in word.name.split(", ")}
    hydras = {name for action in get_args_parser()._actions for name in action.option_strings}
    assert hydras <= known


def test_every_key_of_hydra_is_in_the_list() -> None:
    assert [key for key in ends(composed().hydra, "hydra") if word_of(key) is None] == []


def test_every_group_of_hydra_is_in_the_list_with_hydra_s_choice() -> None:
    chosen = {f"hydra/{group}": option for default in HydraConf().defaults for group, option in default.items()}
    assert chosen == DEFAULT_CHOICES
    assert {word.name for word in GROUPS} == set(chosen)


def test_every_word_that_is_honoured_has_a_proof() -> None:
    assert {word.name.split(", ")[0] for word in (*FLAGS, *KEYS, *GROUPS) if word.honoured} == PROVED


@pytest.mark.parametrize(("title", "words"), [("flags", FLAGS), ("keys", KEYS), ("groups", GROUPS)])
def test_the_document_holds_the_list(title: str, words: tuple[Word, ...]) -> None:
    begin = f"<!-- {title}: made from rompy_hydra/compose/hydra_keys.py -->\n"
    shown = DOCUMENT.read_text().partition(begin)[2].partition(f"<!-- end of {title} -->")[0]
    assert shown == words_table(words), f"put this below '{title}' in docs/hydra.md:\n\n{words_table(words)}"


# -- what is refused ---------------------------------------------------------------------------------------------

REFUSED_VALUES = {"hydra.job.chdir": "false", "hydra.output_subdir": "other", "hydra.mode": "MULTIRUN"}
BELOW = {
    "hydra.sweeper": "max_batch_size",
    "hydra.launcher": "_target_",
    "hydra.help": "header",
    "hydra.hydra_help": "template",
    "hydra.overrides": "task",
    "hydra.runtime": "cwd",
}


@pytest.mark.parametrize("word", [w for w in KEYS if w.why and w.name != "hydra"], ids=lambda w: w.name)
def test_a_refused_key_says_why_and_what_to_write_instead(word: Word, tmp_path: Path) -> None:
    key = ".".join(filter(None, [word.name, BELOW.get(word.name)]))
    value = REFUSED_VALUES.get(word.name, "[1]" if word.name == "hydra.overrides" else "1")
    (finding,) = findings(f"{key}={value}")
    assert (finding.key, finding.mend, finding.where) == (key, word.mend, f"the override '{key}={value}'")
    assert finding.rule == f"is refused: {word.why}"
    *parents, last = key.split(".")
    text = "# a comment\n" + "".join(f"{'  ' * n}{part}:\n" for n, part in enumerate(parents))
    conf = experiment(tmp_path, f"{text}{'  ' * len(parents)}{last}: {value}\n")
    (finding,) = findings("experiment=mine", conf=conf)
    assert finding.where == f"{conf}/experiment/mine.yaml:{len(parents) + 3}"


@pytest.mark.parametrize("word", [w for w in GROUPS if w.why], ids=lambda w: w.name)
def test_a_refused_group_says_why_and_who_chose_it(word: Word, tmp_path: Path) -> None:
    (finding,) = findings(f"{word.name}=mine")
    assert (finding.key, finding.rule, finding.mend) == (word.name, f"is refused: {word.why}", word.mend)
    conf = repository(
        tmp_path,
        experiment__mine=f"# @package _global_\ndefaults:\n  - _self_\n  - override /{word.name}: mine\n",
        **{f"{word.name.replace('/', '__')}__mine": "template: x\n" if "help" in word.name else "{}\n"},
    )
    (finding,) = findings("experiment=mine", conf=conf)
    assert (finding.key, finding.where) == (word.name, f"{conf}/experiment/mine.yaml:4")


def test_a_refused_key_in_a_node_of_the_config_store_names_the_node() -> None:
    store = ConfigStore.instance()
    node = {"hydra": {"job": {"chdir": False}}}
    store.store(group="experiment", name="of_a_plugin", node=node, package="_global_", provider="a plug-in")
    try:
        (finding,) = findings("experiment=of_a_plugin")
    finally:
        del store.repo["experiment"]
    assert finding.key == "hydra.job.chdir"
    assert finding.where == "the node 'experiment/of_a_plugin' of a plug-in in Hydra's ConfigStore"


def test_a_root_configuration_of_mine_is_looked_at_too(tmp_path: Path) -> None:
    conf = repository(tmp_path, root="defaults: [config, _self_]\nhydra:\n  help: {header: Mine}\n")
    sources = find_sources([str(conf)], environ={})
    (finding,) = compose_command(["model=command"], sources, "root", environ={}).findings
    assert (finding.key, finding.where) == ("hydra.help.header", f"{conf}/root.yaml:3")


def test_many_refused_things_are_told_at_once_each_once() -> None:
    found = findings("hydra/launcher=joblib", "hydra.launcher.n_jobs=3", "hydra.runtime.cwd=x", "hydra.jobb.id=1")
    assert [f.key for f in found] == ["hydra/launcher", "hydra.launcher.n_jobs", "hydra.runtime.cwd", "hydra.jobb.id"]
    assert found[-1].mend == "did you mean 'hydra.job'?"


@pytest.mark.parametrize("override", ["hydra={job:{id:3}}", "~hydra.job", "++hydra.mine=1"])
def test_hydra_s_part_is_not_set_as_a_whole_or_taken_away(override: str) -> None:
    (finding,) = findings(override)
    assert finding.where == f"the override '{override}'"


@pytest.mark.parametrize("word", [w for w in FLAGS if not w.honoured], ids=lambda w: w.name)
def test_a_refused_flag_says_why(word: Word, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", word.name, "model=command"]) == 2
    assert f"{word.name} is refused: {word.why}; {word.mend}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["-m", "--info"], "do not go together"),
        (["--cfg", "job", "--info", "all"], "do not go together"),
        (["--run", "--cfg", "job"], "do not go together"),
        (["--resolve"], "--cfg"),
        (["--package", "backend"], "--cfg"),
        (["--info", "everything"], "defaults-tree"),
        (["-sc"], "install="),
        (["-sc", "install=csh"], "zsh"),
    ],
)
def test_flags_that_make_no_sense_together_are_refused(
    words: list[str], hint: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *words]) == 2
    assert hint in capsys.readouterr().err


# -- keys that are honoured --------------------------------------------------------------------------------------


@proves("hydra.run.dir")
def test_hydra_run_dir_is_the_run_s_directory_from_a_file_too(tmp_path: Path) -> None:
    conf = experiment(tmp_path, "hydra: {run: {dir: 'deep/${hydra.job.name}'}}\n")
    plan = planned("experiment=mine", conf=conf)
    assert (plan.output_dir, plan.run_id) == (Path("/here/deep"), "rompy_hydra")


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (["hydra.run.dir=x/.."], "its last part is the run_id"),
        (["hydra.run.dir=${oc.env:NOT_THERE}"], "NOT_THERE"),
        (["run_id=a", "hydra.run.dir=x/b"], "contradicts the override 'run_id=a'"),
    ],
)
def test_a_run_directory_that_cannot_be_is_a_finding(overrides: list[str], rule: str) -> None:
    (finding,) = findings(*overrides)
    assert finding.key == "hydra.run.dir"
    assert rule in finding.rule


def test_the_run_directory_is_known_to_the_configuration() -> None:
    plan = planned("run_id=1.10", "env_vars.OUT=${hydra:runtime.output_dir}")
    assert plan.spec.env_vars["OUT"] == "/here/runs/1.10"
    assert planned("run_id=a", "on_existing=new", "vars.out=${hydra:runtime.output_dir}").spec.vars["out"] is None


def test_a_point_of_a_sweep_does_not_lie_in_the_directory_of_a_run() -> None:
    asked = command_request(["model=command", "hydra.run.dir=x/y"], find_sources([], environ={}), environ={})
    plan = to_plan(compose(replace(asked, point=0)), cwd=Path("/here"))
    assert (plan.output_dir, plan.run_id) == (Path("/here/runs"), f"command-{asked.invocation}")


@proves("hydra.sweep.dir", "hydra.sweep.subdir")
def test_a_sweep_s_directories_are_those_of_its_points(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=command", "vars.a=1,2", "hydra.sweep.dir=many", "hydra.sweep.subdir=p${hydra.job.num}"]
    assert main(["run", "-m", "--cfg", "hydra", "-p", "hydra.runtime.output_dir", *words]) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("/")]
    assert shown == [f"{in_tmp}/many/p0", f"{in_tmp}/many/p1"]


def test_a_point_whose_directory_nobody_named_does_not_know_it(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "-m", "--cfg", "hydra", "-p", "hydra.runtime.output_dir", "model=command", "vars.a=1,2"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line[0] not in "-#"] == ["???", "???"]


@proves("hydra.searchpath")
def test_the_search_path_adds_options_at_its_end(tmp_path: Path) -> None:
    more = tmp_path / "more"
    (more / "env").mkdir(parents=True)
    (more / "env" / "mine.yaml").write_text("# @package _global_\nenv_vars: {MINE: a}\n")
    (more / "env" / "dev.yaml").write_text("# @package _global_\nenv_vars: {DEV: shadowed}\n")
    assert planned(f"hydra.searchpath=[{more}]", "env=mine").spec.env_vars == {"MINE": "a"}
    assert "DEV" not in planned(f"hydra.searchpath=[{more}]", "env=dev").spec.env_vars
    (finding,) = findings(f"hydra.searchpath=[{more}]", "env=mime")
    assert finding.mend == "did you mean 'mine'?"


def test_a_finding_in_an_option_of_the_search_path_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.yaml").write_text("# @package _global_\n\nbackend: {timeout: 3}\n")
    (finding,) = findings(f"hydra.searchpath=[file://{tmp_path}]", "env=mine")
    assert finding.where == f"{tmp_path}/env/mine.yaml:3"


def test_every_absent_entry_of_the_search_path_is_a_finding() -> None:
    found = findings("hydra.searchpath=[/not/there,file:///nor/there]")
    assert [(f.key, f.value) for f in found] == [("hydra.searchpath", "/not/there"), ("hydra.searchpath", "/nor/there")]


@proves("hydra.job.name")
def test_the_job_has_a_name_that_can_be_set() -> None:
    assert planned("vars.n=${hydra:job.name}").spec.vars["n"] == "rompy_hydra"
    assert planned("vars.n=${hydra:job.name}", "hydra.job.name=mine").spec.vars["n"] == "mine"


@proves("hydra.job.config.override_dirname")
def test_the_overrides_as_a_directory_name_are_put_together_as_told() -> None:
    plan = planned(
        "vars.b=2",
        "vars.a=1",
        "vars.n=${hydra:job.override_dirname}",
        "hydra.job.config.override_dirname={kv_sep: '-', item_sep: '+', exclude_keys: [model, vars.n]}",
    )
    assert plan.spec.vars["n"] == "vars.a-1+vars.b-2"


@proves("hydra.job.env_set")
def test_variables_of_the_job_are_set_below_ours_as_they_were_typed(tmp_path: Path) -> None:
    plan = planned("hydra.job.env_set.A=1.10", "hydra.job.env_set.B=hydra", "env_vars.B=ours", "env=staging")
    assert (plan.spec.env_vars["A"], plan.spec.env_vars["B"]) == ("1.10", "ours")
    assert plan.config["env_vars"]["A"] == "1.10"
    plan = planned("+hydra.job.env_set={A: 001, B: 1e3}")
    assert (plan.spec.env_vars["A"], plan.spec.env_vars["B"]) == ("001", "1e3")
    conf = experiment(tmp_path, "hydra: {job: {env_set: {A: '7'}}}\n")
    assert planned("experiment=mine", conf=conf).spec.env_vars["A"] == "7"


def test_what_is_wrong_with_the_job_s_variables_is_told_with_its_line(tmp_path: Path) -> None:
    conf = experiment(tmp_path, "hydra:\n job:\n  env_set:\n    A: ${oc.env:NOT_THERE}\n    b-c: x\n    D: ???\n")
    found = {f.key: f.where for f in findings("experiment=mine", "vars.x=${oc.env:NOR_THIS}", conf=conf)}
    file = f"{conf}/experiment/mine.yaml"
    assert found.pop("vars.x") == "the override 'vars.x=${oc.env:NOR_THIS}'"
    assert found == {"hydra.job.env_set.A": f"{file}:5", "hydra.job.env_set.D": f"{file}:7"}
    (finding,) = findings("hydra.job.env_set={b-c: x}")
    assert "no name of an environment variable" in finding.rule


@proves("hydra.job.env_copy")
def test_variables_are_copied_from_our_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TO_BE_COPIED", "yes")
    assert planned("hydra.job.env_copy=[TO_BE_COPIED]").spec.env_vars["TO_BE_COPIED"] == "yes"
    conf = experiment(tmp_path, "hydra:\n  job: {env_copy: [NOT_A, TO_BE_COPIED, NOT_B]}\n")
    found = findings("experiment=mine", "backend.timeout=5", conf=conf)
    assert [f.value for f in found if f.key == "hydra.job.env_copy"] == ["NOT_A", "NOT_B"]
    assert {f.where for f in found if f.key == "hydra.job.env_copy"} == {f"{conf}/experiment/mine.yaml:3"}
    assert "backend.timeout" in [f.key for f in found]


def test_a_credential_among_the_job_s_variables_reaches_the_run_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "expected").write_text("canary-1 canary-2 canary-3\n")
    done = run_true(
        tmp_path,
        "backend.command='echo \"$API_KEY $DB_PASSWORD $S3_TOKEN\" | cmp - ../../expected'",
        "hydra.job.env_set.API_KEY=canary-1",
        "hydra.job.env_copy=[DB_PASSWORD]",
        "hydra.job.env_set.S3_TOKEN=${secret:MINE}",
        DB_PASSWORD="canary-2",
        MINE="canary-3",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = "".join(p.read_text("latin-1") for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert "canary" not in written + done.stdout + done.stderr


@proves("hydra.job.chdir")
def test_a_job_that_changes_its_directory_is_what_we_do() -> None:
    assert planned("hydra.job.chdir=true").run_id
    assert planned("hydra.job.chdir=null").run_id


@proves("hydra.output_subdir")
def test_no_subdirectory_means_no_hydra_files() -> None:
    assert set(planned().hydra_files) == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    assert planned("hydra.output_subdir=null").hydra_files == {}


@proves("hydra.mode", "hydra.sweeper.params", "hydra/sweeper")
def test_a_sweep_in_a_file_is_read_below_the_command_line(
    in_tmp: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert planned("hydra.mode=RUN", "hydra/sweeper=basic").run_id
    experiment(tmp_path, "hydra:\n  mode: MULTIRUN\n  sweeper: {params: {vars.a: '1,2', vars.b: 'x,y'}}\n")
    assert main(["run", "-m", "--cfg", "job", "-p", "vars", "model=command", "experiment=mine", "vars.b=z"]) == 0
    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    assert documents == [{"a": 1, "b": "z"}, {"a": 2, "b": "z"}]


@proves("hydra/output", "hydra/env", "hydra.env")
def test_an_option_of_mine_may_set_honoured_keys(tmp_path: Path) -> None:
    conf = repository(
        tmp_path,
        hydra__output__mine="# @package hydra\njob: {name: n}\nrun: {dir: ours/wins}\n",
        hydra__env__mine="free: 3\n",
    )
    plan = planned(
        "hydra/output=mine", "hydra/env=mine", "vars.n=${hydra:job.name}", "vars.f=${hydra:env.free}", conf=conf
    )
    assert (plan.output_dir, plan.spec.vars["n"], plan.spec.vars["f"]) == (Path("/here/runs"), "n", 3)


@proves("hydra.callbacks", "hydra/callbacks")
def test_callbacks_are_told_of_a_run_and_one_that_fails_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CALLBACKS)
    option = "tell: {_target_: mine.Tell, path: told}\nnot_wanted: {_target_: mine.Nothing}\n"
    repository(tmp_path, hydra__callbacks__mine=option)
    overrides = [
        "hydra/callbacks=mine",
        "hydra.callbacks.not_wanted=null",
        "hydra.callbacks.bad={_target_: mine.Tell, path: told, fails_in: on_job_end}",
    ]
    done = run_true(tmp_path, "--config-dir=conf", *overrides, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "the callback 'bad' failed in on_job_end: RuntimeError: of its own" in done.stderr
    assert (tmp_path / "told").read_text().splitlines() == [
        "on_run_start r -",
        "on_run_start r -",
        "on_job_start r -",
        "on_job_start r -",
        "on_job_end r COMPLETED",
        "on_run_end r COMPLETED",
        "on_run_end r COMPLETED",
    ]


def test_callbacks_of_a_failed_run_are_told_so(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CALLBACKS)
    words = ["backend.command=false", "hydra.callbacks.tell={_target_: mine.Tell, path: told}"]
    assert run_true(tmp_path, *words, PYTHONPATH=str(tmp_path)).returncode == 1
    assert (tmp_path / "told").read_text().splitlines()[2:] == ["on_job_end r FAILED", "on_run_end r FAILED"]


def test_a_callback_that_cannot_be_made_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    repository(tmp_path, hydra__callbacks__mine="\nbad:\n  _target_: no.such.Thing\n")
    done = run_true(tmp_path, "--config-dir=conf", "hydra/callbacks=mine")
    assert done.returncode == 2
    assert "no.such.Thing" in done.stderr
    assert f"{tmp_path}/conf/hydra/callbacks/mine.yaml:2" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "override",
    ["hydra.callbacks.a._target_=x.Y", "hydra/job_logging=none", "hydra.hydra_logging.root=null", "hydra.verbose=true"],
)
def test_callbacks_and_logging_are_refused_in_a_sweep_and_can_be_taken_out_of_it(override: str) -> None:
    def wrong(*overrides: str) -> list[str]:
        asked = command_request(["model=command", *overrides], find_sources([], environ={}), environ={})
        return [f.rule for f in compose(replace(asked, point=0)).findings]

    assert wrong(override) == ["is refused in a sweep, in this version"]
    assert wrong("hydra.callbacks={a: {_target_: x.Y}}", "hydra.callbacks.a=null", "hydra.verbose=false") == []


@proves("hydra.job_logging", "hydra/job_logging", "hydra.hydra_logging", "hydra/hydra_logging", "hydra.verbose")
def test_logging_is_configured_only_if_it_is_set(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        CALLBACKS.replace(
            "        with open", "        import logging; logging.getLogger('mine').debug(method)\n        with open"
        )
    )
    callback = "hydra.callbacks.tell={_target_: mine.Tell, path: told}"
    path = {"PYTHONPATH": str(tmp_path)}
    silent = run_true(tmp_path, callback, **path)
    assert "on_job_start" not in silent.stdout + silent.stderr
    early = run_true(tmp_path, callback, "on_existing=replace", "hydra.verbose=[mine]", **path)
    assert "[HYDRA] on_run_start" in early.stdout
    early = run_true(tmp_path, callback, "on_existing=replace", "hydra.hydra_logging.root.level=DEBUG", **path)
    assert "[HYDRA] on_run_start" in early.stdout
    late = run_true(tmp_path, callback, "on_existing=replace", "hydra.job_logging.root.level=DEBUG", **path)
    assert "on_run_start" not in late.stdout
    assert "[mine][DEBUG] - on_job_start" in late.stdout
    assert "on_job_end" in (tmp_path / "out" / "r" / "rompy_hydra.log").read_text()
    groups = ["hydra/hydra_logging=none", "hydra/job_logging=stdout", "hydra.job_logging.root.level=DEBUG"]
    chosen = run_true(tmp_path, callback, "on_existing=replace", *groups, **path)
    assert "\non_job_start\n" in f"\n{chosen.stdout}"
    assert "HYDRA" not in chosen.stdout


def test_logging_that_cannot_be_configured_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    done = run_true(tmp_path, "hydra.job_logging.handlers.console.class=no.such.Handler")
    assert done.returncode == 2
    assert "set by the override 'hydra.job_logging.handlers.console.class=no.such.Handler'" in done.stderr
    assert not (tmp_path / "out").exists()


# -- flags that are honoured -------------------------------------------------------------------------------------


@proves("KEY=VALUE", "--run")
def test_overrides_and_the_flag_of_a_single_run_are_taken(tmp_path: Path) -> None:
    done = rompy("run", "-r", "model=command", "backend.command=true", "hydra.run.dir=x/y", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "x" / "y" / "run.json").read_text())["state"] == "succeeded"


@proves("--help", "--version")
def test_help_and_version_are_ours(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flag, text in (("--help", "--config-path"), ("--version", "rompy-hydra ")):
        with pytest.raises(SystemExit) as ended:
            main(["run", flag])
        assert ended.value.code == 0
        assert text in capsys.readouterr().out


@proves("--cfg", "--resolve", "--package")
def test_cfg_shows_what_would_run(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=command", "run_id=a", "env_vars.V=1.10", "env_vars.API_KEY=canary", "vars.x=${run_id}"]
    assert main(["run", "--cfg", "all", *words]) == 0
    out = capsys.readouterr().out
    assert "canary" not in out
    shown = yaml.safe_load(out)
    assert shown["hydra"]["overrides"]["task"] == [w.replace("canary", "***") for w in words]
    assert (shown["vars"]["x"], shown["env_vars"]["V"]) == ("${run_id}", "1.10")
    assert main(["run", "--cfg", "job", "--resolve", "--package", "vars", *words]) == 0
    assert capsys.readouterr().out == "# @package vars\nx: a\n"
    assert main(["run", "--cfg", "hydra", "--resolve", "-p", "hydra.run.dir", *words]) == 0
    assert capsys.readouterr().out == "runs/a\n"


def test_cfg_hydra_looks_as_hydra_s_own() -> None:
    shown = yaml.safe_load(shown_config(composed(), "hydra", resolve=True, cwd=Path("/here")))["hydra"]
    assert shown["sweep"]["subdir"] == shown["job"]["num"] == "???"
    assert not {"help", "hydra_help"} & set(shown)
    assert shown["job_logging"]["handlers"]["file"]["filename"].endswith("/rompy_hydra.log")


@pytest.mark.parametrize(("package", "hint"), [("backend.typ", "backend.type"), ("hydra", "known: ")])
def test_a_package_that_is_not_there_has_a_hint(
    package: str, hint: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--cfg", "job", "-p", package]) == 2
    assert hint in capsys.readouterr().err


@proves("--info")
@pytest.mark.parametrize(
    ("what", "lines"),
    [
        ("defaults", ["| env/dev ", "| backend/local "]),
        ("defaults-tree", ["    backend: local:", "      schema/backend/local", "    experiment: null"]),
        ("searchpath", ["| main ", "| packaged ", "rompy-conf:///"]),
        ("plugins", ["Sweeper: (not used", "    BashCompletion"]),
        ("config", ["Defaults Tree", "Defaults List", "backend:", "  type: local"]),
        ("all", ["Hydra 1.3", "Installed Hydra Plugins", "Config search path", "Defaults List", "  type: local"]),
    ],
)
def test_info_tells_what_hydra_tells(
    what: str, lines: list[str], in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--info", what, "model=command", "vars.API_KEY=canary"]) == 0
    out = capsys.readouterr().out
    assert [line for line in lines if line not in out] == []
    assert "canary" not in out


def test_info_is_all_without_a_word(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--info", "model=command"]) == 0
    assert "model: command" in capsys.readouterr().out


def test_the_search_path_is_shown_while_the_configuration_is_wrong(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository(in_tmp, backend__mine="timeout: [1\n")
    words = ["backend=mine", "nope=1", "hydra.searchpath=[/not/there]"]
    assert main(["run", "--config-dir", "conf", "--info", "searchpath", *words]) == 0
    out = capsys.readouterr().out
    assert "file:///not/there (not there)" in out
    assert "| --config-dir |" in out
    assert main(["run", "--config-dir", "conf", "--info", "defaults", *words]) == 2


@proves("--config-dir", "--config-path", "--config-name")
def test_repositories_are_named_from_the_current_directory_and_the_path_comes_first(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        (in_tmp / name / "env").mkdir(parents=True)
        (in_tmp / name / "env" / "mine.yaml").write_text(f"# @package _global_\nenv_vars: {{WHO: {name}}}\n")
    (in_tmp / "second" / "other.yaml").write_text("defaults: [config, _self_]\nvars: {root: other}\n")
    words = ["run", "-cd", "second", "--config-path", "first", "model=command", "env=mine", "--cfg", "job", "-p"]
    assert main([*words, "env_vars.WHO"]) == 0
    assert main([*words, "vars.root", "-cn", "other"]) == 0
    assert capsys.readouterr().out == "first\nother\n"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("frist", "did you mean 'first'?"),
        ("pkg://mine.conf", "hydra.searchpath=[pkg://mine.conf]"),
        ("f.yaml", "--config-name f"),
    ],
)
def test_a_config_path_that_is_no_directory_has_a_mend(
    path: str, hint: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (in_tmp / "first").mkdir()
    (in_tmp / "f.yaml").write_text("")
    assert main(["run", "--config-path", path]) == 2
    assert hint in capsys.readouterr().err


@proves("--multirun")
def test_the_points_of_a_sweep_are_previewed(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--multirun", "--cfg", "job", "-p", "vars.a", "model=command", "vars.a=1,2"]) == 0
    assert capsys.readouterr().out == (
        "---\n# point 0 (of 2): model=command vars.a=1\n1\n---\n# point 1 (of 2): model=command vars.a=2\n2\n"
    )


@proves("--shell-completion")
def test_completion_is_installed_by_a_script(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--shell-completion", "install=bash"]) == 0
    assert "complete -o nospace -o default -F rompy_hydra_bash_completion rompy-hydra" in capsys.readouterr().out
