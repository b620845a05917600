"""The parts of a config: what is learned, where and how; one function for each section.

    experiment(world=..., method=..., source=..., train=phase(column=column(...), auxiliary={"d2": head(...)}, ...))

Every config describes one experiment: `method` on `world` from `source`, with any auxiliary heads. A `sweep` makes many
runs of it; a `matrix` (`studies.pnn.matrix`) makes many sweeps.
"""

import dataclasses
import difflib
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import config_dict

from agents import actor_critic

LEAST_RATE = 1e-12  # A learning rate at which nothing changes: the network is only played.


def check_variant(file: str, variant: str, known: Collection[str]) -> None:
  """Refuses a variant that is not in `known` and names the nearest one; `file` is the config's file."""
  if variant not in known:
    nearest = difflib.get_close_matches(variant, known, n=1, cutoff=0.0)[0]
    raise ValueError(f"{pathlib.Path(file).name}:{variant} is not one of {', '.join(known)}; nearest is {nearest}")


def experiment(
  *,
  world: str,
  train: config_dict.ConfigDict,
  world_options: Mapping[str, Any] | None = None,
  method: str = "scratch",
  source: str = "",
  output_init: str = "previous",
  alpha: float = 1.0,
  seed: int = 0,
  wandb: str = "",
) -> config_dict.ConfigDict:
  """One learner in one world.

  Args:
    world: where it learns: a name in the registry, an arm behind a bridge (arm://host:port), or a game (atari/pong).
    train: made by `phase`.
    world_options: options of the world's constructor.
    method: progressive, finetune, finetune_head, scratch or random_column (`progressive.baselines`).
    source: the trained network that the method starts from: a run directory, the best of a sweep, or a released column.
    output_init: how a new column's output starts: "previous": as exactly the previous policy (papers.md 2.3); "random";
      or "copy": the whole column is a copy of the one before it.
    alpha: initial scale of the adapters; Rusu et al. 2016 draw it from 1, 0.1, 0.01.
    seed: the seed of everything random, 0 to 2^32 - 1.
    wandb: a Weights & Biases project that also receives the records; '': none.
  """
  return config_dict.ConfigDict(
    {
      "seed": seed,
      "world": world,
      "world_options": dict(world_options or {}),
      "method": method,
      "source": source,
      "output_init": output_init,
      "alpha": alpha,
      "train": train,
      "wandb": wandb,
    }
  )


def column(
  *,
  inputs: tuple[str, ...] = ("pixels",),
  conv: tuple[tuple[int, int | tuple[int, int], int], ...] = ((16, 8, 4), (32, 5, 2)),
  dense: tuple[int, ...] = (128,),
  lstm: tuple[int, ...] = (128,),
  joins: tuple[tuple[str, str], ...] = (),
  embed: tuple[tuple[str, int], ...] = (),
  pixel_init: str = "lecun",
  memory: str = "lstm",
  norm: str = "none",
  start: str = "random",
  laterals: str = "adapter",
  output_laterals: str = "linear",
) -> config_dict.ConfigDict:
  """A column: convolutions on pictures, dense layers on these and all other inputs, memories, one linear output.

  Args:
    inputs: names of the observations that it reads; those of shape `[H, W, C]` go to the first convolution.
    conv: (features, kernel, stride) of each convolution, from `conv1` on; empty if no picture is read. A kernel is one
      size or (height, width).
    dense: units of each dense layer, from `dense1` on.
    lstm: units of each memory, from `lstm1` on.
    joins: (what, layer): an input or an earlier layer that this layer reads beside the layer below it; inputs `[D]`
      that are not named here join above the convolutions.
    embed: (input, units): an input `[D]` that goes through a dense layer of its own, whose output then replaces it.
    pixel_init: how kernels on pixels are initialised, "lecun" or "contrast": see `layers.Conv`.
    memory: the kind of the memories, "lstm" or "gru".
    norm: "layer" normalises the output of each dense layer before its ReLU (`layers.LayerNorm`); "none": no layer is
      normalised.
    start: "data" fits a new column to what its worlds show before anything is learned (`progressive.start`); "random"
      leaves it as it is drawn.
    laterals: how the column reads earlier columns: through an "adapter" each, "linear", or "blind" to the first column
      (see `progressive.lateral`). Memories read linearly.
    output_laterals: how its output reads them: "linear" as in Rusu et al. 2017, where the output can start as the
      previous policy, or through an "adapter" each as in Rusu et al. 2016, equation 2. The output of a blind column is
      blind too.
  """
  return config_dict.ConfigDict(locals())


def phase(
  *,
  column: config_dict.ConfigDict,
  steps: int,
  num_worlds: int,
  num_steps: int,
  evaluate_every: int,
  save_every: int,
  evaluation_episodes: int,
  updates_per_record: int = 10,
  auxiliary: Mapping[str, config_dict.ConfigDict] | None = None,
  evaluation_is_greedy: bool = False,
  keep_checkpoints: int = 3,
  video: bool = True,
  lag: int = 0,
  free_running: bool = False,
  teacher: str = "",
  replay_updates: int = 0,
  replay_size: int = 200,
  recording: str = "",
  recording_updates: int = 1000,
  **hyper: Any,
) -> config_dict.ConfigDict:
  """A phase of learning.

  Args:
    column: from `column`.
    steps: agent steps, over all worlds.
    num_worlds: B; 1 on an arm.
    num_steps: T, the length of an unroll.
    evaluate_every: agent steps between evaluations; 0: only at the end. The runs of a sweep are not evaluated.
    save_every: agent steps between checkpoints; 0: only at the end.
    evaluation_episodes: episodes in each evaluation; 0: no evaluation. A matrix evaluates the best run of each sweep.
    updates_per_record: how many updates share one 'train' record in JAX worlds. The episodes and the share of clipped
      gradients are of all these updates, everything else is of the last one. Behind `dm_env` each update has its own
      record.
    auxiliary: name -> `head`, in order: readouts that are trained beside policy and value.
    evaluation_is_greedy: whether evaluations play the most probable actions instead of drawn ones.
    keep_checkpoints: how many of the newest checkpoints are kept.
    video: whether evaluations are filmed, if there are pixels.
    lag: by how many updates the parameters that play the next steps are behind. 0: acting and learning take turns. 1: a
      separate thread plays the next steps while the learner learns from the last ones; only behind `dm_env`, and with
      hyper.correction="vtrace".
    free_running: each world is played in a thread of its own, with the newest parameters at every step, and never waits
      for the learner or for another world. The result then depends on timing. Only behind `dm_env`, and with
      hyper.correction="vtrace".
    teacher: a trained network, named like `source` in `experiment`. While the policy learns on an arm,
      hyper.teacher_cost draws it to this network, which sees what the simulation shows for the positions of arm and
      target (`setup.teacher`). '': none.
    replay_updates: number of further updates after each update, from earlier unrolls drawn at random; only behind
      `dm_env`, where a step costs time, and with hyper.correction="vtrace".
    replay_size: number of newest unrolls from which they are drawn. A run that goes on begins to fill them anew.
    recording: a recording of an arm (`arm --record`). Value and heads learn from its steps before the first step; the
      policy learns there only from its teacher. '': none.
    recording_updates: number of updates from the recording, of `num_steps` steps each, in order and then again from the
      first.
    **hyper: fields of `actor_critic.Hyper` that differ from their defaults.
  """
  return config_dict.ConfigDict(
    {
      "column": column,
      "auxiliary": dict(auxiliary or {}),
      "steps": steps,
      "num_worlds": num_worlds,
      "num_steps": num_steps,
      "evaluate_every": evaluate_every,
      "evaluation_episodes": evaluation_episodes,
      "evaluation_is_greedy": evaluation_is_greedy,
      "save_every": save_every,
      "keep_checkpoints": keep_checkpoints,
      "updates_per_record": updates_per_record,
      "video": video,
      "lag": lag,
      "free_running": free_running,
      "teacher": teacher,
      "replay_updates": replay_updates,
      "replay_size": replay_size,
      "recording": recording,
      "recording_updates": recording_updates,
      "hyper": dataclasses.asdict(actor_critic.Hyper(**hyper)),
    }
  )


def head(signal: str, layer: str, cost: float, *, hidden: int = 0, num_classes: int = 0) -> config_dict.ConfigDict:
  """An auxiliary head: the fields of `auxiliary.Head`."""
  return config_dict.ConfigDict(
    {"signal": signal, "layer": layer, "cost": cost, "hidden": hidden, "num_classes": num_classes}
  )


def sweep(
  *, num_runs: int, top: int, sampled: tuple[tuple[str, str, tuple[float, ...]], ...]
) -> config_dict.ConfigDict:
  """Many runs side by side (`running.devices`).

  Args:
    num_runs: number of members, each with its own seed.
    top: how many of them, the best, count.
    sampled: (field, "choice" or "log_uniform", values) for each hyper-parameter that is drawn for each member.
  """
  return config_dict.ConfigDict({"num_runs": num_runs, "top": top, "sampled": sampled})


def matrix(
  *,
  world: str,
  methods: tuple[str, ...],
  sources: tuple[str, ...],
  source_pairs: tuple[tuple[str, ...], ...],
  targets: tuple[str, ...],
  floors: tuple[float, ...],
  own_floors: Mapping[str, float] | None = None,
) -> config_dict.ConfigDict:
  """A transfer matrix: every method from every source to every other target (`studies.pnn.matrix`).

  Args:
    world: what stands before a target's name: "pong/".
    methods: names in `progressive.baselines.METHODS`.
    sources: tasks that are learned first.
    source_pairs: for networks of three and more columns, the tasks of the first columns, in order.
    targets: tasks that are learned next.
    floors: scores that count as nothing (`analysis.transfer`): the lowest, and the one nearest to the paper's numbers.
    own_floors: task -> its own floor, in place of all of `floors`.
  """
  return config_dict.ConfigDict(
    {
      "world": world,
      "methods": methods,
      "sources": sources,
      "source_pairs": source_pairs,
      "targets": targets,
      "floors": floors,
      "own_floors": dict(own_floors or {}),
    }
  )
