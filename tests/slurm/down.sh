#!/usr/bin/env bash
# Ends what up.sh FOLDER started: its jobs, then slurmd, slurmctld and munged, each by the process number that it wrote down.
folder="$1"
export SLURM_CONF="$folder/slurm.conf"
if kill -0 "$(cat "$folder/munge/pid" 2>/dev/null)" 2>/dev/null; then
    for state in PENDING RUNNING; do scancel --state=$state --user=root; done
    for _ in $(seq 50); do [ -z "$(squeue --noheader 2>/dev/null)" ] && break; sleep 0.2; done
fi
for name in slurmd.pid slurmctld.pid munge/pid; do
    [ -s "$folder/$name" ] || continue
    process="$(cat "$folder/$name")"
    kill "$process" 2>/dev/null
    for _ in $(seq 50); do kill -0 "$process" 2>/dev/null || break; sleep 0.2; done
    kill -9 "$process" 2>/dev/null
done
[ "$(readlink /etc/slurm/slurm.conf)" = "$SLURM_CONF" ] && rm -f /etc/slurm/slurm.conf
exit 0
