#!/usr/bin/env bash
# utils/fix_data_dir.sh DIR [--apply true] [--check_audio false]
# Shows what would mend a Kaldi data directory; with --apply true it is written, and the old files kept in DIR/.backup.
set -euo pipefail
exec "${PSE_VENV:-$(dirname -- "${BASH_SOURCE[0]}")/../.venv}/bin/python" -m pse.io.datadir fix "$@"
