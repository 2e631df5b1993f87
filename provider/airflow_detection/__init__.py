"""Run versioned detection models on Apache Airflow and Postgres."""

__version__ = "0.1.0"
