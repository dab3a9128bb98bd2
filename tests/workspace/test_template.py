"""Template declarations: parameters with types and rules that hold, and an identity of the content."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from rompy_hydra.errors import ConfigError
from rompy_hydra.workspace.template import find_templates, get_template, load_template

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make(tmp_path):
    def write(text: str, name: str = "demo"):
        directory = tmp_path / name
        (directory / "workspace").mkdir(parents=True, exist_ok=True)
        (directory / "template.yaml").write_text(text)
        return load_template(directory)

    return write


def findings_of(make, text: str):
    with pytest.raises(ConfigError) as caught:
        make(text)
    return caught.value.findings


@pytest.mark.parametrize("name", ["veros_acc", "anuga_dambreak"])
def test_shipped_templates_hold_their_own_rules(name):
    template = get_template(name, [ROOT / "templates"])
    assert template.files
    assert all(spec.description for spec in template.parameters.values())
    assert template.parameters_model().model_dump().keys() == template.parameters.keys()


def test_values_come_out_in_their_types(make):
    template = make(
        "parameters:\n"
        "  length: {type: duration, default: 10d}\n"
        "  tau: {type: float, default: 1}\n"
        "  scheme: {type: choice, default: upwind, options: [upwind, central]}\n"
        "  depths: {type: list, items: float, default: [1, 2.5]}\n"
        "  note: {type: str, default: null, optional: true}\n"
    )
    values = template.parameters_model(length="36h").model_dump()
    assert values == {"length": 129600.0, "tau": 1.0, "scheme": "upwind", "depths": [1.0, 2.5], "note": None}


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("{type: float, default: 1, gt: 0}", 0),
        ("{type: duration, default: 1h, le: 7200}", "3h"),
        ("{type: int, default: 1}", 1.5),
        ("{type: str, default: a, pattern: '^[a-z]$'}", "A"),
        ("{type: choice, default: a, options: [a, b]}", "c"),
        ("{type: float, default: 1}", True),
        ("{type: float, default: 1}", float("nan")),
        ("{type: list, items: int, default: [1]}", ["x"]),
        ("{type: float, default: 1}", None),
    ],
)
def test_values_that_break_a_rule_are_refused(make, declared, value):
    with pytest.raises(ValidationError):
        make(f"parameters: {{p: {declared}}}").parameters_model(p=value)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("{type: float, default: -1, gt: 0}", "greater than 0"),
        ("{type: float, default: null}", "valid number"),
        ("{type: choice, default: c, options: [a, b]}", "'a' or 'b'"),
    ],
)
def test_default_that_breaks_its_own_rule_is_named_with_the_file(make, declared, said):
    (finding,) = findings_of(make, f"parameters: {{p: {declared}}}")
    assert finding.key == "parameters.p.default"
    assert said in finding.rule
    assert (finding.where or "").endswith("demo/template.yaml")


def test_default_that_is_an_interpolation_is_left_for_later(make):
    assert make("parameters: {p: {type: int, default: '${resources.cpus}'}}").parameters


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("{type: str, default: a, gt: 1}", "gt needs a number"),
        ("{type: float, default: 1, pattern: x}", "pattern needs the type str"),
        ("{type: float, default: 1, options: [1]}", "options need the type choice"),
        ("{type: choice, default: a}", "needs options"),
        ("{type: str, default: a, items: int}", "items need the type list"),
        ("{type: flaot, default: 1}", "'float'"),
        ("{type: float, defualt: 1, default: 1}", "did you mean 'default'?"),
    ],
)
def test_rule_that_does_not_fit_the_type_is_named(make, declared, said):
    (finding,) = findings_of(make, f"parameters: {{p: {declared}}}")
    assert said in finding.rule


@pytest.mark.parametrize("name", ["copy", "a b", "1x", "_x", "model_dump", "a.b"])
def test_name_that_cannot_be_a_parameter_is_named(make, name):
    (finding,) = findings_of(make, f"parameters: {{'{name}': {{type: int, default: 1}}}}")
    assert finding.key == f"parameters.{name}"


def test_parameter_may_begin_with_model(make):
    assert make("parameters: {model_depth: {type: int, default: 1}}").parameters_model().model_dump() == {
        "model_depth": 1
    }


def test_content_decides_the_identity_of_a_template_and_its_place_does_not(make):
    one, two = make("{}", "one"), make("{}", "two")
    for template in (one, two):
        (template.workspace / "run.sh").write_text("echo")
    before = load_template(one.directory).sha256
    assert load_template(two.directory).sha256 == before
    (two.workspace / "run.sh").chmod(0o755)
    assert load_template(two.directory).sha256 != before
    (two.workspace / "run.sh").chmod(0o644)
    (two.workspace / "run.sh").write_text("echo 2")
    assert load_template(two.directory).sha256 != before


def test_first_root_that_has_a_name_wins(make, tmp_path):
    for root in ("users", "packaged"):
        make("{}", f"{root}/demo")
    assert find_templates([tmp_path / "users", tmp_path / "packaged"])["demo"] == tmp_path / "users/demo"


def test_unknown_template_is_told_with_the_nearest_one(make, tmp_path):
    make("{}", "veros_acc")
    with pytest.raises(ConfigError, match="did you mean 'veros_acc'"):
        get_template("veros_ac", [tmp_path])
