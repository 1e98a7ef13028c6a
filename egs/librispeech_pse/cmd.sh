# shellcheck shell=bash disable=SC2154
# librispeech_pse: where the jobs run, --nj at a time.
#
#   --cmd local   processes of this machine, on --ngpu devices
#   --cmd slurm   partition, account, time, memory and GPUs of each stage: conf/launchers/slurm.yaml
#   --cmd ray     processors and GPUs of each stage: conf/launchers/ray.yaml (optional)
#
# A launcher is a file of pse/recipe/launchers; docs/scaling.md has more.

launchers=$(cd ../../pse/recipe/launchers && printf '%s\n' [a-z]*.py)
if [[ $cmd == base || $'\n'$launchers$'\n' != *$'\n'"$cmd.py"$'\n'* ]]; then
  launchers=${launchers/base.py$'\n'/}
  launchers=${launchers//.py/}
  printf '%s\n' "--cmd: there is no launcher $(printf %q "$cmd"); the launchers are: ${launchers//$'\n'/, }" >&2
  return 1
fi
