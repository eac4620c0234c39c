"""Operators, parameters and arguments of bisieve's DAGs.

The DAG bundle is a checkout of bisieve. The DAGs import from it the modules that need neither Ray nor Spark,
so Airflow's environment needs none of bisieve, Ray and Spark.
"""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[4]

sys.path += [folder for folder in (str(CHECKOUT / "lib"), str(CHECKOUT)) if folder not in sys.path]
