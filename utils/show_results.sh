#!/usr/bin/env bash
# utils/show_results.sh EXP [EXP]...
# The results of experiment directories side by side, with confidence intervals; `pse results --help` says more.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
exec pse results "$@"
