"""`relume template`: writes the spec from which Dataflow launches restore jobs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence

import pipeline
from jobs.command_line import ExitCode, run_job
from pipeline import flags
from pipeline.flags import FlagParser, option
from pipeline.production.profiles import PROFILES, profile_of

_DESCRIPTION = """\
Writes the spec of a Flex Template: which image is launched, and every flag of
`relume restore` as a parameter with its type, help and default. Dataflow, Cloud
Scheduler, Airflow and Terraform launch jobs from it; so does `relume launch`.
The image must hold this version of Relume, and be there before a launch."""
_EPILOG = """\
examples:
  relume template --output gs://my-jobs/relume.json \\
      --image europe-docker.pkg.dev/my-project/images/relume:0.1.0
  relume template --output relume.json --profile l4 \\
      --image europe-docker.pkg.dev/my-project/images/relume-gpu:0.1.0

exit codes: 0 written, or standing there already, 2 wrong usage or another
  template stands there, 7 stopped by an error"""


@dataclasses.dataclass(frozen=True)
class TemplateConfig:
    """What `relume template` can be told."""

    output: str = option(
        "Where the spec goes: gs://BUCKET/NAME.json, or a file. One that differs is not overwritten.",
        group="Template",
        metavar="FILE",
    )
    image: str = option(
        "The image of launcher and workers, with its tag or digest.", group="Template", metavar="HOST/PATH:TAG"
    )
    profile: str = option(
        "The workers of jobs whose launch asks for no others.",
        group="Template",
        default="cpu",
        choices=tuple(PROFILES),
    )
    replace: bool = option("Overwrite another template.", group="Template", default=False)
    verbose: bool = option("Show where in the code an error arose.", group="Template", default=False)

    def __post_init__(self) -> None:
        flags.check(self)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_job("template", _template, argv)


def _template(argv: list[str]) -> int:
    usage = "--output FILE --image HOST/PATH:TAG [flags]"
    parser = FlagParser(TemplateConfig, prog="relume template", usage=usage, description=_DESCRIPTION, epilog=_EPILOG)
    config = flags.parse_flags(TemplateConfig, parser, argv)

    from pipeline.production import template

    spec = template.make_spec(config.image, profile_of(config.profile))
    template.write(spec, config.output, replace=config.replace)
    line = {"template": config.output, "image": config.image, "version": pipeline.__version__}
    print(json.dumps({**line, "parameters": len(spec["metadata"]["parameters"]), "exit": int(ExitCode.DONE)}))
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
