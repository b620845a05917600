"""From start or resume to end: one run, or the many of a sweep side by side, wherever and however they learn.

    claim the directory -> restore or init -> actors -> loop.consume -> console, metrics, TensorBoard, evaluation,
    checkpoint, video

A run has its directory. The members of a sweep have ordinary run directories in the sweep's, `runs/00` and on; a
member's config alone is enough to repeat it. All members are one checkpoint, so a sweep resumes as exactly as a run.
Both resume on as many devices as there are then. `best` holds the best member's network, from which others start. On
several hosts every process does the same, and only the first writes (`hosts`).
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from agents import trajectory
from environments import batch as batch_lib
from experiments.report import video
from experiments.running import actors, devices, hosts, loop, play, recorder, rehearsal, stop
from experiments.setup import checks, learn
from experiments.setup import place as place_lib
from experiments.setup import sweep as sweep_lib
from experiments.store import checkpoint, network_file, released, run_directory, sweep_folder
from experiments.store import lock as lock_lib
from progressive import partition


class Member(NamedTuple):
  """A run, alone or of a sweep."""

  config: config_dict.ConfigDict  # Of an ordinary run: sampled values are filled in.
  path: pathlib.Path  # Its run directory.
  task: learn.Task


class Learned(NamedTuple):
  """The result of learning."""

  members: tuple[Member, ...]  # Behind `dm_env`, without those that failed.
  state: loop.TrainState  # The last state; for a sweep every leaf [N, ...].


def run(config: config_dict.ConfigDict, workdir: str | os.PathLike) -> Learned:
  """Learns as `config` says, from where `workdir` stands to the end; a sweep's best network is kept in its `best`.

  Raises:
    ValueError: if `workdir` belongs to another config, if another process is at work there, if its checkpoints do not
      fit, or if the config asks for something impossible.
    FloatingPointError: if the loss stops being a number.
  """
  path = run_directory.local(workdir).absolute()
  with lock_lib.alone(path) if hosts.is_first() else contextlib.nullcontext() as lock:
    folder, sweep = path.parent, path.parent.parent
    if folder.name == "runs" and "sweep" in run_directory.read_config(sweep):
      raise ValueError(f"{path} is a run of the sweep in {sweep}, which continues it; use another --workdir")
    learned = run_alone(config, path, lock)
    if "sweep" in config and lock:
      _keep_best(path, config.sweep.num_runs)
    return learned


def run_alone(
  config: config_dict.ConfigDict,
  path: pathlib.Path,
  lock: lock_lib.Lock | None,
  *,
  source: released.Source | None = None,
  place: place_lib.Place | None = None,
) -> Learned:
  """`run` for a caller that has the directory to itself, and keeps it for what comes after.

  Args:
    config: of the run or sweep.
    path: its directory.
    lock: of the directory; None in a process that writes nothing, since the first process of its run does.
    source: the network to start from; None: that of `config.source`.
    place: of a run, if it has been made already; None: it is made here.
  """
  checks.check(config)
  if lock:  # Importing worlds and making networks takes a while.
    print(f"{path}: starting", flush=True)
  before = run_directory.read_config(path) if checkpoint.steps(path / "checkpoints") else {}
  config = learn.resolved(config, kept=before.get("world_options", {}))
  is_sweep = "sweep" in config
  run_directory.refuse_another(path, config)  # Before anything is made of this config that would not fit.
  about = run_directory.provenance()
  hosts.check_same(f"{path} {about['code_sha256']} {config.to_json()}", what="--workdir, code or config")
  if source is None and _begun(config, path) is None:
    source = learn.load_source(config)
  about |= released.named(source) if source else {}
  everyone = make_members(config, path, source=source, place=place)
  there = everyone[0].task.place
  about["learned_in"] = place_lib.described(there)
  if is_sweep and isinstance(there, place_lib.Host):
    assert lock  # Several processes cannot share such a place.
    return _one_by_one(config, path, lock, source, there)
  try:
    return _together(config, path, lock, everyone, about)
  except Exception:
    there.close()  # An arm has one client at a time.
    raise


def _together(
  config: config_dict.ConfigDict,
  path: pathlib.Path,
  lock: lock_lib.Lock | None,
  everyone: tuple[Member, ...],
  about: dict[str, Any],
) -> Learned:
  """One run, or all of a sweep in one program."""
  phase, is_sweep = config.train, "sweep" in config
  batch = _batch(everyone[0].task, phase.num_worlds)
  for name in checks.OF_OLDER_POLICIES if batch else ():
    if phase[name]:
      raise ValueError(
        f"train.{name}={phase[name]}: in {config.world}, a world in JAX, new steps cost less than learning from old "
        f"ones; leave it out"
      )
  is_begun = bool(checkpoint.steps(path / "checkpoints"))
  states = [_init(member if is_begun else _rehearsed(_fitted(member, batch)), batch) for member in everyone]
  state, first_step = restore(path, devices.stack(states) if is_sweep else states[0])
  if lock:
    for owner in [Member(config, path, everyone[0].task), *everyone] if is_sweep else everyone:
      run_directory.claim(owner.path, owner.config, sweep=path, about=about, step=first_step)
      network_file.write_spec(owner.path, owner.task.agent.spec)
  num_episodes = 0 if is_sweep else phase.evaluation_episodes
  is_learned = first_step >= phase.steps
  is_done = is_learned and (not num_episodes or run_directory.is_evaluated(path, phase.steps))
  hosts.check_same(f"{first_step} {is_done}", what="the step at which they find it")
  word = f"is finished: {first_step:,} of {phase.steps:,} steps" if is_done else f"continues from step {first_step:,}"
  if first_step and hosts.is_first():
    print(f"{path} {word}", flush=True)
  if is_done:
    return Learned(everyone, state)

  write = _recorder(everyone, path, phase, first_step) if lock else None

  def own(state: loop.TrainState) -> loop.TrainState:
    return devices.unfilled(state, len(everyone)) if is_sweep else state

  def save(state: loop.TrainState, step: int) -> None:
    state = hosts.local(state)
    if lock and write:
      lock.check()
      loop.refuse_overflow(state, everyone[0].task.agent.spec)
      write.sync()
      checkpoint.save(path / "checkpoints", step, own(state), keep=phase.keep_checkpoints)

  evaluate, film = _evaluation(everyone[0], num_episodes)
  if lock:
    todo = (
      "its last evaluation is missing, and comes now" if is_learned else "compiling; the first update takes a while"
    )
    print(f"{path}: {todo}", flush=True)
  learning = _updates(everyone, phase, batch, state, is_sweep=is_sweep)
  with contextlib.closing(learning):
    state = loop.consume(
      [(state, [])] if is_learned else learning,
      first_step=first_step,
      until_step=phase.steps,
      sinks=(lambda _: lock.check(), write) if lock and write else (),
      evaluate=evaluate,
      evaluate_every=phase.evaluate_every,
      save=save,
      save_every=phase.save_every,
      film=film,
    )
    if write:
      write.sync()
  return Learned(everyone, own(hosts.local(state)))


def _one_by_one(
  config: config_dict.ConfigDict,
  path: pathlib.Path,
  lock: lock_lib.Lock,
  source: released.Source | None,
  place: place_lib.Place | None,
) -> Learned:
  """A sweep whose worlds have no copies inside a jit: one run after the other, each with its own checkpoints.

  The first run has `place`. Each run leaves its place before the next begins, since an arm serves one at a time. No run
  is evaluated by itself: whoever asked for the sweep evaluates the best. A run whose loss stops being a number is the
  worst of its sweep, which goes on without it.

  Raises:
    FloatingPointError: if all runs end so.
  """
  learned, failed = list[Learned](), list[FloatingPointError]()
  paths = sweep_folder.run_paths(path, config.sweep.num_runs)
  members = [sweep_lib.sample(config, i) for i in range(len(paths))]
  for member, own in zip(members, paths, strict=True):
    member.train.evaluation_episodes = 0
    run_directory.refuse_another(own, member)  # Before one of them learns what the others refuse.
  for member, own in zip(members, paths, strict=True):
    reason = run_directory.failure(own, member)
    if source and not reason and not checkpoint.steps(own / "checkpoints"):
      _refuse_another_source(config.source, source, own, paths)
    try:
      if reason:
        if place:
          place.close()
        raise FloatingPointError(reason)
      with lock_lib.alone(own):  # Its sweep has no config before a run ends.
        learned.append(run_alone(member, own, lock, source=source, place=place))
    except FloatingPointError as error:
      failed.append(error.with_traceback(None))  # A traceback holds the run's arrays.
      lock.check()
      run_directory.write_failure(own, error)
      print(f"{own} failed (to try again, remove this folder): {error}")
      with stop.deferred():  # A signal that came meanwhile ends the program here.
        pass
    else:
      learned[-1].members[0].task.place.close()
      if len(learned) == 1:
        run_directory.claim(path, config, sweep=own)
        network_file.write_spec(path, learned[0].members[0].task.agent.spec)
    place = None
  if not learned:
    for own in paths:  # Then the sweep has failed, and not these.
      (own / run_directory.FAILURE).unlink()
    raise failed[-1]
  everyone = tuple(member for one in learned for member in one.members)
  return Learned(everyone, devices.stack([one.state for one in learned]))


def _refuse_another_source(name: str, source: released.Source, own: pathlib.Path, paths: list[pathlib.Path]) -> None:
  """Refuses to start `own` from another network than the runs of its sweep that have begun."""
  ours = released.named(source)[released.SOURCE_HASH]
  for other in paths:
    if checkpoint.steps(other / "checkpoints") or run_directory.failure(other):
      if run_directory.read_provenance(other).get(released.SOURCE_HASH, ours) != ours:
        raise ValueError(
          f"{name} has changed since {other} started from it, and {own} has yet to start; bring back what it was, or "
          f"use another --workdir"
        )


def make_members(
  config: config_dict.ConfigDict,
  path: pathlib.Path,
  *,
  source: released.Source | None = None,
  place: place_lib.Place | None = None,
) -> tuple[Member, ...]:
  """The run of a config in `path`, in `place` if that has been made already, or all runs of its sweep.

  Of a sweep behind `dm_env`, it is only the first: the others' worlds are made when it is their turn.

  Raises:
    ValueError: if members differ in more than numbers, or as `learn.make`.
  """
  begun = _begun(config, path)
  spec = network_file.read_spec(begun) if begun else None
  make = functools.partial(learn.make, source=source, spec=spec)
  first_step = max(checkpoint.steps((path / "runs/00" if "sweep" in config else path) / "checkpoints"), default=0)
  if "sweep" not in config:
    alone = _on_its_own(Member(config, path, make(config, first_step=first_step, place=place)))
    learn.warn_unread(alone.task, config)
    return (alone,)
  configs = [sweep_lib.sample(config, i) for i in range(config.sweep.num_runs)]
  paths = sweep_folder.run_paths(path, len(configs))
  first = Member(configs[0], paths[0], make(configs[0], first_step=first_step))
  there = first.task.place  # A batch has copies of one world.
  if isinstance(there, place_lib.Host):
    return (_on_its_own(first),)
  others = (Member(one, own, make(one, place=there)) for one, own in zip(configs[1:], paths[1:], strict=True))
  everyone = (first, *others)
  learn.warn_unread(first.task, config)
  structure = jax.tree.structure(first.task.agent)
  for member in everyone[1:]:
    if jax.tree.structure(member.task.agent) != structure:
      changes = run_directory.difference(first.config.to_dict(), member.config.to_dict())
      raise ValueError(
        f"{path}: members side by side may differ in numbers alone, not in what makes a program; these differ: "
        f"{'; '.join(changes)}"
      )
  return everyone


def _begun(config: config_dict.ConfigDict, path: pathlib.Path) -> pathlib.Path | None:
  """The directory with the specification of what learns here; None while a run has yet to start from its source.

  It is the run's own or its sweep's; behind `dm_env`, that of a sweep's first run with a checkpoint, once all have one
  or have failed.
  """
  if checkpoint.steps(path / "checkpoints"):
    return path
  runs = sweep_folder.run_paths(path, config.sweep.num_runs) if "sweep" in config else []
  begun = [own for own in runs if checkpoint.steps(own / "checkpoints")]
  has_all = all(own in begun or run_directory.failure(own) for own in runs)
  return begun[0] if begun and has_all else None


def restore(path: pathlib.Path, state: loop.TrainState) -> tuple[loop.TrainState, int]:
  """The newest saved state of the run in `path` and its step; `state` and 0 if none was saved."""
  saved = checkpoint.load_newest(path / "checkpoints")
  if saved is None:
    return state, 0
  step, arrays = saved
  state = checkpoint.unflatten(arrays, state, source=str(checkpoint.file_of(path / "checkpoints", step)))
  return state, step


def _keep_best(path: pathlib.Path, num_runs: int) -> None:
  """`save_best` by late returns, if the members got far enough to end episodes."""
  paths = sweep_folder.run_paths(path, num_runs)
  try:
    index, scores = sweep_folder.best(paths)
  except sweep_folder.TooShort as error:
    print(f"no network is kept in {path / 'best'}: {error}")
    return
  config = run_directory.read_config(paths[index])
  evaluation = {"late_return": scores[index], "world": config["world"], "world_options": config["world_options"]}
  sweep_folder.save_best(path, index, sweep_folder.trained(path, index), evaluation=evaluation)


def _on_its_own(member: Member) -> Member:
  """Refuses options that a world behind `dm_env` cannot have."""
  place, every, why = member.task.place, member.config.train.evaluate_every, ""
  if isinstance(place, place_lib.Host) and every:
    why = (
      f"train.evaluate_every={every}: in {place.name} an evaluation would break into the episode that is being learned "
      f"from; set it to 0, which evaluates at the end"
    )
  elif isinstance(place, place_lib.Host) and jax.process_count() > 1:
    why = f"{place.name} is behind dm_env, which {jax.process_count()} processes cannot share out; start one"
  if why:
    place.close()
    raise ValueError(why)
  return member


def _batch(task: learn.Task, num_worlds: int) -> batch_lib.Batch | None:
  return task.place.batch(num_worlds, *learn.shown(task)) if isinstance(task.place, place_lib.Simulation) else None


def _fitted(member: Member, batch: batch_lib.Batch | None) -> Member:
  """The run with its new column fitted to data, if the config says so."""
  if batch is None or not learn.is_fitted(member.config):  # Behind dm_env it is fitted to its first steps.
    return member
  return member._replace(task=learn.fitted(member.task, batch, learn.make_key(member.config.seed, "start")))


def _rehearsed(member: Member) -> Member:
  """The run whose value and heads have learned from a recording, if the config names one."""
  phase = member.config.train
  if not phase.recording:
    return member
  task = rehearsal.rehearsed(
    member.task,
    rehearsal.recording(member.task, phase.recording, teacher=phase.teacher),
    learn.make_key(member.config.seed, "recording"),
    num_updates=phase.recording_updates,
    num_steps=phase.num_steps,
    is_fitted=isinstance(member.task.place, place_lib.Host) and learn.is_fitted(member.config),
  )
  return member._replace(task=task)


def _num_to_fit(member: Member) -> int:
  """How many first steps of each world a new column is fitted to; 0 if it is not, or was to other data."""
  phase, is_host = member.config.train, isinstance(member.task.place, place_lib.Host)
  is_to_fit = is_host and learn.is_fitted(member.config) and not phase.recording
  return -(-learn.FRAMES_TO_FIT // phase.num_worlds) if is_to_fit else 0


def _fitted_state(member: Member, state: loop.TrainState, played: trajectory.Trajectory) -> loop.TrainState:
  """The state with its new column fitted to what was seen in `played`."""
  task = learn.fitted_to(member.task._replace(params=partition.merge(state.trainable, state.frozen)), played)
  return dataclasses.replace(state, trainable=partition.split(task.params, task.is_trainable)[0])


def _init(member: Member, batch: batch_lib.Batch | None) -> loop.TrainState:
  """The state that a run begins with."""
  trainable, frozen = partition.split(member.task.params, member.task.is_trainable)
  key = learn.make_key(member.config.seed, "learning")
  num_worlds = batch.num_worlds if batch else member.config.train.num_worlds
  return loop.init(member.task.agent, trainable, frozen, key, num_worlds=num_worlds, batch=batch)


def _recorder(
  everyone: tuple[Member, ...], path: pathlib.Path, phase: config_dict.ConfigDict, first_step: int
) -> recorder.Recorder:
  steps_per_update = phase.num_steps * phase.num_worlds
  begins = first_step or _num_to_fit(everyone[0]) * phase.num_worlds
  until_step = begins + max(0, -((begins - phase.steps) // steps_per_update)) * steps_per_update  # Whole updates.
  paths = [member.path for member in everyone]
  return recorder.Recorder(
    paths,
    name=path.name,
    first_step=first_step,
    until_step=until_step,
    wandb_project=everyone[0].config.wandb,
  )


def _updates(
  everyone: tuple[Member, ...],
  phase: config_dict.ConfigDict,
  batch: batch_lib.Batch | None,
  state: loop.TrainState,
  *,
  is_sweep: bool,
) -> actors.Updates:
  """The actors' generator: on the host, in a batch, or in as many batches as there are members."""
  task = everyone[0].task
  if batch is None:
    assert isinstance(task.place, place_lib.Host)
    if jax.device_count() > 1:
      words = "behind dm_env a run learns on one; CUDA_VISIBLE_DEVICES leaves the others to other runs"
      print(f"warning: 1 of {jax.device_count()} devices is used: {words}", file=sys.stderr)
    num_to_fit = _num_to_fit(everyone[0])
    return actors.behind_dm_env(
      state,
      agent=task.agent,
      environments=task.place.worlds,
      num_steps=phase.num_steps,
      until_step=phase.steps,
      lag=phase.lag,
      free_running=phase.free_running,
      fit=functools.partial(_fitted_state, everyone[0]) if num_to_fit else None,
      num_to_fit=num_to_fit,
      replay_updates=phase.replay_updates,
      replay_size=phase.replay_size,
    )
  is_split = not getattr(batch.environment, "calls_host", False)
  layout = devices.lay_out(len(everyone), phase.num_worlds, is_split=is_split)
  agent = task.agent
  if is_sweep:
    agents = devices.stack([jax.tree.map(jnp.float32, member.task.agent) for member in everyone])
    agent = devices.place_agents(agents, layout)
  train = functools.partial(
    devices.train_step,
    agent=agent,
    batch=batch,
    num_steps=phase.num_steps,
    mesh=layout.mesh,
    # A CPU has no idle lanes to fill, so one member after the other is fastest there (measured: see `benchmark`).
    width=1 if jax.default_backend() == "cpu" else layout.share,
  )
  return actors.in_batch(
    devices.place(state, layout),
    train,
    steps_per_update=phase.num_steps * phase.num_worlds,
    until_step=phase.steps,
    updates_per_record=phase.updates_per_record,
  )


def _evaluation(member: Member, num_episodes: int) -> tuple[Callable, Callable]:
  """(evaluate, film) of a run: an 'eval' record of whole episodes, if any, and pictures of them in `videos`."""
  phase = member.config.train
  key = learn.make_key(member.config.seed, "evaluation")
  seen: list[play.Played] = []

  def evaluate(state: loop.TrainState, step: int) -> list[loop.Record]:
    if not num_episodes:
      return []
    trainable, frozen = hosts.local((state.trainable, state.frozen))
    played = play.play(
      member.task,
      trainable,
      frozen,
      jax.random.fold_in(key, step),
      num_episodes=num_episodes,
      is_greedy=phase.evaluation_is_greedy,
      has_film=phase.video,
    )
    seen[:] = [played]
    return [loop.Record(step, "eval", play.summarise(member.task.place, played.episodes))]

  def film(state: loop.TrainState, step: int) -> None:
    for played in seen:
      if played.frames and hosts.is_first():
        rate, file = place_lib.frames_per_s(member.task.place), member.path / "videos" / f"step_{step}.mp4"
        video.try_write(file, played.frames, frames_per_s=rate, captions=played.captions)

  return evaluate, film
