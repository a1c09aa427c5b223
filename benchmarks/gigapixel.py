"""Memory and time of one huge TIFF: `python -m benchmarks.gigapixel [--megapixels N] [--held]`.

Makes a TIFF of noise over soft shapes in strips of 64 rows, restores it by `relume restore` in a process of its own and
prints one line of JSON: the highest sum of the memory of that process and of its decoder, and the seconds. Memory is
looked at every 50 ms, as the share that is a process's own (Pss: pages of files that two map count half for each).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

ROOT = Path(__file__).parent.parent
STRIP_ROWS = 64


def make(path: Path, megapixels: float, width: int, *, bits: int, compression: str) -> None:
    """Writes an RGB TIFF, strip by strip."""
    height = max(STRIP_ROWS, round(megapixels * 1e6 / width) // STRIP_ROWS * STRIP_ROWS)
    random = np.random.default_rng(1)
    grain = random.integers(-9, 10, (STRIP_ROWS, width, 3), np.int16)
    cols = np.arange(width) / 37.0

    def strips() -> Iterator[Any]:
        for top in range(0, height, STRIP_ROWS):
            rows = np.arange(top, top + STRIP_ROWS) / 53.0
            soft = 128 + 80 * np.sin(rows)[:, None] * np.cos(cols)[None]
            strip = np.clip(soft[..., None] + np.roll(grain, top * 7, axis=1), 0, 255).astype(np.uint8)
            yield strip.astype(np.uint16) * 257 if bits == 16 else strip

    tifffile.imwrite(
        path,
        _encoded(strips(), compression),
        shape=(height, width, 3),
        dtype=f"uint{bits}",
        photometric="rgb",
        rowsperstrip=STRIP_ROWS,
        compression=None if compression == "none" else compression,
        bigtiff=height * width * 3 * bits // 8 > 2**32 - 2**25,
        metadata=None,
    )


def _encoded(strips: Iterator[Any], compression: str) -> Iterator[bytes]:
    import imagecodecs

    encode: dict[str, Any] = {
        "none": np.ndarray.tobytes,
        "lzw": imagecodecs.lzw_encode,
        "zlib": imagecodecs.zlib_encode,
    }
    return (bytes(encode[compression](strip)) for strip in strips)


def memory_of(process: int) -> int:
    """Bytes that a process and those it started have for themselves."""
    total = 0
    for each in _family(process):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def _family(process: int) -> list[int]:
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        threads = [path.name for path in Path(f"/proc/{process}/task").iterdir()]
        for thread in threads:
            children += Path(f"/proc/{process}/task/{thread}/children").read_text().split()
    except OSError:
        return [process]
    return [process, *(each for child in set(children) for each in _family(int(child)))]


def measure(archive: Path, output: Path, *flags: str) -> dict[str, float]:
    """Restores an archive in a process of its own: its highest memory in GiB, and its seconds.

    Raises:
        RuntimeError: if it fails.
    """
    command = [sys.executable, "-m", "jobs.restore", "--input", str(archive), "--output", str(output), *flags]
    began, most = time.monotonic(), 0
    where = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, cwd=ROOT, env=where, stdout=subprocess.DEVNULL, stderr=said)
        while child.poll() is None:
            most = max(most, memory_of(child.pid))
            time.sleep(0.05)
        if child.returncode:
            said.seek(0)
            raise RuntimeError(f"exit code {child.returncode}: {said.read().decode(errors='replace')[-2000:]}")
    return {"gibibytes": round(most / 2**30, 3), "seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megapixels", type=float, default=500.0)
    parser.add_argument("--width", type=int, default=25_000)
    parser.add_argument("--bits", type=int, choices=(8, 16), default=8)
    parser.add_argument("--compression", choices=("none", "lzw", "zlib"), default="lzw")
    parser.add_argument("--held", action="store_true", help="as a whole instead of in bands, to compare")
    parser.add_argument("--model", help="a model folder; without it the built-in one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relume-gigapixel-") as folder:
        archive = Path(folder) / "archive"
        archive.mkdir()
        make(archive / "large.tif", asked.megapixels, asked.width, bits=asked.bits, compression=asked.compression)
        size = (archive / "large.tif").stat().st_size
        flags = ["--keep_above_quality", "101", "--max_bytes", str(2**40), "--max_megapixels", "100000"]
        flags += ["--band_megapixels", "100000" if asked.held else "1"]
        flags += ["--model", asked.model] if asked.model else []
        found = measure(archive, Path(folder) / "output", *flags)
        result = next((Path(folder) / "output").glob("*.tif")).stat().st_size
    told = {"megapixels": asked.megapixels, "width": asked.width, "bits": asked.bits, "compression": asked.compression}
    print(json.dumps({**told, "held": asked.held, "bytes_in": size, "bytes_out": result, **found}))


if __name__ == "__main__":
    main()
