#!/usr/bin/env python
"""Draw the figures of docs/architecture.md: python docs/figures/draw_figures.py

Write network.svg (layers of MemCNP-VIS, with shapes) and data_flow.svg (from a video file to result files) beside this
script. Both follow the reader's light or dark colour scheme.
"""
from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; text-anchor: middle; dominant-baseline: middle }
  .note { font-size: 11px; fill: #59636e }
  .start { text-anchor: start }
  rect { fill: #ffffff; stroke: #59636e; stroke-width: 1.2; rx: 6 }
  .learned { fill: #ddf4ff; stroke: #0969da }
  .memory { fill: #fff8c5; stroke: #9a6700 }
  .output { fill: #dafbe1; stroke: #1a7f37 }
  .group { fill: none; stroke-dasharray: 5 4 }
  path { fill: none; stroke: #59636e; stroke-width: 1.4 }
  .head { fill: #59636e; stroke: none }
  .detached { stroke-dasharray: 4 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .note { fill: #9198a1 }
    rect { fill: #151b23; stroke: #9198a1 }
    .learned { fill: #0c2d4d; stroke: #4493f8 } .memory { fill: #3b2e06; stroke: #d29922 }
    .output { fill: #0f3a1c; stroke: #3fb950 } .group { fill: none }
    path { stroke: #9198a1 } .head { fill: #9198a1; stroke: none }
  }
"""


class Figure:
    """Boxes and arrows on a canvas of ``width`` × ``height`` pixels; ``title`` is read out by screen readers."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []

    def box(self, x: int, y: int, width: int, height: int, text: str, note: str = '', kind: str = '') -> None:
        """A box with its upper left corner at (x, y), a line of text and a smaller second line."""
        self.parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}"/>')
        middle = y + height / 2
        self.text(x + width / 2, middle - 8 if note else middle, text)
        if note:
            self.text(x + width / 2, middle + 9, note, 'note')

    def group(self, x: int, y: int, width: int, height: int, text: str) -> None:
        """A dashed frame with its caption inside, at the upper left."""
        self.parts.append(f'<rect class="group" x="{x}" y="{y}" width="{width}" height="{height}"/>')
        self.text(x + 10, y + 14, text, 'note start')

    def text(self, x: float, y: float, text: str, kind: str = '') -> None:
        self.parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>')

    def arrow(self, *points: tuple[float, float], kind: str = '') -> None:
        """A line through the points, with a head at the last; its last piece must be horizontal or vertical."""
        line = ' L'.join(f'{x:g},{y:g}' for x, y in points)
        self.parts.append(f'<path class="{kind}" d="M{line}"/>')
        (x0, y0), (x, y) = points[-2:]
        dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
        base_x, base_y = x - 7 * dx, y - 7 * dy
        self.parts.append(f'<path class="head" d="M{x:g},{y:g} L{base_x - 4 * dy:g},{base_y - 4 * dx:g} '
                          f'L{base_x + 4 * dy:g},{base_y + 4 * dx:g} Z"/>')

    def svg(self) -> str:
        body = '\n'.join(self.parts)
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img">\n'
                f'<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n')


def network() -> Figure:
    """The MemCNP head on one pyramid level, and what joins the levels."""
    figure = Figure(980, 470, 'Layers of MemCNP-VIS')
    figure.box(10, 190, 90, 50, 'image', '(B, 3, H, W)')
    figure.box(120, 190, 110, 50, 'ViT (MAE)', 'strides 8, 16, 32', 'learned')
    figure.box(250, 190, 110, 50, 'FPN', '4 levels, 256 ch.', 'learned')
    figure.arrow((100, 215), (120, 215))
    figure.arrow((230, 215), (250, 215))

    figure.group(385, 10, 405, 450, 'head, on every level')
    for y, name, note in ((60, 'class tower', 'c (B, C, h, w)'), (245, 'mask tower', 'm (B, C, h, w)'),
                          (395, 'track tower', 't (B, C, h, w)')):
        figure.box(400, y, 110, 46, name, note, 'learned')
        figure.arrow((360, 215), (375, 215), (375, y + 23), (400, y + 23))
    figure.box(400, 145, 110, 56, 'memory (CNP)', '128 units (C + 4)', 'memory')
    figure.arrow((455, 106), (455, 145))
    figure.text(437, 126, 'write', 'note')
    figure.arrow((510, 173), (528, 173), (528, 95), (545, 95))
    figure.text(511, 126, 'read', 'note')
    figure.box(545, 60, 95, 46, '[c, context]', '(B, 2C, h, w)')
    figure.arrow((510, 83), (545, 83))
    figure.box(545, 150, 95, 46, 'box conv', '3×3, 8 ch.', 'learned')
    figure.arrow((592, 106), (592, 150))
    figure.box(670, 60, 105, 46, 'class align', 'deformable 3×3', 'learned')
    figure.arrow((640, 83), (670, 83))
    figure.arrow((640, 166), (722, 166), (722, 106), kind='detached')
    figure.text(705, 138, 'boxes', 'note')
    figure.box(670, 245, 105, 46, 'mask align', 'deformable 3×3', 'learned')
    figure.arrow((510, 268), (670, 268))
    figure.arrow((722, 166), (722, 245), kind='detached')
    figure.box(545, 310, 95, 46, 'centerness', '3×3, 1 ch.', 'learned')
    figure.arrow((528, 268), (528, 333), (545, 333))

    for y, name, note in ((60, 'class logits', '(B, N, K)'), (130, 'boxes: μ, σ', '(B, N, 4) each'),
                          (245, 'mask features', '(B, C, H/2, W/2)'), (310, 'centerness', '(B, N)'),
                          (395, 'track embeddings', '(B, C, H/8, W/8)')):
        figure.box(820, y, 140, 46, name, note, 'output')
    figure.arrow((775, 83), (820, 83))
    figure.arrow((640, 182), (805, 182), (805, 153), (820, 153))
    figure.arrow((775, 268), (820, 268))
    figure.text(797, 258, 'fuse', 'note')
    figure.arrow((640, 333), (820, 333))
    figure.arrow((510, 418), (820, 418))
    figure.text(700, 408, 'fuse levels at strides 8, 16, 32', 'note')
    figure.text(592, 450, 'dashed arrows carry no gradient; N: locations of all levels', 'note')
    return figure


def data_flow() -> Figure:
    """From a data set or a video to result files."""
    figure = Figure(980, 250, 'Data flow of testing')
    figure.box(10, 20, 150, 50, 'YVISDataset', 'a clip of T frames')
    figure.box(10, 110, 150, 50, 'open_video', 'file, folder, camera, array')
    figure.box(200, 65, 140, 50, 'transforms', 'resize, pack: uint8')
    figure.arrow((160, 45), (180, 45), (180, 82), (200, 82))
    figure.arrow((160, 135), (180, 135), (180, 98), (200, 98))
    figure.box(370, 65, 150, 50, 'data preprocessor', '(N, T, 3, H, W), padded')
    figure.arrow((340, 90), (370, 90))
    figure.group(540, 20, 270, 150, 'detector')
    figure.box(548, 65, 124, 50, 'network, head', 'all T frames at once', 'learned')
    figure.box(690, 65, 105, 50, 'tracker', 'frame by frame')
    figure.arrow((520, 90), (548, 90))
    figure.arrow((672, 90), (690, 90))
    figure.text(677, 50, 'boxes, RLE, embeddings', 'note')
    figure.box(690, 185, 105, 46, 'stream state', 'one per video', 'memory')
    figure.arrow((730, 185), (730, 115))
    figure.arrow((755, 115), (755, 185))
    for y, name, note in ((20, 'metric', 'AP, OUT.pkl, JSON'), (90, 'visualiser', 'PNG, GIF, MP4'),
                          (160, 'your program', 'VideoInferencer')):
        figure.box(850, y, 120, 50, name, note, 'output')
        figure.arrow((795, 90), (830, 90), (830, y + 25), (850, y + 25))
    return figure


def main() -> None:
    folder = Path(__file__).resolve().parent
    for figure in (network, data_flow):
        (folder / f'{figure.__name__}.svg').write_text(figure().svg())


if __name__ == '__main__':
    main()
