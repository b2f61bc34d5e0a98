#!/usr/bin/env bash
# Testing under Slurm, on one or several machines:
#   GPUS=8 GPUS_PER_NODE=8 tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [test_video.py's flags]
# CPUS_PER_TASK (default 8) and SRUN_ARGS go to srun.
set -eu
if [ $# -lt 4 ]; then sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
partition=$1 job=$2 config=$3 checkpoint=$4
shift 4
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$([ -x "$root/.venv/bin/python" ] && echo "$root/.venv/bin/python" || echo python)}
gpus=${GPUS:-4}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# shellcheck disable=SC2086  # SRUN_ARGS holds several words
exec srun --partition="$partition" --job-name="$job" --gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-8}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "$python" -u "$root/test_video.py" "$config" "$checkpoint" \
    --launcher slurm "$@"
