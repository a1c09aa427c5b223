"""From the flags of a launch to a job on Dataflow: by the template's launcher, or submitted from here."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pipeline
from pipeline import flags
from pipeline.busy import BusyError
from pipeline.flags import UsageError, option
from pipeline.options import RestoreConfig
from pipeline.production import naming, template
from pipeline.production.profiles import Profile, profile_of

TEMPLATE, DIRECT = "template", "direct"

DEFAULT_PROFILE = "cpu"
"""The workers of a launch that asks for no others."""

ENDED = ("DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED")
"""The states that a job stays in."""

ENDPOINT = "https://dataflow.googleapis.com"
_WHERE, _WORKERS, _RIGHTS, _FOLLOW = "The job", "Its workers", "Account and network", "After the launch"
_LABEL = re.compile(r"([a-z][a-z0-9_-]{0,62})=([a-z0-9_-]{0,63})")


@dataclasses.dataclass(frozen=True)
class LaunchConfig:
    """What a launch is told beside the job itself, whose flags are `RestoreConfig`'s. Beam's names, where it has one.

    Raises:
        UsageError: from the constructor, where a value is not allowed. What contradicts each other, `preflight` finds.
    """

    project: str = option("The project that runs the job and pays for it.", group=_WHERE, metavar="ID")
    region: str = option("Where it runs; best where the buckets are.", group=_WHERE, metavar="REGION")
    via: str = option(
        "Who builds the job: the launcher of a Flex Template in the cloud, or this machine, directly.",
        group=_WHERE,
        default=TEMPLATE,
        choices=(TEMPLATE, DIRECT),
    )
    template: str | None = option(
        "The template, as `relume template` writes it; its image is that of launcher and workers.",
        group=_WHERE,
        default=None,
        metavar="gs://...",
    )
    image: str | None = option(
        "The workers' image, with its tag or digest, where the job is submitted directly.",
        group=_WHERE,
        default=None,
        metavar="HOST/PATH:TAG",
    )
    temp_location: str | None = option(
        "Where the job's own files go; needed where it is submitted directly.",
        group=_WHERE,
        default=None,
        default_text="a bucket that Dataflow makes",
        metavar="gs://...",
    )
    job_name: str = option(
        "Name of the job. Of one name and region only one can run at a time.",
        group=_WHERE,
        default="relume-restore",
        metavar="NAME",
    )
    labels: tuple[str, ...] = option(
        "A label of the job, KEY=VALUE; may be given more than once.", group=_WHERE, default=(), metavar="KEY=VALUE"
    )
    machine_type: str | None = option(
        "Another machine.", group=_WORKERS, default=None, default_text="the profile's", metavar="TYPE"
    )
    accelerator: str | None = option(
        "Another GPU of every worker: type:KIND;count:N;install-nvidia-driver:5xx.",
        group=_WORKERS,
        default=None,
        default_text="the profile's",
        metavar="TEXT",
    )
    disk_size_gb: int | None = option(
        "Another size of a worker's disk.",
        group=_WORKERS,
        default=None,
        default_text="the profile's",
        low=30,
        high=65536,
    )
    num_workers: int = option("Workers at the start.", group=_WORKERS, default=1, low=1, high=1000)
    max_num_workers: int = option("Workers at most.", group=_WORKERS, default=10, low=1, high=1000)
    flexrs: bool = option(
        "Cheaper workers, spot machines among them, at any time within six hours (FlexRS). Not with GPUs.",
        group=_WORKERS,
        default=False,
    )
    experiments: tuple[str, ...] = option(
        "An experiment of Dataflow; may be given more than once.", group=_WORKERS, default=(), metavar="NAME"
    )
    dataflow_service_options: tuple[str, ...] = option(
        "A service option of Dataflow; may be given more than once.", group=_WORKERS, default=(), metavar="NAME"
    )
    service_account_email: str | None = option(
        "The account that the workers act as.",
        group=_RIGHTS,
        default=None,
        default_text="that of Compute Engine",
        metavar="EMAIL",
    )
    network: str | None = option("The workers' network.", group=_RIGHTS, default=None, metavar="NAME")
    subnetwork: str | None = option(
        "The workers' subnetwork: regions/REGION/subnetworks/NAME, or its whole address.",
        group=_RIGHTS,
        default=None,
        metavar="NAME",
    )
    no_use_public_ips: bool = option(
        "Workers without addresses of their own; the subnetwork needs Private Google Access.",
        group=_RIGHTS,
        default=False,
    )
    dataflow_kms_key: str | None = option(
        "The key that encrypts what the job stores: projects/P/locations/REGION/keyRings/R/cryptoKeys/K.",
        group=_RIGHTS,
        default=None,
        metavar="NAME",
    )
    dataflow_endpoint: str = option(
        "Another address of the Dataflow API, such as a private one.", group=_RIGHTS, default=ENDPOINT, metavar="URL"
    )
    wait: bool = option("Follow the job to its end, and end with its exit code.", group=_FOLLOW, default=False)
    poll_seconds: float = option(
        "Time between two looks at the job.", group=_FOLLOW, default=20.0, default_text="20", low=0.01, high=3600
    )

    def __post_init__(self) -> None:
        flags.check(self)
        naming.PROJECT.check("project", self.project)
        naming.REGION.check("region", self.region)
        naming.JOB_NAME.check("job_name", self.job_name)
        naming.ACCOUNT.check("service_account_email", self.service_account_email)
        naming.OBJECT.check("template", self.template)
        naming.ACCELERATOR.check("accelerator", self.accelerator)
        naming.PLACE.check("temp_location", self.temp_location)
        naming.ENDPOINT.check("dataflow_endpoint", self.dataflow_endpoint)
        if self.image is not None:
            template.check_image(self.image)
        self._check_labels()
        for name, form in (("dataflow_kms_key", naming.KEY), ("subnetwork", naming.SUBNETWORK)):
            found = form.check(name, getattr(self, name))
            if found and found["region"] != self.region:
                raise UsageError(f"--{name} must be in --region {self.region}, got {getattr(self, name)}")

    def _check_labels(self) -> None:
        for label in self.labels:
            if not _LABEL.fullmatch(label):
                raise UsageError(
                    "--labels must be KEY=VALUE of small letters, digits, - and _, 63 at most, the first a letter, "
                    f"got {label}"
                )
        keys = [label.partition("=")[0] for label in self.labels]
        for key in keys:
            if keys.count(key) > 1 or key == template.VERSION_LABEL:
                raise UsageError(
                    f"--labels must name a key once, and {template.VERSION_LABEL} is set already, got {key}"
                )

    @property
    def all_labels(self) -> dict[str, str]:
        """The job's labels; one of them names the version."""
        given = (label.partition("=") for label in self.labels)
        return {key: value for key, _, value in given} | {
            template.VERSION_LABEL: template.version_label(pipeline.__version__)
        }


@dataclasses.dataclass(frozen=True)
class Launch:
    """A launch as a whole.

    Attributes:
        how: where and on which workers.
        job: what is launched.
    """

    how: LaunchConfig
    job: RestoreConfig

    @property
    def workers(self) -> Profile:
        """The profile, with what was asked for in place of its own machine, GPU and disk."""
        return profile_of(self.job.profile or DEFAULT_PROFILE)

    @property
    def machine(self) -> str:
        """The machine type that the workers get."""
        return self.how.machine_type or self.workers.machine_type

    @property
    def own_workers(self) -> tuple[str, ...]:
        """The flags that make workers other than the profile's."""
        return tuple(f"--{name}" for name in ("machine_type", "accelerator", "disk_size_gb") if getattr(self.how, name))

    @property
    def gpu(self) -> str | None:
        """The accelerator that every worker gets, as Dataflow spells it, or None."""
        return self.how.accelerator or self.workers.accelerator

    @property
    def disk(self) -> int:
        """GB of a worker's disk."""
        return self.how.disk_size_gb or self.workers.disk_gb


class AlreadyRunningError(BusyError):
    """A job of the same name is running; one line."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A job that Dataflow has taken.

    Attributes:
        id: that Dataflow gave it.
        project, region: where it runs.
    """

    id: str
    project: str
    region: str

    @property
    def console(self) -> str:
        """The page of the job in Google's console."""
        return f"https://console.cloud.google.com/dataflow/jobs/{self.region}/{self.id}?project={self.project}"


def on_workers(values: Mapping[str, Any], how: LaunchConfig) -> Launch:
    """Puts a launch together: the job is told what its workers need, where nothing else was asked for.

    Args:
        values: of the flags of `RestoreConfig` that were given, by name.
        how: the rest.

    Raises:
        UsageError: if a value is not allowed.
    """
    profile = profile_of(values.get("profile", DEFAULT_PROFILE))
    own: dict[str, Any] = {
        "profile": profile.name,
        "price_region": how.region,
        "batch_megapixels": float(profile.batch_megapixels),
        "model_threads": max(1, profile.vcpus // profile.processes),
        # A GPU that is paid for and not found must not go unnoticed.
        "require_gpu": bool(how.accelerator or profile.accelerator),
    }
    return Launch(how, RestoreConfig(**(own | dict(values))))


def launch_body(launch: Launch, image: str) -> dict[str, Any]:
    """The request that launches a template, as the REST API has it; a scheduler can send the same.

    Args:
        launch: its template must be there.
        image: the template's.
    """
    return {
        "launchParameter": {
            "jobName": launch.how.job_name,
            "containerSpecGcsPath": launch.how.template,
            "parameters": template.parameters_of(launch.job),
            "environment": environment_of(launch, image),
        }
    }


def environment_of(launch: Launch, image: str) -> dict[str, Any]:
    """A launch as the environment of a Flex Template, in the REST API's words; what is not asked for is left out.

    A GPU stands among the experiments: here is no place for service options.
    """
    wanted = {
        "sdkContainerImage": image,
        "machineType": launch.machine,
        "diskSizeGb": launch.disk,
        "numWorkers": launch.how.num_workers,
        "maxWorkers": launch.how.max_num_workers,
        "additionalExperiments": [*template.experiments_of(launch.gpu), *launch.how.experiments],
        "additionalPipelineOptions": [
            *template.pipeline_options_of(launch.workers),
            *(f"dataflow_service_options={one}" for one in launch.how.dataflow_service_options),
        ],
        "additionalUserLabels": launch.how.all_labels,
        "flexrsGoal": "FLEXRS_COST_OPTIMIZED" if launch.how.flexrs else None,
        "tempLocation": launch.how.temp_location,
        "stagingLocation": _staging(launch.how),
        "serviceAccountEmail": launch.how.service_account_email,
        "network": launch.how.network,
        "subnetwork": launch.how.subnetwork,
        "ipConfiguration": "WORKER_IP_PRIVATE" if launch.how.no_use_public_ips else None,
        "kmsKeyName": launch.how.dataflow_kms_key,
    }
    return {name: value for name, value in wanted.items() if value not in (None, [])}


def beam_flags(launch: Launch) -> list[str]:
    """A launch as Beam's flags, for a job that this machine submits; the run is not waited for.

    A GPU stands among the service options, where Dataflow looks for it.
    """
    gpu = [] if launch.gpu is None else [f"worker_accelerator={launch.gpu}"]
    wanted: dict[str, Any] = {
        "runner": "DataflowRunner",
        "project": launch.how.project,
        "region": launch.how.region,
        "job_name": launch.how.job_name,
        "temp_location": launch.how.temp_location,
        "staging_location": _staging(launch.how),
        "sdk_container_image": launch.how.image,
        "machine_type": launch.machine,
        "disk_size_gb": launch.disk,
        "num_workers": launch.how.num_workers,
        "max_num_workers": launch.how.max_num_workers,
        "number_of_worker_harness_threads": launch.workers.threads,
        "flexrs_goal": "COST_OPTIMIZED" if launch.how.flexrs else None,
        "service_account_email": launch.how.service_account_email,
        "network": launch.how.network,
        "subnetwork": launch.how.subnetwork,
        "dataflow_kms_key": launch.how.dataflow_kms_key,
        "dataflow_endpoint": launch.how.dataflow_endpoint,
    }
    switches = {
        "no_use_public_ips": launch.how.no_use_public_ips,
        "no_auth": _is_plain(launch.how.dataflow_endpoint),
        "no_save_main_session": True,
        "no_wait_until_finish": True,
    }
    return [
        *(f"--{name}={value}" for name, value in wanted.items() if value is not None),
        *(f"--dataflow_service_options={one}" for one in [*gpu, *launch.how.dataflow_service_options]),
        *(f"--experiments={one}" for one in launch.how.experiments),
        *(f"--labels={key}={value}" for key, value in launch.how.all_labels.items()),
        *(f"--{name}" for name, on in switches.items() if on),
    ]


def check_free(how: LaunchConfig) -> None:
    """Makes sure that no job of the name runs in the region, before anything is written for a new one.

    Raises:
        AlreadyRunningError: if one does.
    """
    from google.cloud import dataflow_v1beta3 as dataflow

    request = dataflow.ListJobsRequest(
        project_id=how.project,
        location=how.region,
        name=how.job_name,
        filter=dataflow.ListJobsRequest.Filter.ACTIVE,
    )
    for found in client_of(dataflow.JobsV1Beta3Client, how.dataflow_endpoint).list_jobs(request=request):
        if found.name == how.job_name:
            job = Job(found.id, how.project, how.region)
            raise AlreadyRunningError(f"--job_name {how.job_name}: job {job.id} of this name is running: {job.console}")


def submit(how: LaunchConfig, body: Mapping[str, Any]) -> Job:
    """Launches a template; the job is then queued, and nothing more is known of it.

    Args:
        how: where to.
        body: of `launch_body`.

    Raises:
        AlreadyRunningError: if a job of this name runs in the region.
        google.api_core.exceptions.GoogleAPICallError: if Dataflow refuses otherwise.
    """
    from google.api_core import exceptions
    from google.cloud import dataflow_v1beta3 as dataflow
    from google.protobuf import json_format

    request = dataflow.LaunchFlexTemplateRequest(project_id=how.project, location=how.region)
    json_format.ParseDict(dict(body), dataflow.LaunchFlexTemplateRequest.pb(request))
    try:
        client = client_of(dataflow.FlexTemplatesServiceClient, how.dataflow_endpoint)
        answer = client.launch_flex_template(request=request)
    except exceptions.Conflict as error:
        raise AlreadyRunningError(f"--job_name {how.job_name}: {error.message}") from error
    return Job(answer.job.id, how.project, how.region)


def states(how: LaunchConfig, job: Job, pause: Any) -> Iterator[str]:
    """Looks at a job until it has ended: its state, such as `RUNNING`, each time that it is another one.

    Args:
        how: which API to ask.
        job: which job.
        pause: waits; called between two looks.
    """
    from google.api_core import retry
    from google.cloud import dataflow_v1beta3 as dataflow

    client = client_of(dataflow.JobsV1Beta3Client, how.dataflow_endpoint)
    request = dataflow.GetJobRequest(project_id=job.project, location=job.region, job_id=job.id)
    state = ""
    while state not in ENDED:
        if state:
            pause()
        # A job runs for hours: one answer that is lost must not end the watch over it.
        found = client.get_job(request=request, retry=retry.Retry(timeout=600), timeout=60)
        before, state = state, dataflow.JobState(found.current_state).name.removeprefix("JOB_STATE_")
        if state != before:
            yield state


def errors_of(how: LaunchConfig, job: Job) -> list[str]:
    """What Dataflow says went wrong with a job, the oldest first."""
    from google.cloud import dataflow_v1beta3 as dataflow

    client = client_of(dataflow.MessagesV1Beta3Client, how.dataflow_endpoint)
    request = dataflow.ListJobMessagesRequest(
        project_id=job.project,
        location=job.region,
        job_id=job.id,
        minimum_importance=dataflow.JobMessageImportance.JOB_MESSAGE_ERROR,
    )
    return [one.message_text for one in client.list_job_messages(request=request)]


def client_of(kind: Any, endpoint: str) -> Any:
    """Opens a client of one of Google's APIs.

    Args:
        kind: class of the client.
        endpoint: address of the API; plain HTTP, which no real one is, is asked without credentials.
    """
    from google.auth.credentials import AnonymousCredentials

    return kind(
        transport="rest",
        client_options={"api_endpoint": endpoint.rstrip("/")},
        **({"credentials": AnonymousCredentials()} if _is_plain(endpoint) else {}),
    )


def _is_plain(endpoint: str) -> bool:
    return endpoint.startswith("http://")


def _staging(how: LaunchConfig) -> str | None:
    return None if how.temp_location is None else f"{how.temp_location.rstrip('/')}/staging"
