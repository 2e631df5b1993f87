-- Promotions: requests to make a version PRIMARY, and what became of each.
create type {schema}.detection_promotion_state as enum (
    'REQUESTED', 'JUDGED', 'APPROVED', 'IN_FORCE', 'KEPT', 'ROLLED_BACK',
    'REFUSED', 'REJECTED', 'TIMED_OUT', 'WITHDRAWN', 'SUPERSEDED');

create table {schema}.detection_promotions (
    promotion_id bigint generated always as identity primary key,
    model_id varchar(64) not null references {schema}.detection_models,
    version_id bigint not null references {schema}.detection_model_versions,
    champion_id bigint references {schema}.detection_model_versions,
    role_before {schema}.detection_role,
    watch interval not null default '0' check (watch >= interval '0'),
    requested_at timestamptz not null default clock_timestamp(),
    requested_by text not null check (requested_by <> ''),
    reason text not null default '',
    source text not null default '',
    expires_at timestamptz check (expires_at > requested_at),
    check (version_id <> champion_id)
);
create index detection_promotions_by_model on {schema}.detection_promotions (model_id, promotion_id);
comment on table {schema}.detection_promotions is
    'Requests to make a version PRIMARY. A row never changes: what became of it is in detection_promotion_states.';
comment on column {schema}.detection_promotions.champion_id is 'The PRIMARY that it is to replace; null: there was none.';
comment on column {schema}.detection_promotions.role_before is 'What a rollback gives back; null: no role.';
comment on column {schema}.detection_promotions.source is 'What asked: a run of a Dag, a command.';
comment on column {schema}.detection_promotions.expires_at is
    'When a request that nobody answered has timed out, whatever became of the task that waits for the answer.';
comment on column {schema}.detection_promotions.watch is 'How long its cycles are watched once it is in force.';

create table {schema}.detection_promotion_states (
    promotion_id bigint not null references {schema}.detection_promotions,
    state {schema}.detection_promotion_state not null,
    recorded_at timestamptz not null default clock_timestamp(),
    actor text not null check (actor <> ''),
    reason text not null default '',
    evidence jsonb check (jsonb_typeof(evidence) = 'object'),
    evidence_digest text check ((evidence is null) = (evidence_digest is null)),
    primary key (promotion_id, state)
);
comment on table {schema}.detection_promotion_states is
    'What became of a promotion, append-only: each state once, and only in an order that makes sense.';
comment on column {schema}.detection_promotion_states.evidence_digest is 'SHA-256 of the evidence as it was shown.';

alter table {schema}.detection_model_roles
    add column promotion_id bigint references {schema}.detection_promotions;
comment on column {schema}.detection_model_roles.promotion_id is 'The promotion, or its rollback, that gave this role.';

create function {schema}.detection_promotions_are_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'promotions are append-only' using errcode = 'restrict_violation';
end $$;
create trigger append_only before update or delete or truncate on {schema}.detection_promotions
    for each statement execute function {schema}.detection_promotions_are_append_only();
create trigger append_only before update or delete or truncate on {schema}.detection_promotion_states
    for each statement execute function {schema}.detection_promotions_are_append_only();

create function {schema}.detection_promotions_one_under_way() returns trigger language plpgsql as $$
declare other bigint;
begin
    -- of two sessions that ask at the same time one waits here, and then sees the other's row
    perform 1 from {schema}.detection_models where model_id = new.model_id for no key update;
    select p.promotion_id into other from {schema}.detection_promotions p
     where p.model_id = new.model_id and not exists (
        select from {schema}.detection_promotion_states s
         where s.promotion_id = p.promotion_id
           and s.state in ('KEPT', 'ROLLED_BACK', 'REFUSED', 'REJECTED', 'TIMED_OUT', 'WITHDRAWN', 'SUPERSEDED'));
    if found then
        raise exception 'promotion % of model % is under way', other, new.model_id
            using errcode = 'restrict_violation';
    end if;
    if not exists (select from {schema}.detection_model_versions v
                    where v.version_id = new.version_id and v.model_id = new.model_id)
    then
        raise exception 'version % is not one of model %', new.version_id, new.model_id
            using errcode = 'foreign_key_violation';
    end if;
    return new;
end $$;
create trigger one_under_way before insert on {schema}.detection_promotions
    for each row execute function {schema}.detection_promotions_one_under_way();

create function {schema}.detection_promotion_states_follow() returns trigger language plpgsql as $$
declare
    last {schema}.detection_promotion_state;
    allowed {schema}.detection_promotion_state[];
begin
    perform 1 from {schema}.detection_promotions where promotion_id = new.promotion_id for no key update;
    select s.state into last from {schema}.detection_promotion_states s
     where s.promotion_id = new.promotion_id order by s.state desc limit 1;
    allowed := case
        when last is null then '{{REQUESTED}}'
        when last = 'REQUESTED' then '{{JUDGED, REFUSED, TIMED_OUT, WITHDRAWN}}'
        when last = 'JUDGED' then '{{APPROVED, REFUSED, REJECTED, TIMED_OUT, WITHDRAWN}}'
        when last = 'APPROVED' then '{{IN_FORCE}}'
        when last = 'IN_FORCE' then '{{KEPT, ROLLED_BACK, SUPERSEDED}}'
        when last = 'KEPT' then '{{ROLLED_BACK}}'
        else '{{}}'
    end;
    if not new.state = any (allowed) then
        raise exception 'promotion % is % and cannot become %', new.promotion_id, coalesce(last::text, 'new'), new.state
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger in_order before insert on {schema}.detection_promotion_states
    for each row execute function {schema}.detection_promotion_states_follow();

create or replace function {schema}.detection_roles_are_append_only() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        raise exception 'the history of roles is append-only' using errcode = 'restrict_violation';
    end if;
    if (new.role_id, new.version_id, new.model_id, new.model_no, new.role, lower(new.valid), new.recorded_at,
        new.is_founding, new.is_correction, new.actor, new.reason, new.promotion_id)
       is distinct from
       (old.role_id, old.version_id, old.model_id, old.model_no, old.role, lower(old.valid), old.recorded_at,
        old.is_founding, old.is_correction, old.actor, old.reason, old.promotion_id)
       or (old.superseded_at is not null and new.superseded_at is distinct from old.superseded_at)
       or (new.valid <> old.valid and not upper_inf(old.valid))
    then
        raise exception 'the history of roles is append-only' using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
