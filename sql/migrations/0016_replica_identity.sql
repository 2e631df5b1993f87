-- A publication for all tables (change capture, an upgrade by logical replication) refuses to delete rows of a table
-- without a key or another replica identity. A partition has its own: months that are made later get their parent's.
-- The whole row is written to the log only where a publication has the table.
do $$
declare name regclass;
begin
    for name in
        select c.oid from pg_class c
         where c.relnamespace = '{schema}'::regnamespace and c.relkind in ('r', 'p') and c.relreplident = 'd'
           and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)
    loop
        execute format('alter table %s replica identity full', name);
    end loop;
end $$;
