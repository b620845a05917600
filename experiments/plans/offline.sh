#!/bin/bash
# A plan on a machine without a network, from the repository's root on both sides.
#
#   experiments/plans/offline.sh wheels 3.12              at home: what that Python lacks, into .whl/
#   experiments/plans/offline.sh run PLAN SECONDS OUT     there: goes on from .carried/, packs what came of it into OUT/;
#                                                         words after OUT are flags of `launch`, such as --share=4
#   experiments/plans/offline.sh unpack DIRECTORY         at home: what was packed, into runs/offline/
#
# To go on there, bring OUT's files back as .carried/. They are parts of one archive, 15 MB each: small records first,
# then the best networks, then the newest state of what is not done or has no best, so that the first parts are worth
# something alone.
set -euo pipefail
readonly work=runs/offline
# What JAX's images lack, and nothing that these bring along (JAX, numpy, optax, flax, chex, scipy, scikit-learn, grpcio).
readonly packages="mujoco mujoco-mjx dm-env dm-env-rpc ml-collections tensorboardX dm-tree orjson safetensors trimesh glfw
  pyopengl immutabledict googleapis-common-protos imageio"

wheels() {
  mkdir -p .whl
  local pinned=() platforms=() name
  for name in $packages; do pinned+=("$(grep -i "^$name==" requirements.lock || echo "$name")"); done
  for name in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1; do
    platforms+=(--platform "${name}_x86_64")
  done
  python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --python-version "$1" \
    --implementation cp "${platforms[@]}" --platform any -d .whl "${pinned[@]}"
  # The wheel has 29 MB of ffmpeg in it; without, everything works but videos: --config.train.video=false.
  python3 -m pip wheel -q --disable-pip-version-check --no-deps --no-binary imageio-ffmpeg -w .whl imageio-ffmpeg
  du -sh .whl
}

run() {
  local plan=$1 seconds=$2 out=$3 site
  shift 3
  site=$(mktemp -d)
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" .whl/*.whl
  export PYTHONPATH="$site:$PWD" JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-/tmp/jax_cache}"
  if [ -d .carried ]; then unpack .carried || echo "warning: .carried is not whole; what it holds is taken" >&2; fi
  python3 -m experiments.launch --plan="$plan" --workdir="$work" --hours="$(python3 -c "print($seconds / 3600)")" "$@" ||
    true  # Not all was done.
  pack "$out"
}

pack() {
  mkdir -p "$1"
  rm -f "$1"/offline.tar.gz.*  # Of an earlier call.
  worth_carrying | tar -C "$work" -c -z -f - -T - | split -b 15M -d - "$1/offline.tar.gz."
  ls -l "$1"
}

worth_carrying() {
  (
    cd "$work"
    find . -type f -regextype posix-extended -regex ".*\.(json|jsonl|log|md|npz|png|svg)"
    find . -type f \( -path "*/best/*" -o -name params.safetensors \) ! -name "*.json"
    find . -type d -name checkpoints | while read -r folder; do
      local job
      job=$(cut -d / -f 2 <<< "$folder")
      # A cell that is done; behind dm_env its runs have checkpoints of their own.
      if [ -e "$(dirname "$folder")/outcome.json" ] || [ -e "${folder%/runs/*}/outcome.json" ]; then continue; fi
      # A done sweep of navigators is still to be tested, which needs its checkpoint.
      if [ ! -e "$job/matrix.json" ] && [ -d "$job/best" ] && grep -qs '"state": *"done"' "$job.job.json" &&
        ! grep -qs '"world": *"maze/' "$job/config.json"; then continue; fi
      find "$folder" -maxdepth 1 -name "*.safetensors" -printf "%f %p\n" | sort -n | tail -n 1 | cut -d " " -f 2-
    done
  )
}

unpack() {
  mkdir -p "$work"
  cat "$1"/offline.tar.gz.* | tar -C "$work" -x -z -f - --keep-newer-files --warning=no-ignore-newer
}

case "${1:-}" in
  wheels | run | pack | unpack) "$@" ;;
  *) sed -n "2,10s/^# \{0,1\}//p" "$0" && exit 2 ;;
esac
