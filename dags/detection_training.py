"""The training of versions: the words dag and airflow make Airflow look into this file."""

from airflow_detection.dags.training import training_dag

dag = training_dag()
