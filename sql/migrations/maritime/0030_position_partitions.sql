-- Monthly table partitions for the positions. What is there stays one table partition, up to the end of its newest
-- month; nothing is copied but rows whose time lies ahead of the clock.
do $$
declare
    has_rows boolean := exists (select from {schema}.ais_positions);
    bound timestamptz;
begin
    if not has_rows then
        drop table {schema}.ais_positions;
    else
        select (date_trunc('month', max(observed_at) at time zone 'UTC') + interval '1 month') at time zone 'UTC'
          into bound
          from {schema}.ais_positions where observed_at <= clock_timestamp() + interval '1 day';
        alter table {schema}.ais_positions rename to ais_positions_before;
        alter index {schema}.ais_positions_identity rename to ais_positions_before_identity;
        alter index {schema}.ais_positions_by_time rename to ais_positions_before_by_time;
    end if;

    create table {schema}.ais_positions (
        mmsi bigint not null,
        observed_at timestamptz not null,
        lat double precision,
        lon double precision,
        sog_kn real,
        cog_deg real,
        heading_deg real,
        vessel_name text,
        imo text,
        call_sign text,
        vessel_type integer,
        loaded_at timestamptz not null default clock_timestamp()
    ) partition by range (observed_at);
    alter table {schema}.ais_positions replica identity full;
    create unique index ais_positions_identity on {schema}.ais_positions
        (mmsi, observed_at, lat, lon) nulls not distinct;
    create index ais_positions_by_time on {schema}.ais_positions (observed_at);
    create table {schema}.ais_positions_default partition of {schema}.ais_positions default;
    alter table {schema}.ais_positions_default replica identity full;

    if has_rows then
        if bound is null then
            insert into {schema}.ais_positions select * from {schema}.ais_positions_before;
            drop table {schema}.ais_positions_before;
        else
            with ahead as (
                delete from {schema}.ais_positions_before where observed_at >= bound returning *
            )
            insert into {schema}.ais_positions select * from ahead;
            execute format(
                'alter table {schema}.ais_positions attach partition {schema}.ais_positions_before '
                'for values from (minvalue) to (%L)', bound);
        end if;
    end if;

    insert into {schema}.detection_partition_policies (table_name, retention, empties_default)
    values ('ais_positions', case when not has_rows then interval '13 months' end, true);
end $$;
comment on table {schema}.ais_positions is
    'One row per reported fix: speed in knots, angles in degrees, as transmitted: values that mean '
    '"not available" (lat 91, lon 181, sog 102.3, heading 511) are kept. Two fixes of one MMSI at the same '
    'second in two places are two rows. Times are as transmitted, too: what has no month of its own lies in the '
    'default partition until the maintenance Dag makes the month.';
