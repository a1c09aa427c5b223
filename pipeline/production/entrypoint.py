"""What the image starts: Beam's `boot` where Dataflow wants a worker, else the launcher of Flex Templates.

Both are programs of other images, found on the PATH. Dataflow starts a worker with the flags of `boot` behind the
image's entrypoint; where it launches a template, it may name the launcher itself or leave that to the entrypoint.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

WORKER, LAUNCHER = "boot", "python_template_launcher"

BOOT_FLAGS = frozenset(
    {
        "artifact_endpoint",
        "artifacts",
        "control_endpoint",
        "id",
        "logging_endpoint",
        "provision_endpoint",
        "semi_persist_dir",
        "setup_only",
        "worker_pool",
    }
)
"""Every flag of `boot`; a worker is never started without one of them."""


def program_for(arguments: Sequence[str]) -> str:
    """Says which program the arguments are for; written in Go, they take `-flag` and `--flag`, with `=` or a blank."""
    flags = {argument.lstrip("-").partition("=")[0] for argument in arguments if argument.startswith("-")}
    return WORKER if flags & BOOT_FLAGS else LAUNCHER


def main() -> None:
    """Becomes that program, in the same process: signals and exit code are its own."""
    program = program_for(sys.argv[1:])
    try:
        os.execvp(program, [program, *sys.argv[1:]])
    except FileNotFoundError:
        sys.exit(f"{program} is not on the PATH: this is no image of the Dockerfile's last stage")


if __name__ == "__main__":
    main()
