"""A Dag for each registered detection cycle: the words dag and airflow make Airflow look into this file."""

from airflow_detection.dags.cycles import cycle_dags

globals().update(cycle_dags())
