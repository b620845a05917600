"""AFS spectra: how evenly a layer's features are used, and how this thins out as columns are added.

Figure 10 of Rusu et al. 2016 (appendix B) shows a net's AFS(i, k, m) of one layer, sorted. One spectrum is over the
source maps (12, 24, 36 maps with 2, 3, 4 columns), the other over the newest column's maps. The axis is stretched to a
fraction, and spectra are averaged over nets.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis import curves, fisher, moments


def source_values(afs: Mapping[moments.Place, np.ndarray], layer: str) -> np.ndarray:
  """AFS(i, k, m) of every feature of `layer` in all columns except the newest, `[n]`."""
  return np.concatenate([afs[place] for place in _places(afs, layer)[:-1]])


def newest_values(afs: Mapping[moments.Place, np.ndarray], layer: str) -> np.ndarray:
  """The same for the newest column."""
  return np.asarray(afs[_places(afs, layer)[-1]])


def spectrum(nets: Sequence[np.ndarray], *, num_points: int = 101) -> curves.Curve:
  """Sorted values over the fraction of features, `num_points` from 0 to 1; a row for each net's `[n]`; n may differ.

  The m-th largest of n values is at (m + 1/2) / n. The spectrum is linear between values and flat beyond the ends.
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
  """Share of features in use: (sum v)^2 / (n sum v^2); 1 if all are equal, 1/n for a single one, NaN for none."""
  values = np.asarray(values, np.float64)
  squares = len(values) * np.square(values).sum()
  return float(values.sum() ** 2 / squares) if squares > 0 else np.nan


def _places(afs: Mapping[moments.Place, np.ndarray], layer: str) -> list[moments.Place]:
  places = fisher.by_layer(afs).get(layer, [])
  if len(places) < 2:
    raise ValueError(f"layer {layer!r} is in {len(places)} columns; a spectrum needs a source and a newest one")
  return places
