#!/usr/bin/env bash
# A sweep as a job array: every task of the array is one point, on several nodes.
#
#   python -m experiments.sweep --config=configs/learning_rate.py --workdir=W --dry-run    # how many points
#   sbatch --array=0-2 experiments/launch/slurm.sh
#
# One process per node, which sees all of its GPUs. The folders must be on storage that the nodes share. This config
# is an example and needs no GPU: set CONFIG and WORKDIR to yours, and --nodes and --gpus-per-node to match.
#SBATCH --job-name=coupling
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -uo pipefail

CONFIG=${CONFIG:-configs/learning_rate.py}
WORKDIR=${WORKDIR:-$SLURM_SUBMIT_DIR/runs/learning_rate}
export INTROSPECTION_CACHE=${INTROSPECTION_CACHE:-$SLURM_SUBMIT_DIR/cache}
cd "$SLURM_SUBMIT_DIR"

# The signal comes 120 s before the end: all processes save the same step and exit with 0.
srun --kill-on-bad-exit=0 .venv/bin/python -m experiments.sweep \
  --config="$CONFIG" --workdir="$WORKDIR" --index="$SLURM_ARRAY_TASK_ID"
code=$?

# A point that is finished says so by itself, and a second start of it ends at once; 2 is bad input.
if [ $code -eq 2 ]; then exit 2; fi
point=$(.venv/bin/python -m experiments.sweep --config="$CONFIG" --workdir="$WORKDIR" \
  --index="$SLURM_ARRAY_TASK_ID" --dry-run)
case "$point" in
  *" finished "*) exit 0 ;;
esac
if [ "${SLURM_RESTART_COUNT:-0}" -ge 20 ]; then exit 1; fi
scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
