#!/usr/bin/env bash
# utils/fix_data_dir.sh DIR [--apply true] [--check_audio false]
# Shows what would mend a Kaldi data directory; --apply true writes it and keeps the old files in DIR/.backup.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
exec python -m pse.io.datadir fix "$@"
