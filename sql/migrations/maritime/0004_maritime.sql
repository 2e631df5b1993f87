-- The maritime pack: ship positions (AIS), the files they came from, and gear identity collisions.
create table {schema}.ais_files (
    sha256 text primary key,
    name text not null,
    loaded_at timestamptz not null default clock_timestamp(),
    row_count bigint not null,
    malformed_count bigint not null,
    is_simulated boolean not null default false
);

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
);
create unique index ais_positions_identity on {schema}.ais_positions
    (mmsi, observed_at, lat, lon) nulls not distinct;
create index ais_positions_by_time on {schema}.ais_positions (observed_at);
comment on table {schema}.ais_positions is
    'One row per reported fix: speed in knots, angles in degrees, as transmitted: values that mean '
    '"not available" (lat 91, lon 181, sog 102.3, heading 511) are kept. Two fixes of one MMSI at the same '
    'second in two places are two rows.';

create table {schema}.gear_identity_collisions (
    collision_id bigint generated always as identity primary key,
    identity text not null,
    severity {schema}.detection_severity not null,
    status {schema}.detection_event_status not null default 'OPEN',
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null check (last_seen_at >= first_seen_at),
    evidence jsonb not null default '{{}}',
    unique (identity, first_seen_at)
);
