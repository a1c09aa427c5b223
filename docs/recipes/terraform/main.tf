# What a nightly restore on Dataflow stands on: APIs, buckets, a place for the image, accounts and the schedule.
# Apply it once without a schedule, push the image, write the template, let `relume schedule create ... --dry_run` print
# the schedule into a file, and apply it again with `schedule_file`. docs/running.md has the commands.

terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0"
    }
  }
}

resource "google_project_service" "apis" {
  for_each = toset([
    "artifactregistry.googleapis.com",
    "cloudscheduler.googleapis.com",
    "compute.googleapis.com",
    "dataflow.googleapis.com",
    "storage.googleapis.com",
  ])
  project            = var.project
  service            = each.value
  disable_on_destroy = false
}

resource "google_artifact_registry_repository" "images" {
  project       = var.project
  location      = var.region
  repository_id = "images"
  format        = "DOCKER"
  depends_on    = [google_project_service.apis]
}

resource "google_storage_bucket" "output" {
  project                     = var.project
  name                        = var.output_bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  # Entries of the lease: only the newest says anything. A worker may not delete them.
  lifecycle_rule {
    condition {
      age            = 7
      matches_prefix = ["${var.output_prefix}/_relume/lease/"]
    }
    action {
      type = "Delete"
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.services]
}

resource "google_storage_bucket" "jobs" {
  project                     = var.project
  name                        = var.jobs_bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  # --temp_location gs://JOBS/temp
  lifecycle_rule {
    condition {
      age            = 30
      matches_prefix = ["temp/"]
    }
    action {
      type = "Delete"
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.services]
}

locals {
  job = var.schedule_file == null ? null : jsondecode(file(var.schedule_file)).job
}

resource "google_cloud_scheduler_job" "nightly" {
  count            = var.schedule_file == null ? 0 : 1
  project          = var.project
  region           = coalesce(var.scheduler_region, var.region)
  name             = "relume-restore"
  description      = local.job.description
  schedule         = local.job.schedule
  time_zone        = local.job.timeZone
  attempt_deadline = local.job.attemptDeadline

  retry_config {
    retry_count          = local.job.retryConfig.retryCount
    min_backoff_duration = local.job.retryConfig.minBackoffDuration
    max_backoff_duration = local.job.retryConfig.maxBackoffDuration
  }

  http_target {
    uri         = local.job.httpTarget.uri
    http_method = local.job.httpTarget.httpMethod
    headers     = local.job.httpTarget.headers
    body        = local.job.httpTarget.body

    oauth_token {
      service_account_email = google_service_account.scheduler.email
      scope                 = local.job.httpTarget.oauthToken.scope
    }
  }

  depends_on = [google_project_service.apis]
}

output "worker_account" {
  description = "For --service_account_email."
  value       = google_service_account.worker.email
}

output "scheduler_account" {
  description = "For --scheduler_account."
  value       = google_service_account.scheduler.email
}
