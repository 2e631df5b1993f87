#!/bin/sh
# Makes the databases and logins of docker-compose.yaml; run once by the image of PostgreSQL, as its superuser.
# Each login owns no more than its database; those of the registry get their rights from `airflow detection grants`.
set -eu
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username=postgres --dbname=postgres \
  --set=airflow="$AIRFLOW_PASSWORD" --set=celery="$CELERY_PASSWORD" --set=owner="$OWNER_PASSWORD" \
  --set=detection="$DETECTION_PASSWORD" --set=reader="$READER_PASSWORD" <<'EOF'
create role airflow login password :'airflow';
create role celery login password :'celery';
create role detection_owner login createrole password :'owner';
create role detection login password :'detection';
create role detection_models login password :'reader';
create database airflow owner airflow;
create database celery owner celery;
create database detection owner detection_owner;
revoke connect on database airflow, celery, detection from public;
grant connect on database detection to detection, detection_models;
EOF
