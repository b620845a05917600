"""A figure before it is written, and how it is written: pictures, tables, what is missing, and its provenance.

`<figure>.png`, `.svg` and `.md` are for people. `<figure>.json` holds every number of its table, and `provenance.json`
holds the command, the commit and the runs that were read, figure by figure. A table's cell is one of three things: one
number for each run (shown as their mean and its interval: `analysis.intervals`), an estimate with its own interval, or
words if there is no number.
"""

import math
import pathlib
import tempfile
import textwrap
import types
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import figure as mpl_figure

from analysis import curves, intervals, plots, records
from experiments.store import run_directory

Cell = np.ndarray | intervals.Interval | str
Table = Mapping[str, Mapping[str, Cell]]  # Row -> column -> cell.
PROVENANCE = "provenance.json"
_NONE = "–"
# For the text under a picture, in 7 points; the table lists everything.
_MOST_LINES, _LINE_INCHES, _CHARACTERS_PER_INCH = 5, 0.125, 17


class Bounds(NamedTuple):
  """Limits that no number of a run can exceed: intervals end there."""

  low: float = -math.inf
  high: float = math.inf
  but_for: Collection[str] = ()  # Columns without these limits.

  def of(self, column: str) -> tuple[float, float]:
    return (-math.inf, math.inf) if column in self.but_for else (self.low, self.high)


_UNBOUNDED = Bounds()


class Drawn(NamedTuple):
  """A figure before it is written."""

  picture: mpl_figure.Figure
  statistics: Table
  # Further ones, by a name that is appended to the file's.
  more_pictures: Mapping[str, mpl_figure.Figure] = types.MappingProxyType({})
  more_tables: Mapping[str, Table] = types.MappingProxyType({})
  gaps: Mapping[str, str] = types.MappingProxyType({})  # What is missing from it -> why.
  places: int = 1  # Decimals in tables for people.
  bounds: Bounds = _UNBOUNDED  # For all tables.


def number(x: float) -> intervals.Interval:
  """A cell of one number that has no interval."""
  none = np.asarray(np.nan)
  return intervals.Interval(np.asarray(x), none, none)


def cells(table: Table, *, places: int = 1, bounds: Bounds = _UNBOUNDED) -> dict[str, dict[str, str]]:
  """A table as text, row -> column -> cell; intervals over runs end at `bounds`."""
  rows = {}
  for row, columns in table.items():
    runs = [len(cell) for cell in columns.values() if isinstance(cell, np.ndarray)]
    rows[row] = {"runs": str(max(runs))} if runs else {}
    rows[row] |= {column: _words(cell, places, bounds.of(column)) for column, cell in columns.items()}
  return rows


def numbers(table: Table, bounds: Bounds) -> dict[str, dict[str, Any]]:
  """A table as plain JSON values: mean, low, high and each run's number, null if there is none; or words."""
  return {
    row: {column: _summary(cell, bounds.of(column)) for column, cell in columns.items()}
    for row, columns in table.items()
  }


def markdown(drawn: Drawn) -> str:
  """All tables of a figure, and what is missing."""
  parts = [curves.table(cells(drawn.statistics, places=drawn.places, bounds=drawn.bounds))]
  for heading, table in drawn.more_tables.items():
    parts.append(f"## {heading}\n\n" + curves.table(cells(table, places=drawn.places, bounds=drawn.bounds)))
  if drawn.gaps:
    parts.append("Missing:\n\n" + "".join(f"- {what}: {why}\n" for what, why in drawn.gaps.items()))
  return "\n".join(parts)


def open_folder(out: pathlib.Path) -> dict[str, Any]:
  """Makes the folder if necessary; returns what its provenance.json says about existing figures, {} if there are none.

  Raises:
    ValueError: if the folder cannot be written in, or that file is damaged.
  """
  try:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
      pass
  except OSError as error:
    raise ValueError(f"--out={out} cannot be written in ({error.strerror}); name another folder") from None
  return run_directory.read_provenance(out)


def write(name: str, drawn: Drawn, runs: Sequence[records.Run], out: pathlib.Path) -> list[str]:
  """Writes the figure into `out`; returns the names of the files.

  Raises:
    ValueError: before anything is written, as `open_folder`.
  """
  known = open_folder(out)
  pictures = {name: drawn.picture} | {f"{name}_{key}": one for key, one in drawn.more_pictures.items()}
  tables = {name: drawn.statistics} | {f"{name}_{key}": one for key, one in drawn.more_tables.items()}
  for stem, picture in pictures.items():
    plots.save(picture, out / stem)
  for stem, table in tables.items():
    run_directory.write_json(out / f"{stem}.json", numbers(table, drawn.bounds))
  (out / f"{name}.md").write_text(markdown(drawn))
  read = {str(run.path): {key: run.provenance.get(key) for key in ("command", "commit", "seed")} for run in runs}
  run_directory.write_json(out / PROVENANCE, known | {name: run_directory.provenance() | {"runs": read}})
  return [f"{stem}.png" for stem in pictures] + [f"{name}.md"] + [f"{stem}.json" for stem in tables]


def mark_gaps(drawn: Drawn) -> Drawn:
  """Adds a strip under the picture that says what is missing from it; returns the figure."""
  picture, gaps = drawn.picture, drawn.gaps
  if not gaps:
    return drawn
  width, height = picture.get_size_inches()
  lines = textwrap.wrap(_missing(gaps), int((width - 0.2) * _CHARACTERS_PER_INCH))
  if len(lines) > _MOST_LINES:
    lines = [*lines[: _MOST_LINES - 1], "and more: see the table"]
  strip = _LINE_INCHES * (len(lines) + 1)
  legend_height = _raise_legends(picture, strip)
  picture.set_size_inches(width, height + strip)
  below = (strip + legend_height) / (height + strip)
  engine = picture.get_layout_engine()
  assert engine is not None
  engine.set(rect=(0.0, below, 1.0, 1.0 - below))  # type: ignore[call-arg]
  middle = 0.5 * strip / (height + strip)
  picture.text(0.1 / width, middle, "\n".join(lines), fontsize=7, color="0.4", va="center", linespacing=1.2)
  return drawn


def _raise_legends(picture: mpl_figure.Figure, strip: float) -> float:
  """Moves legends below all axes up by `strip` inches; returns how many inches they need there.

  The layout makes room for a legend at the edge of the picture, but not for a moved one.
  """
  _, height = picture.get_size_inches()
  picture.draw_without_rendering()
  most = 0.0
  for legend in picture.legends:
    box = legend.get_window_extent().transformed(picture.transFigure.inverted())
    if box.y1 < min(axis.get_position().y0 for axis in picture.axes):
      share = strip / (height + strip)
      legend.set_bbox_to_anchor((0.0, share, 1.0, 1.0 - share), picture.transFigure)
      most = max(most, box.height * height + 0.1)
  return most


def _missing(gaps: Mapping[str, str]) -> str:
  """'missing: a, b (not run); c (at step 7)'."""
  by_reason: dict[str, list[str]] = {}
  for what, why in gaps.items():
    by_reason.setdefault(why, []).append(what)
  return "missing: " + "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items())


def _words(cell: Cell, places: int, bounds: tuple[float, float]) -> str:
  if isinstance(cell, str):
    return cell
  mean, low, high = (float(x) for x in _interval(cell, bounds))
  if not math.isfinite(mean):
    return _NONE
  places = 0 if mean >= 1000 else places
  return intervals.words(mean, low, high, places=places)


def _summary(cell: Cell, bounds: tuple[float, float]) -> Any:
  if isinstance(cell, str):
    return cell
  interval = _interval(cell, bounds)
  entry: dict[str, Any] = {name: _number(x) for name, x in zip(interval._fields, interval, strict=True)}
  return entry | ({"each": [_number(x) for x in cell]} if isinstance(cell, np.ndarray) else {})


def _number(x: np.ndarray | float) -> float | None:
  return None if np.isnan(x) else float(x)


def _interval(cell: np.ndarray | intervals.Interval, bounds: tuple[float, float]) -> intervals.Interval:
  """The mean over runs and its interval; none if a run has no number, or an infinite one."""
  if isinstance(cell, intervals.Interval):
    return cell
  return intervals.of_mean(cell, bounds=bounds) if np.isfinite(cell).all() else number(np.nan)
