# docker build --file infra/docker/score.Dockerfile --tag bisieve-score:0.1.0 .
# Spark and bisieve, without torch; on Kubernetes it is driver and executor.
FROM python:3.12.11-slim-bookworm AS build
WORKDIR /source
COPY setup.py pyproject.toml README.md constraints.txt ./
COPY lib lib
COPY ray_train ray_train
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt '.[score,s3]'

FROM python:3.12.11-slim-bookworm
# Debian's mirrors have but the newest version of a package: pinning one would break the build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-17-jre-headless procps tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home bisieve
COPY --from=build /opt/venv /opt/venv
COPY jobs /opt/bisieve/jobs
COPY --chmod=755 infra/docker/spark.sh /opt/spark.sh
COPY --chmod=755 infra/docker/decommission.sh /opt/decom.sh
ENV PATH=/opt/venv/bin:$PATH \
    PYSPARK_PYTHON=/opt/venv/bin/python
USER 10001
WORKDIR /home/bisieve
HEALTHCHECK --interval=5m --timeout=1m CMD ["bisieve", "doctor"]
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/spark.sh"]
CMD ["bisieve", "--help"]
