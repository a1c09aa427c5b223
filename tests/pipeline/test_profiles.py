"""The table of profiles: each row can be had, and says where its figure comes from."""

from __future__ import annotations

import dataclasses

import pytest

from pipeline.flags import UsageError
from pipeline.options import RestoreConfig
from pipeline.production.profiles import GPUS, PROFILES, Profile, gpu_of, profile_of

EVERY = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)


@EVERY
def test_a_profiles_gpu_can_be_had_with_its_machine_and_with_no_family_but_its_own(profile: Profile) -> None:
    if profile.gpu is None:
        assert profile.accelerator is None
        return

    assert profile.gpu.fits(profile.machine_type)
    assert not profile.gpu.fits("n2-standard-4")
    assert gpu_of(profile.accelerator or "") is profile.gpu


@EVERY
def test_a_profile_names_a_figure_that_was_measured_only_where_it_was(profile: Profile) -> None:
    assert profile.basis.startswith("measured" if profile.measured else "not measured")
    assert profile.measured == (profile.name == "cpu")
    assert profile.seconds_per_megapixel(20_000) > 0


@EVERY
def test_a_profiles_budget_is_one_that_restore_takes(profile: Profile) -> None:
    config = RestoreConfig(input="in", output="out", batch_megapixels=profile.batch_megapixels)

    assert dataclasses.asdict(config)["batch_megapixels"] == profile.batch_megapixels
    assert profile.processes in (1, profile.vcpus)


def test_an_l4_is_asked_for_as_dataflow_wants_it_and_only_with_g2() -> None:
    l4 = profile_of("l4")

    assert l4.accelerator == "type:nvidia-l4;count:1;install-nvidia-driver:5xx"
    assert (l4.machine_type.startswith("g2-"), GPUS["nvidia-l4"].min_driver) == (True, 525)
    assert GPUS["nvidia-l4"].rule == "of family g2 for nvidia-l4"


def test_an_unknown_profile_or_gpu_is_one_line_with_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"--profile must be one of cpu, t4, l4, a100, got a10; did you mean a100\?"):
        profile_of("a10")
    with pytest.raises(UsageError, match="got type:nvidia-h9;count:1"):
        gpu_of("type:nvidia-h9;count:1")
