# docker build --file infra/docker/train.Dockerfile --tag bisieve-train:0.1.0 .
# Ray, torch and bisieve, without Spark. CUDA comes with torch's own packages: the machine brings the driver alone.
FROM python:3.12.11-slim-bookworm AS build
WORKDIR /source
COPY setup.py pyproject.toml README.md constraints.txt ./
# Torch first: DeepSpeed's build asks it for its version.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt torch setuptools wheel
COPY lib lib
COPY ray_train ray_train
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt '.[train,s3,mlflow]'

FROM python:3.12.11-slim-bookworm
# DeepSpeed and Triton compile a little when they start; KubeRay's probes ask with wget.
# Debian's mirrors have but the newest version of a package: pinning one would break the build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ procps tini wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home bisieve
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    RAY_USAGE_STATS_ENABLED=0
USER 10001
WORKDIR /home/bisieve
HEALTHCHECK --interval=5m --timeout=1m CMD ["bisieve", "doctor"]
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["bisieve", "--help"]
