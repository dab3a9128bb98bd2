"""The page that shows a run's pictures: one file of HTML, no network, no scripts; pictures beside it or inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import quote

from rompy_hydra.postprocess.products import Pictured

_KINDS = {
    "map": "Maps",
    "section": "Sections",
    "timeseries": "Time series",
    "spectrum": "Spectra",
    "animation": "Animation",
}
_TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".gif": "image/gif"}
_POLICY = "default-src 'none'; img-src 'self' data: file:; style-src 'unsafe-inline'"
_MOST_FIGURES = 200
_STYLE = """
:root{color-scheme:light dark;--ink:#22303c;--soft:#5b6873;--line:#d9dee3;--page:#f6f7f8;--card:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaee;--soft:#a3afba;--line:#37424d;--page:#161b20;--card:#1f262d}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:84rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;margin:.5rem 0 0;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:1.75rem 0 .5rem}
p{margin:.25rem 0;color:var(--soft);overflow-wrap:anywhere}
nav a{color:inherit;display:inline-block;margin-right:1rem;padding:.4rem 0}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr));gap:1rem}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.5rem;overflow:hidden}
figure a{display:block;background:#fff;border-radius:4px}
img{display:block;width:100%;height:auto;max-height:38rem;object-fit:contain}
figcaption{padding:.5rem .25rem .15rem;color:var(--soft);font-size:.9rem;overflow-wrap:anywhere}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.2rem 1.5rem .2rem 0;border-bottom:1px solid var(--line);font-weight:400}
td{text-align:right}
@media print{body{background:#fff}figure{break-inside:avoid}}
"""


def page(
    title: str, about: Sequence[str], pictures: Sequence[Pictured], metrics: Mapping[str, float], *, embedded: bool
) -> str:
    """The page; `about` are lines below its title.  `embedded`: the pictures' bytes are in it."""
    kinds = [kind for kind in _KINDS if any(picture.kind == kind for picture in pictures)]
    links = [f'<a href="#{kind}">{_KINDS[kind]}</a>' for kind in kinds]
    links += ['<a href="#figures">Figures</a>'] if metrics else []
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>",
        f"<body><main><h1>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in about),
        f"<nav>{' '.join(links)}</nav>",
    ]
    for kind in kinds:
        parts.append(f'<section id="{kind}"><h2>{_KINDS[kind]}</h2><div class="grid">')
        parts += [_figure(picture, embedded=embedded) for picture in pictures if picture.kind == kind]
        parts.append("</div></section>")
    if metrics:
        parts.append(_table(metrics))
    parts.append("</main></body></html>")
    return "\n".join(parts) + "\n"


def _figure(picture: Pictured, *, embedded: bool) -> str:
    image_type = _TYPES[picture.path.suffix]
    alt, title = escape(picture.alt, quote=True), escape(picture.title)
    if embedded:
        data = base64.b64encode(picture.path.read_bytes()).decode()
        image = f'<img src="data:{image_type};base64,{data}" alt="{alt}">'
    else:
        source = quote(picture.path.name)
        image = f'<a href="{source}"><img src="{source}" alt="{alt}" loading="lazy"></a>'
    return f"<figure>{image}<figcaption>{title}</figcaption></figure>"


def _table(metrics: Mapping[str, float]) -> str:
    rows = [
        f'<tr><th scope="row">{escape(name)}</th><td>{value:.6g}</td></tr>'
        for name, value in list(metrics.items())[:_MOST_FIGURES]
    ]
    more = f"<p>{len(metrics) - _MOST_FIGURES} more in metrics.json</p>" if len(metrics) > _MOST_FIGURES else ""
    return (
        f'<section id="figures"><h2>Figures</h2><div class="wide"><table>{"".join(rows)}</table></div>{more}</section>'
    )
