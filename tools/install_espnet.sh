#!/usr/bin/env bash
# Install ESPnet into the project's environment (.venv/ at the root, or the one that PSE_VENV names), so that
# models with `name: espnet` can be built. PyTorch and everything else that is there stays as it is.
#
#   tools/install_espnet.sh           does nothing when all of tools/constraints-espnet.txt is installed
#   tools/install_espnet.sh --remove  takes these packages out again
set -euo pipefail

root=$(cd "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=${PSE_VENV:-$root/.venv}
list=$root/tools/constraints-espnet.txt
log=$venv/install_espnet.log
# shellcheck source=utils/log.sh
source "$root/utils/log.sh"

[[ -x $venv/bin/pse ]] || fail 3 "install_espnet: no environment in $venv: run 'make setup' in $root first"
mapfile -t packages < <(grep -v '^#' "$list")

# Which of the packages are not installed at their versions.
missing() {
  "$venv/bin/python" -I - "${packages[@]}" <<'PY'
import sys
from importlib.metadata import PackageNotFoundError, version

for wanted in sys.argv[1:]:
    name, number = wanted.split("==")
    try:
        found = version(name)
    except PackageNotFoundError:
        found = None
    if found != number:
        print(wanted)
PY
}

pip() { "$venv/bin/python" -m pip --no-input --disable-pip-version-check "$@" >>"$log" 2>&1; }

case ${1-} in
  '') ;;
  --remove)
    pip uninstall --yes "${packages[@]%%==*}" || fail 3 "install_espnet: pip failed; see $log"
    say "ESPnet: removed from $venv"
    exit
    ;;
  *) fail 1 "install_espnet: usage: tools/install_espnet.sh [--remove]" ;;
esac

mapfile -t wanted < <(missing)
if ((${#wanted[@]} == 0)); then
  say "ESPnet: in $venv (up to date)"
  exit
fi
say "ESPnet: installing ${wanted[*]} into $venv, and nothing they ask for"
: >"$log"
# The environment's own setuptools builds what has no wheel: pip would download another one for it.
pip install --no-deps --no-build-isolation --retries 2 --progress-bar off "${wanted[@]}" ||
  fail 3 "install_espnet: pip failed; check the network and $log, then run it again: it continues"
"$venv/bin/python" -c 'from pse.models.espnet import CLASSES, find_class; [find_class(*key) for key in CLASSES]' ||
  fail 3 "install_espnet: ESPnet is installed and cannot be imported; see the message above"
say "ESPnet: in $venv after $SECONDS s"
