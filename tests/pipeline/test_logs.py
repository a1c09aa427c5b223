"""A log that machines read: one JSON object a line, that says what it is about."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc, endpoints_pb2
from apache_beam.runners.worker.log_handler import FnApiLogRecordHandler
from apache_beam.utils.thread_pool_executor import UnboundedThreadPoolExecutor

from pipeline import logs

LOG = logging.getLogger("pipeline.test_logs")


class Lines(logging.Handler):
    """Keeps lines as a stream would get them."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logs.JsonFormatter())
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))

    def values(self) -> list[dict[str, str]]:
        return [json.loads(text) for text in self.texts]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged meanwhile; then all is as it was before."""
    handler = Lines()
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    yield handler
    LOG.removeHandler(handler)
    logs.set_up(as_json=False)


def test_a_line_says_what_it_is_about_and_when_and_how_bad(lines: Lines) -> None:
    logs.set_up(as_json=True, run="night-1")

    with logs.about(image="a\udcff/ü\n.jpg", stage="decode"):
        LOG.warning("it takes %d s", 7)
    LOG.info("over", extra={"image": "b.jpg", "reason": "damaged"})

    first, second = lines.values()
    assert first.pop("time").endswith("Z")
    assert first == {
        "severity": "WARNING", "message": "it takes 7 s", "logger": "pipeline.test_logs", "version": "0.1.0",
        "run": "night-1", "image": "a\udcff/ü\n.jpg", "stage": "decode",
    }  # fmt: skip
    assert (second["image"], second["reason"], "stage" in second) == ("b.jpg", "damaged", False)


def test_a_line_is_one_line_of_ascii_whatever_a_name_holds(lines: Lines) -> None:
    with logs.about(image="two\nlines \udcff ü"):
        LOG.warning("and\nhere")

    (text,) = lines.texts
    assert text.isascii()
    assert "\n" not in text


def test_an_error_brings_its_traceback(lines: Lines) -> None:
    try:
        raise RuntimeError("no room")
    except RuntimeError:
        LOG.exception("it failed")

    (line,) = lines.values()
    assert (line["severity"], line["message"]) == ("ERROR", "it failed")
    assert line["error"].endswith("RuntimeError: no room")


def test_threads_do_not_speak_of_each_others_images(lines: Lines) -> None:
    def work() -> None:
        LOG.warning("from the other")

    with logs.about(image="mine.jpg"):
        other = threading.Thread(target=work)
        other.start()
        other.join()

    (line,) = lines.values()
    assert "image" not in line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", False),
        ("--log_format json", True),
        ("--log-format=json", True),
        ("--runner=DataflowRunner", True),
        ("--runner DataflowRunner --log_format text", False),
        ("--runner DirectRunner", False),
        ("--log_format", False),
    ],
)
def test_json_is_for_those_who_ask_and_for_jobs_on_dataflow(line: str, expected: bool) -> None:
    assert logs.asks_for_json(["--input", "a", *line.split()]) is expected


class _Service(beam_fn_api_pb2_grpc.BeamFnLoggingServicer):
    """The runner's side: keeps what a worker logs."""

    def __init__(self) -> None:
        self.entries: list[beam_fn_api_pb2.LogEntry] = []

    def Logging(self, request_iterator: object, context: object) -> Iterator[beam_fn_api_pb2.LogControl]:  # noqa: N802
        for entries in request_iterator:  # type: ignore[attr-defined]
            self.entries.extend(entries.log_entries)
        yield from ()


def test_on_a_worker_the_object_is_the_text_that_beams_handler_sends(lines: Lines) -> None:
    service, server = _Service(), grpc.server(UnboundedThreadPoolExecutor())
    beam_fn_api_pb2_grpc.add_BeamFnLoggingServicer_to_server(service, server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    handler = FnApiLogRecordHandler(endpoints_pb2.ApiServiceDescriptor(url=f"localhost:{port}"))
    logging.getLogger().addHandler(handler)
    try:
        logs.set_up(as_json=True, run="night-1")
        with logs.about(image="a.jpg", stage="write"):
            LOG.warning("slow")
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
        server.stop(None).wait()

    (entry,) = [one for one in service.entries if "slow" in one.message]
    said = json.loads(entry.message)
    assert (said["run"], said["image"], said["stage"]) == ("night-1", "a.jpg", "write")
    assert entry.severity == beam_fn_api_pb2.LogEntry.Severity.WARN
