#!/usr/bin/env bash
# Make or renew the project's virtual environment: .venv/ at the root, or the one that PSE_VENV names.
#
#   tools/setup.sh           does nothing when the environment is up to date
#   tools/setup.sh --again   goes through all steps again, for example after a compiler was installed
#
# PSE_PYTHON       the Python to use, 3.10 or newer
# PSE_TORCH_INDEX  an extra package index to take PyTorch from, such as PyTorch's own one of CPU builds
set -euo pipefail

root=$(cd "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=${PSE_VENV:-$root/.venv}
stamp=$venv/.pse-setup
constraints=$root/tools/constraints.txt
# shellcheck source=utils/log.sh
source "$root/utils/log.sh"

# What the environment was made from, and for which checkout.
recipe() {
  printf '%s\n' "$root" "$venv"
  cksum <"$constraints"
  cat -- "$root/setup.py" "$root/pyproject.toml" "$root/tools/"{setup.sh,install_espnet.sh,constraints-espnet.txt} | cksum
}

step() { printf '[setup %3d s] %s\n' "$SECONDS" "$*"; }

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in ${PSE_PYTHON:+"$PSE_PYTHON"} python3 python3.13 python3.12 python3.11 python3.10; do
    if command -v "$candidate" >/dev/null && is_recent "$candidate"; then
      command -v "$candidate"
      return
    fi
    [[ -z ${PSE_PYTHON-} ]] || fail 3 "setup: PSE_PYTHON=$PSE_PYTHON is not a Python of version 3.10 or newer"
  done
  fail 3 "setup: no Python of version 3.10 or newer was found: install one, or name it in PSE_PYTHON"
}

make_venv() {
  local python
  if [[ -x $venv/bin/python ]] && is_recent "$venv/bin/python"; then return; fi
  if [[ -e $venv && ! -e $venv/pyvenv.cfg ]] && [[ -n $(ls -A -- "$venv") ]]; then
    fail 3 "setup: $venv exists and is no virtual environment: move it away, or name another place in PSE_VENV"
  fi
  python=$(find_python)
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail 3 "setup: $python lacks the modules venv and ensurepip: install them (Debian, Ubuntu: apt install python3-venv)"
  step "making $venv with $("$python" -V)"
  "$python" -m venv --clear "$venv" || fail 3 "setup: $venv cannot be made; see the message above"
}

# Pass on what takes long to download.
show_progress() {
  local line hinted=false
  while IFS= read -r line; do
    if [[ $line == *Collecting\ nvidia-* && $hinted == false ]] && ! command -v nvidia-smi >/dev/null; then
      hinted=true
      step "  no NVIDIA device seen: a PyTorch 2 GB smaller would do, see PSE_TORCH_INDEX in docs/dependencies.md"
    fi
    if [[ $line =~ Downloading\ ([^ ]+)\ \(([0-9]{2,}[0-9.]*\ MB|[0-9.]+\ GB)\) ]]; then
      step "  downloading ${BASH_REMATCH[1]##*/} (${BASH_REMATCH[2]})"
    elif [[ $line == 'Installing collected packages: '*', '* ]]; then
      step "  unpacking"
    fi
  done
}

# pip install at the pinned versions; all it says goes to the log. Returns pip's exit status.
pip_install() {
  local status=0
  "$venv/bin/python" -m pip --no-input --disable-pip-version-check install --retries 2 --progress-bar off \
    --constraint "$constraints" ${PSE_TORCH_INDEX:+--extra-index-url "$PSE_TORCH_INDEX"} "$@" 2>&1 |
    tee -a "$log" | show_progress || status=${PIPESTATUS[0]}
  return "$status"
}

# Say why pip failed, and what to do, then stop.
explain_failure() {
  local remedy="see $log"
  if grep -qE 'NewConnectionError|ConnectionError|NameResolutionError|ProxyError|timed out|Max retries' "$log"; then
    remedy="the package index cannot be reached: check the network, or the proxy in pip's configuration"
  elif grep -qE 'No space left|Errno 28' "$log"; then
    remedy="the disk is full: free some space, or name another place in PSE_VENV"
  elif grep -q 'No matching distribution' "$log"; then
    remedy="$(grep 'No matching distribution' "$log" | tail -n 1); another Python may help (PSE_PYTHON=python3.12)"
  fi
  fail 3 "setup: pip failed: ${remedy#ERROR: }; then run 'make setup' again: it continues. Log: $log"
}

# PESQ has no wheels. It is built where that can work and done without elsewhere.
install_pesq() {
  local include
  if "$venv/bin/python" -c 'import pesq' 2>/dev/null; then return; fi
  include=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  if command -v "${CC:-cc}" >/dev/null && [[ -e $include/Python.h ]]; then
    step "building PESQ"
    if pip_install --only-binary=:all: cython &&
      pip_install --no-binary=pesq --no-build-isolation --use-pep517 --no-deps pesq; then
      return
    fi
    step "PESQ could not be built (see $log): its scores will be counted as 'not installed'"
  else
    step "PESQ scores will be counted as 'not installed': to add them, install a C compiler and Python's" \
      "header files (Debian, Ubuntu: apt install gcc python3-dev) and run tools/setup.sh --again"
  fi
}

case ${1-} in
  '') ;;
  --again) rm -f -- "$stamp" ;;
  *) fail 1 "setup: usage: tools/setup.sh [--again]" ;;
esac
wanted=$(recipe)
if [[ -x $venv/bin/pse && -f $stamp && $(<"$stamp") == "$wanted" ]]; then
  say "environment: $venv (up to date)"
  exit
fi

cd "$root"
step "one virtual environment with wheels only: 1 to 5 minutes, mostly downloads"
rm -f -- "$stamp"
make_venv
log=$venv/setup.log
: >"$log"
step "installing packages"
pip_install --only-binary=:all: setuptools || explain_failure
pip_install --only-binary=:all: --no-build-isolation --editable '.[test]' || explain_failure
install_pesq
step "installing ESPnet's networks"
"$root/tools/install_espnet.sh" ||
  step "ESPnet could not be installed: all but models named espnet works; try tools/install_espnet.sh again later"
step "checking"
"$venv/bin/python" tools/check_env.py || fail 3 "setup: the environment is not usable; remove $venv and run 'make setup'"
printf '%s\n' "$wanted" >"$stamp"
step "environment: $venv"
