"""A restore job every night, as a DAG of Airflow: launches Relume's template, and fails where the job fails.

Copy it into the DAG folder (of Cloud Composer, or of any Airflow with the Google provider) and change the constants.
PARAMETERS and ENVIRONMENT are what `relume launch --dry_run` prints for the job and the workers wanted, without what
each night has of its own (`run_id`) and what is the template's (`sdkContainerImage`, the label of the version).

Two nights never overlap: one active run of the DAG, one job of a name on Dataflow, one lease on the output. A night
that failed needs no repair: the next one does what is left.
"""

import pendulum
from airflow import DAG
from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator

PROJECT, REGION = "my-project", "europe-west4"
TEMPLATE = "gs://my-jobs/relume.json"
JOB_NAME = "relume-restore"

PARAMETERS = {
    "input": "gs://my-photos/archive",
    "output": "gs://my-restored/archive",
    "tolerate": "10",
    "profile": "l4",
    "price_region": REGION,
    "require_gpu": "true",
    "model_threads": "1",
    "batch_megapixels": "8.0",
}

ENVIRONMENT = {
    "machineType": "g2-standard-4",
    "diskSizeGb": 100,
    "numWorkers": 1,
    "maxWorkers": 4,
    "additionalExperiments": ["worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver:5xx"],
    "additionalPipelineOptions": ["number_of_worker_harness_threads=1"],
    "serviceAccountEmail": f"relume-worker@{PROJECT}.iam.gserviceaccount.com",
    "ipConfiguration": "WORKER_IP_PRIVATE",
    "subnetwork": f"regions/{REGION}/subnetworks/relume",
}

with DAG(
    dag_id="relume_restore",
    schedule="0 2 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Berlin"),
    catchup=False,
    max_active_runs=1,
):
    DataflowStartFlexTemplateOperator(
        task_id="restore",
        project_id=PROJECT,
        location=REGION,
        body={
            "launchParameter": {
                "jobName": JOB_NAME,
                "containerSpecGcsPath": TEMPLATE,
                "parameters": PARAMETERS,
                "environment": ENVIRONMENT,
            }
        },
        # Else each job has a name of its own, and Dataflow would let two of them run at once.
        append_job_name=False,
        # The task gives its slot back while the job runs, and ends as the job ends.
        deferrable=True,
        retries=0,
    )
