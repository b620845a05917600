"""Where a target of one colour is, from a calibrated camera and the height of its centre above the table.

A pixel counts if its colour points towards the target's and is strong for its brightness, whatever the light. The
largest patch of such pixels that is no larger than the ball can look is the target. The ray through the patch's middle
meets the plane at that height. If a part is hidden, the middle is that of the disc, as large as the ball must seem,
that covers most of the rest. If hardly anything is left, nothing is seen, and the last place holds for a while (Rusu et
al. 2017 track their target by its colour, too).
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy

from environments.arm import protocol, viewpoint
from environments.jaco import constants

Rgb = tuple[float, float, float]
_RED = (0.9, 0.1, 0.1)
_HUE, _STRENGTH = 0.85, 0.5  # Least cosine to the target's colour, both without grey; least share of its strength.
WHOLE, _SEEN = 0.75, 0.3  # Least share of a ball's pixels for it to be seen whole, and to be seen.
_MOST = 1.5  # Above this share a patch is something else. The twin's balls have at most 1.08.
_GRID = 0.25  # Pixels between the discs that are tried.
_NEAR_M = 0.04  # A partly seen place this near to the last one that was seen whole counts as that place.


class Spot(NamedTuple):
  """A patch of the target's colour."""

  rows: np.ndarray  # [N] of its pixels
  columns: np.ndarray  # [N]

  @property
  def center(self) -> np.ndarray:
    """Column and row `[2]`, pixels."""
    return np.array([self.columns.mean(), self.rows.mean()]) + 0.5


class Sight(NamedTuple):
  """A target that is seen."""

  place_m: np.ndarray  # [3] in the base frame
  is_whole: bool  # Nothing is in front of it.


@dataclasses.dataclass(frozen=True)
class Tracker:
  """What to look for, and with which camera.

  Attributes:
    view: the camera's viewpoint.
    height_m: height of the target's centre above the base.
    rgb: the target's colour, each channel in [0, 1]; its brightness does not matter.
    hold_s: how long the last place holds while nothing is seen.
  """

  view: viewpoint.Viewpoint
  height_m: float
  rgb: Rgb = _RED
  hold_s: float = constants.NUM_EPISODE_STEPS * constants.CONTROL_DT_S

  def __post_init__(self) -> None:
    if not _strength(np.array(self.rgb)) > 0.5:
      raise ValueError(f"rgb={self.rgb} is nearly grey; a target is told by its colour: take one that is red, say")

  def locate(self, pixels: np.ndarray) -> Sight | None:
    """The target in a picture, uint8 `[H, H, 3]`; None if it is not seen."""
    size = len(pixels)

    def radius_at(center: np.ndarray) -> float:
      return radius_px(self.view, self._on_plane(center, size), size=size)

    spot = find(pixels, self.rgb, radius_at)
    if spot is None or share(spot, radius := radius_at(spot.center)) < _SEEN:
      return None
    is_whole = share(spot, radius) > WHOLE
    return Sight(self._on_plane(spot.center if is_whole else _disc(spot, radius), size), is_whole)

  def _on_plane(self, pixel: np.ndarray, size: int) -> np.ndarray:
    way = self.view.rays(pixel, size=size)
    return self.view.position_m + way * (self.height_m - self.view.position_m[2]) / way[2]


class Tracked:
  """A target's place over time."""

  def __init__(self, tracker: Tracker):
    self._tracker = tracker
    self._seen_s = -np.inf
    self._last: Sight | None = None

  def place(self, pixels: np.ndarray, time_s: float) -> np.ndarray:
    """The target in the base frame `[3]`, from a picture uint8 `[H, H, 3]`. If nothing is seen, its last place.

    Raises:
      protocol.BridgeError: if it has not been seen for long, or never.
    """
    sight = self._tracker.locate(pixels)
    if sight is not None:
      self._seen_s = time_s
      if not self._is_worse(sight):
        self._last = sight
    if self._last is None:
      raise protocol.BridgeError("the target has not been seen yet; move what hides it, or give its colour")
    unseen_s = time_s - self._seen_s
    if unseen_s > self._tracker.hold_s:
      raise protocol.BridgeError(f"the target has not been seen for {unseen_s:.1f} s; move what hides it")
    return self._last.place_m

  def _is_worse(self, sight: Sight) -> bool:
    """Whether the last place tells better than `sight` where a partly seen target is."""
    last = self._last
    if last is None or sight.is_whole or not last.is_whole:
      return False
    return bool(np.linalg.norm(sight.place_m - last.place_m) < _NEAR_M)


def find(pixels: np.ndarray, rgb: Rgb, radius_at: Callable[[np.ndarray], float]) -> Spot | None:
  """The largest patch of a colour in a picture, uint8 `[H, H, 3]`, that is no larger than the ball can look.

  `radius_at` gives the radius in pixels of a ball whose centre is seen at a pixel (column and row `[2]`).
  """
  wanted, picture = np.array(rgb), pixels / 255.0
  is_wanted = (_hue(picture) @ _hue(wanted) > _HUE) & (_strength(picture) > _STRENGTH * _strength(wanted))
  patches, num_patches = scipy.ndimage.label(is_wanted)
  sizes = np.bincount(patches.ravel(), minlength=1 + num_patches)[1:]
  by_size = (Spot(*np.nonzero(patches == 1 + index)) for index in np.argsort(-sizes, kind="stable"))
  return next((spot for spot in by_size if share(spot, radius_at(spot.center)) < _MOST), None)


def radius_px(view: viewpoint.Viewpoint, target_in_base_m: np.ndarray, *, size: int) -> float:
  """The ball's apparent radius at a place `[3]`."""
  return float(view.focal(size) * constants.TARGET_RADIUS_M / np.linalg.norm(target_in_base_m - view.position_m))


def share(spot: Spot, radius: float) -> float:
  """The visible share of a ball with this radius in pixels. From `WHOLE` on its middle is the spot's own."""
  return spot.rows.size / (np.pi * radius**2)


def _disc(spot: Spot, radius: float) -> np.ndarray:
  """The middle `[2]` of the discs that cover the most of a patch."""
  ways = np.mgrid[-radius:radius:_GRID, -radius:radius:_GRID].reshape(2, -1).T  # [M, 2]
  centers = spot.center + ways
  pixels = np.stack([spot.columns, spot.rows], axis=-1) + 0.5  # [N, 2]
  num_covered = np.sum(np.linalg.norm(centers[:, None] - pixels, axis=-1) <= radius, axis=1)
  return centers[num_covered == num_covered.max()].mean(axis=0)


def _hue(rgb: np.ndarray) -> np.ndarray:
  """The direction `[..., 3]` from the grey of a colour's brightness to the colour."""
  way = rgb - rgb.mean(axis=-1, keepdims=True)
  return way / np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-6)


def _strength(rgb: np.ndarray) -> np.ndarray:
  """How far a colour is from that grey, relative to its brightness."""
  return np.std(rgb, axis=-1) / np.maximum(rgb.mean(axis=-1), 1e-6)
