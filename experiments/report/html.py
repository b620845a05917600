"""A page for people: one HTML file that contains its pictures and videos and needs no other file.

A page is a title, a line under it, and sections. A section is a heading and blocks of HTML that the functions here
make. Everything from outside (paths, commands, numbers) is escaped.
"""

import base64
import html
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import imageio.v3 as imageio
import numpy as np

_STYLE = pathlib.Path(__file__).with_name("page.css")


class Section(NamedTuple):
  """A heading and the blocks under it."""

  heading: str
  blocks: Sequence[str]  # HTML


def page(title: str, lead: str, sections: Sequence[Section], *, tiles: str = "") -> str:
  """The whole file."""
  body = "".join(f"<section><h2>{html.escape(s.heading)}</h2>{''.join(s.blocks)}</section>" for s in sections)
  head = (
    f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    f"<title>{html.escape(title)}</title><style>{_STYLE.read_text()}</style>"
  )
  top = f'<h1>{html.escape(title)}</h1><p class="lead">{html.escape(lead)}</p>'
  return f'<!doctype html><html lang="en"><head>{head}</head><body><main>{top}{tiles}{body}</main></body></html>\n'


def paragraph(text: str) -> str:
  """A paragraph of plain text."""
  return f"<p>{html.escape(text)}</p>"


def code(text: str) -> str:
  """Text unchanged, in a fixed-width font."""
  return f"<pre>{html.escape(text)}</pre>"


def tiles(numbers: Sequence[tuple[str, str, str]]) -> str:
  """Large numbers side by side: (number, what it is, colour)."""
  cells = "".join(
    f'<div class="tile" style="border-top-color:{html.escape(color)}"><b>{html.escape(number)}</b>'
    f"<span>{html.escape(label)}</span></div>"
    for number, label, color in numbers
  )
  return f'<div class="tiles">{cells}</div>'


def table(rows: Mapping[str, Mapping[str, str]], *, quiet: str = "\0") -> str:
  """A table from row name -> column name -> cell; rows whose name contains `quiet` are shown less prominently.

  On a narrow screen every row becomes a block of lines, one for each cell.
  """
  columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
  head = "".join(f"<th>{html.escape(column)}</th>" for column in ("", *columns))
  lines = []
  for name, cells in rows.items():
    line = f"<td>{html.escape(name)}</td>"
    for column in columns:
      line += f'<td data-column="{html.escape(column)}">{html.escape(cells.get(column, ""))}</td>'
    lines.append(f"<tr{' class=quiet' if quiet in name else ''}>{line}</tr>")
  return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def picture(pixels: np.ndarray, caption: str) -> str:
  """An image `[H, W, 3]` uint8; small ones keep their square pixels when enlarged."""
  buffer = io.BytesIO()
  imageio.imwrite(buffer, pixels, extension=".png")
  return _figure(buffer.getvalue(), caption, "pixels" if pixels.shape[0] <= 128 else "")


def plot(png: bytes, caption: str) -> str:
  """A figure, as wide as the page, or beside others if there is room to read each."""
  return _figure(png, caption, "", "plot")


def video(path: pathlib.Path, caption: str) -> str:
  """An mp4, inside the page."""
  return (
    f'<figure><video controls loop muted autoplay playsinline class="pixels" src="data:video/mp4;base64,'
    f'{base64.b64encode(path.read_bytes()).decode()}"></video><figcaption>{html.escape(caption)}</figcaption></figure>'
  )


def side_by_side(figures: Sequence[str]) -> str:
  """Figures in one row."""
  return f'<div class="row">{"".join(figures)}</div>'


def _figure(png: bytes, caption: str, image_class: str, figure_class: str = "") -> str:
  return (
    f'<figure class="{figure_class}"><img class="{image_class}" alt="{html.escape(caption)}" '
    f'src="data:image/png;base64,{base64.b64encode(png).decode()}"><figcaption>{html.escape(caption)}</figcaption></figure>'
  )
