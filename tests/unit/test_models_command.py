"""`pse models`: a line for each built-in model, the card of one; and what `pse separate` leaves over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pse import cli
from pse.inference import builtin
from pse.io import audio
from tests.packages import EMBEDDING, pack, pack_builtin


def test_a_line_tells_what_a_model_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(builtin, "PLACE", tmp_path / "weights")
    assert cli.main(["models"]) == 0 and "no models are built in" in capsys.readouterr().out
    pack_builtin(tmp_path / "weights")
    pack(tmp_path / "weights" / "zz_other", EMBEDDING, "# other\n\nNothing on rights.\n")
    long = "# long\n\nLicence: CC BY 4.0 or\nlater. Made from speech (by\nsomebody).\n\nMore. And more.\n"
    pack(tmp_path / "weights" / "zz_two_lines", EMBEDDING, long)
    assert cli.main(["models"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert head.split() == ["name", "task", "rate", "weights", "size", "causal", "licence"]
    assert list(rows) == builtin.names() and len(rows) == len(lines) == 6
    for task, name in builtin.DEFAULTS.items():
        assert rows[name].split()[1] == task and rows[name].endswith("  that of the test")
    # A sentence is whole, whatever the lines of the card.
    assert rows["zz_two_lines"].endswith("  CC BY 4.0 or later")
    assert " 16000 Hz " in rows[builtin.DEFAULTS["enhance"]] and " 32 ms " in rows[builtin.DEFAULTS["enhance"]]
    other = rows["zz_other"]
    assert " separate " in other and " 8000 Hz " in other and " no " in other and "not named in the card" in other


def test_the_card_of_a_model_is_printed_and_drives_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(builtin, "PLACE", tmp_path / "weights")
    pack_builtin(tmp_path / "weights")
    mine = pack(tmp_path / "mine", EMBEDDING, "# mine\n\n\x1b[31mred\n")
    assert cli.main(["models", "voice"]) == 0
    assert capsys.readouterr().out == "# a card\n\nLicence: that of the test\n"
    assert cli.main(["models", str(mine)]) == 0
    assert capsys.readouterr().out == "# mine\n\n\\x1b[31mred\n"
    assert cli.main(["models", "voise"]) == 1
    assert "did you mean 'voice'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--num_speakers", "3"], ["--num_speakers", "auto"], []])
@pytest.mark.parametrize("channels", [1, 2])
def test_speakers_and_residual_add_up_to_the_recording(
    words: list[str], channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (channels, 20000)).astype(np.float32)
    audio.write("talk.wav", samples, 11025)
    Path("wav.scp").write_text("u1 talk.wav\n")
    model = pack(tmp_path / "m", EMBEDDING)
    assert cli.main(["separate", "wav.scp", "-o", "out", "--model", str(model), *words]) == 0
    lists = {p.stem: Path(p.read_text().split(maxsplit=1)[1].strip()) for p in Path("out").glob("*.scp")}
    assert lists["residual"].name == "u1_residual.wav" and lists["spk1"].name == "u1_1.wav"
    parts = [audio.read(path)[0] for path in lists.values()]
    assert len(parts) == len(list(Path("out").glob("*.wav"))) and (not words or words[1] == "auto" or len(parts) == 4)
    # A step of 16 bits for each file.
    assert np.abs(sum(parts) - audio.read("talk.wav")[0]).max() <= len(parts) / 32768


@pytest.mark.parametrize("number", ["1", "0", "-2", "two", "2.5"])
def test_a_number_that_cannot_be_is_one_line(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["separate", "x.wav", "-o", "out", f"--num_speakers={number}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "--num_speakers" in line and "give 2 to 99, or auto" in line
