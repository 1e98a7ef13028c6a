"""Without ESPnet everything else works, and what needs it names the remedy in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "egs" / "librispeech_pse" / "conf" / "models"
WANTED = ("espnet", "espnet2", "torch_complex", "typeguard", "librosa", "torchaudio", "sentencepiece")
# A module that is None cannot be imported, whether its package is installed or not.
ABSENT = f"import sys; sys.modules.update(dict.fromkeys({WANTED!r}))\n"


def run(code: str, *arguments: str, absent: str = ABSENT) -> subprocess.CompletedProcess[str]:
    """Run Python in which these packages are not there."""
    command = [sys.executable, "-c", absent + code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def pse(*arguments: str, absent: str = ABSENT) -> subprocess.CompletedProcess[str]:
    return run("from pse.cli import main; sys.exit(main(sys.argv[1:]))", *arguments, absent=absent)


def test_every_module_of_pse_is_imported_and_every_model_found_by_name() -> None:
    done = run(
        "import importlib, pkgutil, pse\n"
        "for module in pkgutil.walk_packages(pse.__path__, 'pse.'):\n"
        "    importlib.import_module(module.name)\n"
        "from pse import registry\n"
        "print(*registry.names('model'))\n"
    )
    assert done.returncode == 0, done.stderr
    assert {"conv_tasnet", "espnet", "gru_mask", "snr_predictor"} <= set(done.stdout.split())


def test_other_models_are_built_and_described() -> None:
    done = pse("info", "--json", str(MODELS / "gru_32.yaml"), str(MODELS / "conv_tasnet_tiny.yaml"))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_a_model_of_espnet_ends_with_the_remedy_and_the_status_of_the_environment() -> None:
    done = pse("info", str(MODELS / "espnet_tcn.yaml"))
    assert done.returncode == 3 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and line.endswith("install ESPnet with tools/install_espnet.sh")
    assert (ROOT / "tools" / "install_espnet.sh").is_file()


def test_a_training_with_such_a_model_ends_before_it_starts() -> None:
    done = run(
        "from pse.cli import guarded\n"
        "from pse.config import bind, read_yaml\n"
        "from pse.recipe.personal.config import PersonalConfig\n"
        "from pse.recipe.personal.training import check\n"
        "config = {'pretrain': {'model': read_yaml(sys.argv[1]), 'methods': {'a': {'objective': "
        "{'name': 'supervised'}}}}}\n"
        "sys.exit(guarded(lambda: check(bind(PersonalConfig, config, 'test'))))\n",
        str(MODELS / "espnet_tcn.yaml"),
    )
    assert done.returncode == 3 and "tools/install_espnet.sh" in done.stderr, done.stderr


@pytest.mark.parametrize("package", ["torch_complex", "typeguard", "librosa"])
def test_one_missing_package_of_espnet_s_is_named(package: str) -> None:
    pytest.importorskip("espnet2")
    done = pse("info", str(MODELS / "espnet_rnn.yaml"), absent=f"import sys; sys.modules[{package!r}] = None\n")
    assert done.returncode == 3 and package in done.stderr and "tools/install_espnet.sh" in done.stderr, done.stderr


def test_espnet_s_own_programs_end_with_the_remedy() -> None:
    code = "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = run(code, str(ROOT / "tools" / "espnet_program.py"), "enh_train", "--help")
    assert done.returncode == 3 and "tools/install_espnet.sh" in done.stderr, done.stderr
