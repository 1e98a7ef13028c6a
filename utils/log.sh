# shellcheck shell=bash
# What the shell layer says, and the log that a command leaves behind.

say() { printf '%s\n' "$*"; }

# One line on stderr, then exit with status $1.
fail() {
  local status=$1
  shift
  printf '%s\n' "$*" >&2
  exit "$status"
}

# Seconds as a person says them: `8 s`, `3 min 20 s`, `2 h 05 min`.
duration() {
  local s=$1
  if ((s < 60)); then
    printf '%d s' "$s"
  elif ((s < 3600)); then
    printf '%d min %02d s' $((s / 60)) $((s % 60))
  else
    printf '%d h %02d min' $((s / 3600)) $((s / 60 % 60))
  fi
}

# The words of a command, quoted so that a shell reads them back as they are.
quoted() {
  local words
  printf -v words '%q ' "$@"
  printf '%s' "${words% }"
}

# `run_logged LOG command...`: what the command says goes to the terminal and is added to LOG, between a
# line with the command and one with its exit status, as in Kaldi's logs. Returns that status.
run_logged() {
  local log=$1 status began=$SECONDS
  shift
  {
    printf '# %s\n' "$(quoted "$@")"
    printf '# Started %(%Y-%m-%d %H:%M:%S)T in %s\n' -1 "$PWD"
  } >>"$log" || fail 1 "$log: cannot be written; free some space or choose another --expdir"
  # The status is the command's own, not tee's; tee -i outlives Ctrl-C and passes on the last words.
  status=0
  "$@" 2>&1 | tee -ai "$log" || status=${PIPESTATUS[0]}
  printf '# Ended (code %d) after %s\n' "$status" "$(duration $((SECONDS - began)))" >>"$log"
  return "$status"
}
