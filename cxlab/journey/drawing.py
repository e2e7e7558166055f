"""Boxes and arrows: states in layers from left to right, drawn by matplotlib or by Plotly.

The layout is that of Sugiyama, Tagawa and Toda (1981), Methods for visual understanding of hierarchical system
structures: an arrow over several layers gets a place in each that it passes, places in a layer are ordered by the mean
of their neighbours to cross less, and are then moved towards them without touching. Nothing is random.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from cxlab.display import GREY, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]

LINE = 17  # letters of a name in a line, of which there are two
WIDE, HIGH = 1.3, 0.58  # a box, in inches
ACROSS, DOWN, PASSING = 2.0, 0.9, 0.24  # from layer to layer, from box to box, and for an arrow that passes
LAYERS = 6  # of states, unless there are very many
SWEEPS = 12
THIN, THICK, LOOP = 0.6, 6.0, 3.0  # an arrow, in points; one that leads back to its box is at most so thick
ROOM = (0.6, 0.2)  # more from layer to layer and from box to box, where labels have two lines
LABELLED = 60  # arrows, beyond which their labels would hide the drawing
FORTH, BACK = "#6B8FB5", "#C9A26B"
PIXELS = 68  # an inch in a browser
SMOOTH = 24  # points along a bend


@dataclass(frozen=True)
class Node:
    """A state.

    Attributes:
        name: What arrows call it; different for each.
        label: A line under its name.
        detail: What a pointer over it shows, lines joined by newlines.
        fill: What its colour shows; None for white, NaN where it is not known.
    """

    name: str
    label: str = ""
    detail: str = ""
    fill: float | None = None


@dataclass(frozen=True)
class Edge:
    """An arrow.

    Attributes:
        source: From where.
        target: To where.
        n: How often, which its width shows.
        label: A few letters on it.
        detail: What a pointer over it shows.
        colour: Its colour; by its direction if None.
    """

    source: str
    target: str
    n: float
    label: str = ""
    detail: str = ""
    colour: str | None = None


@dataclass(frozen=True)
class Layout:
    """Where everything is, in inches.

    Attributes:
        boxes: The middle of each box.
        routes: The points along each arrow, shape (p, 2), from its source to its target.
        back: Whether each arrow goes back, to an earlier state or the same.
    """

    boxes: Mapping[str, Point]
    routes: tuple[np.ndarray, ...]
    back: tuple[bool, ...]


def layout(nodes: Sequence[Node], edges: Sequence[Edge]) -> Layout:
    """Places for states and arrows.

    Args:
        nodes: States in the order of a journey; the first is alone in the first layer, the last in the last.
        edges: Arrows between them.
    """
    names = [node.name for node in nodes]
    layer = _layers(names, edges)
    chains = []  # the places that an arrow passes, from left to right
    across, down = (ACROSS + ROOM[0], DOWN + ROOM[1]) if any("\n" in edge.label for edge in edges) else (ACROSS, DOWN)
    size = dict.fromkeys(names, down)
    rows: list[list[str]] = [[] for _ in range(max(layer.values()) + 1)]
    for name in names:
        rows[layer[name]].append(name)
    for number, edge in enumerate(edges):
        left, right = sorted((edge.source, edge.target), key=lambda name: layer[name])
        between = [f"\0{number}.{at}" for at in range(layer[left] + 1, layer[right])]
        for at, place in enumerate(between, start=layer[left] + 1):
            rows[at].append(place)
            size[place] = PASSING
        chains.append([left, *between, right])
    y = _heights([_blocks(row, edges) for row in rows], _neighbours(chains, layer, edges), size)
    where = {name: (at * across, y[name]) for at, row in enumerate(rows) for name in row}
    turned = [layer[edge.source] > layer[edge.target] for edge in edges]
    back = tuple(names.index(edge.source) >= names.index(edge.target) for edge in edges)
    ports = _ports(chains, edges, layer, where)
    routes = []
    for number, (edge, chain) in enumerate(zip(edges, chains, strict=True)):
        if edge.source == edge.target:
            routes.append(_loop(where[edge.source]))
        elif layer[edge.source] == layer[edge.target]:
            routes.append(_beside(where[edge.source], where[edge.target], back[number]))
        else:
            level = [
                (x + side, y) for x, y in (where[place] for place in chain[1:-1]) for side in (-WIDE / 2, WIDE / 2)
            ]
            route = _bend([ports[number, 0], *level, ports[number, 1]])
            routes.append(route[::-1] if turned[number] else route)
    return Layout({name: where[name] for name in names}, tuple(routes), back)


def _layers(names: list[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Each state's layer: a new one starts where it is full or a strong arrow comes from within.

    Arrows count as strong from so much on that there are not too many layers.
    """
    inner = names[1:-1]
    most = max(LAYERS, round(len(inner) ** 0.5))
    full = 1 + -(-len(inner) // most)
    forth = {(edge.source, edge.target): edge.n for edge in edges}
    layer: dict[str, int] = {}
    for least in [*sorted(set(forth.values())), np.inf]:
        layer, row, at = {names[0]: 0}, list[str](), 1
        for name in inner:
            strong = any(forth.get((other, name), -1) >= least for other in row)
            if row and (strong or len(row) >= full):
                row, at = [], at + 1
            row.append(name)
            layer[name] = at
        if at <= most:
            break
    layer[names[-1]] = max(layer.values()) + 1
    return layer


def _neighbours(
    chains: list[list[str]], layer: Mapping[str, int], edges: Sequence[Edge]
) -> dict[str, list[tuple[str, float, int]]]:
    """Of each place, those that it is tied to, how strongly, and on which side (-1 left, 1 right)."""
    found: dict[str, list[tuple[str, float, int]]] = {}
    top = max((edge.n for edge in edges), default=1)
    for edge, chain in zip(edges, chains, strict=True):
        if layer[edge.source] == layer[edge.target]:
            continue
        weight = 0.1 + (edge.n / top) ** 0.5
        for left, right in pairwise(chain):
            found.setdefault(left, []).append((right, weight, 1))
            found.setdefault(right, []).append((left, weight, -1))
    return found


def _blocks(row: list[str], edges: Sequence[Edge]) -> list[list[str]]:
    """The places of a layer, those together that arrows within the layer tie, in the order of a journey."""
    block = {name: [name] for name in row}
    for edge in edges:
        one, other = block.get(edge.source), block.get(edge.target)
        if one is not None and other is not None and one is not other:
            joined = sorted(one + other, key=row.index)
            block.update(dict.fromkeys(joined, joined))
    return list({id(names): names for names in block.values()}.values())


def _heights(
    rows: list[list[list[str]]], ties: Mapping[str, list[tuple[str, float, int]]], size: Mapping[str, float]
) -> dict[str, float]:
    """How high each place is. The blocks of a row may change places, not what is in a block."""
    y: dict[str, float] = {}

    def settle(row: list[list[str]], side: int) -> None:
        names = [name for block in row for name in block]
        y.update(zip(names, _apart(np.array([wish(name, side) for name in names]), names, size), strict=True))

    def wish(name: str, side: int) -> float:
        seen = [(y[other], weight) for other, weight, where in ties.get(name, []) if side in (where, 0)]
        total = sum(weight for _, weight in seen)
        return sum(value * weight for value, weight in seen) / total if total else y[name]

    y.update({name: 0.0 for row in rows for block in row for name in block})
    for row in rows:
        settle(row, -1)
    for sweep in range(SWEEPS):
        side = -1 if sweep % 2 == 0 else 1
        for row in rows if side == -1 else rows[::-1]:
            wishes = {id(block): float(np.mean([wish(name, side) for name in block])) for block in row}
            row.sort(key=lambda block, wishes=wishes: wishes[id(block)])  # type: ignore[misc]
            settle(row, side)
    for _ in range(SWEEPS):
        for row in rows:
            settle(row, 0)
    return y


def _apart(wishes: np.ndarray, row: list[str], size: Mapping[str, float]) -> np.ndarray:
    """Heights as near to the wishes as can be, in their order and without touching (pooled adjacent violators)."""
    sizes = np.array([size[name] for name in row])
    offset = np.concatenate([[0.0], np.cumsum((sizes[1:] + sizes[:-1]) / 2)])
    pools: list[tuple[float, float]] = []  # the mean of some that stand close together, and their weight
    counts: list[int] = []
    for value, weight in zip(wishes - offset, sizes, strict=True):
        pools.append((value, weight))
        counts.append(1)
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (a, u), (b, v) = pools[-2:]
            pools[-2:] = [((a * u + b * v) / (u + v), u + v)]
            counts[-2:] = [counts[-2] + counts[-1]]
    return np.repeat([value for value, _ in pools], counts) + offset


def _ports(
    chains: list[list[str]], edges: Sequence[Edge], layer: Mapping[str, int], where: Mapping[str, Point]
) -> dict[tuple[int, int], Point]:
    """Where each arrow touches its left (0) and its right box (1): spread along the side, in the order they come."""
    sides: dict[tuple[str, int], list[tuple[float, int, int]]] = {}
    for number, (edge, chain) in enumerate(zip(edges, chains, strict=True)):
        if layer[edge.source] == layer[edge.target]:
            continue
        sides.setdefault((chain[0], 1), []).append((where[chain[1]][1], number, 0))
        sides.setdefault((chain[-1], -1), []).append((where[chain[-2]][1], number, 1))
    found = {}
    for (name, side), touching in sides.items():
        x, y = where[name]
        for place, (_, number, end) in enumerate(sorted(touching)):
            spread = (place + 1) / (len(touching) + 1) - 0.5
            found[number, end] = (x + side * WIDE / 2, y + 0.9 * HIGH * spread)
    return found


def _bend(points: list[Point]) -> np.ndarray:
    """A curve through points that is level at each."""
    t = np.linspace(0, 1, SMOOTH)
    step = 3 * t**2 - 2 * t**3
    parts = [
        np.column_stack([a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * step])[: None if last else -1]
        for last, (a, b) in [(k == len(points) - 2, pair) for k, pair in enumerate(pairwise(points))]
    ]
    return np.concatenate(parts)


def _loop(box: Point) -> np.ndarray:
    """From a box's top back to it."""
    angle = np.linspace(np.pi, 0, SMOOTH)
    return np.column_stack([box[0] + 0.42 + 0.18 * np.cos(angle), box[1] - HIGH / 2 - 0.2 * np.sin(angle)])


def _beside(source: Point, target: Point, back: bool) -> np.ndarray:
    """To a box below or above: straight down where it is the next, else along the right side."""
    down = 1 if target[1] > source[1] else -1
    apart = abs(target[1] - source[1])
    t = np.linspace(0, 1, SMOOTH)
    if apart < 1.5 * DOWN:
        x = source[0] - (0.25 * WIDE if back else 0.0)  # there and back, side by side
        return np.column_stack([np.full(SMOOTH, x), source[1] + down * (HIGH / 2 + (apart - HIGH) * t)])
    start, end = source[1] + 0.2 * HIGH * down, target[1] - 0.2 * HIGH * down
    out = 0.2 + 0.03 * min(6.0, apart)
    return np.column_stack([source[0] + WIDE / 2 + out * np.sin(np.pi * t), start + (end - start) * t])


def _width(edges: Sequence[Edge]) -> np.ndarray:
    """Points, the area of an arrow by how often it is gone."""
    n = np.array([edge.n for edge in edges], float)
    width = THIN + (THICK - THIN) * n / max(1.0, n.max(initial=0.0))
    return np.where([edge.source == edge.target for edge in edges], np.minimum(width, LOOP), width)


def _lines(name: str) -> list[str]:
    """A name in at most two lines."""
    return textwrap.wrap(name, LINE, max_lines=2, placeholder="…", break_on_hyphens=False) or [name]


def _colours(nodes: Sequence[Node]) -> tuple[dict[str, str], Any]:
    """The colour of each box, and what it means: a mappable, or None where colours mean nothing."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize, to_hex

    known = [node.fill for node in nodes if node.fill is not None and np.isfinite(node.fill)]
    if not known:
        return {node.name: "#FFFFFF" if node.fill is None else "#EEEEEE" for node in nodes}, None
    low, high = min(known), max(known)
    scale = Normalize(low, high if high > low else low + 1)
    shades = colormaps["YlGnBu"]
    found = {}
    for node in nodes:
        if node.fill is None:
            found[node.name] = "#FFFFFF"
        else:
            found[node.name] = to_hex(shades(0.75 * scale(node.fill))) if np.isfinite(node.fill) else "#EEEEEE"
    pale = ScalarMappable(scale, type(shades).from_list("pale", shades(np.linspace(0, 0.75, 64))))  # type: ignore[attr-defined]
    return found, pale


def draw(nodes: Sequence[Node], edges: Sequence[Edge], *, title: str, note: str = "", scale: str = "") -> Axes:
    """A static drawing.

    Args:
        nodes: States in the order of a journey, those of the start and the end first and last.
        edges: Arrows; those with a label and the widest are drawn last.
        title: Above it.
        note: Below it.
        scale: What the colour of the boxes shows.
    """
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
    from matplotlib.path import Path as Curve

    placed = layout(nodes, edges)
    low, high = _extent(placed)
    wide, tall = max(6.0, high[0] - low[0]), max(2.0, high[1] - low[1])
    colours, meaning = _colours(nodes)
    below = textwrap.wrap(note, int(13 * wide))
    ax = axes(title, width=wide + 0.4, height=tall + 0.6 + 0.17 * len(below))
    ax.set_xlim(low[0], low[0] + wide)
    ax.set_ylim(low[1] + tall, low[1])
    ax.set_aspect("equal")
    ax.set_axis_off()
    widths = _width(edges)
    for number in _order(edges, widths):
        edge, route = edges[number], placed.routes[number]
        colour = edge.colour or (BACK if placed.back[number] else FORTH)
        head = 4 + 1.3 * widths[number]
        arrow = FancyArrowPatch(
            path=Curve(route),
            arrowstyle=f"-|>,head_length={head},head_width={head / 2}",
            mutation_scale=1,
            linewidth=widths[number],
            color=colour,
            alpha=0.75,
            shrinkA=0,
            shrinkB=0,
            joinstyle="miter",
            capstyle="butt",
            zorder=1,
        )
        ax.add_patch(arrow)
        if edge.label and len(edges) <= LABELLED:
            aside = "\n" in edge.label and edge.source == edge.target
            x, y = route[-1] + (0.03, -0.16) if aside else _label_at(route, edge.label)
            side = "left" if aside else "center"
            ax.text(x, y, edge.label, fontsize=6.5, ha=side, va="center", zorder=4, bbox=_behind())
    for node in nodes:
        x, y = placed.boxes[node.name]
        colour = colours[node.name]
        box = FancyBboxPatch(
            (x - WIDE / 2 + 0.06, y - HIGH / 2 + 0.06),
            WIDE - 0.12,
            HIGH - 0.12,
            boxstyle="round,pad=0.06",
            facecolor=colour,
            edgecolor="#444444",
            linewidth=0.8,
            zorder=3,
        )
        ax.add_patch(box)
        ink = _ink(colour)
        lines = _lines(node.name)
        at = y - 0.09 if node.label else y
        ax.text(x, at, "\n".join(lines), ha="center", va="center", fontsize=8, color=ink, zorder=5, linespacing=1.1)
        ax.text(x, y + HIGH / 2 - 0.1, node.label, ha="center", va="center", fontsize=6.5, color=ink, zorder=5)
    if meaning is not None:
        bar = ax.get_figure(root=True).colorbar(meaning, ax=ax, shrink=min(1.0, 2.5 / tall), pad=0.01, aspect=15)  # type: ignore[union-attr]
        bar.set_label(scale, fontsize=7)
        bar.ax.tick_params(labelsize=7)
    if below:
        ax.text(0, -0.01, "\n".join(below), fontsize=7, color=GREY, va="top", transform=ax.transAxes)
    return ax


def _extent(placed: Layout) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper corner of everything."""
    boxes = np.array(list(placed.boxes.values()))
    half = np.array([WIDE, HIGH]) / 2
    points = np.concatenate([boxes - half, boxes + half, *placed.routes])
    return points.min(axis=0) - 0.15, points.max(axis=0) + 0.15


def _label_at(route: np.ndarray, label: str) -> Point:
    """A third of the way of the first bend, where arrows of one box are apart; for two lines, where there is room."""
    at = SMOOTH // 3 if "\n" not in label else SMOOTH // 2 if len(route) == SMOOTH else SMOOTH + SMOOTH // 2
    x, y = route[at]
    return float(x), float(y)


def _order(edges: Sequence[Edge], widths: np.ndarray) -> list[int]:
    """Which arrow is drawn first: those without a label, then the thin ones."""
    return sorted(range(len(edges)), key=lambda number: (bool(edges[number].label), widths[number]))


def _behind() -> dict[str, Any]:
    return {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}


def _ink(colour: str) -> str:
    """Black or white, whichever is read on a colour."""
    red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "#FFFFFF"


def figure(
    nodes: Sequence[Node], edges: Sequence[Edge], *, title: str, note: str = "", static: Callable[[], str]
) -> Any:
    """The same drawing for a browser, where a pointer over a state or an arrow shows its figures: a Plotly figure.

    In a notebook it shows itself as Plotly's own type, which the extension for JupyterLab that Plotly 5 brings draws
    without a network, and as static SVG for what has no such extension. Plotly's default would write its four megabytes
    of JavaScript into the notebook.

    Args:
        nodes: As in `draw`.
        edges: As in `draw`.
        title: Above it.
        note: Below it.
        static: Makes the SVG.
    """
    from plotly import graph_objects as go
    from plotly.io import renderers

    class Shown(go.Figure):
        _ipython_display_ = None  # IPython asks for what follows then

        def _repr_mimebundle_(self, *_: Any, **__: Any) -> dict[str, Any]:
            return {**renderers["plotly_mimetype"].to_mimebundle(self.to_dict()), "image/svg+xml": static()}

    placed = layout(nodes, edges)
    low, high = _extent(placed)
    colours, _ = _colours(nodes)
    widths = _width(edges)
    drawn = Shown()
    middles, details, heads = [], [], []
    for number in _order(edges, widths):
        edge, route = edges[number], placed.routes[number]
        colour = edge.colour or (BACK if placed.back[number] else FORTH)
        line = {"color": colour, "width": float(widths[number])}
        drawn.add_trace(
            go.Scatter(x=route[:, 0], y=route[:, 1], mode="lines", line=line, hoverinfo="skip", opacity=0.8)
        )
        middles.append(route[len(route) // 2])
        details.append(_hover(edge.detail or f"{edge.source} → {edge.target}: {edge.n:,.0f}"))
        dx, dy = route[-1] - route[-3]
        heads.append((*route[-1], float(np.degrees(np.arctan2(dx, -dy))), colour, 7 + 1.3 * float(widths[number])))
    if edges:
        xs, ys, angle, shade, big = (list(values) for values in zip(*heads, strict=True))
        marker = {"symbol": "arrow", "angle": angle, "color": shade, "size": big}
        drawn.add_trace(go.Scatter(x=xs, y=ys, mode="markers", marker=marker, hoverinfo="skip"))
        spots = np.array(middles)
        dot = {"size": 9, "color": "white", "line": {"width": 1.5, "color": shade}}
        drawn.add_trace(
            go.Scatter(x=spots[:, 0], y=spots[:, 1], mode="markers", marker=dot, hovertext=details, hoverinfo="text")
        )
    boxes = []
    for node in nodes:
        x, y = placed.boxes[node.name]
        corners = {"x0": x - WIDE / 2, "x1": x + WIDE / 2, "y0": y - HIGH / 2, "y1": y + HIGH / 2}
        edge_of = {"line": {"width": 1, "color": "#444444"}, "fillcolor": colours[node.name]}
        boxes.append({"type": "rect", "layer": "below", **corners, **edge_of})
    places = np.array([placed.boxes[node.name] for node in nodes])
    texts = [_hover("\n".join(_lines(node.name))) + f"<br><sub>{_hover(node.label)}</sub>" for node in nodes]
    drawn.add_trace(
        go.Scatter(
            x=places[:, 0],
            y=places[:, 1],
            mode="markers+text",
            text=texts,
            textfont={"size": 9, "color": [_ink(colours[node.name]) for node in nodes]},
            marker={"size": 34, "opacity": 0},
            hovertext=[_hover(node.detail or node.name) for node in nodes],
            hoverinfo="text",
        )
    )
    below = "<br>".join(textwrap.wrap(note, 140))
    drawn.update_layout(
        title={"text": _hover(title), "font": {"size": 15}},
        shapes=boxes,
        showlegend=False,
        plot_bgcolor="white",
        width=int(PIXELS * (high[0] - low[0])) + 40,
        height=int(PIXELS * (high[1] - low[1])) + 130,
        margin={"l": 20, "r": 20, "t": 50, "b": 60},
        xaxis={"visible": False, "range": [low[0], high[0]]},
        yaxis={"visible": False, "range": [high[1], low[1]]},
        hoverlabel={"align": "left", "bgcolor": "white"},
    )
    if below:
        spot = {"xref": "paper", "yref": "paper", "x": 0, "y": 0, "yanchor": "top", "xanchor": "left"}
        drawn.add_annotation(text=below, showarrow=False, align="left", font={"size": 10, "color": GREY}, **spot)
    return drawn


def _hover(text: str) -> str:
    """Text as Plotly shows it, which reads some HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", "<br>")
