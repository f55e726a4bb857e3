#!/usr/bin/env bash
# 16 GPUs of two hosts under Slurm, with a process for each GPU:
#   sbatch launch/slurm.sh
# /shared is a file system of all hosts.
#SBATCH --job-name=dpo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM, three minutes before the time is up or when the job is preempted, saves and ends with 143.
set -uo pipefail

srun --wait=120 rlhf dpo \
  --model=/shared/models/base \
  --data=/shared/pairs.jsonl \
  --out=/shared/runs/dpo \
  --batch-size=128 \
  --mesh=fsdp=16 \
  --distributed \
  --resume
code=$?
if [ "$code" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
