-- Ids and versions stand in Dags, documents and terminals: no braces, which begin a template, and no control
-- characters. Rows that are there already are not looked at, and stay readable.
alter table {schema}.detection_cycles
    add constraint cycle_id_has_no_braces_or_control_characters
        check (cycle_id !~ '[{{}}\u0001-\u001f\u007f-\u009f\u2028\u2029]') not valid;

alter table {schema}.detection_models
    add constraint model_id_has_no_braces_or_control_characters
        check (model_id !~ '[{{}}\u0001-\u001f\u007f-\u009f\u2028\u2029]') not valid;

alter table {schema}.detection_model_dependencies
    add constraint depends_on_has_no_braces_or_control_characters
        check (depends_on !~ '[{{}}\u0001-\u001f\u007f-\u009f\u2028\u2029]') not valid;

alter table {schema}.detection_model_versions
    add constraint version_has_no_braces_or_control_characters
        check (version !~ '[{{}}\u0001-\u001f\u007f-\u009f\u2028\u2029]') not valid;
