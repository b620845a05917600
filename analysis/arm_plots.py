"""What an arm did, in numbers and in a figure: the regularity of its steps, its joint angles, its commands.

The inputs are arrays from one recording. A period goes from the end of a step to the end of the next step of the same
episode. Its difference from the control step is the jitter. A period of more than one and a half control steps is a
gap.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import figure as mpl_figure

from analysis import plots

_GAP = 1.5  # In control steps.
_MOST_POINTS = 5_000  # In a line.
_SHOWN_S = 10.0  # How much of the commands is shown.
_ASKED, _ALLOWED, _FAULT = "#d9661f", "#1f4e9c", "#c00000"


class Steps(NamedTuple):
  """Data of T steps, in order."""

  time_s: np.ndarray  # [T]
  episode: np.ndarray  # [T] int: number of its episode, from 1; each begins with a step that nothing led to. 0: none.
  reward: np.ndarray  # [T]
  qpos_rad: np.ndarray  # [T, J]
  is_cut_short: np.ndarray  # [T] bool: the step ended before its period.
  is_last: np.ndarray  # [T] bool: the episode ended with this step.


class Commands(NamedTuple):
  """What the gate commanded the arm: N changes, each valid until the next."""

  time_s: np.ndarray  # [N]
  asked_rad_s: np.ndarray  # [N, J]
  allowed_rad_s: np.ndarray  # [N, J]


def periods(steps: Steps) -> np.ndarray:
  """Periods `[T - 1]`; NaN between episodes, outside of them, and for a step that was cut short."""
  is_within = (np.diff(steps.episode) == 0) & (steps.episode[1:] > 0) & ~steps.is_cut_short[1:]
  return np.where(is_within, np.diff(steps.time_s), np.nan)


def summary(steps: Steps, *, control_dt_s: float) -> list[str]:
  """Lines of text: how much was recorded, its returns, and its regularity."""
  period = periods(steps)
  inside = period[np.isfinite(period)]
  if not len(inside):
    return ["no whole step"]
  returns = np.bincount(steps.episode, steps.reward)[1:]
  is_whole = np.bincount(steps.episode, steps.is_last)[1:] > 0
  whole = returns[is_whole]
  paid = f"return {whole.mean():.2f}, from {whole.min():g} to {whole.max():g}" if len(whole) else "no whole episode"
  rest = f"; {len(returns) - len(whole)} more episodes did not end" if len(whole) < len(returns) else ""
  gaps = inside[inside > _GAP * control_dt_s]
  middle, late, most = np.percentile(np.abs(inside - control_dt_s), [50, 99, 100]) * 1e3
  span_s = steps.time_s[-1] - steps.time_s[0]
  longest = f", the longest {gaps.max():.2f} s" if len(gaps) else ""
  return [
    f"{len(inside):,} steps in {len(returns):,} episodes: {inside.sum() / 3600:.3f} h of {span_s / 3600:.3f} h",
    f"{paid}{rest}",
    f"jitter about {control_dt_s * 1e3:g} ms: p50 {middle:.2f} ms, p99 {late:.2f} ms, at most {most:.2f} ms",
    f"{len(gaps)} gaps{longest}",
    f"{np.count_nonzero(steps.is_cut_short)} more steps cut short: nobody waited, or target or camera was lost",
  ]


def figure(
  steps: Steps, commands: Commands, *, control_dt_s: float, fault_s: Sequence[float] = ()
) -> mpl_figure.Figure:
  """Angles of all joints and periods over the whole recording; each joint's commands in the first 10 s."""
  num_joints = steps.qpos_rad.shape[1]
  num_rows = 1 + -(-num_joints // 3)
  fig, every = plots.axes((13.0, 2.2 * num_rows), num_rows, 3)
  start_s, thin = steps.time_s[0], slice(None, None, -(-len(steps.time_s) // _MOST_POINTS))
  minutes = (steps.time_s - start_s) / 60
  angles, jitter, spread = every[0]
  for joint, values in enumerate(steps.qpos_rad[thin].T, start=1):
    angles.plot(minutes[thin], values, linewidth=0.8, label=f"{joint}")
  angles.set_title("joints, rad", fontsize=10, loc="left")
  beside = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "handlelength": 0.8, "columnspacing": 0.6}
  angles.legend(fontsize=7, frameon=False, ncols=num_joints, **beside)
  period = periods(steps) * 1e3
  jitter.plot(minutes[1:], period, ".", markersize=2, color=_ALLOWED, rasterized=True)
  jitter.axhline(control_dt_s * 1e3, color="0.6", linewidth=0.8)
  jitter.set_title("period, ms", fontsize=10, loc="left")
  for axis in (angles, jitter):
    axis.set_xlabel("minutes")
    for time_s in fault_s:
      axis.axvline((time_s - start_s) / 60, color=_FAULT, linewidth=1.0)
  late = np.abs(period[np.isfinite(period)] - control_dt_s * 1e3)
  spread.plot(np.sort(late), np.linspace(0, 100, len(late)), color=_ALLOWED)
  most = max(1.0, 1.1 * late.max(initial=0.0))
  jitter.set_ylim(control_dt_s * 1e3 - most, control_dt_s * 1e3 + most)
  spread.set_xscale("symlog", linthresh=1.0)
  spread.set_xlim(0.0, most)
  spread.set_title("steps with no more jitter, %", fontsize=10, loc="left")
  spread.set_xlabel("ms")
  until = np.searchsorted(commands.time_s, start_s + _SHOWN_S)
  seconds = commands.time_s[:until] - start_s
  for joint, axis in enumerate(every[1:].flat):
    axis.set_visible(joint < num_joints)
    if joint < num_joints:
      axis.step(seconds, commands.asked_rad_s[:until, joint], where="post", color=_ASKED, linewidth=1.6, label="asked")
      axis.step(
        seconds, commands.allowed_rad_s[:until, joint], where="post", color=_ALLOWED, linewidth=0.9, label="allowed"
      )
      axis.set_title(f"joint {joint + 1}, rad/s", fontsize=10, loc="left")
  for axis in every[-1]:
    axis.set_xlabel(f"seconds, of the first {_SHOWN_S:g}")
  plots.legend_below(fig, plots.handles_of(every[1:].flat), ncols=2)
  return fig
