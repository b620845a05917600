"""How many kernels an update launches on an H100, without one: `python -m tests.experiments.gpu_kernels --config=FILE`.

XLA compiles for a card that is described to it. JAX's CUDA plugin must be installed (`pip install jax[cuda13]`), but no
driver is needed. Loops without a known number of steps, such as a solver's, count as `--steps_of_open_loops`. For two
programs the count was within 5 % of the profiler's on the card. It says nothing about time.
"""

import argparse
import collections
import os
import re

DESCRIPTION = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84978434048 shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 minor: 0 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 } device_description_str: "NVIDIA H100 80GB HBM3"
"""
_LAUNCHED = (
  "fusion custom-call copy copy-start sort reduce scatter convolution dot dynamic-update-slice dynamic-slice "
  "rng-bit-generator concatenate pad broadcast iota transpose"
).split()
_OPERATION = re.compile(rf" (while|conditional|call|async-start|{'|'.join(_LAUNCHED)})\(")


def count(program: str, steps_of_open_loops: int) -> tuple[int, list[tuple[int, int, str]]]:
  """Kernels of one run of a compiled `program`, and of each of its loops: (kernels, steps, origin), most first."""
  bodies, entry, body = dict[str, list[str]](), "", list[str]()
  for line in program.splitlines():
    if head := re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line):
      body = bodies[head[2]] = []
      entry = head[2] if head[1] else entry
    else:
      body.append(line)
  loops = collections.Counter[tuple[int, str]]()

  def of(name: str, times: int) -> int:
    total = 0
    for line in bodies[name]:
      operation = _OPERATION.search(line)
      if not operation:
        continue
      if operation[1] == "while":
        steps = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
        num = int(steps[1]) if steps else steps_of_open_loops
        (inner,) = re.findall(r"body=%?([\w.\-]+)", line)
        kernels = num * (of(inner, times * num) + 1)
        source = re.search(r'op_name="([^"]*)"', line)
        loops[num, source[1] if source else inner] += times * kernels
        total += kernels
      elif operation[1] in _LAUNCHED:
        total += 1
      else:
        for inner in re.findall(r"(?:to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)", line):
          total += of(inner, times)
        for branches in re.findall(r"branch_computations=\{([^}]*)\}", line):
          total += max(of(one.strip(" %"), times) for one in branches.split(","))
    return total

  total = of(entry, 1)
  return total, [(kernels, num, source) for (num, source), kernels in loops.most_common()]


def compiled(path: str) -> str:
  """The program of one update of a config's runs side by side, as XLA compiles it for an H100."""
  os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
  # Nothing can be timed without a card, and Triton's products have no choice that needs no timing.
  os.environ["XLA_FLAGS"] = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
  import jax
  from jax.experimental import topologies

  (card,) = topologies.get_topology_desc("h100", "cuda", topology="1x1x1", target_config=DESCRIPTION).devices
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_enable_compilation_cache", False)
  import jax.numpy as jnp

  from experiments import binary
  from experiments.running import loop
  from experiments.setup import learn, sweep
  from experiments.suites import stages

  file, _, variant = path.partition(":")
  config = binary.call(file, "get_config", variant)
  num_runs = config.sweep.num_runs if "sweep" in config else 1
  jax.default_backend = lambda: "gpu"
  task = learn.make(sweep.sample(config, 0) if "sweep" in config else config)
  batch = stages.batch_of(task, config.train.num_worlds)

  def step(run):
    return loop.train_step.__wrapped__(run[0], agent=run[1], batch=batch, num_steps=config.train.num_steps)

  sharding = jax.sharding.SingleDeviceSharding(card)
  runs = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((num_runs, *x.shape), x.dtype, sharding=sharding),
    jax.eval_shape(lambda: (stages.start(task, batch, 0), jax.tree.map(jnp.float32, task.agent))),
  )
  return jax.jit(jax.vmap(step)).lower(runs).compile().as_text()


def main() -> None:
  """Prints the sum, and the loops with most of it."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--config", required=True, help="FILE.py:VARIANT")
  parser.add_argument("--steps_of_open_loops", type=int, default=4)
  arguments = parser.parse_args()
  total, loops = count(compiled(arguments.config), arguments.steps_of_open_loops)
  print(f"{total:,} kernels")
  for kernels, num, source in loops[:15]:
    print(f"{kernels:>9,} in a loop of {num:>3}: {source[-100:]}")


if __name__ == "__main__":
  main()
