#!/usr/bin/env bash
# Two machines with 8 GPUs each, which share this folder and reach each other by ssh.
# Without GPUs: as many processes as you like, e.g. node1:2,node2:2 and -n 4.
exec mpirun -n 16 --host node1:8,node2:8 --bind-to none --wdir "$PWD" ./train "${1:-configs/tinyllama_kd.yaml}"
