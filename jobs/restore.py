"""`relume restore`: restores an archive of images into a copy of it, and accounts for every image."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pipeline
from jobs.command_line import Ending, ExitCode, run_to_the_end
from model.contract import ModelError
from pipeline import logs, models
from pipeline.flags import UsageError
from pipeline.options import RestoreConfig, parse

_LOG = logging.getLogger(__name__)

_LOCAL_RUNNERS = ("DirectRunner", "FnApiRunner")

_PROGRESS_SECONDS = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_to_the_end("restore", _restore, argv)


def _restore(argv: list[str], ending: Ending) -> int:
    config, beam_flags = parse(argv)
    logs.set_up(as_json=logs.is_json(), run=config.run_id)
    ending.run_id = "" if config.dry_run else config.run_id
    began, started = time.monotonic(), datetime.datetime.now(datetime.UTC)
    options = beam_options(config, beam_flags)
    prepared = prepare(config)
    if config.dry_run:
        print(f"{prepared.found.told}; nothing was written")
        ending.tell({**dataclasses.asdict(prepared.found), "exit": int(ExitCode.DONE)})
        return ExitCode.DONE
    with _progress(config.output, prepared.found.pending):
        result = start(prepared, options)
        if handed_over(options):
            return _say_where(config, options, ending)
        result.wait_until_finish()
    record = _summary_of(config)
    if _runs_here(options):
        from pipeline import figures

        figures.write(figures.Figures.of(figures.metrics_of(result)), config.output, config.run_id)
    return _finish(config, record, ending, seconds=time.monotonic() - began, started=started)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A run that may begin: everything that can be known to be wrong was looked at.

    Attributes:
        plan: of the run.
        found: what there is to do.
        sample: references of some of that, chosen by chance; none where nobody asked for them.
        began: when this was begun, seconds since 1970.
    """

    plan: Any
    found: Any
    sample: tuple[Any, ...]
    began: float


def prepare(config: RestoreConfig, sample: int | None = None) -> Prepared:
    """Looks at everything that a run will need, and writes nothing.

    Args:
        config: of the run.
        sample: how many references to choose; as many as `--max_cost` needs where None.

    Raises:
        UsageError: if a place cannot be used, the model is not what it says, or the output is of another recipe.
        BusyError: if another run is at work on the output.
    """
    began = time.time()
    model = config.model or models.BUILT_IN
    with _naming_the_model(config):
        agreed = models.contract_of(model)
    if config.assume_quality is not None and agreed.task != "jpeg":
        raise UsageError(f"--assume_quality is for models of task jpeg, --model {model} is of {agreed.task}")

    from pipeline import lease, listing, recording, survey
    from pipeline.archive import Plan
    from pipeline.deadline import MAX_MINUTES, Deadline
    from pipeline.production import budget

    listing.check_places(config.input, config.output)
    budget.check_prices(config)
    digest = config.recipe_digest(agreed.digest)
    settings = {**config.recipe_settings(), "model": agreed.digest}
    run = recording.RunInfo(
        run_id=config.run_id,
        code_version=pipeline.__version__,
        model_digest=agreed.digest,
        recipe_digest=digest,
        settings=settings,
    )
    if not config.dry_run:
        # Before the listing, which may take minutes; `start` asks again.
        lease.check_free(config.output)
    most = (budget.SAMPLE if config.max_cost is not None else 0) if sample is None else sample
    chosen = survey.Sample(most)
    found = survey.take(config, digest, chosen)
    recording.check_recipe(config.output, digest, settings, replace=config.replace, dry_run=True)
    minutes = config.max_minutes
    deadline = None if minutes is None else Deadline(began + 60 * minutes, MAX_MINUTES)
    return Prepared(Plan(config, run, model, deadline=deadline, scale=agreed.scale), found, chosen.refs, began)


def start(prepared: Prepared, options: Any) -> Any:
    """Takes the output's lease, writes what is about to be done, and hands the pipeline to its runner.

    The graph releases the lease at its end. Where it does not come to run, or ends here with an error, that happens
    here; a job that fails on a service leaves a lease behind that runs out.

    Args:
        prepared: by `prepare`.
        options: Beam's, as `PipelineOptions`.

    Returns:
        Beam's `PipelineResult`. A runner in this process has run by then; Dataflow has taken the job or written the
        template.

    Raises:
        UsageError: if the run's name was used before, or another run made the output another recipe's meanwhile.
        BusyError: if another run is at work on the output, or took this one's place, as after a long sleep.
        TooExpensiveError: if it is expected to cost more than `--max_cost`.
    """
    from pipeline import keeper, lease, recording, survey

    config, run = prepared.plan.config, prepared.plan.run
    plan = _within_budget(prepared, options)
    here, term = _runs_here(options), _first_term(options)
    if here:
        with _naming_the_model(config):
            # Workers fetch it too; where they are on this machine a wrong file is found before anything is written.
            models.folder_of(prepared.plan.model, run.model_digest)
    held = lease.take(config.output, run.run_id, here=here, term=term)
    try:
        if here:
            keeper.keep(held)
        # Before the recipe: a run whose name is refused must leave the output as it was.
        survey.write_plan(prepared.found, config.output, run, held.token)
        recording.check_recipe(config.output, run.recipe_digest, run.settings, replace=config.replace)
        return _run(dataclasses.replace(plan, lease=held), options)
    except BaseException as error:
        try:
            # Before the lease is free: then another run may take it, which is not why this one failed.
            if isinstance(error, Exception):
                lease.check_not_taken(held)
        finally:
            keeper.let_go(held)
        raise


def _within_budget(prepared: Prepared, options: Any) -> Any:
    """The plan, with an end where its cap of money may be reached; refuses a run that will want more."""
    plan, config = prepared.plan, prepared.plan.config
    if config.max_cost is None:
        return plan

    from pipeline.production import budget

    if _may_wait(options):
        raise UsageError("--max_cost cannot be had with FlexRS: it counts from the start, workers may come hours later")
    workers, found = paid_workers(options), prepared.found
    budget.check(config, budget.expected(config, found, prepared.sample, workers), found.pending)
    deadlines = [one for one in (plan.deadline, budget.deadline(config, prepared.began, workers)) if one is not None]
    return dataclasses.replace(plan, deadline=min(deadlines, key=lambda one: one.at, default=None))


def paid_workers(options: Any) -> int:
    """How many workers may be paid for at once.

    Raises:
        UsageError: if Dataflow may choose the number, as it does beside `--num_workers` alone.
    """
    from apache_beam.options.pipeline_options import WorkerOptions

    asked = options.view_as(WorkerOptions)
    workers = asked.max_num_workers
    if not workers and type(_runner(options)).__name__ == "DataflowRunner":
        raise UsageError("--max_cost needs --max_num_workers: so many workers may cost money at once")
    return workers or 1


def _runs_here(options: Any) -> bool:
    """Whether the run ends with this process: everywhere but on Dataflow, and where the job is only written."""
    return type(_runner(options)).__name__ != "DataflowRunner" and not handed_over(options)


def _first_term(options: Any) -> datetime.timedelta:
    """How long the lease must last until a worker can renew it."""
    from pipeline import lease

    if _runs_here(options):
        return lease.TERM
    return lease.FLEXRS_TERM if _may_wait(options) else lease.LAUNCH_TERM


def _may_wait(options: Any) -> bool:
    """Whether Dataflow may keep the job for hours until resources are cheap (FlexRS)."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    return bool(options.view_as(GoogleCloudOptions).flexrs_goal == "COST_OPTIMIZED")


def handed_over(options: Any) -> bool:
    """Whether the run goes on, or begins, somewhere else after `start`, so that nothing can be concluded here."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions, StandardOptions

    return bool(
        options.view_as(GoogleCloudOptions).template_location or options.view_as(StandardOptions).no_wait_until_finish
    )


@contextlib.contextmanager
def _naming_the_model(config: RestoreConfig) -> Iterator[None]:
    """Tells what is wrong with the model as what is wrong with its flag."""
    try:
        yield
    except ModelError as error:
        raise UsageError(f"--model {config.model or models.BUILT_IN}: {error}") from error


def _summary_of(config: RestoreConfig) -> dict[str, Any]:
    from pipeline import recording

    record = recording.read_summary(config.output, config.run_id)
    if record is None:
        raise RuntimeError(f"the run ended without a summary in {config.output}")
    return record


def beam_options(config: RestoreConfig, beam_flags: Sequence[str]) -> Any:
    """Beam's options for a run, held against what its runner needs.

    Raises:
        UsageError: if the runner lacks a flag or refuses one, or its workers could not reach a place.
    """
    from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator

    options = PipelineOptions(list(beam_flags))
    # Workers import the installed package; a pickled main session would carry the launcher's state along.
    options.view_as(SetupOptions).save_main_session = False
    runner = _runner(options)
    if type(runner).__name__ == "DataflowRunner":
        from pipeline.production import preflight

        preflight.check_reachable(config)
        preflight.check_staging(options)
    if wrong := PipelineOptionsValidator(options, runner).validate():
        raise UsageError(f"--runner {type(runner).__name__}: {wrong[0]}")
    if config.dry_run and handed_over(options):
        raise UsageError("--dry_run must be left out where a job is to be handed over: it would count and start none")
    return options


def _runner(options: Any) -> Any:
    """The runner that Beam's options name.

    Raises:
        UsageError: if Beam knows none of that name.
    """
    from apache_beam.options.pipeline_options import StandardOptions
    from apache_beam.runners import create_runner

    name = options.view_as(StandardOptions).runner or _LOCAL_RUNNERS[0]
    if name in _LOCAL_RUNNERS:
        # Beam's own DirectRunner first tries to fetch a Go program; this is the runner that it falls back on.
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        return FnApiRunner()
    try:
        return create_runner(name)
    except (ValueError, ImportError, AttributeError) as error:
        raise UsageError(f"--runner {name}: {error}") from error


def _run(plan: Any, options: Any) -> Any:
    import apache_beam as beam

    from pipeline.archive import RestoreArchive

    # Not in a `with` block, whose end would wait: where a template was asked for there is nothing to wait for.
    root = beam.Pipeline(runner=_runner(options), options=options)
    _ = root | RestoreArchive(plan)
    return root.run()


@contextlib.contextmanager
def _progress(output: str, total: int) -> Iterator[None]:
    """Shows how many images are done while the run goes on, by what lies in the output."""
    from pipeline.report.progress import Progress
    from pipeline.survey import newest_receipt, receipts_in

    if "://" in output or not total:
        yield
        return
    # By time, not by number: --replace puts new receipts in the place of old ones.
    before = newest_receipt(output)
    over = threading.Event()

    def watch() -> None:
        pause = _PROGRESS_SECONDS
        while not over.wait(pause):
            asked = time.monotonic()
            progress.update(min(total, receipts_in(output, before)), total)
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


def _say_where(config: RestoreConfig, options: Any, ending: Ending) -> int:
    """Says where the run is now; that it is done, only its summary will say."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    template = options.view_as(GoogleCloudOptions).template_location
    _say(
        f"{f'the job is written to {template}' if template else 'the job is handed over'}; "
        f"run {config.run_id} ends with its summary.json below {config.output}",
        level=logging.INFO,
    )
    ending.tell({"run": config.run_id, "template": template, "exit": int(ExitCode.DONE)})
    return ExitCode.DONE


def _say(text: str, *, level: int) -> None:
    print(logs.say("restore", text, level=level), file=sys.stderr)


def _finish(
    config: RestoreConfig, record: dict[str, Any], ending: Ending, *, seconds: float, started: datetime.datetime
) -> int:
    """Shows what became of the images, and says how the job ended."""
    from pipeline.report.summary import Summary
    from pipeline.report.terminal import print_summary

    failed, left = record["counts"]["failed"], record["counts"]["left"]
    code = exit_code_of(record, config.tolerate)
    summary = Summary.from_record(
        record, output=config.output, seconds=seconds, started=started.isoformat("T", "seconds")
    )
    print_summary(summary)
    if failed > config.tolerate:
        others = "are done" if not left else "that were begun are done"
        _say(f"{failed} failed, --tolerate allows {config.tolerate}; all others {others}", level=logging.ERROR)
    if left:
        cap = (
            f"--max_cost {config.max_cost:g} may be spent"
            if code is ExitCode.COST_CAP
            else f"--max_minutes {config.max_minutes:g} are over"
        )
        _say(f"{cap}, {left} images are left; the same command again goes on", level=logging.WARNING)
    line = {"run": record["run_id"], **record["counts"], "inputs": record["inputs"], "seconds": round(seconds, 1)}
    ending.tell({**line, "exit": int(code)})
    return code


def exit_code_of(record: Mapping[str, Any], tolerate: int) -> ExitCode:
    """Says how a run ended, by its summary.

    Args:
        record: as `summary.json` holds it.
        tolerate: how many images may fail.
    """
    if record["counts"]["left"]:
        return ExitCode.COST_CAP if record["reasons"]["left"].get("max-cost") else ExitCode.TIME_CAP
    return ExitCode.FAILURES if record["counts"]["failed"] > tolerate else ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
