"""The report of a launch as a piece of HTML, for notebooks: no scripts, no styles of the page's own, no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_COLOURS = ("#2563a8", "#d97706", "#2f855a", "#9b2c5c", "#6b46c1", "#0e7490", "#a16207", "#4a5568")
LEAST_SHARE = 0.01


def report_html(title: str, rows: Iterable[tuple[str, str]], shares: Sequence[tuple[str, float]]) -> str:
    """A title, the shares of what the cores did as one bar, and the rows of the report.

    Args:
        title: what was launched where.
        rows: label and text of each line of the report.
        shares: name and share of each cause of cycles, the largest first; small ones are left out.
    """
    drawn = [
        (name, share, _COLOURS[number % len(_COLOURS)])
        for number, (name, share) in enumerate(shares)
        if share >= LEAST_SHARE
    ]
    boxes = "".join(
        f'<span title="{escape(name)} {share:.1%}" style="display:inline-block;height:100%;width:{100 * share:.2f}%;'
        f'background:{colour}"></span>'
        for name, share, colour in drawn
    )
    legend = " ".join(
        f'<span style="white-space:nowrap;margin-right:1em"><span style="color:{colour}">&#9632;</span> {escape(name)} '
        f"{share:.0%}</span>"
        for name, share, colour in drawn
    )
    lines = "".join(
        f'<tr><td style="text-align:left;padding:1px 1em 1px 0;opacity:0.7">{escape(label)}</td>'
        f'<td style="text-align:left;padding:1px 0">{escape(" ".join(text.split()))}</td></tr>'
        for label, text in rows
    )
    return (
        f'<div style="max-width:60em"><div style="font-weight:bold;margin:4px 0">{escape(title)}</div>'
        f'<div style="height:14px;display:flex;border:1px solid rgba(128,128,128,0.4)">{boxes}</div>'
        f'<div style="font-size:90%;margin:4px 0">{legend}</div>'
        f'<table style="border-collapse:collapse;font-size:95%">{lines}</table></div>'
    )
