"""Learning from an arm's recorded steps before a run's first own step: value, heads, and a teacher's policy."""

import dataclasses

import dm_env
import jax
import numpy as np

from agents import actor_critic, unroll
from experiments.setup import learn
from experiments.setup import place as place_lib
from experiments.setup import teacher as teacher_lib
from experiments.store import run_directory
from progressive import partition


def rehearsed(
  task: learn.Task,
  recorded: dm_env.Environment,
  key: jax.Array,
  *,
  num_updates: int,
  num_steps: int,
  is_fitted: bool = False,
) -> learn.Task:
  """The task after its value and heads have learned from recorded steps, in their order: `num_updates` of `num_steps`.

  The policy learns only from its teacher. If it has none, nothing changes in the output's logits: a new column that
  starts as the previous one still plays exactly like it. If the logits read layers that learn, the policy drifts with
  these layers. The value is that of whoever chose the recorded steps. With `is_fitted`, the newest column is first
  fitted to the first recorded steps, and learning begins with the episode after those. It prints how the losses fell.
  """
  start_key, key = jax.random.split(key)
  if is_fitted:
    state, split = actor_critic.initial_state(task.agent, 1), partition.split(task.params, task.is_trainable)
    begun = unroll.host_init(task.agent, [recorded])
    task = learn.fitted_to(
      task, unroll.host_unroll(task.agent, *split, [recorded], begun, state, start_key, learn.FRAMES_TO_FIT)[2]
    )
  agent = task.agent
  hyper = dataclasses.replace(
    agent.hyper, correction="none", anneal_updates=0.0, epochs=1, minibatches=1, has_unit_advantages=False
  )
  learner = dataclasses.replace(agent, hyper=hyper, learns_policy=False)
  trainable, frozen = partition.split(task.params, task.is_trainable)
  optimizer_state = actor_critic.init(learner, trainable)
  timestep, state = unroll.host_init(agent, [recorded]), actor_critic.initial_state(agent, 1)
  seen = []
  for act_key in jax.random.split(key, num_updates):
    timestep, state, played = unroll.host_unroll(
      agent, trainable, frozen, [recorded], timestep, state, act_key, num_steps
    )
    trainable, optimizer_state, metrics = actor_critic.update(learner, trainable, frozen, optimizer_state, played)
    seen.append({name: x for name, x in metrics.items() if name == "value_loss" or name.startswith("auxiliary_")})
  tenth = -(-num_updates // 10)
  for name in seen[0]:
    first, last = (float(np.mean([one[name] for one in some])) for some in (seen[:tenth], seen[-tenth:]))
    print(f"recorded steps: {name} {first:.4g} in the first of {num_updates} updates, {last:.4g} in the last")
  return task._replace(params=partition.merge(trainable, frozen))


def recording(task: learn.Task, path: str, *, teacher: str = "") -> dm_env.Environment:
  """The recording `path` of an arm as a world that shows what the task learns from, whatever is done in it.

  `teacher` is that of the config, for a task that has one.

  Raises:
    ValueError: if there is none, or if it is of other joints or of another task of the arm than what is learned.
  """
  shown_here = None if teacher else {name for names in learn.shown(task) for name in names}
  place = place_lib.make(
    "environments.arm.replay:Replay", {"path": str(run_directory.local(path))}, observations=shown_here
  )
  if teacher:
    place = teacher_lib.taught(place, teacher_lib.load(teacher))
  place_lib.check_inputs(place, task.agent.spec)
  if place_lib.num_choices(place) != task.agent.num_choices:
    raise ValueError(
      f"{path} is of actions {place_lib.num_choices(place)}, {task.place.name} has {task.agent.num_choices}; name a "
      f"recording of the same joints"
    )
  played, recorded = (_task_name(one) for one in (task.place, place))
  if played not in (None, recorded):
    raise ValueError(f"{path} is of {recorded}, {task.place.name} plays {played}; name a recording of {played}")
  return place.world


def _task_name(place: place_lib.Place) -> str | None:
  """The arm's task that is played at a place, if it has one."""
  return place.name.removeprefix("jaco/") if place.name.startswith("jaco/") else getattr(place.world, "task_name", None)
