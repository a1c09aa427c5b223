"""Relume's package metadata: what is installed, what it stands on, and the one command it brings."""

import ast
from pathlib import Path

from setuptools import find_packages, setup


def read_version(module: Path) -> str:
    """Reads the string that a module assigns to `__version__`, without running the module.

    Raises:
        ValueError: if the module assigns none.
    """
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__version__")], value=ast.Constant(value=str(version))):
                return version
    raise ValueError(f"{module.name} must assign a string to __version__, found none")


setup(
    name="relume",
    version=read_version(Path(__file__).parent / "pipeline" / "__init__.py"),
    description="Restores image archives with a DeconvNet in a Beam pipeline, and accounts for every image",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["pipeline", "pipeline.*", "model", "model.*", "jobs", "jobs.*"]),
    package_data={
        "model": ["pretrained/**", "expectation.npy"],
        "pipeline": ["report/**", "production/**"],
        "jobs": ["recipes/**"],
    },
    python_requires=">=3.11,<3.14",
    # Direct dependencies only, each imported by name somewhere in the three packages; requirements/*.txt hold every
    # exact version. Beam is pinned to the dot because the Dockerfile copies its boot program from the same release.
    install_requires=[
        "apache-beam[gcp]==2.77.0",
        "array_record>=0.8,<0.9",
        "google-cloud-dataflow-client>=0.13,<1",
        "google-cloud-scheduler>=2.21,<3",
        "google-cloud-storage>=3.17,<4",
        "google-crc32c>=1.9,<2",
        "imagecodecs>=2026.3.6",
        # tensorflow-datasets imports importlib_resources and does not require it.
        "importlib_resources>=7,<8",
        "keras>=3.15,<3.16",
        "numpy>=2.4,<2.5",
        "opencv-python-headless>=5,<6",
        # Beam 2.77 requires pillow<13 and pyarrow<26.
        "pillow>=12.3,<13",
        "pyarrow>=25,<26",
        "rich>=15,<16",
        "scikit-image>=0.26,<0.27",
        "scipy>=1.17,<1.18",
        "simplejpeg>=1.9,<2",
        "tensorflow-datasets>=4.9.10,<5",
        "tifffile>=2026.3.3",
    ],
    # One of the two is needed: a requirement on tensorflow is not met by tensorflow-cpu, nor the other way round.
    extras_require={
        "cpu": ["tensorflow-cpu>=2.21,<2.22"],
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
    },
    entry_points={"console_scripts": ["relume = jobs.command_line:main"]},
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
    ],
)
