"""`relume restore`: restores an archive of images into a copy of it, and accounts for every image."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pipeline
from jobs.command_line import ExitCode, run_job
from model import contract
from pipeline.flags import UsageError
from pipeline.options import RestoreConfig, parse

_LOG = logging.getLogger(__name__)

_LOCAL_RUNNERS = ("DirectRunner", "FnApiRunner")

_PROGRESS_SECONDS = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_job("restore", _restore, argv)


def _restore(argv: list[str]) -> int:
    config, beam_flags = parse(argv)
    began, started = time.monotonic(), datetime.datetime.now(datetime.UTC)
    folder, agreed = _model(config)

    from pipeline import listing, recording, survey
    from pipeline.archive import Plan

    listing.check_places(config.input, config.output)
    digest = config.recipe_digest(agreed.digest)
    settings = {**config.recipe_settings(), "model": agreed.digest}
    run = recording.RunInfo(
        run_id=config.run_id,
        code_version=pipeline.__version__,
        model_digest=agreed.digest,
        recipe_digest=digest,
        settings=settings,
        device="cpu",
    )
    plan = Plan(config, run, str(folder))
    found = survey.take(config, digest)
    if config.dry_run:
        recording.check_recipe(config.output, digest, settings, replace=config.replace, dry_run=True)
        _print_survey(found)
        return ExitCode.DONE
    options = _options(beam_flags)
    recording.check_recipe(config.output, digest, settings, replace=config.replace)
    survey.write_plan(found, config.output, run)
    with _progress(config.output, found.pending):
        _run(plan, options)
    record = recording.read_summary(config.output, config.run_id)
    if record is None:
        raise RuntimeError(f"the run ended without a summary in {config.output}")
    return _finish(config, record, seconds=time.monotonic() - began, started=started)


def _model(config: RestoreConfig) -> tuple[Path, contract.Contract]:
    """The model's folder and contract, every digest of it checked."""
    folder = contract.built_in() if config.model is None else Path(config.model)
    try:
        return folder, contract.read(folder)
    except contract.ModelError as error:
        raise UsageError(f"--model {config.model or 'built in'}: {error}") from error


def _print_survey(survey: Any) -> None:
    print(
        f"{survey.listed} images: {survey.pending} to do ({survey.pending_bytes / 1e6:.1f} MB), "
        f"{survey.done} done before, {survey.unusable} with names that cannot be used; nothing was written"
    )


def _options(beam_flags: Sequence[str]) -> Any:
    from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

    options = PipelineOptions(list(beam_flags))
    # Workers import the installed package; a pickled main session would carry the launcher's state along.
    options.view_as(SetupOptions).save_main_session = False
    return options


def _run(plan: Any, options: Any) -> None:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import StandardOptions

    from pipeline.archive import RestoreArchive

    name = options.view_as(StandardOptions).runner or _LOCAL_RUNNERS[0]
    runner: Any = name
    if name in _LOCAL_RUNNERS:
        # Beam's own DirectRunner first tries to fetch a Go program; this is the runner that it falls back on.
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        runner = FnApiRunner()
    with beam.Pipeline(runner=runner, options=options) as root:
        _ = root | RestoreArchive(plan)


@contextlib.contextmanager
def _progress(output: str, total: int) -> Iterator[None]:
    """Shows how many images are done while the run goes on, by what lies in the output."""
    from pipeline.report.progress import Progress
    from pipeline.survey import receipts_in

    if "://" in output or not total:
        yield
        return
    before = receipts_in(output)
    over = threading.Event()

    def watch() -> None:
        pause = _PROGRESS_SECONDS
        while not over.wait(pause):
            asked = time.monotonic()
            progress.update(min(total, receipts_in(output) - before), total)
            # Looking must not cost more than a twentieth of the time, however many receipts there are.
            pause = max(_PROGRESS_SECONDS, 20 * (time.monotonic() - asked))

    with Progress("restoring") as progress:
        watcher = threading.Thread(target=watch, name="progress", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def _finish(config: RestoreConfig, record: dict[str, Any], *, seconds: float, started: datetime.datetime) -> int:
    """Shows what became of the images, and says how the job ended."""
    from pipeline.report.summary import Summary
    from pipeline.report.terminal import print_summary

    failed = record["counts"]["failed"]
    code = ExitCode.FAILURES if failed > config.tolerate else ExitCode.DONE
    summary = Summary.from_record(
        record, output=config.output, seconds=seconds, started=started.isoformat("T", "seconds")
    )
    print_summary(summary)
    if code is ExitCode.FAILURES:
        print(
            f"relume restore: {failed} failed, --tolerate allows {config.tolerate}; all others are done",
            file=sys.stderr,
        )
    line = {"run": record["run_id"], **record["counts"], "inputs": record["inputs"], "seconds": round(seconds, 1)}
    print(json.dumps({**line, "exit": int(code)}))
    return code


if __name__ == "__main__":
    sys.exit(main())
