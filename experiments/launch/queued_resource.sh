#!/usr/bin/env bash
# One run on a TPU slice from a queued resource. A preempted slice is asked for again, and the run resumes.
#
#   PROJECT=my-project ZONE=us-west4-a SHARED=10.0.0.2:/share CODE=https://github.com/ME/REPOSITORY \
#       experiments/launch/queued_resource.sh
#
# SHARED is an NFS export (Filestore) that the slice's network reaches, and that has MODEL and DATA: hosts share
# the workdir and the cache.
set -euo pipefail

: "${PROJECT:?the Google Cloud project}" "${ZONE:?the zone}" "${SHARED:?an NFS export, HOST:/PATH}"
NAME=${NAME:-coupling}
ACCELERATOR=${ACCELERATOR:-v5litepod-16}
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}
KIND=${KIND:---spot}              # or --reserved
CODE=${CODE:?a git address of this repository that the hosts can clone}
MODEL=${MODEL:-/shared/models/Qwen3-8B}    # its folder, as published
DATA=${DATA:-/shared/data/mmlu/data.tar}   # MMLU, as published
WORKDIR=/shared/runs/hint_mmlu
BAD=/shared/$NAME.bad_input                # a mark that the run has ended with exit code 2

cloud() { gcloud compute tpus "$@" --project="$PROJECT" --zone="$ZONE"; }
on_all() { cloud tpu-vm ssh "$NAME" --worker=all --command="$1"; }

state() { cloud queued-resources describe "$NAME" --format='value(state.state)' 2>/dev/null || echo NONE; }

PREPARE="set -e
sudo apt-get -qq install -y nfs-common
sudo mkdir -p /shared
mountpoint -q /shared || sudo mount -t nfs $SHARED /shared
rm -f $BAD
test -d coupling || git clone -q $CODE coupling
cd coupling
test -d .venv || python3 -m venv .venv
.venv/bin/pip install -q -r requirements.txt 'jax[tpu]'"

# Exit code 2 is bad input: the same command would fail again.
RUN="cd coupling || exit 1
INTROSPECTION_CACHE=/shared/cache .venv/bin/python -m experiments.run \
  --config=configs/hint_mmlu.py:qwen3_8b --config.initial=$MODEL --config.task.data=$DATA --workdir=$WORKDIR
code=\$?
[ \$code -ne 2 ] || touch $BAD
exit \$code"

until [ "$(state)" = ACTIVE ] && on_all "test -f $WORKDIR/results.json"; do
  case "$(state)" in
    NONE)
      cloud queued-resources create "$NAME" --node-id="$NAME" --accelerator-type="$ACCELERATOR" \
        --runtime-version="$RUNTIME" "$KIND"
      ;;
    ACTIVE)
      # A host that is lost ends the others; whatever ended them, the next round sees whether it is finished.
      if ! on_all "$PREPARE"; then
        sleep 30
      elif ! on_all "$RUN"; then
        if on_all "test -e $BAD"; then
          echo "bad input: the run's own line above says what; the slice is still there" >&2
          exit 2
        fi
        sleep 30
      fi
      ;;
    SUSPENDED | SUSPENDING | FAILED)  # preempted
      cloud queued-resources delete "$NAME" --force --quiet
      ;;
    *)
      sleep 60  # waiting for resources
      ;;
  esac
done
echo "finished: $WORKDIR; delete the slice: gcloud compute tpus queued-resources delete $NAME --force"
