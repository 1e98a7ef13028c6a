# shellcheck shell=bash
# librispeech_pse: where its programs are found.
source "$(dirname -- "${BASH_SOURCE[0]}")/../../utils/env.sh"
