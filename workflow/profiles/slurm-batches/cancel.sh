#!/usr/bin/env bash
# Cancel SLURM jobs: cancel.sh JOB... In a session of its own, so that a second Ctrl-C does not stop it.
exec setsid --wait scancel "$@"
