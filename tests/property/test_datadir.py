"""pse.io.datadir for any content: round trips, and repairs that end."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pse.errors import PseError
from pse.io import datadir
from pse.io.tables import VALID_ID, parse, render

ids = st.from_regex(VALID_ID, fullmatch=True).map(lambda s: s[:40])
# Anything that stands on one line, unusual spaces and line separators of Unicode among it.
values = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1).filter(
    lambda v: v == v.strip(" \t\r") and v
)
lines = st.sampled_from(
    ["a s", "b s", "b  t", "c\tt", "c", "", " d s", "a s s", "-x s", "a s\r", "\ufeffa s", "e |", "a\\b s"]
)


@given(st.dictionaries(ids, values, min_size=1))
def test_reading_a_table_gives_what_was_written(entries):
    table = parse("wav.scp", render("wav.scp", entries).encode())
    assert table.entries == entries and table.faults == []


@given(st.dictionaries(ids, st.tuples(values, ids), min_size=1, max_size=8))
@settings(max_examples=40)
def test_reading_a_directory_gives_what_was_written(tmp_path_factory, rows):
    directory = tmp_path_factory.mktemp("d") / "x"
    tables = {"utt2category": {k: v[0] for k, v in rows.items()}, "utt2spk": {k: v[1] for k, v in rows.items()}}
    tables["wav.scp"] = {k: f"/nowhere/{k}.wav" for k in rows}
    datadir.write(directory, tables)
    assert datadir.read(directory) == tables
    assert datadir.validate(directory, check_audio=False) == []


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed(content):
    for table in (parse("utt2spk", content), parse("text", content)):
        assert all("\n" not in fault for fault in table.faults)


@given(st.lists(lines, max_size=8), st.lists(lines, max_size=8), st.lists(lines, max_size=8), st.booleans())
@settings(max_examples=200)
def test_a_repair_makes_a_directory_valid_and_a_second_one_changes_nothing(tmp_path_factory, scp, spk, inverse, ends):
    directory: Path = tmp_path_factory.mktemp("d")
    for name, content in (("wav.scp", scp), ("utt2spk", spk), ("spk2utt", inverse)):
        (directory / name).write_bytes(("\n".join(content) + "\n" * ends).encode())
    before = {p.name: p.read_bytes() for p in directory.iterdir()}
    try:
        datadir.fix(directory, apply=True, check_audio=False)
    except PseError:
        assert {p.name: p.read_bytes() for p in directory.iterdir()} == before
    else:
        assert datadir.validate(directory, check_audio=False) == []
        assert datadir.fix(directory, apply=True, check_audio=False) == ""
