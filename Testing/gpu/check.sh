#!/usr/bin/env bash
# What a GPU makes of this, in at most eight minutes; no network is needed, only what the engine needs to run.
#
#   bash Testing/gpu/check.sh OUT [--data ACDC] [--minutes 0.7]
#
# PYTHON names another Python than python3. All results are in OUT/check.json, written anew after each part.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD/training:$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec timeout 475 "${PYTHON:-python3}" Testing/gpu/check.py "$@"
