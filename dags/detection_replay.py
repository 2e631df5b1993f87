"""Replays of many past cycles: the words dag and airflow make Airflow look into this file."""

from airflow_detection.dags.replay import replay_dag

dag = replay_dag()
