"""Rendering a workspace in memory and writing it: what is refused, and what is left when something fails."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from rompy_hydra.errors import ConfigError, SiteError
from rompy_hydra.workspace.layout import RunLayout
from rompy_hydra.workspace.render import RenderedFile, render_workspace, write_workspace
from rompy_hydra.workspace.template import Template, load_template

CONTEXT = {"parameters": {"wind_stress": 0.1, "steps": 4}, "run_id": "r1"}


@pytest.fixture
def make_template(tmp_path):
    def make(files: dict[str, str | bytes], *, declaration: str = "{description: test}") -> Template:
        directory = tmp_path / "templates" / "demo"
        for name, content in files.items():
            path = directory / name if name.startswith("include/") else directory / "workspace" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "template.yaml").write_text(declaration)
        return load_template(directory)

    return make


@pytest.fixture
def layout(tmp_path):
    return RunLayout(tmp_path / "runs" / "r1")


def rendered(template: Template, context: Any = CONTEXT) -> dict[str, bytes]:
    return {
        file.path.as_posix(): file.content if isinstance(file.content, bytes) else file.content.read_bytes()
        for file in render_workspace(template, context)
    }


def the_finding(template: Template, context: Any = CONTEXT):
    with pytest.raises(ConfigError) as caught:
        render_workspace(template, context)
    (finding,) = caught.value.findings
    return finding


def below(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


# ---- rendering -------------------------------------------------------------------------------------------------------


def test_values_go_into_j2_files_and_the_suffix_goes_off(make_template):
    template = make_template({"model.nml.j2": "tau = {{ parameters.wind_stress }}\n"})
    assert rendered(template) == {"model.nml": b"tau = 0.1\n"}


def test_other_files_keep_every_byte(make_template):
    data = b"\x00\xff{{ not a template }}\r\n"
    assert rendered(make_template({"grid.bin": data})) == {"grid.bin": data}


def test_executable_bit_stays(make_template):
    template = make_template({"run.sh": "#!/bin/sh\n", "go.sh.j2": "#!/bin/sh\n", "data.txt": ""})
    for name in ("run.sh", "go.sh.j2"):
        (template.workspace / name).chmod(0o755)
    assert {f.path.name for f in render_workspace(template, CONTEXT) if f.executable} == {"run.sh", "go.sh"}


def test_names_of_files_and_directories_are_templates(make_template):
    template = make_template({"{{ run_id }}/step_{{ parameters.steps }}.txt": "as it is", "{{ run_id }}.nml.j2": "x"})
    assert rendered(template) == {"r1/step_4.txt": b"as it is", "r1.nml": b"x"}


def test_html_is_not_escaped_and_the_last_line_end_stays(make_template):
    assert rendered(make_template({"a.j2": "{{ x }}\n\n"}), {"x": "<a & 'b'>"}) == {"a": b"<a & 'b'>\n\n"}


def test_include_directory_is_read_and_not_copied(make_template):
    template = make_template(
        {
            "a.j2": "{% import 'm.j2' as m %}{{ m.two(4) }}",
            "include/m.j2": "{% macro two(x) %}{{ 2 * x }}{% endmacro %}",
        }
    )
    assert rendered(template) == {"a": b"8"}


def test_an_included_file_is_part_of_the_templates_identity(make_template):
    one = make_template({"a.j2": "{% include 'b' %}", "include/b": "1"}).sha256
    assert make_template({"include/b": "2"}).sha256 != one


def test_date_filters_are_there(make_template):
    text = "{{ '2023-01-01' | add('1d') | strftime('%Y%m%d') }} {{ '90m' | seconds }}"
    assert rendered(make_template({"a.j2": text})) == {"a": b"20230102 5400"}


def test_quote_makes_one_word_of_a_hostile_value(make_template, tmp_path):
    template = make_template({"a.sh.j2": "printf %s {{ x | quote }}"})
    hostile = "$(touch gone); 'a' \"b\"\nü"
    script = rendered(template, {"x": hostile})["a.sh"]
    assert (
        subprocess.run(["sh", "-c", script], capture_output=True, check=True, cwd=tmp_path).stdout == hostile.encode()
    )


def test_repr_makes_a_python_literal_of_a_hostile_value(make_template):
    hostile = "a'\"\\\n\ud800é"
    source = rendered(make_template({"a.py.j2": "{{ x | repr }}"}), {"x": hostile})["a.py"]
    assert eval(source) == hostile


def test_undecodable_bytes_of_a_path_come_out_as_they_were(make_template):
    name = os.fsdecode(b"wind\xff.nc")
    assert rendered(make_template({"a.j2": "{{ x }}"}), {"x": name}) == {"a": b"wind\xff.nc"}


def test_a_parameter_may_be_called_like_a_method_of_dict(make_template):
    assert rendered(make_template({"a.j2": "{{ p.items }} {{ p.copy }}"}), {"p": {"items": 3, "copy": True}}) == {
        "a": b"3 True"
    }


def test_jinja2_is_imported_only_for_j2_files(make_template):
    template = make_template({"plain.txt": "x"})
    code = (
        "import sys; from pathlib import Path; from rompy_hydra.workspace.template import load_template\n"
        "from rompy_hydra.workspace.render import render_workspace\n"
        f"render_workspace(load_template(Path({str(template.directory)!r})), {{}}); sys.exit('jinja2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0


def test_a_template_changed_on_disk_is_rendered_anew(make_template):
    assert rendered(make_template({"a.j2": "1"})) == {"a": b"1"}
    os.utime(make_template({"a.j2": "2"}).workspace / "a.j2", (1, 1))
    assert rendered(make_template({})) == {"a": b"2"}


# ---- what is wrong in a template -------------------------------------------------------------------------------------


def test_unknown_name_is_told_with_file_line_and_the_nearest_one(make_template):
    finding = the_finding(make_template({"sub/a.nml.j2": "one\ntwo {{ runid }}\n"}))
    assert (finding.key, finding.mend) == ("runid", "did you mean 'run_id'?")
    assert finding.where.endswith("demo/workspace/sub/a.nml.j2:2")


def test_unknown_attribute_is_told_with_its_owner_and_the_nearest_one(make_template):
    finding = the_finding(make_template({"a.j2": "\n\n{{ parameters.wnd_stress }}"}))
    assert (finding.key, finding.mend) == ("parameters.wnd_stress", "did you mean 'wind_stress'?")
    assert finding.where.endswith("a.j2:3")


def test_unknown_attribute_of_an_object_is_told_too(make_template):
    finding = the_finding(make_template({"a.j2": "{{ file.sise }}"}), {"file": RenderedFile(Path("a"), b"")})
    assert (finding.key, finding.mend) == ("file.sise", "did you mean 'size'?")


@pytest.mark.parametrize(
    "use",
    [
        "{{ x.y + 1 }}",
        "{% for i in x.y %}{% endfor %}",
        "{{ x.y.z }}",
        "{{ x.y() }}",
        "{{ x['y'] }}",
        "{% if x.y %}{% endif %}",
        "{{ x.y == 1 }}",
        "{{ x.y | int }}",
    ],
)
def test_every_use_of_an_unknown_attribute_names_it(make_template, use):
    assert the_finding(make_template({"a.j2": use}), {"x": MappingProxyType({})}).key == "x.y"


def test_defined_and_default_ask_without_an_error(make_template):
    text = "{{ parameters.more | default(7) }} {{ 1 if other is defined else 2 }}"
    assert rendered(make_template({"a.j2": text})) == {"a": b"7 2"}


def test_every_file_with_a_fault_is_a_finding(make_template):
    template = make_template({"a.j2": "{{ one }}", "b.j2": "{{ two }}", "c.j2": "fine", "d.j2": "{% if %}"})
    with pytest.raises(ConfigError) as caught:
        render_workspace(template, CONTEXT)
    assert [Path(f.where or "").name for f in caught.value.findings] == ["a.j2:1", "b.j2:1", "d.j2:1"]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a\n{% for x in y %}", 2, "template syntax"),
        ("a\n{{ 1 / (parameters.steps - 4) }}", 2, "ZeroDivisionError"),
        ("{{ 'a' + 1 }}", 1, "TypeError"),
        ("\n{% macro f(x) %}\n{{ x / 0 }}\n{% endmacro %}{{ f(1) }}", 3, "ZeroDivisionError"),
        ("\n{{ 'x' | seconds }}", 2, "ValueError"),
        ("\n\n{{ parameters.keys }}", 3, "'keys' is a function"),
        ("\n{{ 'a' }", 2, "template syntax"),
    ],
)
def test_faults_in_a_template_are_told_with_file_and_line(make_template, text, line, said):
    finding = the_finding(make_template({"a.j2": text}))
    assert said in finding.rule
    assert finding.where.endswith(f"demo/workspace/a.j2:{line}")


def test_fault_inside_an_included_file_names_that_file(make_template):
    finding = the_finding(make_template({"a.j2": "{% include 'b.txt' %}", "include/b.txt": "1\n{{ nothing }}"}))
    assert finding.where.endswith("demo/include/b.txt:2")


def test_missing_include_is_named_with_the_nearest_one(make_template):
    finding = the_finding(make_template({"a.j2": "x\n{% include 'heater.j2' %}", "include/header.j2": ""}))
    assert (finding.value, finding.mend) == ("heater.j2", "did you mean 'header.j2'?")
    assert finding.where.endswith("a.j2:2")


def test_unknown_filter_is_told_with_the_nearest_one(make_template):
    assert the_finding(make_template({"a.j2": "{{ run_id | strftme('%Y') }}"})).mend == "did you mean 'strftime'?"


def test_j2_file_that_is_no_utf8_says_how_to_have_it_copied(make_template):
    finding = the_finding(make_template({"a.j2": b"\xff\xfe"}))
    assert "UTF-8" in finding.rule
    assert finding.where.endswith("a.j2")


def test_credentials_in_an_error_are_redacted(make_template):
    finding = the_finding(
        make_template({"a.j2": "{{ ('password=' + x) | int(default=none) | abs }}{{ raise(x) }}"}),
        {"x": "hunter2", "raise": lambda x: int("password=" + x)},
    )
    assert "hunter2" not in finding.rule


@pytest.mark.parametrize(
    "name", ["../out", "/etc/passwd", "a/../../b", "run.json", "logs/x", ".hydra/config.yaml", "", "a//b"]
)
def test_names_that_leave_the_run_directory_or_are_ours_are_refused(make_template, name):
    finding = the_finding(make_template({"{{ name }}": "x"}), {"name": name})
    assert finding.where.endswith("{{ name }}")


def test_two_files_of_one_name_are_refused(make_template):
    finding = the_finding(make_template({"a.txt": "1", "a.txt.j2": "2"}))
    assert (finding.value, "two files" in finding.rule) == ("a.txt", True)


def test_a_name_that_is_a_file_and_a_directory_is_refused(make_template):
    finding = the_finding(make_template({"{{ run_id }}": "1", "r1/b": "2"}))
    assert "directory" in finding.rule


def test_a_link_to_nothing_in_a_template_is_named(make_template):
    template = make_template({"a": "1"})
    (template.workspace / "gone").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="link to a directory or to nothing"):
        render_workspace(template, CONTEXT)


def test_what_tools_leave_behind_is_no_part_of_a_template(make_template):
    assert rendered(make_template({"a": "1", "__pycache__/a.pyc": "x", "b/.DS_Store": ""})) == {"a": b"1"}


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_workspace_is_written_and_described(make_template, layout):
    template = make_template({"a/b.txt.j2": "{{ run_id }}", "run.sh": "#!/bin/sh\n"})
    (template.workspace / "run.sh").chmod(0o755)
    made = write_workspace(layout, render_workspace(template, CONTEXT))
    assert (layout.run_dir / "a/b.txt").read_text() == "r1"
    assert os.access(layout.run_dir / "run.sh", os.X_OK)
    assert made == {
        name: ((layout.run_dir / name).stat().st_size, (layout.run_dir / name).stat().st_mtime_ns)
        for name in ("a/b.txt", "run.sh")
    }
    assert below(layout.run_dir) == ["a", "a/b.txt", "run.sh"]


def test_writing_again_touches_nothing(make_template, layout):
    files = render_workspace(make_template({"a.j2": "{{ run_id }}", "big": b"x" * 3_000_000}), CONTEXT)
    first = write_workspace(layout, files)
    inodes = {name: (layout.run_dir / name).stat().st_ino for name in first}
    assert write_workspace(layout, files) == first
    assert {name: (layout.run_dir / name).stat().st_ino for name in first} == inodes


def test_changed_content_or_mode_is_written_anew(layout):
    write_workspace(layout, [RenderedFile(Path("a"), b"one"), RenderedFile(Path("b"), b"#!")])
    write_workspace(layout, [RenderedFile(Path("a"), b"two"), RenderedFile(Path("b"), b"#!", executable=True)])
    assert (layout.run_dir / "a").read_bytes() == b"two"
    assert os.access(layout.run_dir / "b", os.X_OK)
    assert below(layout.run_dir) == ["a", "b"]


@pytest.mark.parametrize("name", ["with blank", "new\nline", "quo'te\"", "-rf", "ünï", os.fsdecode(b"\xff"), "$(x);&"])
def test_hostile_names_are_written_as_they_are(make_template, layout, name):
    made = write_workspace(
        layout, render_workspace(make_template({name: "x", f"{name}.2.j2": "{{ run_id }}"}), CONTEXT)
    )
    assert set(made) == {name, f"{name}.2"}
    assert (layout.run_dir / f"{name}.2").read_bytes() == b"r1"


def test_a_link_in_the_run_directory_is_not_written_through(layout, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    layout.run_dir.mkdir(parents=True)
    (layout.run_dir / "sub").symlink_to(outside)
    with pytest.raises(SiteError, match="symbolic link"):
        write_workspace(layout, [RenderedFile(Path("sub/a"), b"x")])
    (outside / "a").write_bytes(b"mine")
    (layout.run_dir / "a").symlink_to(outside / "a")
    with pytest.raises(SiteError, match="symbolic link"):
        write_workspace(layout, [RenderedFile(Path("a"), b"x")])
    assert (outside / "a").read_bytes() == b"mine"
    assert below(outside) == ["a"]


def test_what_this_call_made_goes_when_it_fails_and_nothing_else(layout):
    write_workspace(layout, [RenderedFile(Path("old"), b"1"), RenderedFile(Path("kept/mine"), b"2")])
    (layout.run_dir / "blocked").mkdir()
    files = [
        RenderedFile(Path("kept/new"), b"3"),
        RenderedFile(Path("deep/er/new"), b"4"),
        RenderedFile(Path("old"), b"changed"),
        RenderedFile(Path("blocked"), b"5"),
    ]
    before = below(layout.run_dir)
    with pytest.raises(SiteError, match="blocked"):
        write_workspace(layout, files)
    assert below(layout.run_dir) == before
    assert (layout.run_dir / "old").read_bytes() == b"1"


def test_a_run_directory_made_for_nothing_goes_with_its_parents(tmp_path):
    layout = RunLayout(tmp_path / "a" / "b" / "r1")
    with pytest.raises(SiteError):
        write_workspace(layout, [RenderedFile(Path("x"), b"1"), RenderedFile(Path("y"), tmp_path / "vanished")])
    assert below(tmp_path) == []


def test_a_disk_that_refuses_leaves_nothing_and_is_named(layout):
    # A file size limit stands for the full disk: write(2) fails in the middle of the second file.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(SiteError, match=r"big.*File too large"):
            write_workspace(layout, [RenderedFile(Path("small"), b"1"), RenderedFile(Path("big"), b"x" * 100_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not layout.run_dir.exists()


def test_a_full_disk_says_how_many_bytes_are_needed(layout, monkeypatch):
    really_open = os.open
    monkeypatch.setattr("rompy_hydra.workspace.render.os.open", lambda *_: really_open("/dev/full", os.O_WRONLY))
    with pytest.raises(SiteError, match=r"No space left on device \(3 bytes are needed\)"):
        write_workspace(layout, [RenderedFile(Path("a"), b"abc")])


def test_a_name_too_long_for_the_disk_is_named(layout):
    with pytest.raises(SiteError, match="too long"):
        write_workspace(layout, [RenderedFile(Path("a" * 300), b"")])


def test_interruption_leaves_nothing(layout, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("rompy_hydra.workspace.render.Path.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_workspace(layout, [RenderedFile(Path("a/b"), b"1")])
    assert not layout.run_dir.exists()
