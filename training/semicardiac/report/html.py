"""Pieces of a self-contained HTML page, and how it looks: on a screen, light or dark, and on paper."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape as html_escape

from ..base.text import spelled
from ..images.labels import LabelSet, Structure

LIGHT = {
    "paper": "#fbfaf7", "ink": "#1c1d20", "muted": "#676a70", "rule": "#dedad2", "accent": "#a3203a",
    "c1": "#2f5d8a", "c2": "#1f7a6c", "s0": "#6b6e74", "tint": "#f3f0ea", "warn": "#9a5b00",
}  # fmt: skip
DARK = {
    "paper": "#131417", "ink": "#e9e7e2", "muted": "#9b9ea5", "rule": "#303238", "accent": "#f07a8c",
    "c1": "#86b4e0", "c2": "#66c3b2", "s0": "#8a8d93", "tint": "#1b1d21", "warn": "#f0b35a",
}  # fmt: skip

_CSS = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
 font:16px/1.55 "Inter","Segoe UI","Helvetica Neue",Arial,"Liberation Sans",system-ui,sans-serif;
 font-variant-numeric:tabular-nums lining-nums;text-rendering:optimizeLegibility}
main{max-width:1080px;margin:0 auto;padding:56px 32px 72px}
h1,h2,h3{font-weight:600;line-height:1.2;letter-spacing:-.011em;margin:0;text-wrap:balance}
h1{font-size:34px}
h2{font-size:21px;margin-bottom:4px}
h3{font-size:15px;margin:28px 0 8px}
p{margin:0 0 12px;max-width:68ch}
.eyebrow{max-width:none;font-size:13px;letter-spacing:.04em;color:var(--muted);margin:0 0 10px}
.eyebrow b{color:var(--accent);font-weight:600}
.lede{max-width:none;font-size:18px;color:var(--muted);margin:12px 0 0;text-wrap:pretty}
.lede b{color:var(--ink);font-weight:600}
.note{font-size:14px;color:var(--muted);text-wrap:pretty}
section{margin-top:52px;border-top:1px solid var(--rule);padding-top:22px}
.numbers{display:flex;flex-wrap:wrap;align-items:flex-end;gap:22px 44px;margin:34px 0 0;padding:0;list-style:none}
.numbers .value{display:block;font-size:30px;font-weight:600;line-height:1.1;letter-spacing:-.02em}
.numbers .value small{font-size:15px;font-weight:400;color:var(--muted);letter-spacing:0}
.numbers .value small.gain{color:var(--c2)}
.numbers .value small.loss{color:var(--accent)}
.numbers .what{display:block;font-size:13px;color:var(--muted);margin-top:5px}
.numbers .first .value{font-size:64px;letter-spacing:-.035em}
.numbers .first .value small{font-size:20px}
.chip{display:inline-block;width:.72em;height:.72em;border-radius:50%;margin-right:.5em;vertical-align:-.02em;
 box-shadow:0 0 0 1px color-mix(in srgb,var(--ink) 22%,transparent)}
.legend{display:flex;flex-wrap:wrap;gap:4px 20px;font-size:14px;color:var(--muted);
 margin:10px 0 18px;padding:0;list-style:none}
figure{margin:0}
figcaption{font-size:14px;color:var(--muted);margin-top:8px;text-wrap:pretty}
figcaption b{color:var(--ink);font-weight:600}
.pictures{display:grid;gap:30px;margin-top:18px}
header figure{margin-top:34px}
figure img{display:block;max-width:100%;height:auto;background:#000;border-radius:3px}
.two{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(420px,100%),1fr));gap:26px 40px;margin-top:18px}
.two h3{margin:0 0 2px}
.two .note{margin:0 0 4px;min-height:1.5em}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font-family:inherit!important}
.scroll{overflow-x:auto;margin-top:16px}
.wide{margin-top:0}
.wide svg{min-width:660px}
table{border-collapse:collapse;width:100%;font-size:14.5px}
.table{margin-top:26px}
.table figcaption{margin:0}
.table .scroll{margin-top:8px}
th,.path{overflow-wrap:anywhere}
th{font-weight:400;color:var(--muted);text-align:left;vertical-align:bottom}
thead th{font-size:13px;padding:0 0 7px 18px;border-bottom:1px solid var(--rule)}
tbody th{color:var(--ink);min-width:9em}
td,tbody th{padding:7px 0 7px 18px;border-bottom:1px solid var(--rule);vertical-align:top}
th:first-child,td:first-child{padding-left:0}
td.n,th.n{text-align:right}
td.n{white-space:nowrap}
b,bdi,code,.path{unicode-bidi:isolate}
td small{color:var(--muted);font-size:.88em}
.odd{color:var(--warn);font-weight:600}
tr.strong td,tr.strong th{font-weight:600}
tr.strong small{font-weight:400}
tr.group th{padding-top:18px;font-size:13px;color:var(--muted)}
tr.group+tr td,tr.group+tr th{border-top:0}
.messages{list-style:none;margin:26px 0 0;padding:0;display:grid;gap:8px}
.messages li{border-left:3px solid var(--warn);background:var(--tint);
 padding:9px 14px;font-size:14.5px;overflow-wrap:anywhere}
.messages li.error{border-color:var(--accent)}
.messages small{display:block;color:var(--muted);font-size:13.5px}
details{margin-top:16px;font-size:14.5px}
summary{cursor:pointer;color:var(--muted)}
summary:hover{color:var(--ink)}
summary:focus-visible{outline:2px solid var(--accent);outline-offset:3px;border-radius:2px}
details .names{columns:4 180px;column-gap:28px;
 margin:12px 0 0;padding:0;list-style:none;font-size:13.5px;color:var(--muted)}
details .scroll{margin-top:10px}
code,.path{overflow-wrap:anywhere;font-size:.9em;
 font-family:ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace}
footer{margin-top:60px;border-top:1px solid var(--rule);padding-top:18px;font-size:13.5px;color:var(--muted)}
footer p{max-width:none;margin:0 0 4px}
@media (max-width:640px){
 main{padding:32px 18px 48px}
 h1{font-size:27px}
 .numbers{gap:18px 30px}
 .numbers .first .value{font-size:50px}
}
@media print{
 @page{margin:15mm}
 :root{--paper:#fff}
 body{font-size:10.5pt}
 main{max-width:none;padding:0}
 section{margin-top:26pt}
 figure,tr,.messages li,.numbers{break-inside:avoid}
 h2,h3,.table figcaption{break-after:avoid}
 .table{break-inside:auto}
 .two{grid-template-columns:1fr 1fr;gap:16pt 24pt}
 .scroll{overflow:visible}
 .wide svg{min-width:0}
 table{font-size:8.5pt}
 thead th,td,tbody th{padding-left:9pt}
 img,.messages li{print-color-adjust:exact;-webkit-print-color-adjust:exact}
 .chip{print-color-adjust:exact;-webkit-print-color-adjust:exact}
 details:not([open]){display:none}
}
"""


def escape(text: object) -> str:
    """A text of others as HTML that shows it and does nothing else."""
    return html_escape(spelled(str(text)))


def document(title: str, body: str, labels: LabelSet | None) -> str:
    """The whole document.

    Args:
        title: Of the window.
        body: HTML.
        labels: Its colors become the variables s1, s2, ..., each dark or light enough to be seen on the page.
    """
    colors = [structure.color for structure in labels.structures] if labels else []
    light, dark = (
        theme | {f"s{number}": _legible(color, theme["paper"]) for number, color in enumerate(colors, start=1)}
        for theme in (LIGHT, DARK)
    )
    themes = (
        f":root{{{_variables(light)}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{_variables(dark)}}}}}"
    )
    policy = "default-src 'none';style-src 'unsafe-inline';img-src data:"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{escape(title)}</title>\n<style>{themes}{_CSS}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str, note: str = "") -> str:
    """A section with a heading, or nothing if all its parts are empty."""
    if not any(parts):
        return ""
    intro = f'<p class="note">{note}</p>' if note else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{intro}{''.join(parts)}\n</section>\n"


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str] | str],
    *,
    caption: str = "",
    numeric_from: int = 1,
    strong: int | None = None,
) -> str:
    """A table of HTML cells, the first of each row its heading.

    Args:
        head: Column names.
        rows: Cells; a text in place of a row is a heading for the rows behind it.
        caption: What the table shows.
        numeric_from: The first column of numbers, which are set flush right.
        strong: The row to set in bold.
    """

    def kind(column: int) -> str:
        return ' class="n"' if column >= numeric_from else ""

    lines = []
    for number, row in enumerate(rows):
        if isinstance(row, str):
            lines.append(f'<tr class="group"><th scope="colgroup" colspan="{len(head)}">{row}</th></tr>')
            continue
        first, *others = row
        cells = "".join(f"<td{kind(column)}>{cell}</td>" for column, cell in enumerate(others, start=1))
        lines.append(f'<tr{" class=strong" if number == strong else ""}><th scope="row">{first}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col"{kind(column)}>{name}</th>' for column, name in enumerate(head))
    title = f"<figcaption>{caption}</figcaption>" if caption else ""
    body = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<figure class="table">{title}<div class="scroll">{body}</div></figure>\n'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values, both HTML."""
    lines = "".join(f'<tr><th scope="row">{name}</th><td>{value}</td></tr>' for name, value in rows)
    return f'<div class="scroll"><table><tbody>{lines}</tbody></table></div>\n'


def numbers(items: Iterable[tuple[str, str]]) -> str:
    """Large numbers with what they are beneath, both HTML; the first is the largest."""
    lines = [
        f"<li{'' if position else ' class=first'}>"
        f'<span class="value">{value}</span><span class="what">{what}</span></li>'
        for position, (value, what) in enumerate(items)
    ]
    return f'<ul class="numbers">{"".join(lines)}</ul>\n' if lines else ""


def panel(title: str, note: str, svg: str) -> str:
    """A chart with its title and what it shows."""
    return f'<figure><h3>{escape(title)}</h3><p class="note">{note}</p>{svg}</figure>\n'


def picture(data: bytes, alt: str, caption: str) -> str:
    """A PNG picture within the page; the caption is HTML."""
    source = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
    return f'<figure><img src="{source}" alt="{escape(alt)}"><figcaption>{caption}</figcaption></figure>\n'


def chip(color: tuple[int, int, int], name: str) -> str:
    """A dot in a structure's own color, and its name."""
    return f'<span class="chip" style="background:rgb({",".join(map(str, color))})"></span><bdi>{escape(name)}</bdi>'


def legend(structures: Iterable[Structure], note: str) -> str:
    """The colors of structures, and how they are drawn."""
    items = [*(chip(structure.color, structure.name) for structure in structures), escape(note)]
    return f'<ul class="legend">{"".join(f"<li>{item}</li>" for item in items)}</ul>\n'


def path(name: object) -> str:
    """A file or folder."""
    return f'<span class="path">{escape(name)}</span>'


def message(what: str, where: str, hint: str, *, kind: str = "warning") -> str:
    """A warning or an error, for `messages`."""
    place = f"<b>{escape(where)}:</b> " if where else ""
    cure = f"<small>{escape(hint)}.</small>" if hint else ""
    return f'<li class="{kind}">{place}{escape(what)}.{cure}</li>'


def messages(items: Sequence[str]) -> str:
    """A list of `message`, or nothing."""
    return f'<ul class="messages">{"".join(items)}</ul>\n' if items else ""


def details(title: str, content: str) -> str:
    """Content that is folded away."""
    return f"<details><summary>{title}</summary>{content}</details>\n" if content else ""


def _variables(theme: dict[str, str]) -> str:
    return "".join(f"--{name}:{color};" for name, color in theme.items())


def _legible(color: Sequence[int], paper: str) -> str:
    """A color moved towards black or white until it has a contrast of 4.5 to the paper (WCAG, for text)."""
    background = _luminance([int(paper[at : at + 2], 16) for at in (1, 3, 5)])
    target = 0 if background > 0.5 else 255
    for step in range(21):
        mixed = [round(channel + (target - channel) * step / 20) for channel in color]
        bright, dim = sorted((_luminance(mixed), background), reverse=True)
        if (bright + 0.05) / (dim + 0.05) >= 4.5:
            break
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _luminance(color: Sequence[int]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (channel / 255 for channel in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
