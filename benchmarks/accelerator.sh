#!/bin/bash
# Everything that is to be measured on an accelerator, in one call of at most LIMIT seconds.
#
#   LIMIT=840 DATA_DIR=DIR benchmarks/accelerator.sh OUT                # on a machine with a GPU
#   PLATFORM=cpu LIMIT=900 DATA_DIR=DIR benchmarks/accelerator.sh OUT   # rehearsal, at tiny sizes
#
# OUT/figures.txt gets the figures of a part when the part ends, and OUT/PART.log its whole output,
# so that what is cut off loses its last part alone. The parts: (a) results equal the CPU's; (b) the
# training step of three experiments, beside PyTorch; (c) files written on either device and read on
# the other; (d) omniglot.py (F = 160, T = 32) with Muon for the rest of the time, if DATA_DIR has
# Omniglot; its weights in pieces of 15 MB. START_FROM: a run that (d) starts from.
#
# Python packages that are missing are installed from the wheels in WHEELS (default: wheels/), into
# a folder of their own.
set -u
cd "$(dirname "$0")/.."
OUT=$(mkdir -p "$1" && cd "$1" && pwd)
PLATFORM=${PLATFORM:-gpu} LIMIT=${LIMIT:-840} PYTHON=${PYTHON:-python3} WHEELS=${WHEELS:-wheels}
BEGAN=$SECONDS SITE=$(mktemp -d)
export PYTHONUNBUFFERED=1 PYTHONPATH=$SITE${PYTHONPATH:+:$PYTHONPATH} CONV_DRAW_CACHE=$SITE/cache
if [ "$PLATFORM" = cpu ]; then
  export JAX_PLATFORMS=cpu
  DEVICE=cpu DTYPE=float32 FLAGS='' TINY='--config.model.features=4 --config.model.steps=2 --config.train.batch_size=4'
else
  DEVICE=cuda DTYPE=bfloat16 TINY='' FLAGS='--device cuda --dtype bfloat16 --compile'
fi
PEER=()
if "$PYTHON" -c 'import torch' 2> "$SITE/torch"; then
  PEER=(--peer=benchmarks/torch_conv_draw.py --peer_flags="$FLAGS")
fi

left() { echo $((LIMIT - (SECONDS - BEGAN))); }

# part NAME SECONDS PATTERN COMMAND: runs a command, at most for that long and for what is left; the
# lines of its output that match are its figures.
part() {
  local name=$1 most=$2 pattern=$3 status
  shift 3
  (($(left) < most)) && most=$(left)
  if ((most < 20)); then
    echo "$name: no time left" | tee -a "$OUT/figures.txt"
    return
  fi
  timeout -s TERM -k 20 "$most" "$@" > "$OUT/$name.log" 2>&1
  status=$?
  { echo "== $name: exit status $status, $((SECONDS - BEGAN)) s since the start"
    grep -aE "$pattern" "$OUT/$name.log" | tail -40; } | tee -a "$OUT/figures.txt"
}

if compgen -G "$WHEELS/*.whl" > "$SITE/wheels"; then
  part wheels 120 'ERROR|Successfully' \
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --target "$SITE" "$WHEELS"/*.whl
fi
part devices 60 '.' "$PYTHON" -c 'import jax; print(jax.__version__, jax.devices())'
part a_tests 240 'passed|failed|^FAILED|^ERROR' env CONV_DRAW_ACCELERATOR="$PLATFORM" \
  "$PYTHON" -m pytest -n 0 -q tests/test_accelerator.py
for name in cifar10 omniglot imagenet64; do
  part "b_$name" 120 '^\{|images/s|GFLOP|refused|Error' "$PYTHON" -m benchmarks.train_step \
    --config=experiments/$name.py --config.model.compute_dtype=$DTYPE --parts --rounds=1 \
    "${PEER[@]}" $TINY
done
"$PYTHON" -c "
import os, sys
from PIL import Image
from sklearn import datasets
os.makedirs(sys.argv[1], exist_ok=True)
for name in ('china', 'flower'):
  Image.fromarray(datasets.load_sample_image(f'{name}.jpg')).save(f'{sys.argv[1]}/{name}.png')" "$SITE/photos"
part c_elsewhere 120 '^\{|Error' "$PYTHON" -m benchmarks.elsewhere \
  --workdir=conv_draw/pretrained/cifar10_codec --images="$SITE/photos" --crop=128 \
  --here=JAX_PLATFORMS=cpu --there=JAX_PLATFORMS=$DEVICE
if [ -n "${DATA_DIR:-}" ]; then
  # SIGTERM saves a checkpoint; packaging the weights needs half a minute.
  part d_omniglot $(($(left) - 60)) 'step |nats' "$PYTHON" launch.py \
    --config=experiments/omniglot.py --workdir="$SITE/omniglot" --config.data.data_dir="$DATA_DIR" \
    --config.model.compute_dtype=$DTYPE --config.train.optimizer=muon \
    --config.train.learning_rate=6e-3 --config.train.log_every=20 \
    --config.train.start_from="${START_FROM:-}" $TINY
  part d_weights 50 'Error|written' "$PYTHON" -m conv_draw.pretrained --workdir="$SITE/omniglot" \
    --out="$SITE/weights"
  (cd "$SITE/weights" && tar cz . | split -b 15M - "$OUT/omniglot.tar.gz.")
fi
rm -rf "$SITE"
