"""The speaker separation recipes: mixtures of speakers, embeddings or masks, clusters, scores."""

from pse.recipe.family import Recipe
from pse.recipe.separation.config import SeparationConfig

PLUGIN = Recipe(
    config=SeparationConfig,
    stages={
        "corpus": "pse.recipe.separation.corpus",
        "features": "pse.recipe.separation.features",
        "pretrain": "pse.recipe.separation.pretrain",
        "finetune": "pse.recipe.separation.finetune",
        "enhance": "pse.recipe.separation.separate",
        "score": "pse.recipe.separation.score",
        "report": "pse.recipe.separation.report",
        "pack": "pse.recipe.separation.pack",
    },
    training_stages=("pretrain", "finetune"),
    check="pse.recipe.separation.training:check",
    check_data="pse.recipe.separation.heard:check",
)
