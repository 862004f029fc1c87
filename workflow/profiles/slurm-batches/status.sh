#!/usr/bin/env bash
# The state of a SLURM job in Snakemake's words: status.sh JOB. squeue knows jobs that ended minutes ago; sacct, where there is
# accounting, also those that ended before.
state="$(squeue --noheader --states=all --format=%T --jobs="$1" 2>/dev/null)"
if [ -z "$state" ]; then
    scontrol ping >/dev/null 2>&1 || { echo running; exit; } # nobody answers: ask again later
    state="$(sacct --noheader --allocations --format=State --jobs="$1" 2>/dev/null | awk '{print $1; exit}')"
fi
case "$state" in
    COMPLETED*) echo success ;;
    PENDING* | CONFIGURING* | RUNNING* | COMPLETING* | SUSPENDED* | REQUEUE* | RESIZING* | SIGNALING* | STAGE_OUT* | STOPPED*)
        echo running ;;
    *) echo failed ;;
esac
