#!/bin/bash
# Runs a command beside a Ray cluster that spans this job's allocation, and nothing beyond it. `launcher: ray` in a
# profile has modpo submit do this; by hand:
#   sbatch --nodes=2 --ntasks-per-node=1 --cpus-per-task=8 slurm/ray.sh python jobs/judge.py DIR --shard ID
# The command finds the cluster in RAY_ADDRESS. Its exit code is the job's; a head that dies ends the job as failed.
# USR1 and USR2 (sbatch --signal=B:USR2@120) are passed on to the command alone: Ray has to live while it saves its state.
# MODPO_PYTHON: what starts the Python that has Ray (default: python).
set -uo pipefail
(($#)) || { echo "usage: sbatch [options] slurm/ray.sh COMMAND..." >&2; exit 2; }
: "${SLURM_JOB_ID:?this script runs inside a Slurm job}"
unset SLURM_CPU_BIND SLURM_CPU_BIND_LIST SLURM_CPU_BIND_TYPE SLURM_CPU_BIND_VERBOSE
# A process that loses its cluster aborts: where core files are on, it would leave hundreds of megabytes behind.
ulimit -c 0

read -ra python <<<"${MODPO_PYTHON:-python}"
ray=("${python[@]}" -m ray.scripts.scripts)
cpus=${SLURM_CPUS_PER_TASK:-1}
gpus=${SLURM_GPUS_ON_NODE:-0}
readarray -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
# Two jobs on one node keep apart: job ids are unique on a cluster, and what others do on the node is looked at.
# Socket paths end at 107 bytes, so the scratch folder is a short one.
free_port() {
  "${python[@]}" - "$1" <<'PYTHON'
import socket, sys
for port in range(int(sys.argv[1]), 32000):
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            continue
    print(port)
    break
PYTHON
}
scratch=/tmp/ray$SLURM_JOB_ID.$RANDOM
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
share=(--num-cpus "$cpus" --num-gpus "$gpus" --disable-usage-stats --block)
[ -z "${RAY_OBJECT_STORE_MB:-}" ] || share+=(--object-store-memory $((RAY_OBJECT_STORE_MB << 20)))
# On each node a shell of its own stays with Ray and clears up, also when this script is killed. Asked nicely, Ray
# drains for half a minute, which Slurm does not wait for, and there is nothing in it to save. USR1 is what this
# script sends: srun takes a TERM for a KILL.
# shellcheck disable=SC2016
tended='scratch=$1; shift
trap "" USR2
"$@" & ray=$!
end() { kill -KILL "$ray"; pkill -KILL -u "$(id -u)" -f "$scratch/session"; } 2>/dev/null
trap "asked=1; end" TERM INT USR1
until wait "$ray" 2>/dev/null; code=$?; ! kill -0 "$ray" 2>/dev/null; do :; done
end
rm -rf "$scratch" || { sleep 1; rm -rf "$scratch"; }
[ -n "${asked:-}" ] || exit "$code"'
step=(srun --ntasks-per-node=1 --cpus-per-task="$cpus" --exact)
started=() command='' asked=''

stop() {
  trap - EXIT TERM INT
  trap '' USR1 USR2
  [ -z "$command" ] || kill -TERM "$command" 2>/dev/null
  for process in "${started[@]}"; do kill -USR1 "$process" 2>/dev/null; done
  wait 2>/dev/null
}
pass_on() {
  asked=1
  [ -z "$command" ] || kill -"$1" "$command" 2>/dev/null
}
is_preempted() { [[ $(scontrol --oneliner show job "$SLURM_JOB_ID" 2>/dev/null) =~ PreemptTime=[0-9] ]]; }
await_command() {
  while wait "$command"; code=$?; kill -0 "$command" 2>/dev/null; do :; done
  wait "$command"
}
trap stop EXIT
trap 'exit 143' TERM INT
trap 'pass_on USR1' USR1
trap 'pass_on USR2' USR2

address=$(srun --overlap -N1 -n1 -w "${nodes[0]}" hostname -I | awk '{print $1}')
head='' healthy=''
for attempt in 0 1 2 3; do  # a port that was free may be taken a moment later
  port=$(free_port $((20000 + (SLURM_JOB_ID + attempt * 2357) % 10000)))
  export RAY_ADDRESS=$address:$port
  "${step[@]}" -N1 -n1 -w "${nodes[0]}" bash -c "$tended" tended "$scratch" "${ray[@]}" start --head \
    --node-ip-address "$address" --port "$port" --temp-dir "$scratch" --include-dashboard=false "${share[@]}" &
  head=$!
  started=("$head")
  for _ in $(seq 120); do
    kill -0 "$head" 2>/dev/null || break
    "${ray[@]}" health-check --address "$RAY_ADDRESS" >/dev/null 2>&1 && healthy=1 && break
    sleep 1
  done
  # the cluster that answers must be ours: a head that found its port taken is about to end
  [ -n "$healthy" ] && kill -0 "$head" 2>/dev/null && break
  healthy=''
  kill -USR1 "$head" 2>/dev/null
  wait "$head" 2>/dev/null
done
[ -n "$healthy" ] || { echo "error: the head of Ray did not start" >&2; exit 1; }
others=$((${#nodes[@]} - 1))
if ((others)); then
  "${step[@]}" -N"$others" -n"$others" -x "${nodes[0]}" bash -c "$tended" tended "$scratch" "${ray[@]}" start \
    --address "$RAY_ADDRESS" "${share[@]}" &
  started+=($!)
fi
"${python[@]}" - "${#nodes[@]}" <<'PYTHON' || exit 1
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
while kill -0 "$head" 2>/dev/null && kill -0 "$command" 2>/dev/null; do wait -n "$head" "$command"; done
if kill -0 "$command" 2>/dev/null; then
  if [ -z "$asked" ] && ! is_preempted; then
    kill -KILL "$command"  # asked to stop, it would go back into the queue; its answers are kept anyway
    stop
    echo "error: the head of Ray has died" >&2
    exit 1
  fi
  # Slurm ends the steps, and Ray with them, when the grace time of a preemption begins.
  kill -TERM "$command" 2>/dev/null
fi
await_command
exit $?
