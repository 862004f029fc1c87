#!/usr/bin/env bash
# A private SLURM of one node on the loopback interface, for tests: up.sh FOLDER CPUS starts munged, slurmctld and slurmd as root,
# with all state in FOLDER; down.sh FOLDER ends them. Needs the Debian packages slurmctld, slurmd, slurm-client and munge; no
# service of theirs has to run. There is no accounting, so sacct does not answer. FOLDER/slurm.conf is for SLURM_CONF, and is
# linked as /etc/slurm/slurm.conf: the plug-in slurm-jobstep hides SLURM_CONF from the srun that it starts. A link left by a process
# that was killed is replaced, and its daemons are ended; a link in use and a file of the machine's own SLURM are refused.
set -euo pipefail
folder="$1" cpus="$2" host="$(hostname -s)" port="${SLURM_TEST_PORT:-16917}" system=/etc/slurm/slurm.conf
PATH="$PATH:/usr/sbin"
umask 022
if [ -L "$system" ]; then
    left="$(dirname "$(readlink "$system")")"
    if [ -d "$left/munge" ]; then # it is one of ours
        if kill -0 "$(cat "$left/owner" 2>/dev/null)" 2>/dev/null; then
            echo "another process uses the SLURM in $left" >&2
            exit 1
        fi
        "$(dirname "$0")/down.sh" "$left"
    fi
    [ -e "$system" ] || rm -f "$system"
fi
if [ -e "$system" ]; then
    echo "this machine has a SLURM of its own: $system" >&2
    exit 1
fi
mkdir -p "$folder"/{state,spool,munge} /etc/slurm
echo "$PPID" >"$folder/owner"
chmod 0711 "$folder/munge"
(umask 077; head -c 1024 /dev/urandom >"$folder/munge/key")
cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1000
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
MailProg=/bin/true
MinJobAge=300
InactiveLimit=0
KillWait=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=64000 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 State=UP
CONF
export SLURM_CONF="$folder/slurm.conf"
ln -s "$SLURM_CONF" "$system"
munged --key-file "$folder/munge/key" --socket "$folder/munge/socket" --pid-file "$folder/munge/pid" \
    --log-file "$folder/munge/log" --seed-file "$folder/munge/seed" --num-threads 1 --force >&2
slurmctld -c >&2
slurmd -N "$host" >&2
for _ in $(seq 100); do
    case "$(sinfo --noheader --format %t 2>/dev/null)" in idle*) exit 0 ;; esac
    sleep 0.2
done
echo "SLURM did not start: see $folder/slurmctld.log and $folder/slurmd.log" >&2
exit 1
