# shellcheck shell=bash
# Puts the project's environment first on PATH; status 3 and the remedy when there is none.

_root=$(cd "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
_venv=${PSE_VENV:-$_root/.venv}
if [[ ! -x $_venv/bin/pse ]]; then
  printf '%s\n' "no environment in $_venv: run 'make setup' in $_root (PSE_VENV names another place)" >&2
  return 3
fi
export PATH=$_venv/bin:$PATH
export PYTHONUTF8=1 PYTHONNOUSERSITE=1
