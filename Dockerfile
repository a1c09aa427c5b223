# One image for a job's launcher and its workers: the graph that one builds, the other can run.
#   docker build -t relume .                           workers without an accelerator
#   docker build -t relume --build-arg DEVICE=gpu .    workers with one: TensorFlow brings its CUDA libraries
#   docker build -t relume --target command .          `relume` as a command, not as root
ARG DEVICE=cpu

# boot must come from the very release that requirements/*.txt install: the two speak one unversioned protocol.
FROM apache/beam_python3.11_sdk:2.77.0 AS beam

# The release whose launcher Google's own samples copy into images of workers.
FROM gcr.io/dataflow-templates-base/python311-template-launcher-base:20230622_RC00 AS launcher


FROM python:3.11-slim-bookworm AS build
ARG DEVICE
ENV PATH=/opt/relume/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements/build.txt requirements/${DEVICE}.txt requirements/
# The dependencies are a layer of their own, so that a change of our code builds and pushes megabytes, not gigabytes.
RUN python -m venv /opt/relume \
    && pip install --require-hashes --no-deps -r requirements/build.txt \
    && pip install --require-hashes --no-deps --no-build-isolation -r requirements/${DEVICE}.txt
COPY setup.py pyproject.toml LICENSE ./
COPY pipeline pipeline
COPY model model
COPY jobs jobs
RUN pip install --no-deps --no-build-isolation . && pip check


FROM python:3.11-slim-bookworm AS command
ARG DEVICE
LABEL org.opencontainers.image.title="relume" \
    org.opencontainers.image.description="Restores image archives with a DeconvNet in a Beam pipeline" \
    org.opencontainers.image.licenses="Apache-2.0" \
    relume.device="${DEVICE}"
COPY --from=build /opt/relume /opt/relume
# Dataflow mounts the NVIDIA driver at /usr/local/nvidia when the worker starts; without a GPU the folder is not there.
ENV PATH=/opt/relume/bin:$PATH \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64 \
    PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 relume
USER 1000:1000
WORKDIR /home/relume
ENTRYPOINT ["relume"]


FROM command AS worker
COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
# boot would make a virtual environment that sees the system's packages and not those of /opt/relume. The launcher runs
# a file, and would put its folder first on the path: jobs/ has modules whose names other packages may bear. It gets no
# file of requirements, or it would install them again.
ENV PATH=$PATH:/opt/apache/beam:/opt/google/dataflow \
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    PYTHONSAFEPATH=1 \
    FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/relume/lib/python3.11/site-packages/jobs/restore.py
# Dataflow mounts the work and log folders of launchers and workers as root's, and both write there.
# hadolint ignore=DL3002
USER 0:0
WORKDIR /
ENTRYPOINT ["/opt/relume/bin/python", "-m", "pipeline.production.entrypoint"]
