# shellcheck shell=bash
# wsj0_mix_cl_modularity: where its programs are found.
source "$(dirname -- "${BASH_SOURCE[0]}")/../../utils/env.sh"
