variable "project" {
  description = "The project that runs the jobs."
  type        = string
}

variable "region" {
  description = "Where jobs, buckets and image are."
  type        = string
}

variable "scheduler_region" {
  description = "Region of Cloud Scheduler, which is not in all of them; null for `region`."
  type        = string
  default     = null
}

variable "input_bucket" {
  description = "The bucket of the archive; it exists already, and is only read."
  type        = string
}

variable "output_bucket" {
  description = "The bucket of the restored copies; it is made."
  type        = string
}

variable "output_prefix" {
  description = "Where in it the output is, as in --output gs://BUCKET/PREFIX."
  type        = string
  default     = "archive"
}

variable "jobs_bucket" {
  description = "The bucket of template, models and what jobs put down for a while; it is made."
  type        = string
}

variable "launchers" {
  description = "Who may launch and schedule: members such as group:archive@example.com."
  type        = list(string)
  default     = []
}

variable "replaces" {
  description = "Lets workers replace and delete in the output: outputs of changed sources, and --replace."
  type        = bool
  default     = false
}

variable "own_worker_role" {
  description = "Gives workers a role of this project's own in place of Dataflow Worker, which reads every bucket of it."
  type        = bool
  default     = false
}

variable "kms_key" {
  description = "A key of Cloud KMS that encrypts both buckets and what jobs store; null for Google's own."
  type        = string
  default     = null
}

variable "schedule_file" {
  description = "What `relume schedule create ... --dry_run` printed; null makes no schedule."
  type        = string
  default     = null
}
