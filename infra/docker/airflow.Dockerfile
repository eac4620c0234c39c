# docker compose --file infra/docker/compose.yaml build spark-master airflow
# Airflow beside the scoring image's Spark: two environments, since each wants another pyspark.
FROM bisieve-score:0.1.0
USER 0
COPY infra/airflow/requirements.txt infra/airflow/constraints.txt /opt/airflow/
RUN python -m venv /opt/airflow/venv \
    && /opt/airflow/venv/bin/pip install --no-cache-dir \
        --constraint /opt/airflow/constraints.txt --requirement /opt/airflow/requirements.txt \
    && chown bisieve /opt/airflow
USER 10001
# Tasks find spark-submit, bisieve and their python on PATH, before Airflow's, which has a Spark without programs.
ENV PATH=/opt/venv/bin:/opt/airflow/venv/bin:$PATH \
    PYSPARK_DRIVER_PYTHON=/opt/venv/bin/python \
    AIRFLOW_HOME=/opt/airflow
HEALTHCHECK --interval=1m --timeout=30s CMD ["airflow", "jobs", "check", "--job-type", "SchedulerJob"]
CMD ["airflow", "standalone"]
