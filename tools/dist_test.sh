#!/usr/bin/env bash
# Testing on several GPUs of this machine, or of several machines that share a disk (run it on each of them):
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS_PER_MACHINE [test_video.py's flags]
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=host0 tools/dist_test.sh CONFIG CHECKPOINT 8 --out OUT.pkl --eval segm
set -eu
if [ $# -lt 3 ]; then sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
config=$1 checkpoint=$2 gpus=$3
shift 3
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$([ -x "$root/.venv/bin/python" ] && echo "$root/.venv/bin/python" || echo python)}
exec "$python" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${MASTER_PORT:-29500}" --nproc_per_node="$gpus" \
    "$root/test_video.py" "$config" "$checkpoint" --launcher pytorch "$@"
