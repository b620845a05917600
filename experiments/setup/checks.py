"""Checks the numbers of a config before anything is made of them; a refusal has the name, the value and the fix.

A wrong number is not always an error where it is used. With a checkpoint kept -1 times, a learning rate of 0 or a step
beyond int32, a run ends with nothing, or never ends. `_NUMBERS` says what each number may be, by the field's name.
"""

import dataclasses
import difflib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import config_dict

from agents import actor_critic, auxiliary, optimizer
from experiments.configs import base
from experiments.setup import column
from progressive import baselines, network
from progressive.layers import feed_forward, layer

MOST_STEPS = 2**31 - 1  # The counter of agent steps is int32.
MOST_SEED = 2**32 - 1  # JAX makes a key of it: a larger seed is the same as its last 32 bits.
# If one of these is set, the learner uses steps that an older policy played.
OF_OLDER_POLICIES = ("replay_updates", "lag", "free_running")


class _Range(NamedTuple):
  """What a number may be."""

  words: str
  is_within: Callable[[float], bool]
  is_whole: bool = False


def _whole(least: int, most: int | None = None) -> _Range:
  words = f"an integer >= {least}" if most is None else f"an integer from {least} to {most:,}"
  return _Range(words, lambda x: least <= x and (most is None or x <= most), is_whole=True)


_FINITE = _Range("a finite number", math.isfinite)
_POSITIVE = _Range("a finite number > 0", lambda x: 0 < x < math.inf)
_POSITIVE_OR_INFINITE = _Range("> 0 (inf: no limit)", lambda x: x > 0)
_NOT_NEGATIVE = _Range("a finite number >= 0", lambda x: 0 <= x < math.inf)
_SHARE = _Range("in [0, 1]", lambda x: 0 <= x <= 1)
_BELOW_1 = _Range("in [0, 1)", lambda x: 0 <= x < 1)

_RUN: Mapping[str, _Range] = {"seed": _whole(0, MOST_SEED), "alpha": _POSITIVE}
_NUMBERS: Mapping[str, _Range] = {
  "steps": _whole(1, MOST_STEPS),
  "num_worlds": _whole(1),
  "num_steps": _whole(1),
  "updates_per_record": _whole(1),
  "keep_checkpoints": _whole(1),
  "evaluate_every": _whole(0),
  "evaluation_episodes": _whole(0),
  "save_every": _whole(0),
  "lag": _whole(0),
  "replay_updates": _whole(0),
  "replay_size": _whole(1),
  "recording_updates": _whole(1),
  "hyper.discount": _SHARE,
  "hyper.lambda_": _SHARE,
  "hyper.entropy_cost": _NOT_NEGATIVE,
  "hyper.teacher_cost": _NOT_NEGATIVE,
  "hyper.value_cost": _NOT_NEGATIVE,
  "hyper.reward_scale": _POSITIVE,
  "hyper.reward_clip": _POSITIVE_OR_INFINITE,
  "hyper.learning_rate": _POSITIVE,
  "hyper.anneal_updates": _NOT_NEGATIVE,
  "hyper.max_gradient_norm": _POSITIVE_OR_INFINITE,
  "hyper.second_moment_decay": _BELOW_1,
  "hyper.epsilon": _POSITIVE,
  "hyper.fan_in": _POSITIVE_OR_INFINITE,
  "hyper.epochs": _whole(1),
  "hyper.minibatches": _whole(1),
  "hyper.clip_ratio": _POSITIVE,
}
_ANNEAL = "train.hyper.anneal_updates"
_HEAD: Mapping[str, _Range] = {"cost": _NOT_NEGATIVE, "hidden": _whole(0), "num_classes": _whole(0)}
_WORDS: Mapping[str, tuple[str, ...]] = {
  "hyper.optimizer": optimizer.OPTIMIZERS,
  "hyper.reduction": actor_critic.REDUCTIONS,
  "hyper.correction": actor_critic.CORRECTIONS,
  "column.pixel_init": feed_forward.KERNEL_INITS,
  "column.start": ("random", "data"),
  "column.memory": tuple(column.MEMORIES),
  "column.norm": ("none", "layer"),
  "column.laterals": tuple(filter(None, layer.LATERALS)),
  "column.output_laterals": ("linear", "adapter"),
}

# What an entry of a tuple is, and an example. It is a type; or, if the entry is itself a tuple, a tuple of types, of
# which the last one before `...` may be repeated; or a set of alternatives.
_KERNEL = frozenset({int, (int, int)})
_TUPLES: Mapping[str, tuple[Any, str]] = {
  "column.inputs": (str, "('pixels',)"),
  "column.conv": ((int, _KERNEL, int), "((16, 8, 4), (32, (3, 4), 2)): features, kernel, stride of each convolution"),
  "column.dense": (int, "(128,): units of each layer"),
  "column.lstm": (int, "(128,): units of each layer"),
  "column.joins": ((str, str), "(('velocity', 'lstm2'),): what, and the layer that reads it"),
  "column.embed": ((str, int), "(('velocity', 16),): an input, and the units of its own layer"),
}
_MATRIX: Mapping[str, tuple[Any, str]] = {
  "methods": (str, "('scratch', 'progressive'): names of methods"),
  "sources": (str, "('pong',): names of tasks"),
  "source_pairs": ((str, str, ...), "(('noisy', 'h_flip'),): first and second task, and so on"),
  "targets": (str, "('pong', 'white'): names of tasks"),
  "floors": (float, "(-21.0,): at least one score that counts as nothing"),
}
# Sections that every config has, and the functions that make them.
_SECTIONS: Mapping[str, Callable[..., Any]] = {"": base.experiment, "train": base.phase, "train.column": base.column}
_SAMPLED = ((str, str, tuple), "(('train.hyper.learning_rate', 'log_uniform', (1e-4, 1e-3)),): field, kind, values")


def check(config: config_dict.ConfigDict) -> None:
  """Refuses a config of a run, a sweep or a matrix that lacks a field or has an impossible one.

  Raises:
    ValueError: naming the first such field, its value, and what it may be.
  """
  for section, function in _SECTIONS.items():
    for name in inspect.signature(function).parameters:
      field = f"{section}.{name}".lstrip(".")
      if _get(config, field) is None:
        raise ValueError(f"the config has no field {field}; make its sections by the functions of configs/base.py")
  for name, allowed in _RUN.items():
    _check_number(name, config.get(name), allowed)
  _check_word("method", config.get("method"), baselines.METHODS)
  _check_word("output_init", config.get("output_init"), network.OUTPUT_INITS)
  check_phase(config.train)
  _check_last_step(config.train)
  _check_steps_an_unroll(config.train)
  check_annealing(config.train)
  for name in OF_OLDER_POLICIES:
    if config.train[name] and config.train.hyper.correction != "vtrace":
      raise ValueError(
        f"train.{name}={config.train[name]}: an older policy played those steps; set "
        f"--config.train.hyper.correction=vtrace, and epochs and minibatches beside it to 1"
      )
  if config.train.free_running and config.train.lag:
    raise ValueError(f"train.lag={config.train.lag}: with train.free_running no lag is kept; set --config.train.lag=0")
  if "sweep" in config:
    check_sweep(config.sweep)
    drawn = {name: values for name, _, values in config.sweep.get("sampled") or ()}
    for num_updates in drawn.get(_ANNEAL, ()):
      check_annealing(config.train, drawn=num_updates)
    if config.seed + config.sweep.num_runs - 1 > MOST_SEED:  # Each member's seed is one more than the previous.
      raise ValueError(f"seed={config.seed} is too large for {config.sweep.num_runs} runs that count on from it")
  if "matrix" in config:  # A cell's score is what counts.
    _check_number("train.evaluation_episodes", config.train.evaluation_episodes, _whole(1))
    for name, (entry, example) in _MATRIX.items():
      _check_tuple(f"matrix.{name}", config.matrix.get(name), entry, example)
    if "sweep" not in config:
      raise ValueError("the config has a matrix and no sweep, which every cell is; add base.sweep(num_runs=1, top=1)")
    if not config.matrix.get("targets"):
      raise ValueError("matrix.targets=() names no task to transfer to; name some")
    _check_once(config.matrix)
    if config.sweep.top > config.sweep.num_runs:  # No cell would have a score.
      raise ValueError(f"sweep.top={config.sweep.top} is more than sweep.num_runs={config.sweep.num_runs}; set both")
    if config.matrix.get("floors") == ():
      raise ValueError(f"matrix.floors=() is not of the form {_MATRIX['floors'][1]}")
    for task, floor in config.matrix.get("own_floors", {}).items():
      _check_number(f"matrix.own_floors.{task}", floor, _FINITE)


def _check_once(matrix: config_dict.ConfigDict) -> None:
  """Refuses a list that has an entry twice: its cells would count twice."""
  lists = [(name, matrix.get(name) or ()) for name in ("methods", "sources", "targets", "source_pairs")]
  for name, tasks in (*lists, *(("source_pairs", pair) for pair in matrix.get("source_pairs") or ())):
    if twice := [task for task in tasks if tuple(tasks).count(task) > 1]:
      raise ValueError(f"matrix.{name}: {tasks!r} has {twice[0]!r} twice; name each once")


def check_phase(phase: config_dict.ConfigDict) -> None:
  """Refuses a phase of learning with an impossible number, word or tuple; fields may be absent.

  Raises:
    ValueError: naming the first such field as part of `train`, its value, and what it may be.
  """
  for name, allowed in _NUMBERS.items():
    _check_number(f"train.{name}", _get(phase, name), allowed)
  for name, words in _WORDS.items():
    _check_word(f"train.{name}", _get(phase, name), words)
  for name, (entry, example) in _TUPLES.items():
    _check_tuple(f"train.{name}", _get(phase, name), entry, example)
  for head, section in (phase.get("auxiliary") or {}).items():
    _check_head(f"train.auxiliary.{head}", section)
    for name, allowed in _HEAD.items():
      _check_number(f"train.auxiliary.{head}.{name}", section.get(name), allowed)


def _check_head(name: str, section: Any) -> None:
  """Refuses a head without a field that has no default, or with one that heads do not have."""
  fields = {field.name: field for field in dataclasses.fields(auxiliary.Head)}
  if not isinstance(section, config_dict.ConfigDict):
    raise ValueError(f"{name}={section!r} is no head; give {', '.join(fields)}, as base.head does")
  for given in section:
    _check_word(f"{name}: a field", given, tuple(fields))
  if lacking := [one for one, field in fields.items() if field.default is dataclasses.MISSING and one not in section]:
    raise ValueError(f"{name} lacks {lacking[0]}; set --config.{name}.{lacking[0]}")


def check_sweep(sweep: config_dict.ConfigDict) -> None:
  """Refuses an invalid sweep; raises as `check_phase`."""
  for name in ("num_runs", "top"):
    _check_number(f"sweep.{name}", sweep.get(name), _whole(1))
  _check_tuple("sweep.sampled", sweep.get("sampled"), *_SAMPLED)
  names = [name for name, _, _ in sweep.get("sampled") or ()]
  for name, kind, values in sweep.get("sampled") or ():
    if names.count(name) > 1:
      raise ValueError(f"sweep.sampled draws {name} {names.count(name)} times, of which the last alone would count")
    if not all(_is_number(value) for value in values):
      raise ValueError(f"sweep.sampled draws {name} from {values!r}, which are not all numbers")
    if kind == "log_uniform" and not (len(values) == 2 and 0 < values[0] <= values[1] < math.inf):
      raise ValueError(f"sweep.sampled draws {name} from {values!r}; log_uniform needs (lowest, highest), both > 0")
    field = name.removeprefix("train.")
    allowed = _RUN.get(name) or _NUMBERS.get(field) or _HEAD.get(field.rpartition(".")[2])
    for value in values:
      _check_number(f"sweep.sampled: {name}", value, allowed, fix="sweep.sampled")


def _check_steps_an_unroll(phase: config_dict.ConfigDict) -> None:
  """Refuses several steps per unroll if its worlds cannot be divided among them, or if other options forbid it."""
  hyper = actor_critic.Hyper(**phase.hyper.to_dict())
  if phase.num_worlds % hyper.minibatches:
    raise ValueError(
      f"train.hyper.minibatches={hyper.minibatches}: {phase.num_worlds} worlds cannot be dealt out to so many; choose "
      f"a divisor of train.num_worlds"
    )
  try:
    actor_critic.check(hyper)
  except ValueError as error:
    raise ValueError(f"train.hyper.{error}") from error


def check_annealing(phase: config_dict.ConfigDict, *, drawn: float | None = None) -> None:
  """Refuses a phase that goes on after its learning rate has fallen to 0, when nothing is learned any more.

  `drawn` is the number of updates that a sweep draws in place of the phase's own.

  Raises:
    ValueError: naming both numbers of updates, and the field to set.
  """
  each = phase.num_worlds if phase.hyper.get("reduction") == "sum" else 1  # Every world makes an update of its own.
  each *= 1 + phase.get("replay_updates", 0)
  epochs, minibatches = (phase.hyper.get(name, 1) for name in ("epochs", "minibatches"))
  each *= epochs * minibatches
  num_updates = -(-phase.steps // (phase.num_worlds * phase.num_steps)) * each
  name, anneal_updates = _ANNEAL, phase.hyper.anneal_updates
  if drawn is not None:
    name, anneal_updates = f"sweep.sampled: {name}", drawn
  if 0 < anneal_updates < num_updates:
    raise ValueError(
      f"{name}={anneal_updates:g}: the learning rate would be 0 from there to the last of {num_updates} updates "
      f"(steps={phase.steps}, {phase.num_worlds} worlds, num_steps={phase.num_steps}, "
      f"reduction={phase.hyper.get('reduction', 'mean')!r}, epochs={epochs}, minibatches={minibatches}); set "
      f"{name}={num_updates}, or 0 to keep the rate"
    )


def _get(section: Any, name: str) -> Any:
  """A field by its dotted name; None if there is none."""
  for key in name.split("."):
    if section is None or key not in section:
      return None
    section = section[key]
  return section


def _check_last_step(phase: config_dict.ConfigDict) -> None:
  """Refuses steps whose last whole update ends beyond what can be counted: such a run would never end."""
  steps_per_update = phase.num_worlds * phase.num_steps
  if -(-phase.steps // steps_per_update) * steps_per_update > MOST_STEPS:
    raise ValueError(
      f"train.steps={phase.steps}: whole updates of {steps_per_update} steps end behind step {MOST_STEPS:,}; "
      f"set --config.train.steps={MOST_STEPS // steps_per_update * steps_per_update}"
    )


def _check_number(name: str, value: Any, allowed: _Range | None, *, fix: str = "") -> None:
  if value is None or allowed is None:
    return
  is_right_type = isinstance(value, int) and not isinstance(value, bool) if allowed.is_whole else _is_number(value)
  if not is_right_type or not allowed.is_within(value):
    raise ValueError(f"{name}={value!r} must be {allowed.words}; set --config.{fix or name}")


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _check_word(name: str, value: Any, words: Sequence[str]) -> None:
  if value is not None and value not in words:
    near = difflib.get_close_matches(str(value), words, n=1, cutoff=0.0)[0]
    raise ValueError(f"{name}={value!r} is not one of {', '.join(words)}; nearest is {near}")


def _check_tuple(name: str, value: Any, entry: Any, example: str) -> None:
  if value is not None and not (isinstance(value, tuple | list) and all(_is_entry(one, entry) for one in value)):
    raise ValueError(f"{name}={value!r} is not of the form {example}")


def _is_entry(value: Any, kind: Any) -> bool:
  """Whether an entry of a tuple is a name, a size >= 1, a finite number, a tuple of values, or a tuple of such."""
  if isinstance(kind, frozenset):
    return any(_is_entry(value, one) for one in kind)
  if isinstance(kind, tuple) and kind[-1] is ...:
    more = len(value) - len(kind) + 1 if isinstance(value, tuple | list) else 0
    return more >= 0 and _is_entry(value, (*kind[:-1], *kind[-2:-1] * more))
  if isinstance(kind, tuple):
    return isinstance(value, tuple | list) and len(value) == len(kind) and all(map(_is_entry, value, kind))
  if kind is int:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
  if kind is float:
    return _is_number(value) and math.isfinite(value)
  return isinstance(value, tuple | list) if kind is tuple else isinstance(value, kind)
