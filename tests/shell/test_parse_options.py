"""utils/parse_options.sh: values are data, mistakes are one line and exit status 1."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = f"""#!/usr/bin/env bash
# A script with options.
#
#   ./script --stage 3
set -euo pipefail
# A comment inside, no part of the help.
stage=0           # N first stage
expdir=exp        # DIR where results go
test_sets="a b"   # names of the test sets
tag=              # NAME of the run (also --enh_tag)
corpus=           # mini|full which corpus
force=false       # run again
set=()            # KEY=VALUE one setting; may be repeated
internal=secret
source "{ROOT}/utils/parse_options.sh"
words=()
hand_on words tag set force
printf '%s\\0' "$stage" "$expdir" "$test_sets" "$tag" "$corpus" "$force" "${{#set[@]}}" "${{set[@]}}" "${{words[@]}}"
"""
NAMES = ("stage", "expdir", "test_sets", "tag", "corpus", "force")


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("a b'c$d") / "script.sh"
    path.write_text(SCRIPT)
    path.chmod(0o755)
    return path


def run(script: Path, *arguments: str | bytes, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [os.fsencode(str(script)), *map(os.fsencode, arguments)]
    return subprocess.run(command, capture_output=True, cwd=cwd or script.parent, timeout=20, stdin=subprocess.DEVNULL)


def parsed(script: Path, *arguments: str | bytes, cwd: Path | None = None) -> dict[str, object]:
    """The values after parsing: by name, `set` as a list, and `words` as handed on."""
    done = run(script, *arguments, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, b""), done
    fields = done.stdout.split(b"\0")[:-1]
    out: dict[str, object] = dict(zip(NAMES, map(os.fsdecode, fields), strict=False))
    size = int(fields[len(NAMES)])
    rest = [os.fsdecode(f) for f in fields[len(NAMES) + 1 :]]
    return out | {"set": rest[:size], "words": rest[size:]}


def test_defaults_hold_without_options(script):
    assert parsed(script) == {
        "stage": "0", "expdir": "exp", "test_sets": "a b", "tag": "", "corpus": "", "force": "false",
        "set": [], "words": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("--test_sets", "x y"),
        ("--test-sets", "x y"),
        ("--test_sets=x y",),
        ("--test-sets=x y",),
        ("--test_sets=", "--test-sets", "x y"),
    ],
)
def test_all_ways_to_give_an_option_are_the_same_and_the_last_counts(script, arguments):
    assert parsed(script, *arguments)["test_sets"] == "x y"


def test_a_second_name_is_the_same_option(script):
    assert parsed(script, "--enh-tag", "x")["tag"] == "x"


def test_an_empty_value_is_a_value_and_parsing_goes_on(script):
    values = parsed(script, "--test_sets", "", "--stage", "4", "--expdir=")
    assert (values["test_sets"], values["stage"], values["expdir"]) == ("", "4", "")


def test_repeated_settings_are_collected_and_handed_on_as_words(script):
    values = parsed(script, "--set", "a.b=1 2", "--set=c=[x, 'y']", "--tag=-t", "--force")
    assert values["set"] == ["a.b=1 2", "c=[x, 'y']"]
    assert values["words"] == ["--tag=-t", "--set", "a.b=1 2", "--set", "c=[x, 'y']", "--force"]


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (("--force",), "true"),
        (("--force", "false"), "false"),
        (("--force=true",), "true"),
        (("--force", "--stage", "2"), "true"),
    ],
)
def test_a_switch_takes_true_false_or_nothing(script, arguments, value):
    assert parsed(script, *arguments)["force"] == value


@pytest.mark.parametrize("number", ["-1", "-0.5"])
def test_a_negative_number_is_a_value(script, number):
    assert parsed(script, "--stage", number)["stage"] == number


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--stge", "3"), "did you mean --stage?"),
        (("--test-set", "3"), "did you mean --test_sets?"),
        (("--internal", "x"), "unknown option --internal"),
        (("--stage",), "--stage needs a value"),
        (("--stage", "--force"), "--stage needs a value"),
        (("--expdir", "-rf"), "--expdir=-"),
        (("--force", "maybe"), "--force takes true or false, not maybe"),
        (("--force=",), "--force takes true or false, not ''"),
        (("3",), "does not know what to do with 3"),
        (("--stage", "3", "4"), "does not know what to do with 4"),
        (("",), "does not know what to do with ''"),
        (("--",), "does not know what to do with --"),
        (("-x",), "does not know what to do with -x"),
        (("--=x",), "unknown option"),
        (("--BASH_ENV", "x"), "unknown option"),
        (("--_kind", "x"), "unknown option"),
        (("--PATH=/x",), "unknown option"),
        (("--st\nage", "x"), "unknown option"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_1(script, arguments, told):
    done = run(script, *arguments)
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr.endswith(b"\n") and done.stderr.count(b"\n") == 1
    assert told in done.stderr.decode()


INJECTIONS = [
    "$(touch PWNED)", "`touch PWNED`", "; touch PWNED", "'; touch PWNED; '", '"; touch PWNED; "', "a\ntouch PWNED",
    "${PATH}", "$PATH", "~", "*", "?", "[a-z]", "{a,b}", "a[$(touch PWNED)]", "x[$(touch PWNED)]=1", "\\", "\\n",
    "| touch PWNED", "&& touch PWNED", "> PWNED", "<(touch PWNED)", "!!", "#", "=", "==", "a=b", " ", "\t", "\r",
    "%s%n", "'", '"', "$'\\x41'", "$((1/0))", "é漢\u202e", "\x1b[31m", "a" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("payload", INJECTIONS)
def test_nothing_in_a_value_or_a_name_is_ever_run(script, tmp_path, payload):
    assert parsed(script, f"--test_sets={payload}", cwd=tmp_path)["test_sets"] == payload
    assert parsed(script, "--set", payload, cwd=tmp_path)["set"] == [payload]
    for arguments in ((f"--{payload}", "x"), (f"--stage[{payload}]=x",), (payload,), ("--force", payload)):
        done = run(script, *arguments, cwd=tmp_path)
        assert done.returncode == 1 and done.stderr.count(b"\n") == 1, (arguments, done)
    assert list(tmp_path.iterdir()) == []


@given(st.binary(max_size=60).map(lambda b: b.replace(b"\0", b"")))
@example(b"-rf")
@example(b"\xff\xfe")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_without_nul_come_back_as_they_are(script, value):
    told = parsed(script, b"--test_sets=" + value, b"--set=" + value)
    assert (os.fsencode(told["test_sets"]), os.fsencode(told["set"][0])) == (value, value)


def test_given_paths_are_taken_from_where_the_caller_stands(script, tmp_path):
    assert parsed(script, "--expdir", "my exp", cwd=tmp_path)["expdir"] == f"{tmp_path}/my exp"
    assert parsed(script, "--expdir", "/my exp", cwd=tmp_path)["expdir"] == "/my exp"
    assert parsed(script, "--expdir=~/x", cwd=tmp_path)["expdir"] == f"{Path.home()}/x"
    assert parsed(script, "--expdir", "x", cwd=Path("/"))["expdir"] == "/x"
    assert parsed(script, "--expdir", "exp2")["expdir"] == "exp2"
    assert parsed(script, cwd=tmp_path)["expdir"] == "exp"


@pytest.mark.parametrize("asked", ["--help", "-h"])
def test_help_is_made_from_the_declarations(script, asked):
    done = run(script, "--stage", "7", asked)
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0 and done.stderr == b""
    assert "A script with options." in lines and "  ./script --stage 3" in lines
    assert "  --stage N                first stage [0]" in lines
    assert "  --test_sets VALUE        names of the test sets [a b]" in lines
    assert "  --corpus mini|full       which corpus" in lines
    assert not [line for line in lines if "internal" in line or "inside" in line]


def test_a_config_file_is_never_sourced(tmp_path):
    (tmp_path / "c.yaml").write_text("x: 1\ntouch PWNED\n")
    script = tmp_path / "s.sh"
    script.write_text(f'set -eu\nconfig=  # FILE settings\nsource "{ROOT}/utils/parse_options.sh"\necho "$config"\n')
    done = subprocess.run(["bash", str(script), "--config", "c.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "c.yaml\n")
    assert not (tmp_path / "PWNED").exists()
