#!/usr/bin/env bash
# Cloud TPU: a run on all hosts of a TPU VM. Creates the TPU VM, trains, repeats both after
# preemption, and deletes the TPU VM at the end.
#   experiments/cluster/tpu_pod.sh [NAME [COMMAND]]
#
# The program runs on the hosts: if this script ends before it, run the script again to attach.
set -euo pipefail

# Edit these, or set them in the environment.
ZONE=${ZONE:-us-west4-a}
TYPE=${TYPE:-v5litepod-16}  # with a number of chips that divides train.batch_size, 64
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}
OPTIONS=${OPTIONS---spot}  # of gcloud's create
NFS=${NFS:-10.0.0.2:/share}  # with the repository and the data; mounted as /share
CHECKOUT=${CHECKOUT:-/share/conv_draw}
DATA_DIR=${DATA_DIR:-/share/tensorflow_datasets}
WAIT=${WAIT:-60}  # seconds before a retry

name=${1:-imagenet64-pod}
command=${2:-"python launch.py --config=experiments/imagenet64.py --multihost \
  --workdir=runs/imagenet64_pod --config.data.data_dir=$DATA_DIR"}

# Has no effect if repeated.
setup="set -e
sudo apt-get update -q && sudo apt-get install -qy nfs-common python3-pip
sudo mkdir -p /share
mountpoint -q /share || sudo mount -t nfs $NFS /share
if [ ! -e ~/env/done ]; then
  python3 -m pip install --user uv
  python3 -m uv venv --clear --python 3.12 ~/env
  python3 -m uv pip install --python ~/env/bin/python -r $CHECKOUT/requirements.txt 'jax[tpu]'
  touch ~/env/done
fi"

# Starts the command unless it is running (and holds the lock), follows its log and exits with its
# status. After a lost connection, gcloud can therefore connect again and attach.
attach="cd $CHECKOUT || exit
PATH=~/env/bin:\$PATH
if flock -n ~/run.lock true; then
  rm -f ~/run.status
  nohup flock ~/run.lock bash -c $(printf '%q' "$command; echo \$? >~/run.status") \\
    >~/run.log 2>&1 </dev/null &
  while flock -n ~/run.lock true && [ ! -e ~/run.status ]; do sleep 0.1; done
fi
tail -n +1 -f ~/run.log &
flock ~/run.lock true
sleep 1
kill \$!
exit \$(cat ~/run.status || echo 255)"
ended="flock -n ~/run.lock test -e ~/run.status"

tpu() {
  gcloud compute tpus tpu-vm "$1" "${@:2}" --zone="$ZONE" --quiet
}

state() {  # nothing if there is no such TPU VM
  tpu list --format='value(name.basename(),state)' | awk -v name="$name" '$1 == name { print $2 }'
}

on_all_hosts() {
  tpu ssh "$name" --worker=all --command="$1"
}

while true; do
  now=$(state) || now='unknown'
  case $now in
    READY)
      if on_all_hosts "$setup"; then
        status=0
        on_all_hosts "$attach" || status=$?
        # 75: preempted, and saved. 255: no connection, for example to a preempted TPU VM. Another
        # status is the program's if it has ended on all hosts, and otherwise gcloud's.
        if [ "$status" = 0 ] || {
          [ "$status" != 75 ] && [ "$status" != 255 ] && on_all_hosts "$ended"; }; then
          tpu delete "$name"
          exit "$status"
        fi
        now="exit status $status"
      else
        now='setup failed'
      fi
      ;;
    '')
      # shellcheck disable=SC2086  # OPTIONS are words
      tpu create "$name" --accelerator-type="$TYPE" --version="$RUNTIME" $OPTIONS && continue
      now='not available'
      ;;
    PREEMPTED | TERMINATED | STOPPED)
      tpu delete "$name" && continue
      ;;
  esac
  echo "$name: $now; retry in $WAIT s" >&2
  sleep "$WAIT"
done
