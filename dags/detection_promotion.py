"""Promotions, approved by a person: the words dag and airflow make Airflow look into this file."""

from airflow_detection.dags.promotion import promotion_dag

dag = promotion_dag()
