# shellcheck shell=bash
# Command-line options for a recipe. The script declares them, then sources this file:
#
#   # What the script does, in comment lines at its head: the first part of --help.
#   stage=0         # N first stage to run: a number or a name
#   expdir=exp      # DIR where models and results go
#   force=false     # run the stages again even if nothing has changed
#   set=()          # KEY=VALUE change one setting of the config; may be repeated
#   source utils/parse_options.sh
#
# Options are the `name=default  # help` lines above the line that sources this file. A first word in
# capitals, or like a|b, stands for the value in --help; DIR and FILE mark paths, which are taken
# relative to where the caller stands, while defaults are relative to the script's own directory. A
# default of true or false makes a switch, `()` collects the values of a repeated option. `(also --name)`
# in the help adds a second name. `hand_on` passes options to another command.
#
# `--a-b v`, `--a_b v` and `--a_b=v` are the same. A value that begins with a dash needs the form with
# `=`. Values are data: nothing here evaluates, expands or sources them. A mistake is one line on
# stderr and exit status 1.

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "bash $BASH_VERSION is too old: version 4.4 or newer is needed (macOS: brew install bash)" >&2
  exit 3
fi

declare -A _kind=() _metavar=() _help=() _default=() _alias=()  # by option name
declare -a _names=() _about=()

# Read the declarations of script $1. Locals have a leading underscore all through this file, so that
# none can stand in front of an option's variable.
_declare_options() {
  local _line _name _text _body=false LC_ALL=C
  local _option='^([a-z][a-z0-9_]*)=([^[:space:]#]*|"[^"]*")[[:space:]]+#[[:space:]]*(.*)$'
  while IFS= read -r _line; do
    [[ $_line =~ ^(source|\.)[[:space:]].*parse_options\.sh ]] && return
    [[ $_line != '#!'* && $_line != '# shellcheck '* ]] || continue
    if [[ $_body == false && $_line =~ ^#[[:space:]]?(.*)$ ]]; then
      _about+=("${BASH_REMATCH[1]}")
      continue
    fi
    _body=true
    [[ $_line =~ $_option ]] || continue
    _name=${BASH_REMATCH[1]} _default[$_name]=${BASH_REMATCH[2]//\"/} _text=${BASH_REMATCH[3]}
    _names+=("$_name")
    case ${_default[$_name]} in
      true | false) _kind[$_name]=switch ;;
      '()') _kind[$_name]=list _default[$_name]='' ;;
      *) _kind[$_name]=value ;;
    esac
    _metavar[$_name]=VALUE
    if [[ $_text =~ ^([A-Z][A-Z0-9_=]*|[a-z0-9]+\|[a-z0-9|]+)[[:space:]]+(.*)$ ]]; then
      _metavar[$_name]=${BASH_REMATCH[1]} _text=${BASH_REMATCH[2]}
    fi
    _help[$_name]=$_text
    while [[ $_text =~ \(also[[:space:]]--([a-z0-9_]+)\)(.*)$ ]]; do
      _alias[${BASH_REMATCH[1]}]=$_name _text=${BASH_REMATCH[2]}
    done
  done <"$1"
}

_option_error() {
  printf '%s: %s\n' "${_script##*/}" "$1" >&2
  exit 1
}

_print_help() {
  local _name _left
  printf 'Usage: %s [--option value]...\n\n' "$_script"
  ((${#_about[@]} == 0)) || printf '%s\n' "${_about[@]}"
  printf '\nOptions [default]:\n'
  for _name in "${_names[@]}"; do
    _left="--$_name"
    [[ ${_kind[$_name]} == switch ]] || _left+=" ${_metavar[$_name]}"
    printf '  %-24s %s%s\n' "$_left" "${_help[$_name]}" "${_default[$_name]:+ [${_default[$_name]}]}"
  done
  printf '  %-24s %s\n' --help 'print this and stop'
  printf '%s\n' '' '--a-b v, --a_b v and --a_b=v are the same. Switches take true, false or nothing (true).' \
    'Relative paths are taken from where you stand; defaults are in the directory of the script.'
}

# Number of single-character edits between $1 and $2.
_edits() {
  local _i _j _cost _best
  local -a _row=() _next=()
  for ((_j = 0; _j <= ${#2}; _j++)); do _row[_j]=$_j; done
  for ((_i = 1; _i <= ${#1}; _i++)); do
    _next=("$_i")
    for ((_j = 1; _j <= ${#2}; _j++)); do
      _cost=1
      [[ ${1:_i-1:1} == "${2:_j-1:1}" ]] && _cost=0
      _best=$((_row[_j - 1] + _cost))
      ((_best <= _row[_j] + 1)) || _best=$((_row[_j] + 1))
      ((_best <= _next[_j - 1] + 1)) || _best=$((_next[_j - 1] + 1))
      _next[_j]=$_best
    done
    _row=("${_next[@]}")
  done
  printf '%s' "${_row[${#2}]}"
}

_unknown_option() {
  local _name _edits_to _nearest='' _least=$((${#1} < 8 ? (${#1} + 1) / 2 : 4)) _given
  printf -v _given %q "$1"
  if ((${#1} <= 40)); then
    for _name in "${_names[@]}"; do
      _edits_to=$(_edits "$1" "$_name")
      if ((_edits_to < _least)); then _least=$_edits_to _nearest=$_name; fi
    done
  fi
  if [[ -n $_nearest ]]; then
    _option_error "unknown option --$_given; did you mean --$_nearest?"
  fi
  _option_error "unknown option --$_given; --help lists the options"
}

# Store value $2 of option $1, as it is.
_set_option() {
  local _name=$1 _value=$2 _shown
  if [[ ${_kind[$_name]} == switch && $_value != true && $_value != false ]]; then
    printf -v _shown %q "$_value"
    _option_error "--$_name takes true or false, not $_shown"
  fi
  if [[ ${_metavar[$_name]} == @(DIR|FILE) && -n $_value ]]; then
    # shellcheck disable=SC2088 # a literal tilde: the shell leaves it alone after `--name=`
    [[ $_value != '~/'* ]] || _value=$HOME/${_value:2}
    [[ $_value == /* || $_caller_dir == "$_script_dir" ]] || _value=${_caller_dir%/}/$_value
  fi
  if [[ ${_kind[$_name]} == list ]]; then
    local -n _list=$_name
    _list+=("$_value")
  else
    printf -v "$_name" %s "$_value"
  fi
}

_parse_options() {
  local _argument _name _shown LC_ALL=C
  while (($#)); do
    _argument=$1
    shift
    if [[ $_argument == @(--help|-h) ]]; then
      _print_help
      exit 0
    fi
    if [[ $_argument != --?* ]]; then
      printf -v _shown %q "$_argument"
      _option_error "does not know what to do with $_shown; options are given as --name value"
    fi
    _name=${_argument#--}
    _name=${_name%%=*}
    _name=${_name//-/_}
    # The check of the form comes first: a subscript with brackets or dollars is never looked up.
    [[ $_name =~ ^[a-z][a-z0-9_]*$ ]] || _unknown_option "$_name"
    _name=${_alias[$_name]-$_name}
    [[ -n ${_kind[$_name]-} ]] || _unknown_option "$_name"
    if [[ $_argument == *=* ]]; then
      _set_option "$_name" "${_argument#*=}"
    elif [[ ${_kind[$_name]} == switch && (-z ${1+x} || $1 == --*) ]]; then
      _set_option "$_name" true
    elif [[ -z ${1+x} ]]; then
      _option_error "--$_name needs a value"
    elif [[ $1 == -* && ! $1 =~ ^-[0-9.]+$ ]]; then
      _option_error "--$_name needs a value (one that begins with a dash is given as --$_name=-...)"
    else
      _set_option "$_name" "$1"
      shift
    fi
  done
}

# `hand_on ARRAY name...`: add the named options to ARRAY, as words for another command. What is empty,
# and a switch that is off, is left out, so that the command's own default holds.
hand_on() {
  local -n _words=$1
  local _name _value
  shift
  for _name in "$@"; do
    local -n _values=$_name
    for _value in "${_values[@]}"; do
      case ${_kind[$_name]}:$_value in
        *: | switch:false) ;;
        switch:true) _words+=("--$_name") ;;
        *:-*) _words+=("--$_name=$_value") ;;
        *) _words+=("--$_name" "$_value") ;;
      esac
    done
  done
}

_script=${BASH_SOURCE[1]}
_script_dir=$(cd "$(dirname -- "$_script")" && pwd -P)
_caller_dir=$(pwd -P)
_declare_options "$_script"
_parse_options "$@"
