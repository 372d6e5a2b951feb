#!/bin/bash
# Runs a command beside a Ray cluster that spans this job's allocation, and nothing beyond it:
#   sbatch --nodes=2 --ntasks-per-node=1 --cpus-per-task=8 slurm/ray.sh python jobs/judge.py DIR --shard ID
# The command finds the cluster in RAY_ADDRESS. Its exit code is the job's; a head that dies ends the job as failed.
set -uo pipefail
(($#)) || { echo "usage: sbatch [options] slurm/ray.sh COMMAND..." >&2; exit 2; }
: "${SLURM_JOB_ID:?this script runs inside a Slurm job}"
unset SLURM_CPU_BIND SLURM_CPU_BIND_LIST SLURM_CPU_BIND_TYPE SLURM_CPU_BIND_VERBOSE

cpus=${SLURM_CPUS_PER_TASK:-1}
gpus=${SLURM_GPUS_ON_NODE:-0}
readarray -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
# Job ids are unique at any time, so are these; two jobs on one node keep apart. Socket paths end at 107 bytes.
port=$((20000 + SLURM_JOB_ID % 10000))
scratch=/tmp/ray$SLURM_JOB_ID
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
share=(--num-cpus "$cpus" --num-gpus "$gpus" --disable-usage-stats --block)
[ -z "${RAY_OBJECT_STORE_MB:-}" ] || share+=(--object-store-memory $((RAY_OBJECT_STORE_MB << 20)))
step=(srun --ntasks-per-node=1 --cpus-per-task="$cpus" --exact)

started=()
stop() {
  trap - EXIT TERM INT
  for process in "${started[@]}"; do kill -TERM "$process" 2>/dev/null; done
  wait "${started[@]}" 2>/dev/null
  srun --overlap --ntasks-per-node=1 rm -rf "$scratch" 2>/dev/null || rm -rf "$scratch"
}
trap stop EXIT
trap 'exit 143' TERM INT

address=$(srun --overlap -N1 -n1 -w "${nodes[0]}" hostname -I | awk '{print $1}')
export RAY_ADDRESS=$address:$port
"${step[@]}" -N1 -n1 -w "${nodes[0]}" ray start --head --node-ip-address "$address" --port "$port" \
  --temp-dir "$scratch" --include-dashboard=false "${share[@]}" &
head=$!
started+=("$head")
for _ in $(seq 120); do
  ray health-check --address "$RAY_ADDRESS" >/dev/null 2>&1 && break
  kill -0 "$head" 2>/dev/null || { echo "the head of Ray did not start" >&2; exit 1; }
  sleep 1
done
others=$((${#nodes[@]} - 1))
if ((others)); then
  "${step[@]}" -N"$others" -n"$others" -x "${nodes[0]}" ray start --address "$RAY_ADDRESS" "${share[@]}" &
  started+=($!)
fi
python - "${#nodes[@]}" <<'PYTHON' || exit 1
import sys, time, ray
ray.init(log_to_driver=False, logging_level="ERROR")
until = time.monotonic() + 180
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[1]):
    if time.monotonic() > until:
        sys.exit("not all nodes joined the Ray cluster within three minutes")
    time.sleep(0.5)
PYTHON

"$@" &
command=$!
started+=("$command")
wait -n "$head" "$command"
code=$?
if kill -0 "$command" 2>/dev/null; then
  echo "the head of Ray has died; the job ends" >&2
  exit 1
fi
exit "$code"
