"""Reading NIST SPHERE: PCM in both byte orders, shorten by whichever decoder is there, damage told."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.errors import EnvironmentFault, PseError
from pse.io import sphere
from tests.sphere_files import sphere as sphere_bytes


def speech_like(samples: int = 5000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Coloured noise in bursts with digital silence between them, [C, T] int16."""
    rng = np.random.default_rng(seed)
    noise = np.cumsum(rng.normal(0, 1, (channels, samples)), axis=1)
    noise = np.diff(noise - noise.mean(1, keepdims=True), axis=1, prepend=0) + 0.3 * np.sin(np.arange(samples) / 9)
    bursts = (np.arange(samples) // 1000) % 2 == 0
    return np.round(3000 * noise * bursts / np.abs(noise).max()).astype(np.int16)


@pytest.fixture
def save(tmp_path: Path):
    def write(data: bytes, name: str = "a b.wv1") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.fixture(params=["av", "sph2pipe"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two decoders, where it is there."""
    if request.param == "av":
        pytest.importorskip("av")
    elif shutil.which("sph2pipe") is None:
        pytest.skip("sph2pipe is not on PATH")
    monkeypatch.setattr(sphere, "decoder", lambda: request.param)
    return request.param


@pytest.mark.parametrize("order", ["01", "10"])
@pytest.mark.parametrize("channels", [1, 2])
def test_pcm_comes_out_as_it_went_in_whatever_its_byte_order(save, order: str, channels: int) -> None:
    pcm = speech_like(channels=channels)
    pcm[0, :2] = -32768, 32767
    path = save(sphere_bytes(pcm, 16000, order))
    got, rate = sphere.read_pcm(path)
    assert rate == 16000 and got.dtype == np.int16
    np.testing.assert_array_equal(got, pcm)
    info = sphere.probe(path)
    assert (info.num_samples, info.num_channels, info.duration_s) == (5000, channels, 5000 / 16000)


def test_floats_are_the_samples_over_full_scale_and_channels_are_averaged(save) -> None:
    pcm = speech_like(channels=2)
    got, _ = sphere.read(save(sphere_bytes(pcm)))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, pcm.astype(np.float64).mean(0) / 32768, atol=1e-7)


def test_a_header_without_coding_or_checksum_is_plain_pcm(save) -> None:
    pcm = speech_like()
    path = save(sphere_bytes(pcm, sample_coding=None, sample_checksum=None, speaker_id="01t", note="two words"))
    np.testing.assert_array_equal(sphere.read_pcm(path)[0], pcm)
    assert sphere.read_header(path).fields["note"] == "two words"


def test_sphere_is_known_by_its_content_and_not_by_its_name(save, tmp_path: Path) -> None:
    assert sphere.is_sphere(save(sphere_bytes(speech_like()), "x.wav"))
    soundfile.write(tmp_path / "y.wv1", np.zeros(100), 16000, format="WAV")
    assert not sphere.is_sphere(tmp_path / "y.wv1")
    with pytest.raises(PseError, match="not a NIST SPHERE file"):
        sphere.probe(tmp_path / "y.wv1")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"sample_coding": "ulaw"}, "'ulaw' samples, and only 16-bit PCM"),
        ({"sample_coding": "pcm,embedded-wavpack"}, "only 16-bit PCM"),
        ({"sample_n_bytes": 4}, "samples of 4 bytes"),
        ({"sample_byte_format": None}, "in order ''"),
        ({"sample_count": 0}, "0 samples"),
        ({"sample_rate": None}, "None Hz"),
        ({"sample_rate": 7}, "claims 7 Hz"),
        ({"sample_count": 2000000000}, "claims .* 125000 s"),
        ({"sample_checksum": 1}, "is damaged: its samples sum to"),
        ({"sample_count": "many"}, "many samples"),
    ],
)
def test_what_a_header_must_not_say_is_one_line_with_a_remedy(save, fields: dict, message: str) -> None:
    with pytest.raises(PseError, match=message) as caught:
        sphere.read_pcm(save(sphere_bytes(speech_like(), **fields)))
    assert "a b.wv1" in str(caught.value) and caught.value.fix and "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 5, 16, 500, 1024, 1025, 11023])
def test_a_truncated_pcm_file_is_refused_at_every_length(save, size: int) -> None:
    data = sphere_bytes(speech_like())
    assert len(data) == 11024
    with pytest.raises(PseError, match="truncated|not a NIST SPHERE"):
        sphere.read_pcm(save(data[:size]))


def test_a_broken_header_line_and_a_missing_file_are_told(save, tmp_path: Path) -> None:
    with pytest.raises(PseError, match="not `name -type value`: 'sample_rate'"):
        sphere.probe(save(sphere_bytes(speech_like()).replace(b"sample_rate -i 16000", b"sample_rate")))
    with pytest.raises(PseError, match="no such file"):
        sphere.probe(tmp_path / "none.wv1")


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("samples", [256, 5000, 5121])
def test_shorten_is_lossless(save, decoder: str, channels: int, samples: int) -> None:
    pcm = speech_like(samples, channels)
    path = save(sphere_bytes(pcm, packed=True))
    assert path.stat().st_size < 1024 + pcm.nbytes
    got, rate = sphere.read_pcm(path)
    assert rate == 16000
    np.testing.assert_array_equal(got, pcm)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.98])
def test_a_truncated_stream_is_refused(save, decoder: str, share: float) -> None:
    data = sphere_bytes(speech_like(), packed=True)
    with pytest.raises(PseError, match="truncated|damaged|cannot be decoded") as caught:
        sphere.read_pcm(save(data[: 1024 + int(share * (len(data) - 1024))]))
    assert "\n" not in str(caught.value)


def test_a_corrupt_stream_never_passes_for_the_original(save, decoder: str) -> None:
    pcm = speech_like()
    data, rng = sphere_bytes(pcm, packed=True), np.random.default_rng(1)
    for _ in range(20):
        at = int(rng.integers(1029, len(data) - 8))
        broken = data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :]
        with pytest.raises(PseError, match="truncated|damaged|cannot be decoded"):
            sphere.read_pcm(save(broken))


def test_without_a_decoder_the_two_ways_to_get_one_are_told(save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sphere.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    path = save(sphere_bytes(speech_like(), packed=True))
    assert sphere.probe(path).num_samples == 5000
    with pytest.raises(EnvironmentFault, match="pip install av, or put sph2pipe on PATH"):
        sphere.read_pcm(path)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a program named sph2pipe on PATH that runs the given Python code, and take `av` away."""

    def install(code: str) -> None:
        script = tmp_path / "bin" / "sph2pipe"
        script.parent.mkdir()
        script.write_text(f"#!{sys.executable}\nimport sys\n{code}\n")
        script.chmod(0o755)
        monkeypatch.setattr(sphere.importlib.util, "find_spec", lambda name: None)
        monkeypatch.setenv("PATH", str(script.parent))

    return install


def test_sph2pipe_is_asked_for_a_wav_of_the_absolute_path(save, program, tmp_path: Path) -> None:
    pcm = speech_like(channels=2)
    soundfile.write(tmp_path / "answer.wav", pcm.T, 16000, subtype="PCM_16")
    program(
        f"assert sys.argv[1:] == ['-p', '-f', 'wav', {str(tmp_path / 'a b.wv1')!r}], sys.argv\n"
        f"sys.stdout.buffer.write(open({str(tmp_path / 'answer.wav')!r}, 'rb').read())"
    )
    np.testing.assert_array_equal(sphere.read_pcm(save(sphere_bytes(pcm, packed=True)))[0], pcm)


@pytest.mark.parametrize(
    "code, message",
    [
        ("sys.exit('something is wrong')", "sph2pipe: something is wrong"),
        ("sys.exit(3)", "sph2pipe: exit code 3"),
        ("print('no audio')", "what it wrote is no WAV"),
    ],
)
def test_a_failing_sph2pipe_is_one_line_that_names_the_file(save, program, code: str, message: str) -> None:
    program(code)
    with pytest.raises(PseError, match=message) as caught:
        sphere.read_pcm(save(sphere_bytes(speech_like(), packed=True)))
    assert "a b.wv1" in str(caught.value)
