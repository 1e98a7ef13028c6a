# shellcheck shell=bash
# wsj0_2mix_dc: where its programs are found.
source "$(dirname -- "${BASH_SOURCE[0]}")/../../utils/env.sh"
