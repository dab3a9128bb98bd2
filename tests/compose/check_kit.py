"""Config repositories for the tests of `check`: a clean one of some sixty files, and faults to plant in it.

A line with a planted fault ends with a comment that names its code: `cpus: -1  # <RH204`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

MARK = re.compile(r"<(RH\d{3})")
REGIONS = ("north", "south", "east", "west", "bay", "shelf", "slope", "strait")

OWN = {"north": "ice_steps"}
"""A parameter that one template alone has."""

CONFIG = """\
defaults:
  - /schema/run
  - _self_
  - resources: small
  - site: office
  - model: north
  - physics: simple
  - backend: local
  - postprocess: noop
  - env: test
  - experiment: null

output_dir: runs
vars:
  label: of ${model.name}
"""


def clean_repository(root: Path, regions: Sequence[str] = REGIONS) -> Path:
    """A repository without a fault: models with templates, a group of its own, experiments, sweeps."""
    files = {
        "conf/config.yaml": CONFIG,
        "conf/resources/small.yaml": "defaults: [/schema/resources, _self_]\ncpus: 1\nmemory: 1g\n",
        "conf/resources/large.yaml": "defaults: [small, _self_]\ncpus: 4\n",
        "conf/site/office.yaml": "defaults: [/schema/site, _self_]\nname: office\nlauncher: mpirun\n",
        "conf/site/cluster.yaml": "defaults: [/packaged/site/generic_slurm, _self_]\npartition: long\n",
        "conf/backend/local.yaml": "defaults: [/packaged/backend/local, _self_]\nenv_vars:\n  WHERE: here\n",
        "conf/env/test.yaml": "# @package _global_\nresources: {time_limit: 10m}\n",
        "conf/env/night.yaml": "# @package _global_\ndefaults:\n  - override /site: cluster\n  - _self_\n"
        "resources:\n  time_limit: 8h\nenv_vars:\n  QUEUE: ${site.partition}\n",
        "conf/postprocess/keep.yaml": "defaults: [/packaged/postprocess/archive, _self_]\n",
        "conf/physics/simple.yaml": "# @package vars.physics\nscheme: simple\norder: 1\n",
        "conf/physics/full.yaml": "# @package vars.physics\nscheme: full\norder: 2\n",
        "sweeps/depths.yaml": "defaults: [config, _self_]\nsweep:\n  design:\n"
        "    - grid:\n        model.parameters.depth: [10, 20]\n        site: [office, cluster]\n"
        "  exclude: ['model.parameters.depth > 15 and resources.cpus == 4']\n",
        "sweeps/models.yaml": "defaults: [config, _self_]\nsweep:\n  design:\n"
        f"    - grid: {{model: [{', '.join(regions)}]}}\n",
        "sweeps/table.yaml": "defaults: [config, _self_]\nsweep:\n  table: sweeps/storms.csv\n",
        "sweeps/storms.csv": "name,model.parameters.depth\none,5\ntwo,6\n",
    }
    for number, region in enumerate(regions):
        files |= {
            f"conf/model/{region}.yaml": f"defaults: [/template/{region}, _self_]\n"
            f"parameters:\n  depth: {10 + number}\n",
            f"templates/{region}/template.yaml": "parameters:\n  depth:\n    type: float\n    default: 10\n    gt: 0\n"
            f"  {OWN.get(region, 'steps')}:\n    type: int\n    default: 4\n"
            "model:\n  command: [sh, run.sh]\n  parallel: openmp\n  success:\n    log_has: [done]\n",
            f"templates/{region}/workspace/run.sh.j2": "echo {{ parameters.depth }} {{ vars.label | quote }}\n"
            f"{{% if parameters.{OWN.get(region, 'steps')} > 100 %}}\n"
            "echo {{ vars.physics.order }}\n{% endif %}\necho done\n",
            f"conf/experiment/{region}_deep.yaml": f"# @package _global_\ndefaults:\n  - override /model: {region}\n"
            "  - _self_\nmodel:\n  parameters:\n    depth: 100\n",
            f"conf/experiment/{region}_shallow.yaml": f"# @package _global_\ndefaults:\n  - override /model: {region}\n"
            "  - _self_\nmodel:\n  parameters:\n    depth: 1\nresources:\n  memory: 2g\n",
        }
    write(root, files)
    return root


def write(root: Path, files: dict[str, str]) -> None:
    """Files below a directory."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def planted(root: Path) -> set[tuple[str, int, str]]:
    """(file, line, code) of every mark in a repository."""
    found = set()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                found |= {(path.relative_to(root).as_posix(), number, mark[1]) for mark in MARK.finditer(line)}
    return found


FAULTS = {
    # files
    "conf/site/broken.yaml": "name: [a\nlauncher: b # <RH001\n",
    "conf/site/twice.yaml": "name: a\nname: b # <RH001\n",
    "conf/site/listed.yaml": "- a # <RH002\n- b\n",
    "conf/site/old.yml": "name: a # <RH003\n",
    # defaults lists
    "conf/env/misspelt.yaml": "# @package _global_\ndefaults:\n  - override /sites: office # <RH101\n  - _self_\n"
    "env_vars:\n  A: b\n",
    "conf/env/absent.yaml": "# @package _global_\ndefaults:\n  - test\n  - override /site: ofice # <RH101\n"
    "  - _self_\n",
    "conf/model/lost.yaml": "defaults:\n  - /template/nort # <RH101\n  - _self_\n"
    "name: lost\ncommand: 'true'\nparallel: openmp\n",
    "conf/env/double.yaml": "# @package _global_\ndefaults:\n  - test\n  - test # <RH102\n",
    "conf/env/late.yaml": "# @package _global_\ndefaults:\n  - override /site: office\n  - test # <RH102\n",
    "conf/env/mapping.yaml": "# @package _global_\ndefaults: {site: office} # <RH102\n",
    "conf/resources/itself.yaml": "defaults:\n  - itself # <RH103\n  - _self_\ncpus: 1\n",
    "sweeps/selfless.yaml": "defaults: [config] # <RH106\nvars: {selfless: 1} # <RH202\n",
    "conf/env/head.yaml": "# A comment first.\n# @package _global_ # <RH104\nenv_vars: {A: b}\n",
    # keys and values
    "conf/experiment/typo.yaml": "# @package _global_\nresources:\n  cpu: 4 # <RH201\n",
    "conf/experiment/parameter.yaml": "# @package _global_\ndefaults:\n  - override /model: north\n  - _self_\n"
    "model:\n  parameters:\n    deep: 4 # <RH201\n",
    "conf/experiment/unread.yaml": "# @package _global_\nvars:\n  nobody: 1 # <RH202\n",
    "conf/resources/negative.yaml": "defaults: [small, _self_]\ncpus: -1 # <RH204\n",
    "conf/env/number.yaml": "# @package _global_\nenv_vars:\n  N: 4 # <RH204\n",
    "conf/resources/given.yaml": "defaults: [small, _self_]\nmemory: ??? # <RH205\n",
    "conf/backend/path.yaml": "defaults: [/packaged/backend/local, _self_]\n"
    "working_dir: /not/on/this/machine # <RH206\n",
    "conf/resources/contrary.yaml": "defaults: [/schema/resources, _self_]\nthreads: 2\ncpus: 3 # <RH207\n",
    # interpolations
    "conf/env/nowhere.yaml": "# @package _global_\nenv_vars:\n  A: ${resources.cpuss} # <RH301\n  B: ${.A}\n",
    "conf/env/resolver.yaml": "# @package _global_\nenv_vars:\n  A: ${rompy.mx:1,2} # <RH302\n",
    "conf/env/grammar.yaml": "# @package _global_\nenv_vars:\n  A: ${resources.cpus # <RH303\n",
    "conf/env/circle.yaml": "# @package _global_\nvars:\n  a: ${vars.b} # <RH303\n  b: ${vars.a} # <RH303\n",
    "conf/env/variable.yaml": "# @package _global_\nenv_vars:\n  A: ${oc.env:NOT_SET_ANYWHERE} # <RH304\n",
    # templates
    "conf/model/badtype.yaml": "defaults: [/template/badtype, _self_]\n",
    "templates/badtype/template.yaml": "parameters:\n  a:\n    type: flot # <RH401\n    default: 1\n"
    "model:\n  command: 'true'\n  parallel: openmp\n",
    "conf/model/syntax.yaml": "defaults: [/template/syntax, _self_]\n",
    "templates/syntax/template.yaml": "model:\n  command: 'true'\n  parallel: openmp\n",
    "templates/syntax/workspace/a.j2": "one\n{% if run_id %}\ntwo\n{% endfor %} {# <RH402 #}\n",
    "templates/syntax/workspace/b.j2": "{{ run_id | shout }} {# <RH402 #}\n",
    "conf/model/names.yaml": "defaults: [/template/names, _self_]\n",
    "templates/names/template.yaml": "parameters:\n  used: {type: int, default: 1}\n"
    "  unused: {type: int, default: 1} # <RH405\nmodel:\n  command: 'true'\n  parallel: openmp\n",
    "templates/names/workspace/a.j2": "{{ parameters.usd }} {# <RH403 #}\n{{ parameters.used }}\n",
    "templates/names/workspace/b.j2": "{% if parameters.used > 99 %}\n{{ resorces.cpus }} {# <RH403 #}\n{% endif %}\n",
    "templates/names/workspace/c.j2": "{{ model.nam }} {# <RH403 #}\n",
    "templates/names/workspace/d.j2": "{{ 1 // 0 }} {# <RH404 #}\n",
    "conf/model/lacking.yaml": "defaults: [/template/lacking, _self_]\n",
    "templates/lacking/template.yaml": "model:\n  command: 'true'\n  parallel: openmp\n  inputs:\n"
    "    grid:\n      source: template:inputs/grid.nc # <RH406\n",
    "templates/alone/template.yaml": "model: {command: 'true'} # <RH603\n",
    # options together
    "conf/resources/threads.yaml": "defaults: [/schema/resources, _self_]\nthreads: 4\n",
    "conf/experiment/together.yaml": "# @package _global_\nresources:\n  cpus: 3 # <RH501\n",
    "conf/experiment/unpinned.yaml": "# @package _global_\nmodel:\n  parameters:\n    ice_steps: 2 # <RH502\n",
    # sweeps
    "sweeps/wrong.yaml": "defaults: [config, _self_]\nsweep:\n  design:\n    - grd: {model: [north]} # <RH503\n",
    "sweeps/points.yaml": "defaults: [config, _self_]\nsweep:\n  design:\n    - grid:\n"
    "        model.parameters.depth: [1, -1] # <RH204\n        resources.cpsu: [1, 2] # <RH201\n",
    "sweeps/none.yaml": "defaults: [config, _self_]\nsweep:\n  design:\n    - grid: {resources.cpus: [1, 2]}\n"
    "  exclude: ['resources.cpus > 0'] # <RH504\n",
    # what nothing can choose
    "conf/tides/spring.yaml": "level: 2\n",
    # literals
    "conf/env/secret.yaml": "# @package _global_\nenv_vars:\n  API_KEY: hunter2hunter2 # <RH701\n"
    "  URL: https://me:hunter2@example.org/ # <RH701\n  GOOD: ${secret:API_KEY}\n",
    # old names
    "conf/renamed_keys.yaml": "resources.walltime: resources.time_limit\n",
    "conf/env/old.yaml": "# @package _global_\nresources:\n  walltime: 1h # <RH801\n",
}
"""Files to plant: each marks what is wrong in it."""

UNMARKED = {("conf/tides/spring.yaml", 1, "RH601"), ("conf/tides/spring.yaml", 1, "RH201")}
"""Faults of whole files: a mark in the first line would be read as what it stands beside."""
