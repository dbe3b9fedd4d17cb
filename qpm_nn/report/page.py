"""A self-contained HTML page of headings, sentences and pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.figure import Figure

from qpm_nn.explanations import as_svg

#: Points of a picture that are one pixel of the page.
DPI = 110
_STYLE = """
:root { color-scheme: light dark; --ink: #1f2937; --paper: #ffffff; --muted: #5b6470; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e5e7eb; --paper: #14181f; --muted: #a3acb9; }
}
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { margin-top: 3rem; font-size: 1.3rem; } h3 { font-size: 1.05rem; }
nav ul { padding-left: 1.2rem; } a { color: inherit; }
figure { margin: 0.8rem 0 1.6rem; }
figure > div { overflow-x: auto; background: #ffffff; border-radius: 6px; }
figure svg { display: block; height: auto; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { color: var(--muted); font-size: 0.9rem; }
table { border-collapse: collapse; } th, td { padding: 0.2rem 0.8rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } thead { border-bottom: 1px solid; }
"""


@dataclass(frozen=True)
class Heading:
    """Heading of a level; those of level 2 are listed at the top."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A figure with a caption, which is also what is read aloud.

    Drawings become SVG; what holds photographs, a bitmap, which is smaller.
    """

    figure: Figure
    caption: str
    photographs: bool = False


@dataclass(frozen=True)
class Table:
    """A table; the first column names the rows."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


Block = Heading | Paragraph | Picture | Table


def html_page(title: str, blocks: Sequence[Block]) -> str:
    """The page, with nothing that is loaded from elsewhere."""
    sections = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    links = "".join(
        f'<li><a href="#s{i}">{escape(text)}</a></li>' for i, text in enumerate(sections)
    )
    parts, n_sections = [], 0
    for i, block in enumerate(blocks):
        if isinstance(block, Heading):
            anchor = ""
            if block.level == 2:
                anchor, n_sections = f' id="s{n_sections}"', n_sections + 1
            parts.append(f"<h{block.level}{anchor}>{escape(block.text)}</h{block.level}>")
        elif isinstance(block, Paragraph):
            parts.append(f"<p>{escape(block.text)}</p>")
        elif isinstance(block, Table):
            parts.append(_table(block))
        else:
            parts.append(_picture(block, f"p{i}"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<nav><ul>{links}</ul></nav>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>"

    body = "".join(cells(row, "td") for row in table.rows)
    return f"<table><thead>{cells(table.head, 'th')}</thead><tbody>{body}</tbody></table>"


def _picture(picture: Picture, name: str) -> str:
    caption = escape(picture.caption)
    if picture.photographs:
        stream = io.BytesIO()
        picture.figure.savefig(stream, format="png", dpi=DPI)
        data = base64.b64encode(stream.getvalue()).decode("ascii")
        inner = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    else:
        svg = as_svg(picture.figure, name)
        # Without the declarations that belong at the top of a file.
        inner = f'<svg role="img" aria-label="{caption}"' + svg.partition("<svg")[2]
    return f"<figure><div>{inner}</div><figcaption>{caption}</figcaption></figure>"
