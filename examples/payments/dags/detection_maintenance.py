"""The upkeep of the detection database: the words dag and airflow make Airflow look into this file."""

from airflow_detection.dags.maintenance import maintenance_dag

dag = maintenance_dag()
