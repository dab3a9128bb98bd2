from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rompy_hydra.report.columns import clean, column, script_json
from rompy_hydra.report.facts import Reader
from rompy_hydra.report.page import policy, render
from rompy_hydra.report.sweep_page import sweep_page
from rompy_hydra.report.words import link
from rompy_hydra.sweep.layout import SweepLayout
from tests.report.made import MadePoint, make_sweep

SNIPPETS = st.sampled_from(["</script>", "<!--", "<script", "]]>", "\u2028", '"', "'", "\\", "&lt;", "\x00", "\ud800"])
TEXTS = st.lists(st.text(st.characters(exclude_categories=()), max_size=8) | SNIPPETS, max_size=4).map("".join)


@given(st.recursive(TEXTS | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)))
def test_data_in_a_script_come_back_and_hold_no_markup(data: Any) -> None:
    text = script_json(data)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == data


@given(TEXTS)
def test_shown_text_has_nothing_invisible(text: str) -> None:
    shown = clean(text)
    assert len(shown) == len(text)
    assert all(c.isprintable() or c in "\n\t" for c in shown)
    assert clean(shown) == shown


class Elements(HTMLParser):
    """The elements of a page, with their attributes, and what is text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, tuple[str, ...]]]:
    return Elements(page_of("x", tmp_path_factory.mktemp("plain"))).found


def page_of(text: str, tmp_path: Path) -> str:
    name = "".join(c for c in text if c not in "/\0" and not "\ud800" <= c <= "\udfff")[:40] or "x"
    points = [
        MadePoint(
            {"key": text}, 1.0, "failed", reason=text, name="0", log=text.encode("utf-8", "surrogatepass") + b".\n"
        )
    ]
    directory = make_sweep(tmp_path / f"_{name}", points)
    return sweep_page(Reader(SweepLayout(directory)).read(), directory / "page.html").decode()


@given(text=TEXTS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_makes_an_element(
    text: str, plain: list[tuple[str, tuple[str, ...]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert Elements(page_of(text, tmp_path_factory.mktemp("sweep"))).found == plain


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2.5, None], {"kind": "number", "values": [1, 2.5, None]}),
        ([1, "1"], {"kind": "text", "texts": ["1"], "index": [0, 0]}),
        ([True, None, [1]], {"kind": "text", "texts": ["true", "", "[1]"], "index": [0, 1, 2]}),
        ([math.inf, 1 / 3, math.nan], {"kind": "number", "values": [None, 0.333333, None]}),
        ([1, 10**20], {"kind": "text", "texts": ["1", "1" + 20 * "0"], "index": [0, 1]}),
        ([2.0, 123456789.0], {"kind": "number", "values": [2, 123457000]}),
    ],
)
def test_a_column_is_of_numbers_or_of_coded_texts(values: list[Any], expected: dict[str, Any]) -> None:
    told = column("k", "t", "swept", "number", values)
    assert {key: told[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("path", "target", "address"),
    [
        ("/s/a b/0", "/s/report/index.html", "../a%20b/0"),
        ("/s/javascript:x", "/s/page.html", "./javascript%3Ax"),
        ("/s/..x", "/s/page.html", "..x"),
        ("/s/#?&", "/s/page.html", "./%23%3F%26"),
        ("/s/é\udcff", "/s/page.html", "./%C3%A9%FF"),
    ],
)
def test_an_address_is_relative_and_has_no_scheme(path: str, target: str, address: str) -> None:
    assert link(Path(path), Path(target)) == address


def test_the_policy_names_the_scripts_and_nothing_else() -> None:
    assert policy([]) == (
        "default-src 'none'; script-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    # openssl: printf 'alert(1)' | openssl dgst -sha256 -binary | base64
    assert "script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI=';" in policy(["alert(1)"])


def test_a_template_that_names_what_is_not_there_is_an_error() -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        render("run.html", {})
