#!/usr/bin/env bash
# utils/validate_data_dir.sh DIR [--check_audio false] [--fs HZ]
# Names every fault of a Kaldi data directory; exit status 1 when there is one.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
exec python -m pse.io.datadir validate "$@"
