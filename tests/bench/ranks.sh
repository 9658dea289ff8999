#!/bin/sh
# SPDX-License-Identifier: MIT
# One rank, two, and PyTorch's one and two with gloo, in turns: ranks.sh c|d|g TURNS ROUNDS
#
#   NABLUA=build/release/nablua TORCH=~/torch/bin tests/bench/ranks.sh c 5 15
here=$(dirname "$0") work=${1:-c} turns=${2:-3} rounds=${3:-15}
program=${NABLUA:-build/release/nablua}
for _ in $(seq "$turns"); do
  NABLUA_THREADS=1 "$program" "$here/ranks.lua" "$work" "$rounds"
  NABLUA_THREADS=2 mpirun -n 2 "$program" "$here/ranks.lua" "$work" "$rounds" 2>/dev/null
  [ -n "$TORCH" ] || continue
  for n in 1 2; do
    OMP_NUM_THREADS=1 "$TORCH/torchrun" --nproc_per_node $n "$here/ranks.py" "$work" "$rounds" 2>/dev/null
  done
done
