"""SVG: a diagram as a picture that any browser shows, drawn without any other program.

Attributes only: a style sheet or an id would act on the whole page of a notebook.
"""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from model_handler.drawing.diagram import Box, Diagram, legend_of
from model_handler.drawing.layout import Layout, Point, lay_out
from model_handler.drawing.palette import EDGE, EDGE_DROPPED, FADED, INK, MARK_COLOURS, MUTED, PAPER, colours_of
from model_handler.drawing.text import clean, shortened, text_width

__all__ = ["svg_of"]

_FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
_NAME, _LINE, _STRIP, _TITLE = 13.0, 11.0, 9.5, 16.0  # sizes of type
_NAME_STEP, _LINE_STEP, _STRIP_HEIGHT, _PADDING = 17.0, 15.0, 16.0, 12.0
_MIN_WIDTH, _COMMON_WIDTH, _MAX_WIDTH = 130.0, 270.0, 400.0
_MARGIN, _STACK = 24.0, 4.0
_LEAST_PICTURE = 380.0


def svg_of(diagram: Diagram) -> str:
    """Return the picture, with its own white ground, title and legend."""
    sizes = _sizes(diagram.boxes)
    layout = lay_out(sizes, [(edge.tail, edge.head, edge.dropped) for edge in diagram.edges])
    width = max(layout.width + _STACK, _LEAST_PICTURE, text_width(diagram.title, _TITLE, bold=True)) + 2 * _MARGIN
    width = min(width, max(layout.width + _STACK + 2 * _MARGIN, 2 * _LEAST_PICTURE))
    head, top = _head(diagram, width)
    left = (width - layout.width) / 2
    height = top + layout.height + _STACK + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" height="{_n(height)}" '
        f'viewBox="0 0 {_n(width)} {_n(height)}" role="img" font-family="{_FONT}" text-anchor="middle">',
        f"<title>{_escaped(_summary(diagram))}</title>",
        f'<rect width="{_n(width)}" height="{_n(height)}" rx="6" fill="{PAPER}"/>',
        *head,
        f'<g transform="translate({_n(left)} {_n(top)})">',
        *_edges(diagram, layout),
        *(_box(box, place, size) for box, place, size in zip(diagram.boxes, layout.places, sizes)),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts)


def _sizes(boxes: Sequence[Box]) -> list[tuple[float, float]]:
    """Return width and height of each box; all that is not very wide gets one width, and so stands in columns."""
    sizes = [_size_of_box(box) for box in boxes]
    common = max((width for width, _ in sizes if width <= _COMMON_WIDTH), default=0.0)
    return [
        (max(width, common) if box.kind not in ("input", "output") else width, height)
        for box, (width, height) in zip(boxes, sizes)
    ]


def _size_of_box(box: Box) -> tuple[float, float]:
    widest = max(
        text_width(clean(box.name), _NAME, bold=True),
        *(text_width(clean(line), _LINE) for line in box.lines),
        text_width(_strip(box), _STRIP, bold=True),
        0.0,
    )
    width = min(max(widest + 2 * _PADDING, _MIN_WIDTH), _MAX_WIDTH)
    height = _NAME_STEP + _LINE_STEP * len(box.lines) + 12.0 + (_STRIP_HEIGHT if box.marks else 0.0)
    return round(width), height


def _strip(box: Box) -> str:
    return " · ".join(mark.upper() for mark in box.marks)


def _summary(diagram: Diagram) -> str:
    return f"{diagram.title}: {diagram.subtitle}. {diagram.note}".strip(". ")


def _head(diagram: Diagram, width: float) -> tuple[list[str], float]:
    """Return title, subtitle, note and legend, and how far down they reach."""
    y = _MARGIN + _TITLE
    parts = [
        _text_line(shortened(clean(diagram.title), width - 2 * _MARGIN, _TITLE, bold=True), y, _TITLE, INK, bold=True)
    ]
    for text, colour in ((diagram.subtitle, MUTED), *((line, EDGE_DROPPED) for line in _wrapped(diagram.note, width))):
        if text:
            y += _LINE_STEP + 2
            parts.append(_text_line(shortened(clean(text), width - 2 * _MARGIN, _LINE), y, _LINE, colour))
    x = _MARGIN
    y += _LINE_STEP - 1 if legend_of(diagram) else 0.0
    for mark, meaning in legend_of(diagram).items():
        step = 20 + text_width(meaning, _LINE) + 14
        if x > _MARGIN and x + step > width - _MARGIN:
            x, y = _MARGIN, y + _LINE_STEP + 3
        parts.append(_legend_entry(mark, meaning, x, y))
        x += step
    return parts, y + _MARGIN + (8.0 if legend_of(diagram) else 0.0)


def _wrapped(text: str, width: float) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", _LINE) <= width - 2 * _MARGIN:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _text_line(text: str, y: float, size: float, colour: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{_n(_MARGIN)}" y="{_n(y)}" font-size="{size}" text-anchor="start" fill="{colour}"{weight}>'
        f"{_escaped(text)}</text>"
    )


def _legend_entry(mark: str, meaning: str, x: float, y: float) -> str:
    fill, line = MARK_COLOURS[mark]
    dash = ' stroke-dasharray="4 3"' if mark == "dropped" else ""
    return (
        f'<g class="legend"><rect x="{_n(x)}" y="{_n(y)}" width="14" height="11" rx="2" fill="{fill}" '
        f'stroke="{line}"{dash}/><text x="{_n(x + 20)}" y="{_n(y + 9.5)}" font-size="{_LINE}" text-anchor="start" '
        f'fill="{MUTED}">{_escaped(meaning)}</text></g>'
    )


def _edges(diagram: Diagram, layout: Layout) -> Iterable[str]:
    """Yield edges; those of one box share the lane that they take, each drawn from where it leaves the others."""
    drawn: dict[tuple[int, bool], set[tuple[Point, Point]]] = {}
    for edge, route in zip(diagram.edges, layout.routes):
        known = drawn.setdefault((edge.tail, edge.dropped), set())
        start = 0
        while start < len(route) - 2 and (route[start], route[start + 1]) in known:
            start += 1
        known.update(pairwise(route))
        kind, colour = ("edge dropped", EDGE_DROPPED) if edge.dropped else ("edge", EDGE)
        dash = ' stroke-dasharray="5 4"' if edge.dropped else ""
        line = f'fill="none" stroke="{colour}" stroke-width="1.3"{dash}'
        yield f'<path class="{kind}" d="{_curve(route[start:])}" {line}/>'
        x, y = route[-1]
        yield f'<path d="M{_n(x)} {_n(y)}l-4 -7h8z" fill="{colour}"/>'


def _curve(points: Sequence[Point]) -> str:
    x, y = points[0]
    steps = [f"M{_n(x)} {_n(y)}"]
    for to_x, to_y in points[1:]:
        if to_x != x:
            middle = _n((y + to_y) / 2)
            steps.append(f"C{_n(x)} {middle} {_n(to_x)} {middle} {_n(to_x)} {_n(to_y)}")
        elif to_y != y:
            if steps[-1].startswith("V"):
                steps.pop()
            steps.append(f"V{_n(to_y)}")
        x, y = to_x, to_y
    return "".join(steps)


def _box(box: Box, place: Point, size: tuple[float, float]) -> str:
    (x, y), (width, height) = place, size
    left, (fill, line) = x - width / 2, colours_of(box)
    dropped = "dropped" in box.marks
    classes = " ".join(["box", box.kind, *(mark.replace(" ", "-") for mark in box.marks)])
    corner = min(height / 2, 20) if box.kind in ("input", "output") else 12 if box.kind == "operation" else 4
    frame = f'width="{_n(width)}" height="{_n(height)}" rx="{_n(corner)}" fill="{fill}" stroke="{line}"'
    frame += ' stroke-dasharray="5 4"' if dropped else ""
    parts = [f'<g class="{classes}"><title>{_escaped(_tooltip(box))}</title>']
    if box.kind == "container":
        parts.append(f'<rect x="{_n(left + _STACK)}" y="{_n(y + _STACK)}" {frame}/>')
    parts.append(f'<rect x="{_n(left)}" y="{_n(y)}" {frame}/>')
    ink, muted = (FADED, FADED) if dropped else (INK, MUTED)
    baseline = y + 6 + _NAME
    parts.append(_centred(box.name, x, baseline, _NAME, ink, width, bold=True))
    for text in box.lines:
        baseline += _LINE_STEP
        parts.append(_centred(text, x, baseline, _LINE, muted, width))
    if box.marks:
        parts.append(_mark(_strip(box), left, y + height - _STRIP_HEIGHT, width, line))
    return "".join([*parts, "</g>"])


def _tooltip(box: Box) -> str:
    listed = [", ".join(box.layers)] if box.kind == "container" else []
    return " | ".join([box.name, *box.lines, *box.marks, *listed])


def _centred(text: str, x: float, y: float, size: float, colour: str, width: float, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    fitting = shortened(clean(text), width - _PADDING, size, bold=bold)
    return f'<text x="{_n(x)}" y="{_n(y)}" font-size="{size}" fill="{colour}"{weight}>{_escaped(fitting)}</text>'


def _mark(word: str, left: float, top: float, width: float, colour: str) -> str:
    """Return the strip at the foot of a box, with its mark in words."""
    bottom = top + _STRIP_HEIGHT
    shape = f"M{_n(left)} {_n(top)}h{_n(width)}V{_n(bottom - 4)}a4 4 0 0 1 -4 4h{_n(8 - width)}a4 4 0 0 1 -4 -4z"
    return (
        f'<path d="{shape}" fill="{colour}"/><text x="{_n(left + width / 2)}" y="{_n(bottom - 4.5)}" '
        f'font-size="{_STRIP}" font-weight="bold" letter-spacing="0.5" fill="#ffffff">{_escaped(word)}</text>'
    )


def _escaped(text: str) -> str:
    return escape(clean(text))


def _n(number: float) -> str:
    """Return a number in as few letters as it needs."""
    return f"{number:.1f}".removesuffix(".0")
