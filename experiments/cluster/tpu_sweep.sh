#!/usr/bin/env bash
# Cloud TPU: the sweep over beta; a TPU VM with a single host for each point.
#   experiments/cluster/tpu_sweep.sh
#
# tpu_pod.sh has more lines to edit. If this script ends early, run it again to attach.
set -uo pipefail

# The number of points of `python launch.py --config=experiments/imagenet64.py --sweep`.
POINTS=${POINTS:-6}
export TYPE=${TYPE:-v5litepod-8}  # with a number of chips that divides train.batch_size, 64
DATA_DIR=${DATA_DIR:-/share/tensorflow_datasets}

trap 'trap - INT TERM; kill 0' INT TERM  # ends the scripts below, not the runs
processes=()
for ((i = 0; i < POINTS; i++)); do
  "$(dirname "$0")/tpu_pod.sh" "imagenet64-sweep-$i" \
    "python launch.py --config=experiments/imagenet64.py --sweep_index=$i \
    --config.data.data_dir=$DATA_DIR" >"tpu_sweep_$i.log" 2>&1 &
  processes+=($!)
done

failed=0
for ((i = 0; i < POINTS; i++)); do
  status=0
  wait "${processes[i]}" || status=$?
  echo "point $i: exit status $status, tpu_sweep_$i.log" >&2
  [ "$status" = 0 ] || failed=1
done
exit "$failed"
