# Who may do what. The same table stands in docs/security.md.

resource "google_service_account" "worker" {
  project      = var.project
  account_id   = "relume-worker"
  display_name = "Relume: launcher and workers of a job"
}

resource "google_service_account" "scheduler" {
  project      = var.project
  account_id   = "relume-scheduler"
  display_name = "Relume: launches a job every night"
}

locals {
  # Spelled out, because what only an apply tells cannot be a key of for_each.
  members = {
    worker    = ["serviceAccount:relume-worker@${var.project}.iam.gserviceaccount.com"]
    scheduler = ["serviceAccount:relume-scheduler@${var.project}.iam.gserviceaccount.com"]
    launcher  = var.launchers
  }

  buckets = {
    input  = var.input_bucket
    output = google_storage_bucket.output.name
    jobs   = google_storage_bucket.jobs.name
  }

  bucket_roles = [
    { who = "worker", on = "input", role = "roles/storage.objectViewer" },
    { who = "worker", on = "output", role = "roles/storage.objectViewer" },
    { who = "worker", on = "output", role = "roles/storage.objectCreator" },
    { who = "worker", on = "jobs", role = "roles/storage.objectUser" },
    { who = "worker", on = "jobs", role = "roles/storage.legacyBucketReader" },
    { who = "scheduler", on = "jobs", role = "roles/storage.objectViewer" },
    { who = "launcher", on = "input", role = "roles/storage.objectViewer" },
    { who = "launcher", on = "output", role = "roles/storage.objectViewer" },
    { who = "launcher", on = "jobs", role = "roles/storage.objectUser" },
  ]

  project_roles = [
    { who = "worker", role = "roles/dataflow.worker" },
    { who = "scheduler", role = "roles/dataflow.developer" },
    { who = "launcher", role = "roles/dataflow.developer" },
    { who = "launcher", role = "roles/cloudscheduler.admin" },
  ]

  act_as = [
    { who = "scheduler", on = "worker" },
    { who = "launcher", on = "worker" },
    { who = "launcher", on = "scheduler" },
  ]

  replacing = var.replaces ? [{ who = "worker", on = "output", role = "roles/storage.objectUser" }] : []

  bucket_grants = {
    for grant in flatten([
      for one in concat(local.bucket_roles, local.replacing) : [
        for member in local.members[one.who] : { member = member, on = one.on, role = one.role }
      ]
    ]) : "${grant.member} ${grant.on} ${grant.role}" => grant
  }

  project_grants = {
    for grant in flatten([
      for one in local.project_roles : [
        for member in local.members[one.who] : { who = one.who, member = member, role = one.role }
      ]
    ]) : "${grant.member} ${grant.role}" => grant
  }

  act_as_grants = {
    for grant in flatten([
      for one in local.act_as : [for member in local.members[one.who] : { member = member, on = one.on }]
    ]) : "${grant.member} ${grant.on}" => grant
  }
}

resource "google_storage_bucket_iam_member" "grants" {
  for_each   = local.bucket_grants
  bucket     = local.buckets[each.value.on]
  role       = each.value.role
  member     = each.value.member
  depends_on = [google_service_account.worker, google_service_account.scheduler]
}

resource "google_project_iam_member" "grants" {
  for_each   = local.project_grants
  project    = var.project
  role       = each.value.who == "worker" && var.own_worker_role ? google_project_iam_custom_role.worker[0].id : each.value.role
  member     = each.value.member
  depends_on = [google_service_account.worker, google_service_account.scheduler]
}

resource "google_service_account_iam_member" "act_as" {
  for_each           = local.act_as_grants
  service_account_id = each.value.on == "worker" ? google_service_account.worker.name : google_service_account.scheduler.name
  role               = "roles/iam.serviceAccountUser"
  member             = each.value.member
  depends_on         = [google_service_account.worker, google_service_account.scheduler]
}

resource "google_artifact_registry_repository_iam_member" "worker" {
  project    = var.project
  location   = var.region
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.reader"
  member     = "serviceAccount:${google_service_account.worker.email}"
}

# Dataflow Worker without what it may do in all buckets of the project: storage.buckets.get, storage.objects.create and
# storage.objects.get. What a job needs of them the grants above give, bucket by bucket.
resource "google_project_iam_custom_role" "worker" {
  count   = var.own_worker_role ? 1 : 0
  project = var.project
  role_id = "relumeWorker"
  title   = "Relume worker"
  permissions = [
    "autoscaling.sites.readRecommendations",
    "autoscaling.sites.writeMetrics",
    "autoscaling.sites.writeState",
    "compute.instanceGroupManagers.update",
    "compute.instances.delete",
    "compute.instances.setDiskAutoDelete",
    "dataflow.jobs.get",
    "dataflow.shuffle.read",
    "dataflow.shuffle.write",
    "dataflow.streamingWorkItems.ImportState",
    "dataflow.streamingWorkItems.commitWork",
    "dataflow.streamingWorkItems.getData",
    "dataflow.streamingWorkItems.getWork",
    "dataflow.streamingWorkItems.getWorkerMetadata",
    "dataflow.workItems.lease",
    "dataflow.workItems.sendMessage",
    "dataflow.workItems.update",
    "logging.logEntries.create",
    "logging.logEntries.route",
    "monitoring.timeSeries.create",
  ]
}

# With a key of one's own: the services that store something for a job must be able to use it.
data "google_project" "this" {
  project_id = var.project
}

resource "google_kms_crypto_key_iam_member" "services" {
  for_each = var.kms_key == null ? toset([]) : toset([
    "dataflow-service-producer-prod",
    "compute-system",
    "gs-project-accounts",
  ])
  crypto_key_id = var.kms_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:service-${data.google_project.this.number}@${each.value}.iam.gserviceaccount.com"
}
