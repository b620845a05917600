"""AFS spectra: how evenly a layer's features are used, and how that thins out as columns are added.

Figure 10 of Rusu et al. 2016 (appendix B): a net's AFS(i, k, m) of one layer, sorted; over the source maps (12, 24, 36
of them with 2, 3, 4 columns) and over the newest column's; the axis stretched to a fraction; averaged over nets.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis import curves, fisher, moments


def source_values(afs: Mapping[moments.Place, np.ndarray], layer: str) -> np.ndarray:
  """AFS(i, k, m) of every feature of `layer` in all columns but the newest, `[n]`."""
  return np.concatenate([afs[place] for place in _places(afs, layer)[:-1]])


def newest_values(afs: Mapping[moments.Place, np.ndarray], layer: str) -> np.ndarray:
  """The same of the newest column."""
  return np.asarray(afs[_places(afs, layer)[-1]])


def spectrum(nets: Sequence[np.ndarray], *, num_points: int = 101) -> curves.Curve:
  """Sorted values over the fraction of features, `num_points` from 0 to 1, one row a net of values `[n]`; n may differ.

  The m-th largest of n stands at (m + 1/2) / n, between them is a line, and beyond the ends it is flat.
  """
  if not nets:
    raise ValueError("no nets to average")
  fractions = np.linspace(0.0, 1.0, num_points)
  rows = []
  for values in nets:
    at = (np.arange(len(values)) + 0.5) / len(values)
    rows.append(np.interp(fractions, at, np.sort(np.asarray(values, np.float64))[::-1]))
  return curves.Curve(fractions, np.stack(rows))


def used_fraction(values: np.ndarray) -> float:
  """How many features carry the use: (sum v)^2 / (n sum v^2), 1 if all are equal, 1/n if one is all; NaN if none is."""
  values = np.asarray(values, np.float64)
  squares = len(values) * np.square(values).sum()
  return float(values.sum() ** 2 / squares) if squares > 0 else np.nan


def _places(afs: Mapping[moments.Place, np.ndarray], layer: str) -> list[moments.Place]:
  places = fisher.by_layer(afs).get(layer, [])
  if len(places) < 2:
    raise ValueError(f"layer {layer!r} is in {len(places)} columns; a spectrum needs a source and a newest one")
  return places
