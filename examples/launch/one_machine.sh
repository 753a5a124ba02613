#!/usr/bin/env bash
# One machine: one process per GPU. Without a GPU give a number, e.g. --nproc 2, and the processes divide the cores.
# The run starts again up to 10 times when a process is killed or loses its GPU.
exec ./train "${1:-configs/tinyllama_kd.yaml}" --nproc auto --max-restarts 10
