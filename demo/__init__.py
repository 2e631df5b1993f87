"""`make demo`: past detection cycles in a real Airflow, on one machine, from one command."""
