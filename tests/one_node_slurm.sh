#!/usr/bin/env bash
# A Slurm cluster of one node, this machine: for trying "kdpl reproduce --cluster slurm" where there is no real one.
# Debian or Ubuntu, as root:  tests/one_node_slurm.sh start    … sinfo, kdpl reproduce … --cluster slurm …    stop
set -euo pipefail
case "${1:-}" in
start)
  command -v slurmctld slurmd munged > /dev/null ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge; }
  host=$(hostname -s)
  memory=$(awk '/MemTotal/ { print int($2 / 1024 * 0.9) }' /proc/meminfo)
  cat > /etc/slurm/slurm.conf << END
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation=/var/spool/slurm-one
SlurmdSpoolDir=/var/spool/slurmd-one
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
  echo CgroupPlugin=cgroup/v1 > /etc/slurm/cgroup.conf
  mkdir -p /var/spool/slurm-one /var/spool/slurmd-one /run/munge
  [ -s /etc/munge/munge.key ] || dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 status=none
  chown -R munge:munge /etc/munge /run/munge /var/lib/munge /var/log/munge
  chmod 400 /etc/munge/munge.key
  pgrep -x munged > /dev/null || runuser -u munge -- munged > /dev/null 2>&1
  slurmctld > /dev/null 2>&1
  slurmd > /dev/null 2>&1
  # On a machine that is starved the daemons take a minute to answer.
  for _ in $(seq 120); do sinfo -h -o %t 2> /dev/null | grep -qE 'idle|mix|alloc' && break; sleep 1; done
  sinfo -h -o %t | grep -qE 'idle|mix|alloc' || { echo "Slurm did not answer within two minutes." >&2; exit 1; }
  sinfo
  ;;
stop)
  scancel --quiet --user=root 2> /dev/null || true
  pkill -x slurmd || true
  pkill -x slurmctld || true
  pkill -x munged || true
  ;;
*) echo "usage: $0 start|stop" >&2; exit 2 ;;
esac
