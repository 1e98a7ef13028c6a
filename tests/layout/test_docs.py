"""What the documentation says exists: links, options, verbs, config keys, and the examples run."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from pse import cli, registry
from pse.config import apply_overrides, bind, parse_yaml, read_yaml
from pse.errors import PseError

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs" / "librispeech_pse"
LISTED = subprocess.check_output(["git", "-C", str(ROOT), "ls-files", "-z", "*.md"]).decode().split("\0")
DOCS = [ROOT / name for name in LISTED if name and (ROOT / name).is_file()]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
# What a page may use although the schema wants it: a whole config has both.
REST = {"pretrain": {"model": {"name": "gru_mask", "hidden_size": 8}, "methods": {}}}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(language: str) -> list[tuple[Path, str]]:
    return [(p, m[2]) for p in DOCS for m in BLOCK.finditer(p.read_text("utf-8")) if m[1] == language]


def file_block(page: str, name: str) -> str:
    """The code block of a page whose first line is a comment with the file's name, without that line."""
    for path, text in blocks("python"):
        first, _, rest = text.partition("\n")
        if path.name == page and first == f"# {name}":
            return rest
    raise AssertionError(f"{page} has no block of {name}")


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"[^\w\- ]", "", heading.strip().lower().replace("`", ""))
    return plain.replace(" ", "-")


def outside_code(path: Path) -> str:
    return BLOCK.sub("", path.read_text("utf-8"))


def headings(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", outside_code(page), re.M)}


def test_pages_are_found() -> None:
    assert {"quickstart.md", "architecture.md", "configs.md", "README.md"} <= {p.name for p in DOCS}


def test_relative_links_lead_to_a_file_and_a_heading() -> None:
    broken = []
    for page in DOCS:
        for target in re.findall(r"\]\(([^()\s]+)\)", outside_code(page)):
            if re.match(r"[a-z]+:", target):
                continue
            place, _, anchor = target.partition("#")
            file = (page.parent / place).resolve() if place else page
            if not file.exists():
                broken.append(f"{named(page)}: {target}")
            elif anchor and anchor not in headings(file):
                broken.append(f"{named(page)}: {target} (no such heading)")
    assert broken == []


def options_of(script: Path) -> set[str]:
    head = script.read_text("utf-8").split("parse_options.sh")[0]
    declared = set(re.findall(r"^([a-z][a-z0-9_]*)=.*#", head, re.M))
    return declared | set(re.findall(r"\(also --([a-z0-9_]+)\)", head)) | {"help"}


def commands(program: str) -> list[tuple[Path, str]]:
    """Every command line of a shell block that calls `program`, continuation lines joined, comments cut."""
    found = []
    for page, text in blocks("sh"):
        lines = text.replace("\\\n", " ").splitlines()
        found += [(page, line.split(" #")[0]) for line in lines if re.search(program, line)]
    return found


def recipe_of(page: Path) -> Path:
    """The recipe that a page speaks of: its own directory's, else the first one."""
    return page.parent if (page.parent / "run.sh").is_file() else RECIPE


def test_options_of_run_sh_exist() -> None:
    unknown = []
    for page in DOCS:
        text = page.read_text("utf-8").replace("\\\n", " ")
        for recipe, line in re.findall(r"(?:cd egs/(\w+) && )?(?:\./)?run\.sh((?: +[^\n`|]*)?)", text):
            known = options_of((RECIPE.with_name(recipe) if recipe else recipe_of(page)) / "run.sh")
            words = re.findall(r"(?<= )--([a-z0-9_-]+)", line.split(" #")[0])
            unknown += [f"{named(page)}: --{w}" for w in words if w.replace("-", "_") not in known]
    assert unknown == [] and {"stage", "set", "tag", "noise_dir"} <= options_of(RECIPE / "run.sh")


def test_stages_configs_and_verbs_in_commands_exist() -> None:
    missing = []
    for page, line in commands(r"run\.sh"):
        recipe = recipe_of(page)
        stages = set(re.findall(r"^stage \d+ (\w+) --", (recipe / "run.sh").read_text("utf-8"), re.M))
        asked = re.findall(r"--(?:stop_)?stage ([a-z]\w*)", line)
        missing += [f"{named(page)}: stage {s}" for s in asked if s not in stages]
        for config in re.findall(r"(?<![\w/])conf/[\w/]+\.yaml", line):
            # The page on models writes its own file.
            if not (recipe / config).is_file() and "context_mask" not in config:
                missing.append(f"{named(page)}: {config}")
    for page, line in commands(r"^pse "):
        missing += [f"{named(page)}: {line}"] * (line.split()[1] not in cli.VERBS)
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    missing += [f"{named(p)}: {line}" for p, line in commands(r"^make ") if line.split()[1] not in targets]
    assert missing == []


def with_models(value: object) -> object:
    """Put the content of a model's file where its path stands, as the recipe does."""
    if not isinstance(value, dict):
        return value
    named_models = {k: read_yaml(RECIPE / v) for k, v in value.items() if k == "model" and isinstance(v, str)}
    return {k: with_models(v) for k, v in value.items()} | named_models


def bind_personal(text: str, where: str) -> None:
    """Bind a part of a config of the personalised recipe, its models and objectives too."""
    from pse.models.base import build

    given = parse_yaml(text, where)
    whole = with_models({**REST, **given, "pretrain": REST["pretrain"] | given.get("pretrain", {})})
    config = bind(registry.find("recipe", "personal").config, whole, where)
    for model in (config.pretrain.model, config.snr_predictor.model):
        if model:
            build(model, where)
    for name, method in config.pretrain.methods.items():
        options = dict(method.objective)
        plugin = registry.find("objective", options.pop("name"), f"{where}: {name}")
        bind(plugin.Options, options, f"{where}: {name}")


PERSONAL = [(p, t) for p, t in blocks("yaml") if t.startswith("# personal\n")]
NAMES = [f"{page.stem}-{number}" for number, (page, _) in enumerate(PERSONAL)]


@pytest.mark.parametrize(("page", "text"), PERSONAL, ids=NAMES)
def test_configs_bind(page: Path, text: str) -> None:
    bind_personal(text, named(page))


@pytest.mark.parametrize("text", [t for _, t in blocks("yaml") if t.startswith("# separation\n")])
def test_configs_of_separation_bind(text: str) -> None:
    bind(registry.find("recipe", "separation").config, {"pretrain": {}} | parse_yaml(text, "page"), "page")


def test_a_wrong_key_in_a_config_would_be_found() -> None:
    for text in ("data: {test: 3}", "pretrain: {methods: {a: {objective: {name: pseudo_se, los: mse}}}}"):
        with pytest.raises(PseError, match="unknown key"):
            bind_personal(text, "page")


def test_settings_on_command_lines_bind() -> None:
    found = 0
    for page, line in commands(r"run\.sh"):
        for quoted, plain in re.findall(r"--set (?:'([^']+)'|(\S+))", line):
            item = quoted or plain
            if '"' in plain or item.startswith("corpus.speech_dir") or "context_mask" in item:
                continue
            found += 1
            if named(page).startswith("egs/wsj0"):
                config = registry.find("recipe", "separation").config
                bind(config, apply_overrides({"pretrain": {}}, [item]), f"{named(page)}: {item}")
                continue
            whole = with_models(apply_overrides(REST, [item]))
            methods = whole["pretrain"]["methods"].values()
            assert all(m.get("objective") for m in methods), f"{named(page)}: {item}"
            bind(registry.find("recipe", "personal").config, whole, f"{named(page)}: {item}")
    assert found > 5


def test_every_key_of_the_training_section_is_explained() -> None:
    from pse.training.config import TrainingConfig

    text = (ROOT / "docs" / "training.md").read_text("utf-8")
    assert [k for k in TrainingConfig.__dataclass_fields__ if f"`{k}`" not in text] == []


def test_the_model_of_the_page_is_found_by_name_and_keeps_its_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    import pse.models
    from pse.models.base import build

    (tmp_path / "context_mask.py").write_text(file_block("add_a_model.md", "pse/models/context_mask.py"))
    monkeypatch.setattr(pse.models, "__path__", [*pse.models.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    try:
        (text,) = [t for p, t in blocks("yaml") if p.name == "add_a_model.md"]
        build(parse_yaml(text, "add_a_model.md"), "add_a_model.md")
        model = build({"name": "context_mask", "hidden_size": 4, "normalize": "none"}, "page")
    finally:
        sys.modules.pop("pse.models.context_mask", None)
    generator = torch.Generator().manual_seed(0)
    for num_samples in (1, 255, 6001):
        assert model(torch.randn(2, num_samples, generator=generator)).wavs.shape == (2, 1, num_samples)
    widest = 0
    for place in (8000, 8064, 8191, 8192):
        mix = torch.randn(1, 16000, generator=generator, requires_grad=True)
        model(mix).wavs[0, 0, place].backward()
        seen = mix.grad[0].nonzero()
        widest = max(widest, int(seen.max() - seen.min()) + 1)
    assert 0 < widest <= model.receptive_field_samples()


def test_the_recipe_of_the_page_runs_and_is_up_to_date_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pse.recipe

    family = tmp_path / "recipe" / "loudness"
    family.mkdir(parents=True)
    for name in ("__init__", "corpus", "score"):
        (family / f"{name}.py").write_text(file_block("add_a_recipe.md", f"pse/recipe/loudness/{name}.py"))
    monkeypatch.setattr(pse.recipe, "__path__", [*pse.recipe.__path__, str(family.parent)])
    importlib.invalidate_caches()
    speech = tmp_path / "my recordings"
    speech.mkdir()
    for number in range(3):
        tone = 3000 * np.sin(np.arange(16000) * (0.1 + number))
        with wave.open(str(speech / f"take {number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(tone.astype("<i2").tobytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = ["--recipe", "loudness", "--tag", "t", "--nj", "1", "--set", f"corpus.speech_dir={speech}"]
    try:
        assert [cli.main([verb, *options]) for verb in ("corpus", "score")] == [0, 0]
        assert "3 of 3 recordings are above -60 dB" in capsys.readouterr().out
        assert len((tmp_path / "exp" / "t" / "levels.tsv").read_text().splitlines()) == 3
        assert cli.main(["score", *options]) == 0 and "up to date" in capsys.readouterr().out
        assert cli.main(["score", *options, "--dry_run", "--set", "floor_db=-40"]) == 0
        assert "changed: floor_db -60.0 -> -40" in capsys.readouterr().out
    finally:
        for name in [m for m in sys.modules if m.startswith("pse.recipe.loudness")]:
            del sys.modules[name]
