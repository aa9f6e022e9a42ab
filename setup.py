"""Installs zs2 with its small model: weights/small becomes the package data folder zs2/small."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "zs2/version.py").read_text("utf-8"))[1]

setup(
    name="zs2",
    version=VERSION,
    description="Training-free text-to-video from any Stable Diffusion checkpoint",
    long_description=(ROOT / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["zs2", "zs2.*"]), "zs2.small"],
    package_dir={"zs2.small": "weights/small"},
    package_data={
        "zs2": ["py.typed"],
        "zs2.small": ["*.json", "*/*.json", "*/*.txt", "*/*.safetensors"],
    },
    entry_points={"console_scripts": ["zs2 = zs2.__main__:main"]},
    install_requires=[
        "huggingface_hub>=0.30",
        "numpy>=1.26",
        "safetensors>=0.4",
        "tokenizers>=0.20",
        "torch>=2.9",
        'triton>=3.5; platform_system == "Linux"',
    ],
    extras_require={
        "video": ["av>=14", "pillow>=11"],
        "test": [
            "diffusers>=0.35",
            "lycoris-lora>=4",
            "peft>=0.17",
            "opencv-python-headless>=4.10",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "pytorch-msssim>=1",
            "torchmetrics>=1.8",
            "transformers>=4.57",
        ],
    },
)
