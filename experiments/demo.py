"""The main job, end to end: a column learned in simulation goes to work on an arm behind a bridge.

    make demo                    # from the released column, about ten minutes on two cores
    make demo FROM_SCRATCH=1     # trains a column on `reach/fixed` first

Serves the twin arm, transfers `jaco_corl2017` for 10,000 arm steps with each of three methods through the bridge, and
writes `runs/demo/report.html`. Every part is an ordinary run of the project's own binaries in a run directory of its
own, so a second call continues what was stopped and repeats nothing that is done. The folder is `--workdir`: runs/demo,
or runs/demo_from_scratch.
"""

import functools
import json
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np
from absl import flags

from analysis import curves, intervals, plots, records
from environments.arm import server, twin
from environments.jaco import camera, constants, kinematics, tasks
from experiments import binary, figures
from experiments.configs import jaco_corl2017
from experiments.report import drawing, html
from experiments.store import network_file
from experiments.studies.corl2017 import figures as corl2017_figures
from progressive import cost

_COLUMN = flags.DEFINE_string("column", None, "Released column or run directory to start from; else the config's.")
_FROM_SCRATCH = flags.DEFINE_bool("from_scratch", False, "Train a column on reach/fixed first, and start from that.")
_STEPS = flags.DEFINE_integer("steps", 10_000, "Arm steps of each method.")
_TRAIN_STEPS = flags.DEFINE_integer("train_steps", 2_500_000, "Steps in simulation, with --from_scratch.")
_EPISODES = flags.DEFINE_integer("evaluation_episodes", 10, "Episodes on the arm after learning.")

METHODS = ("progressive", "finetune", "scratch")
_NUM_AT_ONCE = 2  # A learner and a twin each: two of these pairs keep two cores busy.
_CONFIG = os.path.relpath(jaco_corl2017.__file__)


def transfer(workdir: pathlib.Path, method: str, *, task: str, source: str, steps: int, episodes: int) -> None:
  """Learns `task` on a twin of its own by `method`, in `workdir`/`method`; what is done already is not done again."""
  path = workdir / method
  if is_finished(path, steps):
    print(f"{path} is finished")
    return
  config = server.ServerConfig(driver=twin.TwinConfig(), task=task, port=_port(path))
  with server.launch(config, timeout_s=180.0) as address:
    fields = {"world": f"arm://{address}", "train.steps": steps, "train.evaluation_episodes": episodes}
    _run(f":{method}", path, fields | ({} if method == "scratch" else {"source": source}))


def train(workdir: pathlib.Path, *, task: str, steps: int) -> pathlib.Path:
  """A column that learned `task` in simulation, in `workdir`/column."""
  path = workdir / "column"
  if not is_finished(path, steps):
    _run("", path, {"world": f"jaco/{task}", "train.steps": steps})
  return path


def is_finished(path: pathlib.Path, steps: int) -> bool:
  """Whether the run at `path` has its last checkpoint, which is written after everything else."""
  saved = (path / "checkpoints").glob("*") if (path / "checkpoints").is_dir() else ()
  return any(folder.name.isdigit() and int(folder.name) >= steps for folder in saved)


def write_report(workdir: pathlib.Path, *, task: str, source: pathlib.Path) -> dict[str, str]:
  """Writes `workdir`/report.html from the runs in `workdir`; returns the summary, what -> how much."""
  runs = {method: records.read(workdir / method) for method in METHODS}
  drawn = figures.make("corl2017_fig5", list(runs.values()))
  drawing.write("corl2017_fig5", drawn, list(runs.values()), workdir / "figure")
  steps = min(records.num_steps(run) for run in runs.values())
  means = {method: _mean_return(run, steps) for method, run in runs.items()}
  title = "A column learned in simulation goes to work on an arm"
  lead = (
    f"{task} on the twin arm, through the bridge: {steps:,} steps ({steps / 600:.0f} minutes of its time) by each of "
    "three methods. Return: steps of an episode, of 50, with the palm within 10 cm of the target."
  )
  labels = {"progressive": "progressive network", "finetune": "finetuning", "scratch": "from scratch"}
  tiles = html.tiles(
    [(f"{means[m]:.1f}", f"{labels[m]}: mean return while learning", corl2017_figures.COLORS[m][0]) for m in METHODS]
  )
  sections = [
    html.Section(
      "What a frozen column brings",
      [
        html.plot(plots.png(drawn.picture), "Return over arm steps. Solid: running median of 11 points as in "
          "the paper (zeros before the start); dotted: mean return of each 1,000 steps."),
        html.table(_reached(drawn), quiet="(paper)"),
      ],
    ),
    html.Section("The arm after learning", [_videos(workdir, runs)]),
    html.Section("Two worlds", _worlds(task)),
    html.Section("What grew", _growth(workdir / "progressive")),
    html.Section("Where it comes from", _provenance(workdir, runs, source)),
  ]  # fmt: skip
  (workdir / "report.html").write_text(html.page(title, lead, sections, tiles=tiles))
  evaluated = {method: _evaluation(run) for method, run in runs.items()}
  return {labels[m]: f"mean return {means[m]:.1f} while learning; afterwards {evaluated[m]}" for m in METHODS}


def _run(variant: str, path: pathlib.Path, fields: Mapping[str, Any]) -> None:
  """Learns by a variant of the config; its progress and its errors go where ours go."""
  flags_of_config = [f"--config.{name}={value}" for name, value in fields.items()]
  command = [sys.executable, "-m", "experiments.train", f"--config={_CONFIG}{variant}", f"--workdir={path}"]
  if subprocess.run([*command, *flags_of_config]).returncode:
    raise ValueError(f"{path} did not finish: its error stands above; the same command continues it")


def _port(path: pathlib.Path) -> int:
  """The port that the run at `path` was started with (it is part of its config), else a free one."""
  config = path / "config.json"
  if config.exists():
    return int(json.loads(config.read_text())["world"].rpartition(":")[2])
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def _mean_return(run: records.Run, steps: int) -> float:
  raw = curves.stack([curves.points(*records.episodes(run), bin_steps=1000, num_steps=steps)])
  return float(curves.mean_within(raw, 0, np.inf)[0])


def _evaluation(run: records.Run) -> str:
  m = records.last(run, kind="eval")
  if not m:
    return "not evaluated"
  mean = intervals.words(m["return_mean"], m.get("return_ci_low"), m.get("return_ci_high"))
  return f"{mean} in {m['episodes']:.0f} episodes"


def _reached(drawn: drawing.Drawn) -> dict[str, dict[str, str]]:
  """The figure's table without the columns that our short runs do not reach."""
  rows = drawing.cells(drawn.statistics)
  ours = [cells for row, cells in rows.items() if "(ours)" in row]
  reached = [column for column in ours[0] if column != "runs" and any(cells[column] != "–" for cells in ours)]
  return {row: {column: cells[column] for column in reached} for row, cells in rows.items()}


def _videos(workdir: pathlib.Path, runs: Mapping[str, records.Run]) -> str:
  shown = []
  for method, run in runs.items():
    films = sorted((workdir / method / "videos").glob("*.mp4"), key=lambda film: film.stat().st_mtime)
    if films:
      shown.append(html.video(films[-1], f"{method}: return {_evaluation(run)}"))
  return html.side_by_side(shown) + html.paragraph("What the arm's camera shows the policy, in real time.")


def _worlds(task: str) -> list[str]:
  """The same pose in both worlds, as the policy sees it and large."""
  start = tasks.draw_start(tasks.TASKS[task], jax.random.key(1))
  pose = np.asarray(start.qpos), np.asarray(start.target)
  shown = []
  for size in (480, constants.IMAGE_SIZE):
    shown.append(html.picture(np.asarray(_simulated(*pose, size=size)), f"simulation, {size}x{size}"))
    shown.append(html.picture(twin.picture(twin.TwinConfig(), *pose, size=size), f"twin, {size}x{size}"))
  return [html.side_by_side(shown)]


@functools.partial(jax.jit, static_argnames="size")
def _simulated(qpos: jax.Array, target: jax.Array, *, size: int) -> jax.Array:
  return camera.render(camera.nominal(), kinematics.forward(qpos), target, size=size)[0]


def _growth(path: pathlib.Path) -> list[str]:
  spec = network_file.read_spec(path)
  paper = {0: "299K", 1: "37K"}  # Rusu et al. 2017, table 1: recurrent wide and narrow.
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
  released = source / "evaluation.json"
  if released.exists():
    known = json.loads(released.read_text())
    lines = "\n".join(f"{name}: {value}" for name, value in known.items() if not isinstance(value, dict | list))
    blocks += [html.paragraph(f"The frozen column, {source}:"), html.code(lines)]
  rates = [records.last(run)["wall_s"] for run in runs.values()]
  first = next(iter(runs.values())).provenance
  packages = ", ".join(f"{name} {version}" for name, version in first.get("packages", {}).items() if version)
  took = ", ".join(f"{method} {seconds:.0f} s" for method, seconds in zip(runs, rates, strict=True))
  commands = "\n".join(str(run.provenance.get("command")) for run in runs.values())
  blocks += [
    html.paragraph(f"Commit {first.get('commit')}. {packages}. {first.get('cpu_cores')} CPU cores. Took: {took}."),
    html.paragraph("Each run is one command, with the twin served at the address it names:"),
    html.code(commands),
    html.paragraph(f"Run directories, figure and numbers: {workdir}."),
  ]
  return blocks


def main(argv: Sequence[str]) -> None:
  """Trains if asked, transfers, reports."""
  del argv
  is_from_scratch = _FROM_SCRATCH.value
  workdir = pathlib.Path(binary.WORKDIR.value or ("runs/demo_from_scratch" if is_from_scratch else "runs/demo"))
  task = "reach/fixed" if is_from_scratch else "reach/random"
  source = pathlib.Path(_COLUMN.value or jaco_corl2017.get_config("progressive").source)
  if is_from_scratch:
    source = train(workdir, task=task, steps=_TRAIN_STEPS.value)
  with futures.ThreadPoolExecutor(_NUM_AT_ONCE) as pool:
    started = [
      pool.submit(
        transfer, workdir, method, task=task, source=str(source), steps=_STEPS.value, episodes=_EPISODES.value
      )
      for method in METHODS
    ]
    for one in started:
      one.result()
  summary = write_report(workdir, task=task, source=source)
  print(f"\n{task} on the twin arm, {_STEPS.value:,} steps by each method:")
  for what, how_much in summary.items():
    print(f"  {what}: {how_much}")
  print(f"report: {(workdir / 'report.html').resolve()}")


if __name__ == "__main__":
  binary.run(main, reads=(binary.WORKDIR,))
