#!/usr/bin/env bash
# Training on several GPUs of this machine, or of several machines (run it on each of them):
#   tools/dist_train.sh CONFIG GPUS_PER_MACHINE [train.py's flags]
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=host0 tools/dist_train.sh CONFIG 8 --work_dir DIR     (NODE_RANK=1 on the second)
set -eu
if [ $# -lt 2 ]; then sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
config=$1 gpus=$2
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$([ -x "$root/.venv/bin/python" ] && echo "$root/.venv/bin/python" || echo python)}
exec "$python" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${MASTER_PORT:-29500}" --nproc_per_node="$gpus" "$root/train.py" "$config" --launcher pytorch "$@"
