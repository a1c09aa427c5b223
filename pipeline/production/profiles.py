"""The workers that a job may run on: one typed table, and what a GPU asks of its machine."""

from __future__ import annotations

import dataclasses

from model.size import SIZES
from pipeline.flags import UsageError, nearest


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU as Dataflow knows it, and what it asks of the rest.

    Attributes:
        kind: its name in an accelerator option, such as `nvidia-l4`.
        families: machine families that it can be had with, such as `g2`; any other is refused by Dataflow.
        memory_gb: of one.
        min_driver: the oldest major version of NVIDIA's driver that TensorFlow 2.21 with CUDA 12 and this GPU allow.
    """

    kind: str
    families: tuple[str, ...]
    memory_gb: int
    min_driver: int = 525

    @property
    def rule(self) -> str:
        """What a machine type must be, as the end of `must be ...`."""
        return f"of family {' or '.join(self.families)} for {self.kind}"

    def fits(self, machine_type: str) -> bool:
        """Whether a machine type, such as `g2-standard-4`, can have this GPU."""
        return machine_type.partition("-")[0] in self.families


GPUS: dict[str, Gpu] = {
    gpu.kind: gpu
    for gpu in (
        Gpu("nvidia-tesla-t4", ("n1",), 16),
        Gpu("nvidia-l4", ("g2",), 24),
        Gpu("nvidia-tesla-a100", ("a2",), 40),
    )
}
"""The GPUs that profiles use, by kind."""


@dataclasses.dataclass(frozen=True)
class Profile:
    """One kind of worker, and how a job is set up on it.

    Attributes:
        name: as `--profile` takes it.
        machine_type: of Compute Engine.
        vcpus, memory_gb: of the machine type; what Dataflow bills.
        disk_gb: boot disk of a worker; the image with CUDA needs more.
        gpu: None without one; else one a worker.
        driver: version asked of Dataflow's driver installation, `5xx` for the newest of that series; empty without GPU.
        processes: SDK processes a worker. As many as vCPUs is Dataflow's own choice; 1 would need the experiment
            `no_use_multiple_sdk_containers`.
        threads: of one SDK process (`number_of_worker_harness_threads`): so many images are in its hands at once.
        batch_megapixels: pixels that the model gets at once, in millions; all processes share the GPU's memory.
        model_seconds: of one worker a megapixel, for the built-in model.
        other_seconds: of one worker a megapixel, for all else from read to receipt.
        measured: that these figures come from a run; else they are assumptions.
        basis: where they come from, one sentence.
    """

    name: str
    machine_type: str
    vcpus: int
    memory_gb: float
    disk_gb: int
    gpu: Gpu | None
    driver: str
    processes: int
    threads: int
    batch_megapixels: float
    model_seconds: float
    other_seconds: float
    measured: bool
    basis: str

    def seconds_per_megapixel(self, macs_per_pixel: int) -> float:
        """Of one worker, from read to receipt, for a model that needs so many multiplications and additions a pixel."""
        return self.other_seconds + self.model_seconds * macs_per_pixel / SIZES["S"].macs_per_pixel

    @property
    def accelerator(self) -> str | None:
        """The value of Dataflow's `worker_accelerator`; None without a GPU."""
        if self.gpu is None:
            return None
        return f"type:{self.gpu.kind};count:1;install-nvidia-driver:{self.driver}"


_MODEL_SECONDS = 1.02
"""CPU seconds a megapixel for the built-in model on one vCPU: what it had of the growth of user and system time from a
run over 2 JPEGs of 5 megapixels to one over 10 (20.4 s and 66.3 s), on a shared AMD EPYC of two cores with AVX-512,
2026-11-22."""

_OTHER_SECONDS = 0.12
"""The rest of it: read, decode, encode, judge, write. It stays on the vCPUs where the model moves to a GPU."""

_TERAFLOP = 0.04
"""Of float32 a megapixel for the built-in model: 20 kMAC a pixel."""


def _gpu_seconds(peak_teraflops: float) -> float:
    """Assumes a quarter of the GPU's float32 peak for the model."""
    return round(_TERAFLOP / (peak_teraflops / 4), 4)


_ASSUMED = "not measured: a quarter of the GPU's float32 peak assumed for the model, the rest as measured on a CPU"

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="cpu",
            machine_type="n2-standard-4",
            vcpus=4,
            memory_gb=16,
            disk_gb=50,
            gpu=None,
            driver="",
            processes=4,
            threads=1,
            batch_megapixels=4,
            model_seconds=_MODEL_SECONDS / 4,
            other_seconds=_OTHER_SECONDS / 4,
            measured=True,
            basis=f"measured: {_MODEL_SECONDS + _OTHER_SECONDS:.2f} CPU seconds a megapixel for the built-in model on "
            "one vCPU of an AMD EPYC, divided by 4 vCPUs",
        ),
        Profile(
            name="t4",
            machine_type="n1-standard-4",
            vcpus=4,
            memory_gb=15,
            disk_gb=100,
            gpu=GPUS["nvidia-tesla-t4"],
            driver="5xx",
            processes=4,
            threads=1,
            batch_megapixels=4,
            model_seconds=_gpu_seconds(8.1),
            other_seconds=_OTHER_SECONDS / 4,
            measured=False,
            basis=_ASSUMED,
        ),
        Profile(
            name="l4",
            machine_type="g2-standard-4",
            vcpus=4,
            memory_gb=16,
            disk_gb=100,
            gpu=GPUS["nvidia-l4"],
            driver="5xx",
            processes=4,
            threads=1,
            batch_megapixels=8,
            model_seconds=_gpu_seconds(30.3),
            other_seconds=_OTHER_SECONDS / 4,
            measured=False,
            basis=_ASSUMED,
        ),
        Profile(
            name="a100",
            machine_type="a2-highgpu-1g",
            vcpus=12,
            memory_gb=85,
            disk_gb=100,
            gpu=GPUS["nvidia-tesla-a100"],
            driver="5xx",
            processes=12,
            threads=1,
            batch_megapixels=8,
            model_seconds=_gpu_seconds(19.5),
            other_seconds=_OTHER_SECONDS / 12,
            measured=False,
            basis=_ASSUMED,
        ),
    )
}
"""Every profile there is, by name."""


def profile_of(name: str) -> Profile:
    """Finds a profile.

    Raises:
        UsageError: if there is none of this name.
    """
    if name not in PROFILES:
        near = nearest(name, PROFILES)
        hint = f"; did you mean {near}?" if near else ""
        raise UsageError(f"--profile must be one of {', '.join(PROFILES)}, got {name}{hint}")
    return PROFILES[name]


def gpu_of(accelerator: str) -> Gpu:
    """Finds the GPU that an accelerator option such as `type:nvidia-l4;count:1;install-nvidia-driver:5xx` asks for.

    Raises:
        UsageError: if it names none, or one that no rule here knows.
    """
    parts = dict(part.partition(":")[::2] for part in accelerator.split(";"))
    kind = parts.get("type", "")
    if kind not in GPUS:
        raise UsageError(f"an accelerator must be type:KIND;count:N with KIND of {', '.join(GPUS)}, got {accelerator}")
    return GPUS[kind]
