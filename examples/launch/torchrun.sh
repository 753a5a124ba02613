#!/usr/bin/env bash
# On each of two machines with 8 GPUs: NODE_RANK=0 (and 1) examples/launch/torchrun.sh CONFIG. node1 is the first machine.
# torchrun itself uses port 29500 of node1, and NCCL the next one.
exec torchrun --nnodes 2 --node-rank "$NODE_RANK" --nproc-per-node 8 --master-addr node1 --master-port 29500 \
  --no-python ./train "${1:-configs/tinyllama_kd.yaml}"
