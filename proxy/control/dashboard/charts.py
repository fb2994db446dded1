"""Small charts as SVG inside the page: lines and bars over an hour, without script and styles."""

from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 300, 56
_TOP = 4
Values = Sequence[float | None]


def bars(values: Sequence[float], marked: Sequence[float], about: str) -> Markup:
    """One bar a minute; ``marked`` is the part of each that is drawn in the colour of errors."""
    highest = max([*values, 1.0])
    step = WIDTH / max(1, len(values))
    drawn = []
    for at, (value, bad) in enumerate(zip(values, marked, strict=True)):
        for amount, kind in ((value, "one"), (bad, "bad")):
            if amount:
                height = max(1.0, amount / highest * (HEIGHT - _TOP))
                drawn.append(
                    Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                        kind, at * step + step * 0.1, HEIGHT - height, step * 0.8, height
                    )
                )
    return _chart(Markup("").join(drawn), about)


def lines(series: Sequence[tuple[str, Values]], about: str, *, highest: float | None = None) -> Markup:
    """One line for each series (its class and its values); a gap where there is no value.

    ``highest``: the value at the top; None: the highest there is.
    """
    if highest is None:
        highest = (
            max([value for _, values in series for value in values if value is not None] or [1.0]) or 1.0
        )
    drawn = []
    for kind, values in series:
        for run in _runs(values):
            points = " ".join(
                f"{(at + 0.5) * WIDTH / len(values):.1f},{HEIGHT - value / highest * (HEIGHT - _TOP):.1f}"
                for at, value in run
            )
            if len(run) == 1:
                x, y = points.split(",")
                drawn.append(Markup('<circle class="{}" cx="{}" cy="{}" r="2"/>').format(kind, x, y))
            else:
                drawn.append(Markup('<polyline class="{}" points="{}"/>').format(kind, points))
    return _chart(Markup("").join(drawn), about)


def _runs(values: Values) -> list[list[tuple[int, float]]]:
    """Neighbours that have values."""
    runs: list[list[tuple[int, float]]] = []
    open_ = False
    for at, value in enumerate(values):
        if value is None:
            open_ = False
            continue
        if not open_:
            runs.append([])
            open_ = True
        runs[-1].append((at, value))
    return runs


def _chart(drawn: Markup, about: str) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<line class="axis" x1="0" x2="{}" y1="{}" y2="{}"/>{}</svg>'
    ).format(WIDTH, HEIGHT, about, WIDTH, HEIGHT - 0.5, HEIGHT - 0.5, drawn)
