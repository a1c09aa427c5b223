"""The loopback storage as Beam's own gs:// file system sees it, in this process and in workers of their own."""

from __future__ import annotations

import os
import time

import apache_beam as beam
import pytest
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from tests.cloud.faults import Fault, FaultPlan
from tests.cloud.gcs import GcsTwin


@pytest.fixture(autouse=True)
def bucket(gcs: GcsTwin) -> None:
    gcs.create_bucket("archive")


def write(path: str, data: bytes) -> None:
    with FileSystems.create(path, "application/octet-stream") as file:
        file.write(data)


def read(path: str) -> bytes:
    with FileSystems.open(path) as file:
        data: bytes = file.read()
    return data


def matched(pattern: str) -> dict[str, int]:
    return {found.path: found.size_in_bytes for found in FileSystems.match([pattern])[0].metadata_list}


def test_what_is_written_is_read_listed_and_measured(gcs: GcsTwin) -> None:
    data = os.urandom(300_000)

    write("gs://archive/rows/1.bin", data)

    assert gcs.content("archive", "rows/1.bin") == data
    assert read("gs://archive/rows/1.bin") == data
    assert matched("gs://archive/rows/*") == {"gs://archive/rows/1.bin": len(data)}
    assert FileSystems.exists("gs://archive/rows/1.bin")
    assert not FileSystems.exists("gs://archive/rows/2.bin")
    assert abs(FileSystems.last_updated("gs://archive/rows/1.bin") - time.time()) < 60


def test_rename_and_delete_go_through_batches_of_at_most_100(gcs: GcsTwin) -> None:
    for number in range(120):
        gcs.put("archive", f"temp/{number:03}", b"%d" % number)

    FileSystems.rename(
        [f"gs://archive/temp/{number:03}" for number in range(120)],
        [f"gs://archive/final/{number:03}" for number in range(120)],
    )

    assert gcs.names("archive") == [f"final/{number:03}" for number in range(120)]
    assert gcs.content("archive", "final/119") == b"119"
    assert len(gcs.requests("batch")) == 4  # two to copy, two to delete
    FileSystems.delete(["gs://archive/final/*"])
    assert gcs.names("archive") == []


def test_a_rename_of_what_is_not_there_says_which(gcs: GcsTwin) -> None:
    gcs.put("archive", "here", b"1")

    with pytest.raises(BeamIOError) as failed:
        FileSystems.rename(
            ["gs://archive/here", "gs://archive/missing"], ["gs://archive/there", "gs://archive/nowhere"]
        )

    assert failed.value.exception_details == {("gs://archive/missing", "gs://archive/nowhere"): 404}
    assert gcs.names("archive") == ["there"]


@pytest.mark.parametrize("name", ["a b", "ä", "a\u0308", "a%2Fb", "a//b", "../up", "q?x#y", "x" * 1024])
def test_odd_names_pass_through_beam_byte_for_byte(name: str, gcs: GcsTwin) -> None:
    write(f"gs://archive/{name}", name.encode())

    assert gcs.names("archive") == [name]
    assert read(f"gs://archive/{name}") == name.encode()


def test_2500_names_are_matched_page_by_page(gcs: GcsTwin) -> None:
    for number in range(2500):
        gcs.put("archive", f"{number:04}.jpg", b"")

    assert len(matched("gs://archive/*.jpg")) == 2500
    assert len(gcs.requests("list")) == 3


def test_beam_tries_again_by_itself_after_every_fault_of_a_batch_and_of_its_calls(gcs: GcsTwin) -> None:
    gcs.put("archive", "a", b"1")
    gcs.faults = FaultPlan(Fault("503", "batch"), Fault("429", "delete", "a"))

    FileSystems.delete(["gs://archive/a"])

    gcs.faults.assert_all_fired()
    assert gcs.names("archive") == []
    assert [one.status for one in gcs.requests("delete")] == [429, 204]


def test_a_delete_whose_answer_is_lost_is_done_once_and_reported_done(gcs: GcsTwin) -> None:
    gcs.put("archive", "a", b"1")
    gcs.faults = FaultPlan(Fault("lose-answer", "batch"))

    FileSystems.delete(["gs://archive/a"])

    gcs.faults.assert_all_fired()
    assert [one.status for one in gcs.requests("delete")] == [204, 404]


class CopyOne(beam.DoFn):
    """Copies one object by Beam's file system: `path -> process id`; stands alone, so that it can be pickled."""

    def process(self, path: str) -> list[int]:
        import os

        from apache_beam.io.filesystems import FileSystems

        with FileSystems.open(path) as source, FileSystems.create(path.replace("/in/", "/out/")) as target:
            target.write(source.read())
        return [os.getpid()]


@pytest.mark.slow
def test_workers_in_processes_of_their_own_reach_it_without_waiting_for_credentials(gcs: GcsTwin) -> None:
    for number in range(6):
        gcs.put("archive", f"in/{number}", b"%d" % number)
    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]

    with beam.Pipeline(FnApiRunner(), options=PipelineOptions(options)) as root:
        (
            root
            | beam.Create([f"gs://archive/in/{number}" for number in range(6)])
            | beam.Reshuffle()
            | beam.ParDo(CopyOne())
            | beam.Map(print)
        )

    assert [gcs.content("archive", f"out/{number}") for number in range(6)] == [b"%d" % n for n in range(6)]
    # Not anonymous after 20 s of looking around: the workers found the service account and used it.
    assert gcs.tokens_issued >= 1
