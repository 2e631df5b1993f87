-- Changes that take most of a cycle's models away, and somebody who means them.
create table {schema}.detection_confirmations (
    cycle_id varchar(64) not null,
    confirmed_at timestamptz not null default clock_timestamp(),
    models text[] not null,
    actor text not null default current_user,
    reason text not null default '',
    primary key (cycle_id, confirmed_at)
);
comment on table {schema}.detection_confirmations is
    'The Dags of a cycle keep their last known models when more than half of them vanish, until the models '
    'that are left are confirmed here. No foreign key: a cycle that is gone is confirmed too.';
