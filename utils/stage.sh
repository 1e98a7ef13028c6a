# shellcheck shell=bash disable=SC2154
# The stages of a recipe: `stage N name -- command...` for each, then `run_stages`.
#
# run_stages runs those from $stage to $stop_stage (numbers or names), each into its log below
# $expdir/log. `list=true` prints what is done, stale or missing instead, `dry_run=true` hands --dry_run
# on to each command. The first command that fails ends the run with its exit status and the line that
# repeats it.
#
# A command understands `--status` (print `done|stale|missing<TAB>why` and do nothing) and `--dry_run`.
# The recipe sets stage, stop_stage, list, dry_run, expdir and tag.

# shellcheck source=utils/log.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/log.sh"

# The words of all commands stand in one array; _stage_first and _stage_size say which are whose.
_stage_numbers=() _stage_names=() _stage_words=() _stage_first=() _stage_size=()

stage() {
  if (($# < 4)) || [[ ! $1 =~ ^[0-9]+$ || $3 != -- ]]; then
    fail 4 "${BASH_SOURCE[1]}:${BASH_LINENO[0]}: a stage is written: stage N name -- command..."
  fi
  _stage_numbers+=("$1")
  _stage_names+=("$2")
  shift 3
  _stage_first+=("${#_stage_words[@]}")
  _stage_size+=("$#")
  _stage_words+=("$@")
}

# Print the number of the stage that option --$1 names by its value $2.
_stage_number() {
  local i all=''
  if [[ $2 =~ ^-?[0-9]{1,9}$ ]]; then
    # 10# because a number such as 08 is not meant as octal. Past the last one means to the end.
    local sign=${2%%[0-9]*} digits=${2#-}
    if [[ $1 == stop_stage ]] || ((10#$digits <= _stage_numbers[-1])); then
      printf '%s%d' "$sign" "$((10#$digits))"
      return
    fi
  fi
  for i in "${!_stage_names[@]}"; do
    if [[ ${_stage_names[i]} == "$2" ]]; then
      printf '%d' "${_stage_numbers[i]}"
      return
    fi
    all+=", ${_stage_numbers[i]} ${_stage_names[i]}"
  done
  fail 1 "--$1: there is no stage $(quoted "$2"); the stages are ${all#, }"
}

_list_stages() {
  local i row
  printf '%2s  %-14s %-8s %s\n' '#' stage state detail
  for i in "${!_stage_names[@]}"; do
    # A command that cannot say how it stands, for a mistake in the config, has told why: it would be the
    # same for the others. Only the last line counts, since a library may have said something before.
    row=$("${_stage_words[@]:_stage_first[i]:_stage_size[i]}" --status </dev/null) || exit
    row=${row##*$'\n'}
    printf '%2d  %-14s %-8s %s\n' "${_stage_numbers[i]}" "${_stage_names[i]}" "${row%%$'\t'*}" "${row#*$'\t'}"
  done
}

# Run stage $1 (its place in the arrays).
_run_stage() {
  local status=0 began=$SECONDS log heading ending told
  local -a command=("${_stage_words[@]:_stage_first[$1]:_stage_size[$1]}")
  heading="stage ${_stage_numbers[$1]} ${_stage_names[$1]}"
  say "== $heading =="
  if [[ $dry_run == true ]]; then
    told=$("${command[@]}" --dry_run 2>&1) || status=$?
    # 2: an earlier stage has to run first, which is what a dry run leaves out.
    ((status != 2)) || status=0 told='cannot be told before the stages above have run'
    say "$told"
  else
    log=$expdir/log/${tag:+${tag//[^A-Za-z0-9._-]/_}.}${_stage_numbers[$1]}.${_stage_names[$1]}.log
    run_logged "$log" "${command[@]}" || status=$?
  fi
  if ((status != 0)); then
    {
      ending="failed with exit status $status"
      ((status != 130)) || ending=stopped
      say "== $heading: $ending after $(duration $((SECONDS - began))) =="
      [[ -z ${log-} ]] || say "log: $log"
      say "to repeat this stage: (cd $(quoted "$PWD") && source ./path.sh && $(quoted "${command[@]}"))"
    } >&2
    exit "$status"
  fi
  [[ $dry_run == true ]] || say "== $heading: $(duration $((SECONDS - began))) =="
}

run_stages() {
  local i first last why began=$SECONDS
  first=$(_stage_number stage "$stage")
  last=$(_stage_number stop_stage "$stop_stage")
  ((first <= last)) || fail 1 "--stage $stage comes after --stop_stage $stop_stage: nothing to do"
  if [[ $list == true ]]; then
    _list_stages
    return
  fi
  [[ $dry_run == true ]] || why=$(mkdir -p -- "$expdir/log" 2>&1) || fail 1 "$why; choose another --expdir"
  export PYTHONUNBUFFERED=1  # a log is read while it grows
  for i in "${!_stage_names[@]}"; do
    if ((first <= _stage_numbers[i] && _stage_numbers[i] <= last)); then _run_stage "$i"; fi
  done
  say "finished in $(duration $((SECONDS - began)))"
}
