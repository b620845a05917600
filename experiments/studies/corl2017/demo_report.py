"""The demo's page: the score of each method on the arm beside the unchanged column, and all provenance."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from analysis import curves, plots, records
from environments.arm import twin
from environments.jaco import camera, constants, tasks
from experiments.report import colors, drawing, html
from experiments.store import network_file, released, run_directory
from experiments.studies.corl2017 import demo, figures
from progressive import cost

LABELS = {
  "progressive": "progressive network",
  "finetune": "finetuning",
  "scratch": "from scratch",
  demo.UNCHANGED: "the column, unchanged",
}
_COLORS = {method: colors.METHODS[method][0] for method in LABELS}
_CAPTION = (
  "Each point is the mean return of 1,000 steps (20 episodes). The dashed line is the mean return of the unchanged "
  "column. Each line is one run, so there is no band."
)
_PAPER_CAPTION = (
  "The paper's curves, read from its figure. Dotted: points like ours. Solid: their running median over 11 points, "
  "with zeros before the start."
)


class Evaluation(NamedTuple):
  """Whole episodes after learning; `str` gives their mean return and its interval."""

  mean: float
  low: float  # Of the 95 % interval over these episodes; NaN if there is none.
  high: float
  episodes: int

  @property
  def interval(self) -> str:
    """The interval in brackets; a dash if there is none."""
    return f"[{self.low:.1f}, {self.high:.1f}]" if np.isfinite(self.low + self.high) else "–"

  def __str__(self) -> str:
    return f"{self.mean:.1f} {self.interval}"


def write(workdir: pathlib.Path, *, task: str, source: pathlib.Path) -> dict[str, str]:
  """Writes `workdir`/report.html from the runs in `workdir`; returns the summary, label -> words."""
  runs = {method: records.read(workdir / method) for method in demo.METHODS}
  drawn = drawing.mark_gaps(figures.fig5(list(runs.values())))
  drawing.write("corl2017_fig5", drawn, list(runs.values()), workdir / "figure")
  steps = min(records.num_steps(run) for run in runs.values())
  means = {method: _mean_return(run, steps) for method, run in runs.items()}
  afterwards = {demo.UNCHANGED: _played(workdir / demo.UNCHANGED)}
  afterwards |= {method: _evaluation(run) for method, run in runs.items()}
  back = {method: _played(workdir / demo.IN_SIMULATION / method) for method in runs}
  sections = [
    html.Section("Three methods on the arm", _scores(list(runs.values()), steps, means, afterwards, back)),
    html.Section("The arm after learning", _videos(workdir, afterwards)),
    html.Section("Two worlds", _worlds(task)),
    html.Section("What grew", _growth(workdir / "progressive")),
    html.Section("Where it comes from", _provenance(workdir, runs, source)),
  ]
  lead = (
    f"Three methods learn {task} on the twin arm, through the bridge: one run each, of {steps:,} steps "
    f"({steps / 600:.0f} minutes of the arm's time). All have the same teacher: the column itself, which sees what the "
    "simulation would show. The return is the number of steps, out of 50 in an episode, with the palm within 10 cm of "
    "the target."
  )
  unchanged = afterwards[demo.UNCHANGED]
  words = f"{LABELS[demo.UNCHANGED]}: mean return on the arm ({unchanged.episodes} episodes)"
  tiles = [(f"{unchanged.mean:.1f}", words, _COLORS[demo.UNCHANGED])]
  for method, one in back.items():
    words = f"{LABELS[method]}: mean return on the arm after learning, and {one.mean:.1f} back in simulation"
    tiles.append((f"{afterwards[method].mean:.1f}", words, _COLORS[method]))
  title = "A column learned in simulation is transferred to an arm"
  (workdir / "report.html").write_text(html.page(title, lead, sections, tiles=html.tiles(tiles)))
  said = {
    method: f"{mean:.1f} while learning, {afterwards[method]} afterwards; back in simulation {back[method]}"
    for method, mean in means.items()
  }
  return {LABELS[method]: words for method, words in ({demo.UNCHANGED: str(unchanged)} | said).items()}


def _scores(
  runs: Sequence[records.Run],
  steps: int,
  means: Mapping[str, float],
  afterwards: Mapping[str, Evaluation],
  back: Mapping[str, Evaluation],
) -> list[str]:
  """The figure with its panels as separate pictures, its table, and the returns after learning."""
  (ours, theirs), statistics = figures.fig5_panels(runs)
  level = np.full((1, 2), afterwards[demo.UNCHANGED].mean)
  unchanged = curves.Curve(np.asarray([0.0, steps]), level)
  lines = [
    *map(_points, ours.lines),
    plots.Line("the column, unchanged", _COLORS[demo.UNCHANGED], unchanged, style="--"),
  ]
  pictures = [
    html.plot(plots.png(figures.draw([panel])), caption)
    for panel, caption in ((plots.Panel(ours.title, lines), _CAPTION), (theirs, _PAPER_CAPTION))
  ]
  table = {
    LABELS[name]: {
      "while learning": f"{means[name]:.1f}" if name in means else "–",
      "afterwards": f"{one.mean:.1f}",
      "95 % interval": one.interval,
      "episodes": str(one.episodes),
      "back in simulation": str(back.get(name, "–")),
    }
    for name, one in afterwards.items()
  }
  note = (
    'The table shows mean returns. "While learning" is the mean over all episodes of one run. "Afterwards" is the '
    "mean over whole episodes after learning, with its interval over these episodes. The interval does not say how "
    'another run, with another seed, would have learned. "Back in simulation" is what each network can do there after '
    "learning on the arm. Of the progressive network, the frozen column plays there."
  )
  return [
    html.side_by_side(pictures),
    html.paragraph(note),
    html.table(table),
    html.paragraph(
      "The same figure as a table: one run of each of our methods, and the paper's below it. @1k is the running median "
      "at 1,000 steps. Columns named raw are without the median."
    ),
    html.table(_reached(statistics), quiet="(paper)"),
  ]


def _points(line: plots.Line) -> plots.Line:
  """The line through the raw points behind a median, without the 0 before the first point."""
  assert line.dotted is not None
  return line._replace(solid=curves.Curve(line.dotted.steps[1:], line.dotted.values[:, 1:]), dotted=None)


def _mean_return(run: records.Run, steps: int) -> float:
  ends, returns = records.episodes(run)
  return float(np.mean(returns[ends <= steps]))


def _evaluation(run: records.Run) -> Evaluation:
  m = records.last(run, kind="eval")
  if not m:
    raise ValueError(f"{run.path} was not evaluated after learning; give --evaluation_episodes above 0")
  low, high = (m.get(name, np.nan) for name in ("return_ci_low", "return_ci_high"))
  return Evaluation(m["return_mean"], low, high, int(m["episodes"]))


def _played(path: pathlib.Path) -> Evaluation:
  known = released.read_evaluation(path)
  mean, low, high = (float(x) for x in known.returns)
  return Evaluation(mean, low, high, known.episodes)


def _reached(statistics: drawing.Table) -> dict[str, dict[str, str]]:
  """The figure's table, without the columns that our short runs do not reach."""
  rows = drawing.cells(statistics, bounds=figures.RETURN_BOUNDS)
  ours = [cells for row, cells in rows.items() if "(ours)" in row]
  reached = [column for column in ours[0] if column != "runs" and any(cells[column] != "–" for cells in ours)]
  return {row: {column: cells[column] for column in reached} for row, cells in rows.items()}


def _videos(workdir: pathlib.Path, afterwards: Mapping[str, Evaluation]) -> list[str]:
  shown = []
  for name, one in afterwards.items():
    films = sorted((workdir / name / "videos").glob("*.mp4"), key=lambda film: film.stat().st_mtime)
    if films:
      shown.append(html.video(films[-1], f"{LABELS[name]}: return {one.mean:.1f} {one.interval}"))
  return [
    html.side_by_side(shown),
    html.paragraph("The policy sees these pictures of the arm's camera. They play in real time."),
  ]


def _worlds(task: str) -> list[str]:
  """The same pose in both worlds, as the policy sees it and at a larger size."""
  start = jax.jit(tasks.draw_start, static_argnums=0)(tasks.TASKS[task], jax.random.key(1))
  pose = np.asarray(start.qpos), np.asarray(start.target.position)
  shown = []
  for size in (480, constants.IMAGE_SIZE):
    simulated = camera.picture(camera.view(camera.nominal(), size=size), *pose)
    shown.append(html.picture(np.asarray(simulated), f"simulation, {size}x{size}"))
    shown.append(html.picture(twin.picture(twin.TwinConfig(), *pose, size=size), f"twin, {size}x{size}"))
  return [html.side_by_side(shown)]


def _growth(path: pathlib.Path) -> list[str]:
  spec = network_file.read_spec(path)
  paper = {0: "299K"}  # Rusu et al. 2017, table 1: recurrent and wide.
  rows, total = {}, 0
  for k, column in enumerate(cost.report(spec)):
    laterals = sum(len(layer.laterals) for layer in column.layers)
    total += column.num_parameters
    rows[f"column {k}"] = {
      "reads": ", ".join(name for name, _ in column.inputs) + (f" and {laterals} laterals" if laterals else ""),
      "layers": " – ".join(f"{layer.kind} {layer.shape[-1]}" for layer in column.layers),
      "learns": "on the arm" if k == len(spec.columns) - 1 else "frozen",
      "parameters": f"{column.num_parameters:,}",
      "paper": paper.get(k, ""),
      "MFLOPs a step": f"{column.flops / 1e6:.2f}",
    }
  rows["together"] = {"parameters": f"{total:,}"}
  return [html.table(rows)]


def _provenance(workdir: pathlib.Path, runs: Mapping[str, records.Run], source: pathlib.Path) -> list[str]:
  blocks = []
  file = source / "evaluation.json"
  if file.exists():
    known = run_directory.read_json(file)
    lines = "\n".join(f"{name}: {value}" for name, value in known.items() if not isinstance(value, dict | list))
    blocks += [html.paragraph(f"The frozen column is {source}:"), html.code(lines)]
  rates = [records.last(run)["wall_s"] for run in runs.values()]
  first = next(iter(runs.values())).provenance
  packages = ", ".join(f"{name} {version}" for name, version in first.get("packages", {}).items() if version)
  took = ", ".join(f"{method} {seconds:.0f} s" for method, seconds in zip(runs, rates, strict=True))
  commands = "\n".join(str(run.provenance.get("command")) for run in runs.values())
  blocks += [
    html.paragraph(
      f"Commit {first.get('commit')}. {packages}. {first.get('cpu_cores')} CPU cores. The runs took: {took}."
    ),
    html.paragraph("Each run is one command. It serves its own twin:"),
    html.code(commands),
    html.paragraph(f"Run directories, the figure and its numbers are in {workdir}."),
  ]
  return blocks
