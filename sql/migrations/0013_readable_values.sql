-- What one row holds must not stop the reading of all: no instant, length of time or number that Python, or a
-- recorded plan, cannot hold. Rows that are there already are not looked at: a migration must go through.
alter table {schema}.detection_cycles
    add constraint start_date_is_in_our_time
        check (start_date >= '1900-01-01 00:00+00' and start_date < '3000-01-01 00:00+00') not valid,
    add constraint lookback_is_at_most_36500_days
        check (lookback <= interval '36500 days') not valid;

alter table {schema}.detection_model_versions
    add constraint params_hold_numbers_within_a_double
        check (not jsonb_path_exists(
            params, 'strict $.** ? (@.type() == "number" && @.abs() > 1.7976931348623157e308)')) not valid,
    add constraint params_are_nested_at_most_100_levels_deep
        check (not jsonb_path_exists(params, 'strict $.**{{101 to last}}')) not valid;

alter table {schema}.detection_models
    add constraint task_options_hold_numbers_within_a_double
        check (not jsonb_path_exists(
            task_options, 'strict $.** ? (@.type() == "number" && @.abs() > 1.7976931348623157e308)')) not valid,
    add constraint task_options_are_nested_at_most_100_levels_deep
        check (not jsonb_path_exists(task_options, 'strict $.**{{101 to last}}')) not valid;
