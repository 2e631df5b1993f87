"""SVG without scripts: every text is escaped, and colours follow the reader's light or dark."""

from __future__ import annotations

from html import escape

from airflow_detection.domain.text import cut, visible

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2933 }
.muted { font-size: 11px; fill: #52606d }
.line { stroke: #9aa5b1; fill: none }
.box { fill: #f5f7fa; stroke: #7b8794 }
.shadow { fill: none; stroke: #9aa5b1; stroke-dasharray: 4 3 }
.bad { stroke: #c81e1e }
.land { fill: #e4e7eb; stroke: #9aa5b1; stroke-width: .6 }
.sea { fill: #f8fafc; stroke: #9aa5b1; stroke-width: .6 }
.s0 { stroke: #7b8794 }
.s1 { stroke: #0e7490 }
.s2 { stroke: #a16207 }
.s3 { stroke: #c2410c }
.s4 { stroke: #b91c1c }
.track { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round }
.accent { stroke: #2563eb; fill: none }
.bound { stroke: #c2410c; stroke-dasharray: 5 4; fill: none }
.fill { fill: #1f2933 }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e7eb }
  .muted { fill: #9aa5b1 }
  .line { stroke: #7b8794 }
  .box { fill: #323f4b; stroke: #9aa5b1 }
  .shadow { stroke: #7b8794 }
  .bad { stroke: #f87171 }
  .land { fill: #323f4b; stroke: #616e7c }
  .sea { fill: #1a2027; stroke: #616e7c }
  .s0 { stroke: #9aa5b1 }
  .s1 { stroke: #22d3ee }
  .s2 { stroke: #facc15 }
  .s3 { stroke: #fb923c }
  .s4 { stroke: #f87171 }
  .accent { stroke: #60a5fa }
  .bound { stroke: #fb923c }
  .fill { fill: #e4e7eb }
}
"""


def picture(width: float, height: float, title: str, parts: list[str]) -> str:
    """Return an `<svg>` of its own; `title` is what a screen reader says."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img"><title>{plain(title)}</title>'
        f"<style>{STYLE}</style>{''.join(parts)}</svg>\n"
    )


def plain(text: str, max_chars: int = 200) -> str:
    """Return a text of others as the content of an element or an attribute."""
    return escape(visible(cut(text, max_chars)), quote=True)
