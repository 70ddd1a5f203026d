#!/usr/bin/env bash
# A real Slurm of one node, as the user who starts it, in a folder of its own: munged, slurmctld
# and slurmd, no systemd, no /etc, no default ports, so that it never meets a Slurm that is there.
# Debian: apt-get install -y --no-install-recommends slurm-wlm munge
# usage: slurm.sh start|stop FOLDER; then SLURM_CONF=FOLDER/slurm.conf sbatch ...
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
folder=$(realpath "$2")

free_ports() {
  python3 - "$1" <<'PY'
import socket, sys
open_ = [socket.socket() for _ in range(int(sys.argv[1]))]
for each in open_:
    each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in open_))
PY
}

wait_for() {  # SECONDS COMMAND...: until it succeeds
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS > end)); then
      echo "slurm.sh: still fails: $*" >&2
      tail -n 5 "$folder"/*.log >&2
      exit 1
    fi
    sleep 0.1
  done
}

idle() { [ "$(sinfo -h -o %T)" = idle ]; }

case $1 in
start)
  # The socket's folder must be readable, and a socket's path short.
  mkdir -p "$folder"/{ctld,slurmd}
  chmod 755 "$folder"
  read -r ctld_port slurmd_port < <(free_ports 2)
  dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 status=none
  chmod 400 "$folder/munge.key"
  munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
    --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
    --seed-file="$folder/munge.seed" 2>>"$folder/munged.out"
  wait_for 10 munge -n --socket="$folder/munge.socket"
  # Two cores, be they there or not: jobs run side by side, and jobs of two processes at all.
  cpus=$(nproc)
  if ((cpus < 2)); then cpus=2; fi
  # cred_expire is also how long a requeued job waits; the default is two minutes.
  cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort=$ctld_port
SlurmdPort=$slurmd_port
SlurmdParameters=config_overrides
StateSaveLocation=$folder/ctld
SlurmdSpoolDir=$folder/slurmd
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=20
MinJobAge=300
GresTypes=gpu
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$cpus Gres=gpu:2 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  # GPUs in name only: jobs of several processes can be asked for.
  touch "$folder/gpu0" "$folder/gpu1"
  echo "Name=gpu File=$folder/gpu[0-1]" >"$folder/gres.conf"
  export SLURM_CONF=$folder/slurm.conf
  slurmctld >>"$folder/slurmctld.out" 2>&1
  slurmd >>"$folder/slurmd.out" 2>&1
  wait_for 30 idle
  ;;
stop)
  export SLURM_CONF=$folder/slurm.conf
  # Jobs first: their processes would outlive the daemons.
  scancel --user="$(id -un)" >/dev/null 2>&1 || true
  for _ in $(seq 100); do
    if [ -z "$(squeue -h 2>/dev/null)" ]; then break; fi
    sleep 0.1
  done
  for daemon in slurmd slurmctld munged; do
    if [ -s "$folder/$daemon.pid" ]; then
      pid=$(cat "$folder/$daemon.pid")
      kill "$pid" || true
      for _ in $(seq 100); do
        if ! kill -0 "$pid" 2>/dev/null; then break; fi
        sleep 0.1
      done
    fi
  done
  ;;
*)
  echo "usage: slurm.sh start|stop FOLDER" >&2
  exit 2
  ;;
esac
