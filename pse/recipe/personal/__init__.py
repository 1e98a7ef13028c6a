"""The personalised enhancement recipe: corpora, mixtures, SNR predictor, specialists, scores."""

from pse.recipe.family import Recipe
from pse.recipe.personal.config import PersonalConfig

PLUGIN = Recipe(
    config=PersonalConfig,
    stages={
        "corpus": "pse.recipe.personal.corpus",
        "features": "pse.recipe.personal.features",
        "snr_predictor": "pse.recipe.personal.predictor",
        "pretrain": "pse.recipe.personal.pretrain",
        "finetune": "pse.recipe.personal.finetune",
        "enhance": "pse.recipe.personal.enhance",
        "score": "pse.recipe.personal.score",
        "report": "pse.recipe.personal.report",
        "pack": "pse.recipe.personal.pack",
    },
    training_stages=("snr_predictor", "pretrain", "finetune"),
    check="pse.recipe.personal.training:check",
    expand="pse.recipe.personal.sweep:expand",
)
