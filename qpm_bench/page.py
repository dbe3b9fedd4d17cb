"""A document of headings, text, tables and pictures, as one HTML page and as Markdown.

The page needs nothing but itself: no script, no network. Whatever text it is given is text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from qpm_bench.table import Cell, Table, markdown_text


@dataclass(frozen=True)
class Heading:
    """Begins a section."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; a warning stands out."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Items:
    """A list of sentences; warnings stand out."""

    texts: Sequence[str]
    is_warning: bool = False


@dataclass(frozen=True)
class Facts:
    """Names and what belongs to them."""

    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Picture:
    """An SVG from :func:`qpm_bench.figures.as_svg`; ``figures/<name>.png`` beside the Markdown."""

    name: str
    svg: str
    title: str


Block = Heading | Text | Items | Facts | Table | Picture

#: Colours of the figures, in a page that is light or dark: variable, colour, dark colour.
_COLOURS = (
    ("paper", "#ffffff", "#16181c"),
    ("ink", "#000000", "#e8e8e8"),
    ("muted", "#595959", "#a8a8a8"),
    ("rule", "#d9d9d9", "#3a3d43"),
    ("blue", "#0072b2", "#4b9be0"),
    ("vermillion", "#d55e00", "#ee7733"),
    ("green", "#009e73", "#22bb8e"),
    ("purple", "#cc79a7", "#d994bb"),
    ("orange", "#e69f00", "#e9b13b"),
    ("sky", "#56b4e9", "#a5dbf8"),
)
_CSS = """
body { margin: 2rem auto; max-width: 100rem; padding: 0 1.5rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", Verdana, sans-serif; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem;
  border-bottom: 1px solid var(--rule); }
p, ul, dl { max-width: 60rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1.2rem; }
dt { color: var(--muted); } dd { margin: 0; }
nav a { color: inherit; margin-right: 1.2rem; }
.warning { border-left: 4px solid var(--vermillion); padding: 0.3rem 1rem; }
ul.warning { padding-left: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.87rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.5rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--rule); }
th { vertical-align: bottom; border-bottom-color: var(--muted); }
td { white-space: nowrap; }
.words { text-align: left; } td.words { white-space: normal; overflow-wrap: break-word;
  max-width: 40rem; }
td:first-child, th:first-child { position: sticky; left: 0; background: var(--paper); }
td.words:first-child { white-space: nowrap; }
.best { font-weight: 700; } .wrong { font-weight: 700; color: var(--wrong); }
.failed { color: var(--muted); font-style: italic; }
.pictures { display: flex; flex-wrap: wrap; gap: 1.5rem 2.5rem; align-items: flex-start; }
figure { margin: 0; max-width: 100%; }
svg { max-width: 100%; height: auto; fill: var(--ink); }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
@media print { body { max-width: none; } .scroll { overflow: visible; } }
"""


def html_page(title: str, blocks: Sequence[Block]) -> str:
    """The document as a page that is light or dark as its reader prefers."""
    light = "".join(f"--{name}: {colour}; " for name, colour, _ in _COLOURS)
    dark = "".join(f"--{name}: {colour}; " for name, _, colour in _COLOURS)
    css = (
        f":root {{ color-scheme: light dark; {light}--wrong: #c00000; }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark}--wrong: #ff6b6b; }} }}{_CSS}"
    )
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    links = "\n".join(f'<a href="#{_anchor(text)}">{escape(text)}</a>' for text in headings)
    parts = []
    for i, block in enumerate(blocks):
        picture = isinstance(block, Picture)
        if picture and (i == 0 or not isinstance(blocks[i - 1], Picture)):
            parts.append('<div class="pictures">')
        parts.append(_html(block))
        if picture and (i + 1 == len(blocks) or not isinstance(blocks[i + 1], Picture)):
            parts.append("</div>")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<nav>{links}</nav>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def markdown_page(title: str, blocks: Sequence[Block]) -> str:
    """The document in Markdown; pictures are files in ``figures/``."""
    return "\n".join([f"# {markdown_text(title)}\n", *map(_markdown, blocks)])


def _html(block: Block) -> str:
    match block:
        case Heading(text):
            return f'<h2 id="{_anchor(text)}">{escape(text)}</h2>'
        case Text(text, is_warning):
            return f"<p{_warning(is_warning)}>{escape(text)}</p>"
        case Items(texts, is_warning):
            items = "\n".join(f"<li>{escape(text)}</li>" for text in texts)
            return f"<ul{_warning(is_warning)}>\n{items}\n</ul>"
        case Facts(facts):
            pairs = "\n".join(
                f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts
            )
            return f"<dl>\n{pairs}\n</dl>"
        case Picture(name, svg, title):
            return f'<figure role="img" aria-label="{escape(title)}">{_inline(svg, name)}</figure>'
        case Table():
            return _html_table(block)


def _html_table(table: Table) -> str:
    def row(cells: Sequence[str | Cell], tag: str) -> str:
        marked = [cell if isinstance(cell, Cell) else Cell(cell, "") for cell in cells]
        held = []
        for i, cell in enumerate(marked):
            kinds = " ".join(filter(None, ("words" * (i < table.n_text), cell.mark)))
            kind = f' class="{kinds}"' if kinds else ""
            held.append(f"<{tag}{kind}>{escape(cell.text)}</{tag}>")
        return f"<tr>{''.join(held)}</tr>"

    body = "\n".join(row(cells, "td") for cells in table.rows)
    return (
        f'<div class="scroll"><table>\n<thead>{row(table.head, "th")}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {markdown_text(text)}\n"
        case Text(text, is_warning):
            return f"{'> **Note:** ' if is_warning else ''}{markdown_text(text)}\n"
        case Items(texts, is_warning):
            lead = "> - " if is_warning else "- "
            return "".join(f"{lead}{markdown_text(text)}\n" for text in texts)
        case Facts(facts):
            return "".join(f"- {markdown_text(f'{name}: {text}')}\n" for name, text in facts)
        case Picture(name, _, title):
            return f"![{markdown_text(title)}](figures/{name}.png)\n"
        case Table():
            return block.markdown()


def _inline(svg: str, name: str) -> str:
    """SVG to stand in a page: names of its own, colours of the page, nothing from elsewhere.

    What is black has no fill of its own in it, so it takes that of the page's style.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg, count=2)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for variable, colour, _ in _COLOURS:
        svg = svg.replace(f": {colour}", f": var(--{variable})")
    return svg.strip()


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _warning(is_warning: bool) -> str:
    return ' class="warning"' if is_warning else ""
