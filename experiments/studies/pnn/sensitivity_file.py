"""AFS and APS of a trained cell as a file: sensitivity.json, beside the cell's network.

The file also holds numbers that follow from others, for readers who do not use this code: AFS of every feature and of
every column in both readings, APS of every column. What cannot be determined is null. `read` takes only the Fisher
diagonals and the scores under noise; `analysis` computes the rest.
"""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from analysis import fisher, moments, perturbation
from experiments.store import run_directory
from experiments.studies.pnn import sensitivity

NAME = "sensitivity.json"


class Fault(NamedTuple):
  """Why a network has no APS."""

  num_episodes: int  # Played without noise.
  floor: float
  why: str


class Sensitivity(NamedTuple):
  """The measurements of one network."""

  num_samples: int
  every: int  # Steps of a world between two samples.
  diagonals: Mapping[moments.Place, np.ndarray]  # place -> [D] normalised Fisher diagonal.
  aps: sensitivity.Aps | None  # None if it was not measured.
  aps_fault: Fault | None = None  # Why it could not be measured.


def write(folder: pathlib.Path, measured: Sensitivity, *, about: Mapping[str, Any]) -> None:
  """Writes `folder/sensitivity.json`; `about`: anything else for a reader, including provenance."""
  value = {"sample_every": measured.every, "afs": _afs_to_json(measured), "aps": _aps_to_json(measured)}
  run_directory.write_json(folder / NAME, {**about, **value})


def read(folder: pathlib.Path) -> Sensitivity | None:
  """The contents of `folder/sensitivity.json`; None if there is none.

  Raises:
    ValueError: if the file is not as `write` writes it.
  """
  file = folder / NAME
  if not file.exists():
    return None
  try:
    value = run_directory.read_json(file)
    diagonals = {_place(one): np.asarray(one["fisher"], np.float64) for one in value["afs"]["places"]}
    aps = value["aps"] or {}
    return Sensitivity(
      num_samples=int(value["afs"]["num_samples"]),
      every=int(value["sample_every"]),
      diagonals=diagonals,
      aps=_aps_from_json(aps) if "places" in aps else None,
      aps_fault=_fault_from_json(aps) if "fault" in aps else None,
    )
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(f"{file} cannot be read ({error!r}); remove it and run experiments.analyse again") from None


def _afs_to_json(measured: Sensitivity) -> dict[str, Any]:
  per_feature = fisher.per_feature(measured.diagonals)
  by_reading = {reading: fisher.per_column(measured.diagonals, reading) for reading in fisher.READINGS}
  return {
    "num_samples": measured.num_samples,
    "places": [
      {"column": place[0], "layer": place[1]}
      | {reading: run_directory.finite(shares[place]) for reading, shares in by_reading.items()}
      | {"fisher": diagonal.tolist(), "per_feature": per_feature[place].tolist()}
      for place, diagonal in sorted(measured.diagonals.items())
    ],
  }


def _aps_to_json(measured: Sensitivity) -> dict[str, Any] | None:
  if measured.aps is None:
    fault = measured.aps_fault
    return fault and {"fault": fault.why, "num_episodes": fault.num_episodes, "floor": fault.floor}
  shares = perturbation.shares(measured.aps.criticals)
  return {
    "num_episodes": measured.aps.num_episodes,
    "clean_score": measured.aps.clean_score,
    "floor": measured.aps.floor,
    "places": [
      {
        "column": place[0],
        "layer": place[1],
        "share": run_directory.finite(shares[place]),
        "critical_scale": run_directory.finite(critical.scale),
        "where": critical.where,
        "scales": critical.scales.tolist(),
        "scores": critical.scores.tolist(),
      }
      for place, critical in sorted(measured.aps.criticals.items())
    ],
  }


def _aps_from_json(value: Mapping[str, Any]) -> sensitivity.Aps:
  clean_score, floor = float(value["clean_score"]), float(value["floor"])
  criticals = {
    _place(one): perturbation.of_scores(one["scales"], one["scores"], clean_score=clean_score, floor=floor)
    for one in value["places"]
  }
  return sensitivity.Aps(int(value["num_episodes"]), clean_score, floor, criticals)


def _fault_from_json(value: Mapping[str, Any]) -> Fault:
  """Files of earlier versions do not name the floor; NaN equals no floor that can be asked for."""
  return Fault(int(value.get("num_episodes", 0)), float(value.get("floor", "nan")), value["fault"])


def _place(value: Mapping[str, Any]) -> moments.Place:
  return int(value["column"]), str(value["layer"])
