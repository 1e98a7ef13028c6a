# shellcheck shell=bash disable=SC2154
# librispeech_pse: where the jobs run. `--cmd local` is this machine, with --nj processes and --ngpu devices.

if [[ $cmd != local ]]; then
  printf '%s\n' "--cmd: there is no launcher $(printf %q "$cmd"); the launchers are: local" >&2
  return 1
fi
