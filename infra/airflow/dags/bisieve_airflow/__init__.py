"""What the DAGs are made of.

The DAG bundle is a checkout of bisieve, and what a scheduler has to know of it is imported from there:
Airflow's environment needs no bisieve, no Ray and no Spark.
"""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[4]

sys.path += [folder for folder in (str(CHECKOUT / "lib"), str(CHECKOUT)) if folder not in sys.path]
